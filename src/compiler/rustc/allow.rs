//! What a worker agrees to run of rustc: one compile, by a compiler of its toolchain.
//!
//! Macros of the inputs run inside the compiler, so here the sandbox is the only wall, as it is
//! around the toolchain itself, which the client brings too. What is refused is what no compile
//! needs: other places for the compiler's own parts, and arguments that are in a file.

/// Starts of arguments that are refused, and why.
const REFUSED: [(&str, &str); 4] = [
    ("@", "reads arguments from a file"),
    ("-Z", "is of no released compiler"),
    ("--sysroot", "names another toolchain"),
    ("--print", "compiles nothing"),
];
/// The same of options of code generation.
const REFUSED_OPTIONS: [(&str, &str); 2] = [
    ("incremental", "needs what an earlier compile left"),
    ("save-temps", "leaves files that nobody asked for"),
];

/// Whether `arguments`, without `argv[0]`, are a compile.
///
/// # Errors
/// What is refused and why, for people.
pub fn check<'a>(arguments: impl Iterator<Item = &'a str> + Clone) -> Result<(), String> {
    if !arguments
        .clone()
        .any(|argument| argument == "--crate-name" || argument.starts_with("--crate-name="))
    {
        return Err("the command is no compile: it names no crate".into());
    }
    let mut before = "";
    for argument in arguments {
        if argument.contains('\0') {
            return Err("an argument holds a zero byte".into());
        }
        if let Some((_, why)) = REFUSED.iter().find(|(start, _)| argument.starts_with(start)) {
            return Err(format!("argument `{argument}` {why}"));
        }
        let option = match before {
            "-C" | "--codegen" => Some(argument),
            _ => argument.strip_prefix("-C").or_else(|| argument.strip_prefix("--codegen=")),
        };
        let option = option.unwrap_or_default().replace('_', "-");
        if let Some((_, why)) = REFUSED_OPTIONS.iter().find(|(it, _)| option.starts_with(it)) {
            return Err(format!("argument `-C {option}` {why}"));
        }
        before = argument;
    }
    Ok(())
}

/// Whether the compile may see variables of these names. Any may be read by `env!`; those of the
/// dynamic linker and of the compiler's own places may not be there.
///
/// # Errors
/// What is refused and why, for people.
pub fn check_environment<'a>(mut names: impl Iterator<Item = &'a String>) -> Result<(), String> {
    const PLACES: [&str; 4] = ["COMPILER_PATH", "GCC_EXEC_PREFIX", "RUST_TARGET_PATH", "SYSROOT"];
    let is_refused = |name: &&String| name.starts_with("LD_") || PLACES.contains(&name.as_str());
    match names.find(is_refused) {
        Some(name) => Err(format!("variable `{name}` is none that a compile needs")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_compiles_are_run() {
        let run = |text: &str| check(text.split(' ')).is_ok();
        assert!(run("--crate-name a src/lib.rs --crate-type lib -Cmetadata=1"));
        for text in [
            "src/lib.rs",
            "--crate-name a @more",
            "--crate-name a -Zcodegen-backend=x.so",
            "--crate-name=a --sysroot /w",
            "--crate-name a --print=cfg",
            "--crate-name a \0",
            "--crate-name a -Csave-temps",
            "--crate-name a -C save_temps=yes",
            "--crate-name a -C incremental=x",
            "--crate-name a --codegen=incremental=x",
            "--crate-name a --codegen incremental=x",
        ] {
            assert!(!run(text), "{text}");
        }
    }
}
