//! Logs: one set-up for all roles, a sentence plus fields, to standard error or a file.

use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;

/// Where log lines go.
#[derive(Clone, Copy, Debug)]
pub enum Sink<'a> {
    /// Standard error.
    Stderr,
    /// The end of a file, created at need.
    File(&'a Path),
}

/// Starts logging by `filter` (`info`, `jetcc=debug`, …).
///
/// # Errors
/// When the filter is malformed or the file cannot be opened.
pub fn start(filter: &str, sink: Sink<'_>) -> io::Result<()> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        io::Error::other(format!(
            "`{filter}` is no log filter: {error}\nhint: try `info` or `debug`"
        ))
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    let started = match sink {
        Sink::Stderr => {
            builder.with_ansi(io::stderr().is_terminal()).with_writer(io::stderr).try_init()
        }
        Sink::File(path) => {
            let file = File::options().create(true).append(true).open(path).map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("`{}` cannot be opened: {error}", path.display()),
                )
            })?;
            builder.with_ansi(false).with_writer(Mutex::new(file)).try_init()
        }
    };
    started.map_err(io::Error::other)
}
