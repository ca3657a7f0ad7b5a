//! Logs: one set-up for all roles, a sentence plus fields, to standard error or a file.

use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::sync::Mutex;

use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Where our own lines come from.
const OURS: &str = "jetcc";

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
    let lines = tracing_subscriber::registry().with(filter).with(filter_fn(is_discreet));
    let layer = layer().with_target(false);
    let started = match sink {
        Sink::Stderr => {
            let layer = layer.with_ansi(io::stderr().is_terminal()).with_writer(io::stderr);
            lines.with(layer).try_init()
        }
        Sink::File(path) => {
            let file = File::options().create(true).append(true).open(path).map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("`{}` cannot be opened: {error}", path.display()),
                )
            })?;
            lines.with(layer.with_ansi(false).with_writer(Mutex::new(file))).try_init()
        }
    };
    started.map_err(io::Error::other)
}

/// Libraries trace whatever passes through them: passwords, tokens, sources. Only our own lines are
/// written with care, so only they may be that loud.
fn is_discreet(line: &Metadata<'_>) -> bool {
    *line.level() != Level::TRACE || line.target().starts_with(OURS)
}
