//! What became of the latest compiles, for `jetcc explain`: kept in memory and in a bounded file
//! that outlives the daemon.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::report::Report;

/// Compiles that are remembered.
const REPORTS_MAX: usize = 4_096;
/// Size at which the file starts anew, in bytes.
const FILE_BYTES_MAX: u64 = 2 << 20;
/// Compiles shown when nothing special is asked.
const SHOWN: usize = 20;

/// The latest compiles.
#[derive(Debug)]
pub struct History {
    file: PathBuf,
    lines: Mutex<VecDeque<String>>,
}

impl History {
    /// Remembers what `file` holds from earlier daemons.
    pub fn open(file: PathBuf) -> Self {
        let old = std::fs::read_to_string(&file).unwrap_or_default();
        let skip = old.lines().count().saturating_sub(REPORTS_MAX);
        let lines = old.lines().skip(skip).map(str::to_owned).collect();
        Self { file, lines: Mutex::new(lines) }
    }

    /// Remembers a compile. A file that cannot be written costs the memory after a restart only.
    pub fn remember(&self, report: &Report) {
        let line = report.to_string();
        if let Err(error) = self.append(&line) {
            tracing::debug!(file = %self.file.display(), %error, "history is not written");
        }
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == REPORTS_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// The compiles whose line contains `text`, oldest first; the latest when it is empty.
    pub fn explain(&self, text: &str) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let matching: Vec<&String> = lines.iter().filter(|line| line.contains(text)).collect();
        let skip = matching.len().saturating_sub(SHOWN);
        if matching.is_empty() {
            return format!(
                "no compile with `{text}` is remembered\nhint: the latest {REPORTS_MAX} are\n"
            );
        }
        matching[skip..].iter().map(|line| format!("{line}\n")).collect()
    }

    fn append(&self, line: &str) -> std::io::Result<()> {
        let full = std::fs::metadata(&self.file).is_ok_and(|file| file.len() > FILE_BYTES_MAX);
        let mut file = OpenOptions::new()
            .create(true)
            .append(!full)
            .write(true)
            .truncate(full)
            .open(&self.file)?;
        writeln!(file, "{line}")
    }
}
