//! Writes what a compile gave: every file beside its target first, then renamed, objects last, so
//! that nobody ever sees half a result.

mod beside;

use std::fs::{self, File};
use std::io::{self, Seek as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use bytes::Bytes;

pub use self::beside::Beside;
use super::cache::Results;
use crate::job::wire::BlobClass;
use crate::job::{Content, Digest, LocalReason, Outcome, Output, WantedOutput};
use crate::store::streamed::{LARGE_BYTES_MIN, Unreceived};
use crate::store::{Blobs, StoreError, content, digest_of};

/// Most bytes of a stream that are replayed.
const STREAM_BYTES_MAX: u64 = 64 << 20;
/// Largest file that is written, in bytes.
const OUTPUT_BYTES_MAX: u64 = 2 << 30;

/// Checks that every wanted file could be written where the local compiler would write it: only
/// plain files in existing folders. Anything else is left to the local compiler, and so is a file
/// with other names or another mode than a new one has under `umask`, unless all are
/// [`Older::Replaced`]. A umask that takes rights from the owner keeps a compiler from opening again
/// what it wrote.
///
/// # Errors
/// [`LocalReason::OutputTarget`] naming the target.
pub fn check_targets(
    directory: &Path,
    wanted: &[WantedOutput],
    older: Older,
    umask: u32,
) -> Result<(), LocalReason> {
    if umask & 0o600 != 0 {
        return Err(LocalReason::OutputTarget(format!("any, under umask {umask:03o}")));
    }
    let mode = 0o666 & !umask;
    let is_ordinary = |found: &fs::Metadata| {
        let is_new = found.nlink() == 1 && found.mode() & 0o7777 == mode;
        found.is_file() && (is_new || older == Older::Replaced)
    };
    for output in wanted {
        let target = directory.join(&output.path);
        let refuse = || LocalReason::OutputTarget(target.display().to_string());
        let folder = target.parent().ok_or_else(refuse)?;
        if !fs::metadata(folder).is_ok_and(|folder| folder.is_dir()) || !writable(folder) {
            return Err(refuse());
        }
        match fs::symlink_metadata(&target) {
            Ok(found) if is_ordinary(&found) && writable(&target) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(_) | Err(_) => return Err(refuse()),
        }
    }
    Ok(())
}

/// What the compiler does with a file that stands where it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Older {
    /// Compilers and assemblers of C write some outputs into it and replace others.
    Mixed,
    /// rustc puts a new file in its place.
    Replaced,
}

fn writable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok()
}

/// A file that a compile gives.
#[derive(Debug)]
pub struct Product {
    /// The path as it was wanted.
    pub path: String,
    /// Permission bits under umask 0.
    pub mode: u32,
    /// Digest of its bytes, if it is known.
    pub digest: Option<Digest>,
    /// Its bytes.
    pub body: Body,
}

/// Bytes in memory or in a file.
#[derive(Debug)]
pub enum Body {
    /// Here.
    Bytes(Bytes),
    /// The whole of an open file.
    File(File),
    /// The whole of a file that only has to be given its name.
    Beside(Beside),
}

impl Body {
    /// How many bytes; 0 when nobody can tell.
    pub fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(file) | Self::Beside(Beside { file, .. }) => {
                file.metadata().map_or(0, |found| found.len())
            }
        }
    }

    /// All of it, if it has at most `bytes_max` bytes.
    ///
    /// # Errors
    /// When it has more, or cannot be read.
    pub fn read(&self, bytes_max: u64) -> io::Result<Bytes> {
        let size = self.size();
        if size > bytes_max {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        match self {
            Self::Bytes(bytes) => Ok(bytes.clone()),
            Self::File(file) | Self::Beside(Beside { file, .. }) => {
                let mut bytes = vec![0; usize::try_from(size).map_err(io::Error::other)?];
                file.read_exact_at(&mut bytes, 0)?;
                Ok(bytes.into())
            }
        }
    }

    /// The digest of all of it.
    ///
    /// # Errors
    /// Those of reading.
    pub fn digest(&self) -> io::Result<Digest> {
        match self {
            Self::Bytes(bytes) => Ok(Digest::of(bytes)),
            Self::File(file) | Self::Beside(Beside { file, .. }) => {
                let mut file: &File = file;
                file.rewind()?;
                digest_of(&mut file)
            }
        }
    }

    /// Writes all of it into a new file.
    ///
    /// # Errors
    /// Those of reading and writing.
    pub fn write_into(&self, target: &mut File) -> io::Result<()> {
        match self {
            Self::Bytes(bytes) => target.write_all(bytes),
            Self::File(file) | Self::Beside(Beside { file, .. }) => copy(file, target),
        }
    }
}

