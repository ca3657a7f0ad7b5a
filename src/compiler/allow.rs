//! What a worker agrees to run: the second check of a job, at the machine that runs it.
//!
//! The sandbox is the wall; this is the door. A command may start only what came with its
//! toolchain, and no argument may load code or rewrite the command from the job's inputs.

use std::collections::VecDeque;

use crate::job::{Command, Node, Tree, TreePath};

/// Most links followed on the way to a file, as in the kernel.
const LINKS_MAX: usize = 40;
/// Most arguments of one command.
const ARGUMENTS_MAX: usize = 50_000;

/// Starts of arguments that load code, or read more of the command from a file.
const REFUSED: [(&str, &str); 12] = [
    ("@", "reads arguments from a file"),
    ("-fplugin", "loads code into the compiler"),
    ("-fpass-plugin", "loads code into the compiler"),
    ("-iplugindir", "loads code into the compiler"),
    ("-load", "loads code into the compiler"),
    ("-add-plugin", "loads code into the compiler"),
    ("-plugin", "loads code into the compiler"),
    ("-wrapper", "starts another program"),
    ("--config", "reads arguments from a file"),
    ("-ccc-", "starts another program"),
    ("-cc1", "skips the driver"),
    ("-o|", "writes to another program"),
];

/// Variables that load code into any program.
const REFUSED_VARIABLES: [&str; 3] = ["LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT"];
/// Variables that say where the driver finds its programs.
const PROGRAM_PATHS: [&str; 2] = ["GCC_EXEC_PREFIX", "COMPILER_PATH"];

/// Whether this worker runs `command` with `toolchain`.
///
/// # Errors
/// What is refused and why, for people.
pub fn check(command: &Command, toolchain: &Tree) -> Result<(), String> {
    if command.arguments.is_empty() || command.arguments.len() > ARGUMENTS_MAX {
        return Err(format!(
            "the command has {} arguments, wanted 1 to {ARGUMENTS_MAX}",
            command.arguments.len()
        ));
    }
    check_executable(&command.executable, toolchain)?;
    if !command.directory.starts_with('/') || command.directory.contains('\0') {
        return Err(format!("directory `{}` is not absolute", command.directory));
    }
    let mut arguments = command.arguments.iter().skip(1).map(String::as_str).peekable();
    while let Some(argument) = arguments.next() {
        check_argument(argument, arguments.peek().copied(), toolchain)?;
    }
    check_environment(command, toolchain)
}

fn check_executable(executable: &str, toolchain: &Tree) -> Result<(), String> {
    match resolve(executable, toolchain) {
        Some(Node::File { executable: true, .. }) => Ok(()),
        Some(_) => Err(format!("`{executable}` is no executable file of the toolchain")),
        None => Err(format!("`{executable}` is not in the toolchain")),
    }
}

fn check_argument(argument: &str, next: Option<&str>, toolchain: &Tree) -> Result<(), String> {
    if argument.contains('\0') {
        return Err("an argument holds a zero byte".into());
    }
    if let Some((_, why)) = REFUSED.iter().find(|(start, _)| argument.starts_with(start)) {
        return Err(format!("argument `{argument}` {why}"));
    }
    let bare = argument.strip_prefix('-').filter(|rest| rest.starts_with('-')).unwrap_or(argument);
    if let Some(specs) = bare.strip_prefix("-specs=")
        && specs.contains('/')
        && !in_toolchain(specs, toolchain)
    {
        return Err(format!("argument `{argument}` names a spec file outside the toolchain"));
    }
    let next = next.unwrap_or_default();
    if argument == "-o" && next.starts_with('|') {
        return Err(format!("argument `-o {next}` writes to another program"));
    }
    let prefix = match argument {
        "-B" | "--prefix" => Some(next),
        _ => argument.strip_prefix("-B").or_else(|| argument.strip_prefix("--prefix=")),
    };
    match prefix {
        Some(path) if !in_toolchain(path.trim_end_matches('/'), toolchain) => {
            Err(format!("argument `-B{path}` looks for programs outside the toolchain"))
        }
        _ => Ok(()),
    }
}

fn check_environment(command: &Command, toolchain: &Tree) -> Result<(), String> {
    for (name, value) in &command.environment {
        if REFUSED_VARIABLES.contains(&name.as_str()) {
            return Err(format!("variable `{name}` loads code into every program"));
        }
        let outside = |path: &&str| !in_toolchain(path.trim_end_matches('/'), toolchain);
        if PROGRAM_PATHS.contains(&name.as_str())
            && let Some(path) = value.split(':').filter(|path| !path.is_empty()).find(outside)
        {
            return Err(format!("variable `{name}` looks for programs in `{path}`"));
        }
    }
    Ok(())
}

