//! Large blobs from a file and into one, a piece at a time. On its way up, a blob of up to
//! [`WHOLE_BYTES_MAX`] bytes is held as one frame, and a larger one by every store but NATS.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek as _, Write};
use std::os::unix::fs::FileExt as _;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use zstd::stream::read::Decoder;
use zstd::stream::write::Encoder;

use super::StoreError;
use super::compressed::announced_size;
use super::frames::LEVEL;
use super::hash::{digest_with, read_pieces};
use crate::job::Digest;

/// From this size on, in bytes, a blob is not held in memory.
pub const LARGE_BYTES_MIN: u64 = 1 << 20;
/// Largest blob whose frame is made before any of it is sent, in bytes: its frame has few messages.
pub const WHOLE_BYTES_MAX: u64 = 4 << 20;
/// Of a larger one so many bytes of the frame are sent at once: a message of NATS.
const PIECE_BYTES: usize = 512 << 10;
/// Read at once, in bytes.
const CHUNK_BYTES: usize = 128 << 10;
/// Bytes that tell how much is in a frame.
const HEADER_BYTES_MAX: u64 = 18;
/// Window that a frame may ask of its reader, as a power of two in bytes; ours ask for 2^19.
const WINDOW_LOG_MAX: u32 = 23;

/// What is known of the content of a file that goes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hashed {
    /// Its digest was made some time ago: it is made again on the way.
    Earlier,
    /// Its digest was made a moment ago, and nobody else can write into it.
    JustNow,
}

/// The frame of what `file` holds, which is to be the blob of that digest and of so many bytes; blocking.
///
/// # Errors
/// [`Unsent::Changed`] when it has another digest, if that is made; [`Unsent::Source`] when it has another
/// size or cannot be read.
pub(super) fn pack(file: &File, name: (Digest, u64), hashed: Hashed) -> Result<Bytes, Unsent> {
    pack_into(Vec::new(), file, name, hashed).map(Bytes::from)
}

/// As [`pack`]; `take` gets the frame as it is made.
pub(super) fn pack_in_pieces(
    file: &File,
    name: (Digest, u64),
    hashed: Hashed,
    take: impl FnMut(Bytes) -> io::Result<()>,
) -> Result<(), Unsent> {
    let mut pieces = pack_into(Pieces { piece: Vec::new(), take }, file, name, hashed)?;
    pieces.pass_on().map_err(Unsent::Source)
}

fn pack_into<W: Write>(
    target: W,
    file: &File,
    (digest, size): (Digest, u64),
    hashed: Hashed,
) -> Result<W, Unsent> {
    let encode = || {
        let (mut encoder, mut whole) = (Encoder::new(target, LEVEL)?, Whole { file, at: 0 });
        encoder.set_pledged_src_size(Some(size))?;
        let write = |piece: &[u8]| encoder.write_all(piece);
        let found = match hashed {
            Hashed::Earlier => digest_with(&mut whole, write)?,
            Hashed::JustNow => read_pieces(&mut whole, write).map(|()| digest)?,
        };
        Ok((found, encoder.finish()?))
    };
    let (found, target) = encode().map_err(Unsent::Source)?;
    if found == digest { Ok(target) } else { Err(Unsent::Changed) }
}

/// Reads all of a file, whatever others read of it meanwhile.
struct Whole<'f> {
    file: &'f File,
    at: u64,
}

impl Read for Whole<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read_at(buffer, self.at)?;
        self.at += length as u64;
        Ok(length)
    }
}

/// Cuts what is written into pieces of [`PIECE_BYTES`], whatever the writer's own are: the same frame
/// has the same pieces.
struct Pieces<F> {
    piece: Vec<u8>,
    take: F,
}

impl<F: FnMut(Bytes) -> io::Result<()>> Pieces<F> {
    fn pass_on(&mut self) -> io::Result<()> {
        (self.take)(std::mem::take(&mut self.piece).into())
    }
}

