//! The daemon's socket: one request and one answer per connection, both length-prefixed
//! MessagePack; after a local compile whose result is kept, one of each more. The wrapper's half is plain blocking code.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::view::View;
use crate::job::{Exit, Terminal, bounded};

/// Largest request, in bytes: Linux itself allows 6 MiB of arguments and environment.
pub const REQUEST_BYTES_MAX: u32 = 16 << 20;
/// Largest answer, in bytes: both streams of a compile.
pub const REPLY_BYTES_MAX: u32 = 256 << 20;
/// Most bytes of both streams of a local compile that the daemon is told of: no result with more is
/// kept.
pub const TOLD_STREAMS_BYTES_MAX: usize = 4 << 20;
/// Memory that is set aside for a frame before its bytes are there.
const CHUNK_BYTES: usize = 64 << 10;

/// How often a daemon says that it is still at a compile.
pub const BUSY_EVERY: Duration = Duration::from_secs(3);
/// Silence after which a wrapper compiles without the daemon.
pub const SILENCE_MAX: Duration = Duration::from_secs(15);
/// Longest that a wrapper whose compile is done waits for the daemon to keep its result.
pub const KEEPING_MAX: Duration = Duration::from_secs(5);

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
    Terminal(Terminal),
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
    /// The compiler has written this to standard error so far, and an output is there that others
    /// wait for; another frame follows, without these words.
    Said(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Run the command here. The connection is the slot: it is free again when the last process
    /// that holds it has ended.
    RunLocally,
    /// As [`Reply::RunLocally`], but tell what the compiler wrote if it succeeds: [`Told`].
    RunAndTell,
    /// What was told is kept, or it is not wanted.
    Noted,
    /// Text to print: JSON where the request asks for data.
    Text(String),
}

/// What a wrapper tells after [`Reply::RunAndTell`]: the compiler has ended with exit code 0, and
/// this is what it wrote. The wrapper waits for [`Reply::Noted`], so that nobody who waits for the
/// compile touches its outputs before they are read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Told {
    /// Standard output.
    #[serde(with = "serde_bytes")]
    pub stdout: Vec<u8>,
    /// Standard error.
    #[serde(with = "serde_bytes")]
    pub stderr: Vec<u8>,
}

/// A message of this socket.
pub trait Frame: Serialize + DeserializeOwned {
    /// Largest one, in bytes.
    const BYTES_MAX: u32;

    /// The length of the body that the four bytes before it announce.
    ///
    /// # Errors
    /// When it is larger than [`Frame::BYTES_MAX`].
    fn length(announced: [u8; 4]) -> io::Result<u64> {
        let (length, most) = (u32::from_le_bytes(announced), Self::BYTES_MAX);
        if length > most {
            return Err(io::Error::other(format!(
                "frame of {length} bytes, wanted at most {most}"
            )));
        }
        Ok(length.into())
    }

    /// The message in a frame's body.
    ///
    /// # Errors
    /// When the body is no such message.
    fn decode(body: &[u8]) -> io::Result<Self> {
        bounded::decode(body).map_err(io::Error::other)
    }

    /// The whole frame: length, little endian, and body.
    ///
    /// # Errors
    /// When the message is too large.
    fn encode(&self) -> io::Result<Vec<u8>> {
        let mut frame = vec![0; 4];
        rmp_serde::encode::write(&mut frame, self).map_err(io::Error::other)?;
        let length =
            u32::try_from(frame.len() - 4).ok().filter(|length| *length <= Self::BYTES_MAX);
        let length = length.ok_or_else(|| io::Error::other("frame is too large"))?;
        frame[..4].copy_from_slice(&length.to_le_bytes());
        Ok(frame)
    }
}

impl Frame for Request {
    const BYTES_MAX: u32 = REQUEST_BYTES_MAX;
}

impl Frame for Reply {
    const BYTES_MAX: u32 = REPLY_BYTES_MAX;
}

impl Frame for Told {
    /// The streams and some bytes around them.
    const BYTES_MAX: u32 = 5 << 20;
}

/// Reads one frame, blocking.
///
/// # Errors
/// When the daemon went away or the frame is malformed.
pub fn read_frame<T: Frame>(stream: &mut impl Read) -> io::Result<T> {
    let mut announced = [0; 4];
    stream.read_exact(&mut announced)?;
    let length = T::length(announced)?;
    let mut body = Vec::with_capacity(CHUNK_BYTES.min(length as usize));
    stream.take(length).read_to_end(&mut body)?;
    T::decode(whole(&body, length)?)
}

/// Writes one frame, blocking.
///
/// # Errors
/// When the daemon went away.
pub fn write_frame<T: Frame>(stream: &mut impl Write, message: &T) -> io::Result<()> {
    stream.write_all(&message.encode()?)
}

/// Reads one frame.
///
/// # Errors
/// When the other side went away or the frame is malformed.
pub async fn receive<T: Frame>(stream: &mut tokio::net::UnixStream) -> io::Result<T> {
    let mut announced = [0; 4];
    stream.read_exact(&mut announced).await?;
    let length = T::length(announced)?;
    let mut body = Vec::with_capacity(CHUNK_BYTES.min(length as usize));
    stream.take(length).read_to_end(&mut body).await?;
    T::decode(whole(&body, length)?)
}

/// Writes one frame.
///
/// # Errors
/// When the other side went away.
pub async fn send<T: Frame>(stream: &mut tokio::net::UnixStream, message: &T) -> io::Result<()> {
    stream.write_all(&message.encode()?).await
}

fn whole(body: &[u8], length: u64) -> io::Result<&[u8]> {
    if body.len() as u64 == length { Ok(body) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announced_lengths_are_not_believed() {
        let mut announced = u32::MAX.to_le_bytes().to_vec();
        assert!(read_frame::<Reply>(&mut &announced[..]).is_err());
        announced = REQUEST_BYTES_MAX.to_le_bytes().to_vec();
        announced.push(0xc0);
        let cut = read_frame::<Request>(&mut &announced[..]).unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_written_is_read() {
        let mut frame = Vec::new();
        write_frame(&mut frame, &Request::Explain("a.c".into())).unwrap();
        let read = read_frame::<Request>(&mut &frame[..]).unwrap();
        assert!(matches!(read, Request::Explain(text) if text == "a.c"));
        // One message alone.
        let length = u32::try_from(frame.len() - 3).unwrap();
        frame[..4].copy_from_slice(&length.to_le_bytes());
        frame.push(0xc0);
        assert!(read_frame::<Request>(&mut &frame[..]).is_err());
    }
}