/// Shares the blocks where the file system can. A hard link would be faster elsewhere, but whoever then
/// changes the object in place would change every other copy of it.
fn copy(mut source: &File, target: &mut File) -> io::Result<()> {
    if rustix::fs::ioctl_ficlone(&*target, source).is_err() {
        source.rewind()?;
        io::copy(&mut source, target)?;
    }
    Ok(())
}

/// Every output with its bytes, verified against their digests. What `kept` has is not fetched; the rest,
/// where it is large, comes into files beside the targets, seen from `directory`.
///
/// # Errors
/// Those of [`content::unpack`] when a blob is missing or wrong.
pub async fn fetch(
    (blobs, kept): (&Blobs, &Results),
    directory: &Path,
    outputs: &[Output],
) -> Result<Vec<Product>, StoreError> {
    let mut products = Vec::with_capacity(outputs.len());
    for Output { path, mode, content } in outputs {
        let body = match known(kept, content) {
            Some(file) => Body::File(file),
            None => match fetch_beside(blobs, &directory.join(path), content).await? {
                Some(beside) => Body::Beside(beside),
                None => Body::Bytes(content::unpack(blobs, content, OUTPUT_BYTES_MAX).await?),
            },
        };
        let digest = Some(content.digest());
        products.push(Product { path: path.clone(), mode: *mode, digest, body });
    }
    Ok(products)
}

/// An output that lies on this machine.
fn known(kept: &Results, content: &Content) -> Option<File> {
    let Content::Blob { digest, size } = content else { return None };
    let file = kept.content(*digest)?;
    file.metadata().is_ok_and(|found| found.len() == *size).then_some(file)
}

/// A large output in a file; `None` when it is small, or no file can be written there: whoever writes
/// it then says why.
async fn fetch_beside(
    blobs: &Blobs,
    target: &Path,
    content: &Content,
) -> Result<Option<Beside>, StoreError> {
    let Content::Blob { digest, size } = content else { return Ok(None) };
    if *size < LARGE_BYTES_MIN || *size > OUTPUT_BYTES_MAX {
        return Ok(None);
    }
    let Ok(beside) = Beside::create(target) else { return Ok(None) };
    match blobs.get_into(BlobClass::Output, *digest, *size, &beside.file).await {
        Ok(()) if beside.file.metadata().is_ok_and(|found| found.len() == *size) => {
            Ok(Some(beside))
        }
        Ok(()) => Err(StoreError::Corrupt(*digest)),
        Err(Unreceived::Store(error)) => Err(error),
        Err(Unreceived::Target(error)) => {
            tracing::debug!(target = %target.display(), %error, "a large output is not written");
            Ok(None)
        }
    }
}

/// Checks that the result names only wanted files and all required ones.
///
/// # Errors
/// [`LocalReason::BadResult`].
pub fn check_result(wanted: &[WantedOutput], outputs: &[Output]) -> Result<(), LocalReason> {
    if let Some(stranger) = outputs.iter().find(|o| !wanted.iter().any(|w| w.path == o.path)) {
        return Err(LocalReason::BadResult(format!("`{}` was not wanted", stranger.path)));
    }
    let missing = wanted.iter().find(|w| w.required && !outputs.iter().any(|o| o.path == w.path));
    match missing {
        Some(missing) => Err(LocalReason::BadResult(format!("`{}` is missing", missing.path))),
        None => Ok(()),
    }
}

