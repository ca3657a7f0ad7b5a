//! `jetcc` itself: the wrapper that build systems start for each file, and nothing else, since it
//! has to be gone again within a millisecond. For any other word it becomes `jetccd`, which lies
//! beside it.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use jetcc::cli::COMMANDS;
use jetcc::client::wrapper::{self, DAEMON_ARGUMENT, Wrapper, is_own_name};
use jetcc::exec;

/// Exit code when one of our own files is not there.
const TROUBLE: u8 = 1;

fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    match compile_command(&mut arguments) {
        Some((program, arguments)) => compile(&program, &arguments),
        None => become_jetccd(&arguments),
    }
}

/// The compiler and its arguments, if this is a compile: called under a compiler's name, or with
/// one as the first argument.
fn compile_command(arguments: &mut Vec<OsString>) -> Option<(OsString, Vec<OsString>)> {
    if arguments.get(1).is_some_and(|first| first == DAEMON_ARGUMENT) {
        return None;
    }
    let called = arguments.first().map(PathBuf::from).unwrap_or_default();
    let masquerades = called.file_name().is_some_and(|name| !is_own_name(name));
    if !masquerades {
        // A launcher in front of a wrapped compiler: `jetcc jetcc gcc`.
        let is_launcher = |word: &OsString| Path::new(word).file_name().is_some_and(is_own_name);
        while arguments.get(1).is_some_and(is_launcher) {
            arguments.remove(0);
        }
        arguments.remove(0);
        let first = arguments.first()?.to_str();
        let ours = first.is_some_and(|first| first.starts_with('-') || COMMANDS.contains(&first));
        if ours {
            arguments.insert(0, called.into());
            return None;
        }
    }
    let program = if masquerades { called.into_os_string() } else { arguments[0].clone() };
    Some((program, arguments.split_off(1)))
}

fn compile(program: &OsStr, arguments: &[OsString]) -> ExitCode {
    match Wrapper::from_environment() {
        Ok(wrapper) => wrapper.compile(program, arguments),
        Err(error) => {
            eprintln!("jetcc: this program's own file cannot be found: {error}");
            TROUBLE.into()
        }
    }
}

/// Returns only when that failed.
fn become_jetccd(arguments: &[OsString]) -> ExitCode {
    let name = arguments.first().cloned().unwrap_or_default();
    match wrapper::jetccd() {
        Ok(program) => {
            let error = exec::replace(&program, &name, arguments.get(1..).unwrap_or_default());
            eprintln!("jetcc: `{}` cannot be run: {error}", program.display());
            eprintln!("hint: `jetccd` is installed together with `jetcc`, in the same folder");
        }
        Err(error) => eprintln!("jetcc: this program's own file cannot be found: {error}"),
    }
    TROUBLE.into()
}
