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
}

#[cfg(test)]
mod tests {
    #[test]
    fn adds() {
        assert_eq!(1 + 1, 2);
    }
}
