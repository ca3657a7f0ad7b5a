//! The compiler's own dependency pass: one process, and its list is exact.

use std::ffi::OsString;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::{Listing, Reader};
use crate::compiler::{depfile, search, version};
use crate::exec;
use crate::job::LocalReason;
use crate::store::stamps::now_ns;

/// How long the dependency pass may take.
const PASS_DEADLINE: Duration = Duration::from_secs(120);
/// Most bytes of a dependency list.
const PASS_BYTES_MAX: u64 = 64 << 20;
/// Most files that a compile reads.
const FILES_MAX: usize = 100_000;

/// What the compiler itself says that `reader`'s command reads.
pub(super) async fn ask(
    reader: &Reader,
    arguments: &[String],
    passes: &Semaphore,
) -> Result<Listing, LocalReason> {
    let began_ns = now_ns();
    let _turn = passes.acquire().await.map_err(|_| LocalReason::Stopping)?;
    let mut environment = reader.environment.clone();
    // The list is read by a program: whatever the user's language, in English.
    environment.insert("LC_MESSAGES".into(), "C".into());
    environment.remove(std::ffi::OsStr::new("LANGUAGE"));
    if let Some(all) = environment.remove(std::ffi::OsStr::new("LC_ALL")) {
        environment.insert("LC_CTYPE".into(), all);
    }
    let finished = exec::run(exec::Spec {
        argv0: Some(reader.compiler.argv0.clone().into()),
        arguments: arguments.iter().map(OsString::from).collect(),
        environment,
        directory: reader.directory.clone().into(),
        stream_bytes_max: PASS_BYTES_MAX,
        deadline: PASS_DEADLINE,
        ..exec::Spec::of(&reader.compiler.executable)
    })
    .await
    .map_err(|error| LocalReason::Toolchain(error.to_string()))?;
    if finished.status != exec::Ended::Code(0) {
        return Err(LocalReason::DependencyPass);
    }
    let files = depfile::parse(&finished.stdout, FILES_MAX)
        .map_err(|error| LocalReason::UnreadableInput(error.to_string()))?;
    let search = search::parse_search_dirs(&finished.stderr);
    if !search.complete || !search.frameworks.is_empty() {
        return Err(LocalReason::UnreadableInput("the compiler's search folders".into()));
    }
    let takes_epoch = version::takes_epoch(reader.family, &finished.stderr);
    Ok(Listing { files, search, takes_epoch, began_ns, ..Listing::default() })
}
