//! Seeing through rustup, whose one program stands under the name of every tool and starts the one
//! that belongs to the folder it is called in.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::ask::{Asked, text};
use super::resolve::{ResolveError, identity};
use crate::exec::Ended;
use crate::job::RustTool;

/// rustup's own name.
const RUSTUP: &str = "rustup";
/// Variables that decide which toolchain is meant.
const DECIDE: [&str; 5] = ["CARGO_HOME", "HOME", "PATH", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"];
/// The one that decides alone, whatever the folder.
const CHOSEN: &str = "RUSTUP_TOOLCHAIN";

/// Whether `program` is rustup under a tool's name: a link to it, or the same file beside it, as
/// older ones were installed.
pub(super) fn is_proxy(program: &Path) -> bool {
    program.canonicalize().is_ok_and(|real| {
        let beside = identity(&real.with_file_name(RUSTUP));
        beside.is_some() && beside == identity(&real)
    })
}

/// What the answer of [`behind`] depends on, unless it depends on the folder.
pub(super) fn key(environment: &BTreeMap<OsString, OsString>) -> Option<String> {
    environment.get(OsStr::new(CHOSEN)).filter(|chosen| !chosen.is_empty())?;
    let value = |name: &&str| environment.get(OsStr::new(name)).map(|it| it.to_string_lossy());
    let values: Vec<_> = DECIDE.iter().map(|name| value(name).unwrap_or_default()).collect();
    Some(values.join("\0"))
}

/// The tool that `proxy` starts in `directory`. Nothing is installed for that.
pub(super) async fn behind(
    proxy: &Path,
    tool: RustTool,
    directory: &Path,
    environment: &BTreeMap<OsString, OsString>,
) -> Result<PathBuf, ResolveError> {
    let decides = |(name, _): &(&OsString, &OsString)| {
        name.to_str().is_some_and(|name| DECIDE.contains(&name))
    };
    let known = environment.iter().filter(decides).map(|(n, v)| (n.clone(), v.clone()));
    let asked = Asked {
        program: proxy.to_owned(),
        argv0: RustTool::Rustc.name().into(),
        environment: known.chain([("RUSTUP_AUTO_INSTALL".into(), "0".into())]).collect(),
        directory: directory.to_owned(),
    };
    let done = asked.run(&["--print", "sysroot"]).await?;
    let sysroot = text(&done.stdout);
    let found = Path::new(sysroot.trim()).join("bin").join(tool.name());
    match done.status {
        Ended::Code(0) if found.is_absolute() && found.is_file() => Ok(found),
        _ => Err(ResolveError::NotFound(format!("{} behind {}", tool.name(), proxy.display()))),
    }
}

#[cfg(test)]
#[path = "rustup_tests.rs"]
mod tests;
