//! What a worker agrees to run: the second check of a job, at the machine that runs it.
//!
//! The sandbox is the wall; this is the door. A command starts a compiler that came with its
//! toolchain, for one compile; no argument, variable or input may load code from the job's inputs
//! or rewrite the command. (Inputs are laid out without the right to be executed, so that no search
//! path for programs, of which compilers have many, can lead to one.)

use std::collections::{HashSet, VecDeque};

use super::family::family_of_name;
use super::{environment, rustc};
use crate::job::{Command, Kind, Node, RustTool, Tree, TreePath};

/// Most links followed on the way to a file, as in the kernel.
const LINKS_MAX: usize = 40;
/// Most arguments of one command.
const ARGUMENTS_MAX: usize = 50_000;

/// Without one of these the driver links, or does what is no compile.
const STEPS: [&str; 4] = ["-c", "-S", "--compile", "--assemble"];

/// Starts of arguments that load code, or read more of the command from a file.
const REFUSED: [(&str, &str); 13] = [
    ("@", "reads arguments from a file"),
    ("-fplugin", "loads code into the compiler"),
    // gcc takes `--NAME` for `-fNAME`.
    ("--plugin", "loads code into the compiler"),
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

/// Arguments that carry others for a later step, separated by commas.
const LISTS: [&str; 2] = ["-Wp,", "-Wa,"];
/// Arguments that carry one other for a later step.
const CARRIERS: [&str; 2] = ["-Xclang=", "-mllvm="];

/// Variables that say where the driver finds its programs.
const PROGRAM_PATHS: [&str; 2] = ["GCC_EXEC_PREFIX", "COMPILER_PATH"];

/// Whether this worker runs `command` with `toolchain`; what it starts.
///
/// # Errors
/// What is refused and why, for people.
pub fn check(command: &Command, toolchain: &Tree) -> Result<Kind, String> {
    if command.arguments.is_empty() || command.arguments.len() > ARGUMENTS_MAX {
        return Err(format!(
            "the command has {} arguments, wanted 1 to {ARGUMENTS_MAX}",
            command.arguments.len()
        ));
    }
    let kind = check_executable(&command.executable, toolchain)?;
    if !command.directory.starts_with('/') || command.directory.contains('\0') {
        return Err(format!("directory `{}` is not absolute", command.directory));
    }
    let arguments = || command.arguments.iter().skip(1).map(String::as_str);
    if let Kind::Rust(_) = kind {
        rustc::allow::check(arguments())?;
        rustc::allow::check_environment(command.environment.keys())?;
        return Ok(kind);
    }
    if !arguments().any(|argument| STEPS.contains(&argument)) {
        return Err("the command is no compile: neither `-c` nor `-S`".into());
    }
    let mut left = arguments().peekable();
    while let Some(argument) = left.next() {
        check_argument(argument, left.peek().copied(), toolchain)?;
    }
    check_environment(command, toolchain)?;
    Ok(kind)
}

/// Whether `inputs` hold nothing that a compiler of `toolchain` would load as code by itself:
/// shared objects, gcc's spec file, and whatever lies in a folder of the toolchain's programs
/// (`clang.cfg`). Shared objects are what macros of Rust come in: the one thing that `command` may
/// load if it starts a compiler of Rust.
///
/// # Errors
/// What is refused and why, for people.
pub fn check_inputs(command: &Command, inputs: &Tree, toolchain: &Tree) -> Result<(), String> {
    let may_load = matches!(check_executable(&command.executable, toolchain), Ok(Kind::Rust(_)));
    let programs: HashSet<&str> = toolchain
        .iter()
        .filter(|(_, node)| matches!(node, Node::File { executable: true, .. }))
        .filter_map(|(path, _)| folder_and_name(path.as_str()))
        .map(|(folder, _)| folder)
        .collect();
    for (path, node) in inputs.iter() {
        let Some((folder, name)) = folder_and_name(path.as_str()) else { continue };
        // The client's lists overlap: what both have is the toolchain's.
        if matches!(node, Node::Directory) || toolchain.get(path).is_some() {
            continue;
        }
        let why = if is_shared_object(name) && !may_load {
            "is a shared object"
        } else if name == "specs" || name.starts_with("gconv-modules") {
            "is read by the compiler itself"
        } else if path.as_str().starts_with("/etc/ld.so") {
            "is read by the dynamic linker"
        } else if programs.contains(folder) {
            "lies in a folder of the toolchain's programs"
        } else {
            continue;
        };
        return Err(format!("input `{path}` {why}"));
    }
    Ok(())
}

fn folder_and_name(path: &str) -> Option<(&str, &str)> {
    path.rsplit_once('/')
}

/// `libz.so`, `libz.so.1.2`.
fn is_shared_object(name: &str) -> bool {
    name.rsplit_once(".so").is_some_and(|(_, version)| {
        version.is_empty()
            || (version.starts_with('.')
                && version.bytes().all(|byte| byte == b'.' || byte.is_ascii_digit()))
    })
}

fn check_executable(executable: &str, toolchain: &Tree) -> Result<Kind, String> {
    let found = resolve_path(executable, toolchain);
    match found.as_ref().and_then(|found| toolchain.get(found)) {
        Some(Node::File { executable: true, .. }) => {}
        Some(_) => return Err(format!("`{executable}` is no executable file of the toolchain")),
        None => return Err(format!("`{executable}` is not in the toolchain")),
    }
    let kind_of = |path: &str| {
        let (_, name) = folder_and_name(path)?;
        family_of_name(name).map(Kind::C).or_else(|| RustTool::of_name(name).map(Kind::Rust))
    };
    kind_of(executable)
        .or_else(|| found.as_ref().and_then(|found| kind_of(found.as_str())))
        .ok_or_else(|| format!("`{executable}` is no compiler that is known here"))
}

fn check_argument(argument: &str, next: Option<&str>, toolchain: &Tree) -> Result<(), String> {
    if argument.contains('\0') {
        return Err("an argument holds a zero byte".into());
    }
    if let Some((_, why)) = REFUSED.iter().find(|(start, _)| argument.starts_with(start)) {
        return Err(format!("argument `{argument}` {why}"));
    }
    if let Some(list) = LISTS.iter().find_map(|start| argument.strip_prefix(start)) {
        let mut parts = list.split(',').peekable();
        while let Some(part) = parts.next() {
            check_argument(part, parts.peek().copied(), toolchain)?;
        }
    }
    if let Some(one) = CARRIERS.iter().find_map(|start| argument.strip_prefix(start)) {
        check_argument(one, None, toolchain)?;
    }
    let next = next.unwrap_or_default();
    if argument == "-o" && next.starts_with('|') {
        return Err(format!("argument `-o {next}` writes to another program"));
    }
    let specs = match argument {
        "-specs" | "--specs" => Some(next),
        _ => argument.strip_prefix("-specs=").or_else(|| argument.strip_prefix("--specs=")),
    };
    if let Some(specs) = specs
        && !has_specs(specs, toolchain)
    {
        return Err(format!("argument `{argument}` names a spec file outside the toolchain"));
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
        let travels = environment::travels(name) || environment::travels_for_terminal(name, value);
        if !travels && name != "PATH" {
            return Err(format!("variable `{name}` is none that a compile needs"));
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

/// Whether the spec file comes with the toolchain; gcc itself looks for a bare name.
fn has_specs(specs: &str, toolchain: &Tree) -> bool {
    if specs.contains('/') {
        return matches!(resolve(specs, toolchain), Some(Node::File { .. }));
    }
    let named = |path: &TreePath| folder_and_name(path.as_str()).is_some_and(|(_, n)| n == specs);
    toolchain.iter().any(|(path, _)| named(path))
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
        insert("/lib64/ld-linux-x86-64.so.2", file(true));
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
            assert_eq!(
                check(&command(path, &["-c", "a.c"]), &toolchain()).map(drop),
                Ok(()),
                "{path}"
            );
        }
        let loader = "/lib64/ld-linux-x86-64.so.2";
        let specs = "/usr/lib/gcc/nano.specs";
        for path in ["/bin/sh", "gcc", specs, "/loop", "/usr/bin", "/../x", "", loader] {
            assert!(check(&command(path, &["-c"]), &toolchain()).is_err(), "{path}");
        }
    }

    #[test]
    fn code_comes_from_the_toolchain_alone() {
        let check = |arguments: &[&str]| {
            let arguments = [arguments, &["-c", "a.c"]].concat();
            check(&command("/bin/gcc", &arguments), &toolchain())
        };
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
            &["-mllvm=-load=x.so"],
            &["-Xclang=-load"],
            &["--plugin=x.so"],
            &["-Wp,-MD,x.d,-fplugin=x.so"],
            &["-Wa,-g,@file"],
            &["-specs", "/w/x.specs"],
            &["--specs", "x.specs"],
            &["-specs=x.specs"],
        ] {
            assert!(check(arguments).is_err(), "{arguments:?}");
        }
        for arguments in [
            &["-B/usr/bin/"][..],
            &["-B", "/bin"],
            &["--specs=nano.specs"],
            &["-specs=/usr/lib/gcc/nano.specs"],
            &["-c", "-o", "a.o", "-DX=@x"],
            &["-Wp,-MD,x.d", "-Wa,--noexecstack", "-Wno-x", "-Xclang", "-O2"],
        ] {
            assert_eq!(check(arguments).map(drop), Ok(()), "{arguments:?}");
        }
    }

    #[test]
    fn variables_load_no_code() {
        let mut command = command("/bin/gcc", &["-c", "a.c"]);
        command.environment.insert("COMPILER_PATH".into(), "/usr/bin:".into());
        assert_eq!(check(&command, &toolchain()).map(drop), Ok(()));
        command.environment.insert("COMPILER_PATH".into(), "/w".into());
        assert!(check(&command, &toolchain()).is_err());
        for name in ["LD_PRELOAD", "LD_AUDIT", "GCONV_PATH", "CCC_OVERRIDE_OPTIONS", "HOME", ""] {
            command.environment = BTreeMap::from([(name.into(), "x".into())]);
            assert!(check(&command, &toolchain()).is_err(), "{name}");
        }
        command.environment = BTreeMap::from([("CPATH".into(), "/w".into())]);
        assert_eq!(check(&command, &toolchain()).map(drop), Ok(()));
    }

    #[test]
    fn only_compiles_are_run() {
        for (arguments, fine) in [
            (&["-c", "a.c"][..], true),
            (&["-O2", "-S", "a.c"], true),
            (&["a.c"], false),
            (&["a.o", "-o", "a"], false),
            (&["-E", "a.c"], false),
        ] {
            let found = check(&command("/bin/gcc", arguments), &toolchain());
            assert_eq!(found.is_ok(), fine, "{arguments:?}");
        }
    }

    #[test]
    fn inputs_are_no_code() {
        let check = |path: &str| {
            let mut inputs = Tree::default();
            let node = Node::File { digest: Digest::of(b"y"), size: 1, executable: true };
            inputs.insert(TreePath::try_from(path).unwrap(), node);
            check_inputs(&command("/bin/gcc", &[]), &inputs, &toolchain())
        };
        for path in
            ["/w/a.c", "/w/so.h", "/w/a.so.h", "/usr/lib/gcc/x.h", "/w/specs/a.h", "/w/.so_x"]
        {
            assert_eq!(check(path), Ok(()), "{path}");
        }
        for path in [
            "/w/evil.so",
            "/usr/lib/glibc-hwcaps/x86-64-v3/libz.so.1",
            "/w/libz.so.1.2.11",
            "/usr/lib/gcc/x86_64-linux-gnu/12/specs",
            "/usr/bin/clang.cfg",
            "/usr/bin/as",
            "/etc/ld.so.preload",
            "/usr/lib/gconv/gconv-modules",
        ] {
            assert!(check(path).is_err(), "{path}");
        }
        // Both lists may have a file of the toolchain.
        assert_eq!(check("/usr/bin/x86_64-linux-gnu-gcc-12"), Ok(()));
    }
}
