//! A program that shows all that went into it.

mod broken;

/// Read by the compiler, outside of the package.
const OUTSIDE: &str = include_str!("../../outside.txt");

fn unused() {}

fn main() {
    let who = option_env!("WHO").unwrap_or("none");
    let greeting = macros::greeting!();
    println!("{} greeting {greeting} from `{who}` and {OUTSIDE}", base::describe());
    assert_eq!(broken::broken(), 0);
    assert_eq!(env!("CARGO_PKG_VERSION"), "0.3.1");
    let workspace = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    assert_eq!(std::path::Path::new(macros::workspace!()), workspace.join("Cargo.toml"));
}

#[cfg(test)]
mod tests {
    #[test]
    fn adds() {
        assert_eq!(1 + 1, 2);
    }
}
