//! A request's command: whose it is, what it asks for, and what names the compile for everybody.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::daemon::Daemon;
use super::inputs::Inputs;
use super::ready_toolchain::ReadyToolchain;
use super::request::Request;
use crate::compiler::rustc::CratePlan;
use crate::compiler::{self, Invocation, Plan, RESPONSE_BYTES_MAX, Verdict};
use crate::job::{Action, Command, Kind, LocalReason, Pool};
use crate::toolchain::resolve::{Equipment, ResolveError, Resolved};

/// The linker that rustc calls unless it is told another.
const LINKER: &str = "cc";

/// The compiler that `request` names.
///
/// # Errors
/// [`LocalReason::CompilerScript`] or [`LocalReason::Toolchain`].
pub(super) async fn resolve(daemon: &Daemon, request: &Request) -> Result<Resolved, LocalReason> {
    let resolved = daemon
        .resolver
        .resolve(&request.program, Path::new(&request.directory), &request.environment)
        .await;
    resolved.map_err(|error| match error {
        ResolveError::CompilerScript(_) => LocalReason::CompilerScript(error.to_string()),
        _ => LocalReason::Toolchain(error.to_string()),
    })
}

/// A response file, unless it is none: reading a pipe would take from the compiler what is in it.
fn read_response_file(path: &str) -> io::Result<Vec<u8>> {
    // Without NONBLOCK a pipe would hold us until somebody writes.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a plain file"));
    }
    let mut bytes = Vec::new();
    file.take(RESPONSE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What its command line asks for.
pub(super) fn plan(request: &Request, compiler: &Resolved) -> Verdict {
    let Kind::C(family) = compiler.kind else {
        return compiler::rustc::plan(&request.arguments, &request.directory, &read_response_file);
    };
    let invocation = Invocation {
        family,
        program: &compiler.argv0,
        arguments: &request.arguments,
        directory: &request.directory,
    };
    compiler::plan(&invocation, &read_response_file)
}

/// What a compiler of Rust needs besides itself to compile `krate`.
///
/// # Errors
/// [`LocalReason::Flag`] where a linker is named that is no C compiler.
pub(super) async fn equipment(
    daemon: &Daemon,
    request: &Request,
    krate: &CratePlan,
) -> Result<Equipment, LocalReason> {
    let mut equipment = Equipment { target: krate.target.clone(), linker: None };
    let name = krate.linker.as_deref().unwrap_or(LINKER);
    // It comes with the compiler.
    if !krate.links || name == "rust-lld" {
        return Ok(equipment);
    }
    let directory = Path::new(&request.directory);
    let found = daemon.resolver.resolve(name, directory, &request.environment).await;
    match found {
        Ok(Resolved { kind: Kind::C(_), executable, .. }) => equipment.linker = Some(executable),
        // Some platforms need none.
        Err(ResolveError::NotFound(_)) if krate.linker.is_none() => {}
        Ok(_) | Err(_) => return Err(LocalReason::Flag(format!("-C linker={name}"))),
    }
    Ok(equipment)
}

/// The same command as the user's, with the variables that it may see.
pub(super) fn action(
    request: &Request,
    compiler: &Resolved,
    plan: &Plan,
    mut environment: BTreeMap<String, String>,
    toolchain: &ReadyToolchain,
    inputs: &Inputs,
) -> Action {
    let executable = compiler.executable.display().to_string();
    environment.insert("PATH".into(), toolchain.path.clone());
    let mut arguments = vec![compiler.argv0.clone()];
    arguments.extend(plan.arguments.iter().cloned());
    Action {
        pool: Pool::of_this_machine(),
        toolchain: toolchain.digest,
        command: Command {
            executable,
            arguments,
            environment,
            directory: request.logical_directory(),
        },
        inputs: inputs.digest,
        outputs: plan.outputs.clone(),
        terminal: None,
    }
}