impl<F: FnMut(Bytes) -> io::Result<()>> Write for Pieces<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.len() == PIECE_BYTES {
            self.pass_on()?;
        }
        let room = PIECE_BYTES - self.piece.len();
        let taken = &bytes[..room.min(bytes.len())];
        if self.piece.is_empty() {
            // Grown bit by bit it would take up to twice as much.
            self.piece.reserve_exact(PIECE_BYTES);
        }
        self.piece.extend_from_slice(taken);
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Why the content of a file did not come into the store.
#[derive(Debug, thiserror::Error)]
pub enum Unsent {
    /// The store's trouble.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file's.
    #[error("cannot be read: {0}")]
    Source(io::Error),
    /// It is not that of the name.
    #[error("has other bytes")]
    Changed,
}

/// Why a blob did not come into a file.
#[derive(Debug, thiserror::Error)]
pub enum Unreceived {
    /// The store's trouble.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file's.
    #[error("cannot be written: {0}")]
    Target(io::Error),
}

/// Why a frame was not opened.
pub(super) enum Unopened {
    /// It did not come whole: another try may succeed.
    Passing(io::Error),
    /// Another try would end the same way.
    Final(Unreceived),
}

impl From<StoreError> for Unopened {
    fn from(error: StoreError) -> Self {
        Self::Final(error.into())
    }
}

impl Unopened {
    fn target(error: io::Error) -> Self {
        Self::Final(Unreceived::Target(error))
    }
}

/// Fills `target` with what is in `frame`, at most `bytes_max` bytes, and checks the digest; blocking.
pub(super) fn open_into(
    digest: Digest,
    mut frame: impl Read,
    bytes_max: u64,
    target: &mut File,
) -> Result<(), Unopened> {
    let corrupt = || StoreError::Corrupt(digest);
    let mut header = Vec::new();
    let begun = frame.by_ref().take(HEADER_BYTES_MAX).read_to_end(&mut header);
    begun.map_err(Unopened::Passing)?;
    let mut left = announced_size(digest, &header, bytes_max)?;
    empty(target).map_err(Unopened::target)?;
    let decoder = Decoder::new(Cursor::new(header).chain(frame)).map_err(Unopened::Passing)?;
    let mut decoder = decoder.single_frame();
    decoder.window_log_max(WINDOW_LOG_MAX).map_err(Unopened::Passing)?;
    let (mut hasher, mut chunk) = (Sha256::new(), vec![0; CHUNK_BYTES]);
    loop {
        let length = match decoder.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) if length as u64 <= left => length,
            Err(error) if is_of_transport(&error) => return Err(Unopened::Passing(error)),
            Ok(_) | Err(_) => return Err(corrupt().into()),
        };
        left -= length as u64;
        hasher.update(&chunk[..length]);
        target.write_all(&chunk[..length]).map_err(Unopened::target)?;
    }
    // Nothing may follow it.
    let is_alone = decoder.finish().read(&mut [0]).map_err(Unopened::Passing)? == 0;
    let is_right = Digest::from_bytes(hasher.finalize().into()) == digest;
    if left == 0 && is_alone && is_right { Ok(()) } else { Err(corrupt().into()) }
}

/// An earlier try may have left something in it.
fn empty(target: &mut File) -> io::Result<()> {
    target.set_len(0)?;
    target.rewind()
}