/// Writes all outputs, with the modes a compiler would have given them under `umask`.
///
/// # Errors
/// [`LocalReason::WriteOutput`]; nothing is left behind then, when the products are gone.
pub fn write<'p>(
    directory: &Path,
    products: impl IntoIterator<Item = &'p mut Product>,
    umask: u32,
) -> Result<(), LocalReason> {
    let mut written = Vec::new();
    for product in products {
        let target = directory.join(&product.path);
        let prepared = prepare(&target, &product.body, product.mode & !umask & 0o777);
        let prepared = prepared.map_err(|error| trouble(&target, &error))?;
        written.push((prepared, &mut product.body));
    }
    // The first wanted output is the object: when it appears, everything else is there.
    for file in written.iter_mut().rev() {
        let file = match file {
            (Some(file), _) | (None, Body::Beside(file)) => file,
            (None, Body::Bytes(_) | Body::File(_)) => continue,
        };
        file.place().map_err(|error| trouble(file.target(), &error))?;
    }
    Ok(())
}

/// A file beside `target` with all of `body` and that mode; `None` when `body` is one.
fn prepare(target: &Path, body: &Body, mode: u32) -> io::Result<Option<Beside>> {
    // The daemon's own umask plays no part.
    let allow = |file: &File| rustix::fs::fchmod(file, rustix::fs::Mode::from_raw_mode(mode));
    if let Body::Beside(beside) = body {
        allow(&beside.file)?;
        return Ok(None);
    }
    let mut beside = Beside::create(target)?;
    body.write_into(&mut beside.file)?;
    allow(&beside.file)?;
    Ok(Some(beside))
}

fn trouble(target: &Path, error: &io::Error) -> LocalReason {
    LocalReason::WriteOutput(format!("`{}`: {error}", target.display()))
}

