//! The daemon's socket: one request and one answer per connection, both length-prefixed
//! MessagePack. The wrapper's half is plain blocking code.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::view::View;
use crate::job::Exit;

/// Largest frame, in bytes: a long command line with a large environment, or a long list of
/// diagnostics.
pub const FRAME_BYTES_MAX: u32 = 256 << 20;

/// How often a daemon says that it is still at a compile.
pub const BUSY_EVERY: Duration = Duration::from_secs(3);
/// Silence after which a wrapper compiles without the daemon.
pub const SILENCE_MAX: Duration = Duration::from_secs(15);

/// A string of the operating system, as its bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OsText(#[serde(with = "serde_bytes")] Vec<u8>);

impl std::fmt::Debug for OsText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        String::from_utf8_lossy(&self.0).fmt(f)
    }
}

impl From<&OsStr> for OsText {
    fn from(text: &OsStr) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl From<OsText> for OsString {
    fn from(text: OsText) -> Self {
        Self::from_vec(text.0)
    }
}

impl OsText {
    /// As UTF-8, if it is.
    pub fn to_utf8(&self) -> Option<String> {
        String::from_utf8(self.0.clone()).ok()
    }
}

/// A compile as the build system asked for it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CompileRequest {
    /// The compiler's name or path, as written.
    pub program: OsText,
    /// Its arguments.
    pub arguments: Vec<OsText>,
    /// Working directory of the wrapper, physical.
    pub directory: OsText,
    /// The wrapper's whole environment. It stays on this machine but for the compiler's own
    /// variables.
    pub environment: BTreeMap<OsText, OsText>,
    /// The wrapper's umask.
    pub umask: u32,
    /// Where diagnostics go.
    pub diagnostics: Diagnostics,
    /// Whose eyes look at which files.
    pub view: View,
    /// A tight limit on the wrapper's resources.
    pub limit: Option<String>,
}

/// What the wrapper's standard error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Diagnostics {
    /// A terminal: compilers choose colours, links and line breaks by its kind and width.
    Terminal,
    /// A file or pipe.
    Stream,
}

/// What anybody may ask the daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Compile.
    Compile(Box<CompileRequest>),
    /// Counters so far.
    Stats,
    /// Counters back to zero.
    ZeroStats,
    /// How the farm is.
    DistStatus,
    /// What became of compiles whose file or job contains this text; the latest when empty.
    Explain(String),
    /// Leave when the compiles under way are done.
    Stop,
}

/// What the daemon answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// The compile is done and its files are written.
    Compiled {
        /// How it ended.
        exit: Exit,
        /// Standard output.
        #[serde(with = "serde_bytes")]
        stdout: Vec<u8>,
        /// Standard error.
        #[serde(with = "serde_bytes")]
        stderr: Vec<u8>,
    },
    /// Still at it; another frame follows. A daemon that is silent for [`SILENCE_MAX`] is given up.
    Busy,
    /// Run the command here. The connection is the slot: it is free again when the last process
    /// that holds it has ended.
    RunLocally,
    /// Text to print: JSON where the request asks for data.
    Text(String),
}

/// Reads one frame, blocking.
///
/// # Errors
/// When the daemon went away or the frame is malformed.
pub fn read_frame<T: DeserializeOwned>(stream: &mut UnixStream) -> io::Result<T> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut body = vec![0; checked(length)?];
    stream.read_exact(&mut body)?;
    rmp_serde::from_slice(&body).map_err(io::Error::other)
}

/// Writes one frame, blocking.
///
/// # Errors
/// When the daemon went away.
pub fn write_frame<T: Serialize>(stream: &mut UnixStream, message: &T) -> io::Result<()> {
    stream.write_all(&encode(message)?)
}

/// Reads one frame.
///
/// # Errors
/// When the other side went away or the frame is malformed.
pub async fn receive<T: DeserializeOwned>(stream: &mut tokio::net::UnixStream) -> io::Result<T> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let mut body = vec![0; checked(length)?];
    stream.read_exact(&mut body).await?;
    rmp_serde::from_slice(&body).map_err(io::Error::other)
}

/// Writes one frame.
///
/// # Errors
/// When the other side went away.
pub async fn send<T: Serialize>(
    stream: &mut tokio::net::UnixStream,
    message: &T,
) -> io::Result<()> {
    stream.write_all(&encode(message)?).await
}

fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    rmp_serde::encode::write(&mut frame, message).map_err(io::Error::other)?;
    let length = u32::try_from(frame.len() - 4).ok().filter(|length| *length <= FRAME_BYTES_MAX);
    let length = length.ok_or_else(|| io::Error::other("frame is too large"))?;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    Ok(frame)
}

fn checked(length: [u8; 4]) -> io::Result<usize> {
    let length = u32::from_le_bytes(length);
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::other(format!(
            "frame of {length} bytes, wanted at most {FRAME_BYTES_MAX}"
        )));
    }
    Ok(length as usize)
}