/// Whether the bytes did not come, rather than that they were wrong: the decoder's own errors have no
/// number of the system, and no cause.
fn is_of_transport(error: &io::Error) -> bool {
    error.raw_os_error().is_some()
        || error.get_ref().is_some_and(|cause| cause.is::<object_store::Error>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Compressed;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        file
    }

    fn content(mut file: File) -> Vec<u8> {
        file.rewind().unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// Opens `frame` where something stood before.
    fn open(digest: Digest, frame: &[u8], bytes_max: u64) -> Result<Vec<u8>, Unreceived> {
        let mut target = file(b"what an earlier try left");
        match open_into(digest, frame, bytes_max, &mut target) {
            Ok(()) => Ok(content(target)),
            Err(Unopened::Final(error)) => Err(error),
            Err(Unopened::Passing(error)) => panic!("{error}"),
        }
    }

    #[test]
    fn what_is_packed_is_what_others_read_and_opens_to_the_same_bytes() {
        let texts: [&[u8]; 3] = [b"", b"short", &vec![7; 3 << 20]];
        for bytes in texts {
            let (digest, size) = (Digest::of(bytes), bytes.len() as u64);
            let zstd = pack(&file(bytes), (digest, size), Hashed::Earlier).unwrap();
            let packed = Compressed { digest, size, zstd };
            assert_eq!(packed.open(packed.size).unwrap(), bytes);
            assert_eq!(open(packed.digest, &packed.zstd, packed.size).unwrap(), bytes);
            let whole = Compressed::new(bytes);
            assert_eq!(open(whole.digest, &whole.zstd, whole.size).unwrap(), bytes);
        }
    }

    #[test]
    fn a_file_of_another_size_is_not_packed() {
        for hashed in [Hashed::Earlier, Hashed::JustNow] {
            for (bytes, size) in [(&b"grown"[..], 4), (b"shrunk", 7)] {
                let (file, name) = (file(bytes), (Digest::of(bytes), size));
                assert!(matches!(pack(&file, name, hashed), Err(Unsent::Source(_))));
                let in_pieces = pack_in_pieces(&file, name, hashed, |_| Ok(()));
                assert!(matches!(in_pieces, Err(Unsent::Source(_))));
            }
        }
    }

    #[test]
    fn the_pieces_of_a_frame_are_the_frame() {
        let mut noise = vec![0; 3 * PIECE_BYTES];
        getrandom::fill(&mut noise).unwrap();
        for (bytes, count) in [(&noise[..], 4), (b"short", 1)] {
            let (file, name) = (file(bytes), (Digest::of(bytes), bytes.len() as u64));
            for hashed in [Hashed::Earlier, Hashed::JustNow] {
                let mut pieces = Vec::new();
                let take = |piece| {
                    pieces.push(piece);
                    Ok(())
                };
                pack_in_pieces(&file, name, hashed, take).unwrap();
                assert_eq!(pieces.len(), count);
                assert!(pieces.iter().rev().skip(1).all(|piece| piece.len() == PIECE_BYTES));
                assert_eq!(pieces.concat(), pack(&file, name, hashed).unwrap());
            }
            let other = (Digest::of(b"other"), name.1);
            assert!(matches!(pack(&file, other, Hashed::Earlier), Err(Unsent::Changed)));
            let in_pieces = pack_in_pieces(&file, other, Hashed::Earlier, |_| Ok(()));
            assert!(matches!(in_pieces, Err(Unsent::Changed)));
        }
        let refuse = |_| Err(io::Error::other("nobody takes it"));
        let name = (Digest::of(&noise), noise.len() as u64);
        assert!(pack_in_pieces(&file(&noise), name, Hashed::JustNow, refuse).is_err());
    }

    #[test]
    fn foreign_frames_are_refused() {
        let Compressed { digest, zstd, .. } = Compressed::new(&vec![1; 100_000]);
        let is_corrupt = |found: Result<Vec<u8>, Unreceived>| {
            assert!(matches!(found, Err(Unreceived::Store(StoreError::Corrupt(_)))), "{found:?}");
        };
        is_corrupt(open(digest, b"", 1 << 20));
        is_corrupt(open(digest, b"no frame at all, of any kind", 1 << 20));
        is_corrupt(open(digest, &zstd[..zstd.len() - 1], 1 << 20));
        is_corrupt(open(digest, &[&zstd[..], b"more"].concat(), 1 << 20));
        is_corrupt(open(Digest::of(b"other"), &zstd, 1 << 20));
        let refused = open(digest, &zstd, 99_999);
        assert!(matches!(refused, Err(Unreceived::Store(StoreError::TooLarge { .. }))));
        // A window as large as the content, far larger than any of ours.
        let mut greedy = Encoder::new(Vec::new(), LEVEL).unwrap();
        greedy.window_log(27).unwrap();
        greedy.set_pledged_src_size(Some(256 << 20)).unwrap();
        (0..256).for_each(|_| greedy.write_all(&[0; 1 << 20]).unwrap());
        is_corrupt(open(digest, &greedy.finish().unwrap(), 1 << 30));
    }
}