/// What the compiler wrote to its streams: stdout, stderr.
///
/// # Errors
/// When the store does not have it, or other bytes.
pub async fn streams(blobs: &Blobs, outcome: &Outcome) -> Result<(Bytes, Bytes), StoreError> {
    let open = async |stream| content::unpack(blobs, stream, STREAM_BYTES_MAX).await;
    Ok((open(&outcome.stdout).await?, open(&outcome.stderr).await?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;
    use crate::store::Limits;

    fn output(path: &str) -> Output {
        let content = Content::Blob { digest: Digest::of(b""), size: 0 };
        Output { path: path.into(), mode: 0o666, content }
    }

    fn product(path: &str, bytes: &'static str) -> Product {
        Product { path: path.into(), mode: 0o666, digest: None, body: Body::Bytes(bytes.into()) }
    }

    fn wanted(path: &str) -> WantedOutput {
        WantedOutput { path: path.into(), required: true }
    }

    #[test]
    fn files_appear_whole_and_with_the_users_umask() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.o"), "old").unwrap();
        let large = folder.path().join("large");
        fs::write(&large, "kept").unwrap();
        let kept = Body::File(File::open(&large).unwrap());
        let kept = Product { path: "a.su".into(), mode: 0o666, digest: None, body: kept };
        let mut products = [product("a.o", "object"), product("a.d", "deps"), kept];
        write(folder.path(), &mut products, 0o027).unwrap();
        assert_eq!(fs::read(folder.path().join("a.su")).unwrap(), b"kept");
        assert_eq!(fs::read(folder.path().join("a.o")).unwrap(), b"object");
        assert_eq!(fs::metadata(folder.path().join("a.d")).unwrap().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4);
    }

    #[tokio::test]
    async fn what_is_large_comes_beside_its_target() {
        let blobs = Blobs::new(Arc::new(InMemory::new()), Limits::default());
        let folder = tempfile::tempdir().unwrap();
        let none = Results::open(folder.path(), 0);
        let large = Bytes::from(vec![7; usize::try_from(LARGE_BYTES_MIN).unwrap()]);
        let mut outputs = Vec::new();
        for (path, bytes) in [("a.rlib", large.clone()), ("a.d", Bytes::from_static(b"deps"))] {
            let size = bytes.len() as u64;
            let digest = blobs.put(BlobClass::Output, bytes).await.unwrap();
            outputs.push(Output { content: Content::Blob { digest, size }, ..output(path) });
        }
        let names = || fs::read_dir(folder.path()).unwrap().count();
        let mut products = fetch((&blobs, &none), folder.path(), &outputs).await.unwrap();
        assert!(matches!(products[0].body, Body::Beside(_)));
        assert!(matches!(products[1].body, Body::Bytes(_)));
        assert_eq!((names(), products[0].body.digest().unwrap()), (1, Digest::of(&large)));
        write(folder.path(), &mut products, 0o022).unwrap();
        assert_eq!(fs::read(folder.path().join("a.rlib")).unwrap(), large);
        assert_eq!(fs::metadata(folder.path().join("a.rlib")).unwrap().mode() & 0o777, 0o644);
        assert_eq!((names(), products[0].body.read(LARGE_BYTES_MIN).unwrap()), (2, large));
        assert!(products[0].body.read(LARGE_BYTES_MIN - 1).is_err());

        // What is not used leaves nothing, nor does what is not what it should be.
        drop(fetch((&blobs, &none), folder.path(), &outputs).await.unwrap());
        let wrong =
            Content::Blob { digest: outputs[0].content.digest(), size: LARGE_BYTES_MIN + 1 };
        let wrong = Output { content: wrong, ..output("b.rlib") };
        let fetched = fetch((&blobs, &none), folder.path(), &[wrong]).await;
        assert!(matches!(fetched, Err(StoreError::Corrupt(_))));
        assert_eq!(names(), 2);
        // Where no file can be written, the reason is that of writing.
        let nowhere = folder.path().join("missing");
        let mut products = fetch((&blobs, &none), &nowhere, &outputs).await.unwrap();
        let written = write(&nowhere, &mut products, 0);
        assert!(matches!(written, Err(LocalReason::WriteOutput(_))), "{written:?}");
    }

    #[test]
    fn nothing_is_left_when_a_target_is_impossible() {
        let folder = tempfile::tempdir().unwrap();
        let mut products = [product("a.o", ""), product("missing/a.d", "")];
        let written = write(folder.path(), &mut products, 0);
        assert!(matches!(written, Err(LocalReason::WriteOutput(_))));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn special_targets_are_left_to_the_local_compiler() {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str, mode| {
            let path = folder.path().join(name);
            fs::write(&path, "old").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        make("private.d", 0o600);
        fs::hard_link(make("twice.d", 0o640), folder.path().join("again.d")).unwrap();
        make("old.o", 0o640);
        for path in ["/dev/null", "missing/a.o", ".", "private.d", "twice.d"] {
            let checked = check_targets(folder.path(), &[wanted(path)], Older::Mixed, 0o027);
            assert!(matches!(checked, Err(LocalReason::OutputTarget(_))), "{path}");
        }
        for path in ["new.o", "old.o"] {
            assert!(
                check_targets(folder.path(), &[wanted(path)], Older::Mixed, 0o027).is_ok(),
                "{path}"
            );
            assert!(
                check_targets(folder.path(), &[wanted(path)], Older::Mixed, 0o227).is_err(),
                "{path}"
            );
        }
    }

    #[test]
    fn results_name_what_was_wanted() {
        assert!(check_result(&[wanted("a.o")], &[output("a.o")]).is_ok());
        assert!(check_result(&[wanted("a.o")], &[]).is_err());
        assert!(check_result(&[wanted("a.o")], &[output("a.o"), output("../x")]).is_err());
    }
}