/// Whether the toolchain has something at or below the absolute path, links followed.
fn in_toolchain(path: &str, toolchain: &Tree) -> bool {
    resolve_path(path, toolchain).is_some_and(|folder| {
        toolchain.get(&folder).is_some()
            || toolchain.iter().any(|(entry, _)| entry.is_within(&folder))
    })
}

/// What stands at `path` after following the toolchain's links.
fn resolve<'a>(path: &str, toolchain: &'a Tree) -> Option<&'a Node> {
    toolchain.get(&resolve_path(path, toolchain)?)
}

fn resolve_path(path: &str, toolchain: &Tree) -> Option<TreePath> {
    let mut parts: VecDeque<String> =
        path.strip_prefix('/')?.split('/').map(str::to_owned).collect();
    let mut at = String::new();
    let mut links = 0;
    while let Some(part) = parts.pop_front() {
        match part.as_str() {
            "" | "." => continue,
            ".." => at.truncate(at.rfind('/')?),
            name => {
                at.push('/');
                at.push_str(name);
            }
        }
        let here = TreePath::try_from(at.as_str()).ok();
        if let Some(Node::Symlink { target }) = here.as_ref().and_then(|here| toolchain.get(here)) {
            links += 1;
            if links > LINKS_MAX {
                return None;
            }
            at.truncate(if target.starts_with('/') { 0 } else { at.rfind('/')? });
            for step in target.split('/').rev() {
                parts.push_front(step.to_owned());
            }
        }
    }
    TreePath::try_from(at).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Digest;
    use std::collections::BTreeMap;

    fn toolchain() -> Tree {
        let mut tree = Tree::default();
        let mut insert = |path: &str, node| tree.insert(TreePath::try_from(path).unwrap(), node);
        let file = |executable| Node::File { digest: Digest::of(b"x"), size: 1, executable };
        insert("/usr/bin/x86_64-linux-gnu-gcc-12", file(true));
        insert("/usr/bin/gcc", Node::Symlink { target: "gcc-12".into() });
        insert(
            "/usr/bin/gcc-12",
            Node::Symlink { target: "../bin/./x86_64-linux-gnu-gcc-12".into() },
        );
        insert("/bin", Node::Symlink { target: "/usr/bin".into() });
        insert("/usr/lib/gcc/nano.specs", file(false));
        insert("/loop", Node::Symlink { target: "loop".into() });
        tree
    }

    fn command(executable: &str, arguments: &[&str]) -> Command {
        Command {
            executable: executable.into(),
            arguments: std::iter::once(&"gcc").chain(arguments).map(|a| (*a).to_owned()).collect(),
            environment: BTreeMap::new(),
            directory: "/w".into(),
        }
    }

    #[test]
    fn only_the_toolchain_is_started() {
        for path in ["/usr/bin/gcc", "/bin/gcc", "/usr/bin/x86_64-linux-gnu-gcc-12"] {
            assert_eq!(check(&command(path, &["-c", "a.c"]), &toolchain()), Ok(()), "{path}");
        }
        for path in ["/bin/sh", "gcc", "/usr/lib/gcc/nano.specs", "/loop", "/usr/bin", "/../x", ""]
        {
            assert!(check(&command(path, &["-c"]), &toolchain()).is_err(), "{path}");
        }
    }

    #[test]
    fn code_comes_from_the_toolchain_alone() {
        let check = |arguments: &[&str]| check(&command("/bin/gcc", arguments), &toolchain());
        for arguments in [
            &["-fplugin=x.so"][..],
            &["-Xclang", "-load", "-Xclang", "x.so"],
            &["-wrapper", "sh"],
            &["@file"],
            &["-o", "|sh"],
            &["-B", "/w/bin"],
            &["-B."],
            &["--prefix=/w"],
            &["-specs=/w/x.specs"],
            &["--specs=./x"],
            &["a\0b"],
            &["-mllvm", "-load=x.so"],
        ] {
            assert!(check(arguments).is_err(), "{arguments:?}");
        }
        for arguments in [
            &["-B/usr/bin/"][..],
            &["-B", "/bin"],
            &["--specs=nano.specs"],
            &["-specs=/usr/lib/gcc/nano.specs"],
            &["-c", "-o", "a.o", "-DX=@x"],
        ] {
            assert_eq!(check(arguments), Ok(()), "{arguments:?}");
        }
    }

    #[test]
    fn variables_load_no_code() {
        let mut command = command("/bin/gcc", &["-c", "a.c"]);
        command.environment.insert("COMPILER_PATH".into(), "/usr/bin:".into());
        assert_eq!(check(&command, &toolchain()), Ok(()));
        command.environment.insert("COMPILER_PATH".into(), "/w".into());
        assert!(check(&command, &toolchain()).is_err());
        command.environment = BTreeMap::from([("LD_PRELOAD".into(), "x".into())]);
        assert!(check(&command, &toolchain()).is_err());
    }
}
