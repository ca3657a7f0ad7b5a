//! Questions to a compiler: short runs with a small environment, answers as text.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ToolchainError;
use crate::exec::{self, Ended, ExecError, Finished, Spec};

/// Longest time for one answer; a cold disk or a loaded machine is no reason to give up.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
/// Longest answer: the predefined macros of any compiler fit easily.
const ANSWER_BYTES_MAX: u64 = 4 << 20;
/// How much of an unusable answer is shown.
const SHOWN_CHARS: usize = 300;

/// Someone to ask: a program, the name it is called by, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// Absolute path.
    pub(super) program: PathBuf,
    /// `argv[0]`.
    pub(super) argv0: OsString,
    /// The whole environment.
    pub(super) environment: BTreeMap<OsString, OsString>,
    /// Working directory.
    pub(super) directory: PathBuf,
}

impl Asked {
    /// `program` under its own path with `PATH` alone, speaking English.
    pub(super) fn plain(program: &Path, path: &str) -> Self {
        Self {
            program: program.to_owned(),
            argv0: program.as_os_str().to_owned(),
            environment: BTreeMap::from([
                ("LC_ALL".into(), "C".into()),
                ("PATH".into(), path.into()),
            ]),
            directory: "/".into(),
        }
    }

    /// Runs it with `arguments`, whatever the outcome.
    pub(super) async fn run<S: AsRef<str>>(&self, arguments: &[S]) -> Result<Finished, ExecError> {
        exec::run(Spec {
            program: self.program.clone(),
            argv0: Some(self.argv0.clone()),
            arguments: arguments.iter().map(|a| a.as_ref().into()).collect(),
            environment: self.environment.clone(),
            directory: self.directory.clone(),
            stream_bytes_max: ANSWER_BYTES_MAX,
            deadline: ANSWER_DEADLINE,
        })
        .await
    }

    /// What it writes to stdout and to stderr when it succeeds.
    pub(super) async fn answer(
        &self,
        arguments: &[&str],
    ) -> Result<(String, String), ToolchainError> {
        let done = self.run(arguments).await?;
        if done.status == Ended::Code(0) {
            return Ok((text(&done.stdout), text(&done.stderr)));
        }
        Err(ToolchainError::Answer {
            program: self.program.display().to_string(),
            question: arguments.join(" "),
            answer: beginning(&done.stderr),
        })
    }

    /// The one line it writes to stdout.
    pub(super) async fn line(&self, argument: &str) -> Result<String, ToolchainError> {
        Ok(self.answer(&[argument]).await?.0.trim().to_owned())
    }
}

/// Bytes as text; what is not UTF-8 becomes a replacement character and so no path.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The beginning of an answer, for people.
pub(super) fn beginning(bytes: &[u8]) -> String {
    text(bytes).trim().chars().take(SHOWN_CHARS).collect()
}
