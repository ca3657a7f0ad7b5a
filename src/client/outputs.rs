//! Writes what a compile gave: every file beside its target first, then renamed, objects last, so
//! that nobody ever sees half a result.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::job::{LocalReason, Outcome, Output, WantedOutput};
use crate::store::{Blobs, StoreError, content};

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
    /// Its bytes.
    pub body: Body,
}

/// Bytes in memory or in a file.
#[derive(Debug)]
pub enum Body {
    /// Here.
    Bytes(Bytes),
    /// The whole of an open file, from where it stands.
    File(File),
}

/// Every output with its bytes, verified against their digests.
///
/// # Errors
/// Those of [`content::unpack`] when a blob is missing or wrong.
pub async fn fetch(blobs: &Blobs, outputs: &[Output]) -> Result<Vec<Product>, StoreError> {
    let mut products = Vec::with_capacity(outputs.len());
    for Output { path, mode, content } in outputs {
        let bytes = content::unpack(blobs, content, OUTPUT_BYTES_MAX).await?;
        products.push(Product { path: path.clone(), mode: *mode, body: Body::Bytes(bytes) });
    }
    Ok(products)
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

/// A file that is written beside its target and removed unless it was renamed.
struct Beside {
    temporary: PathBuf,
    target: PathBuf,
    renamed: bool,
}

impl Drop for Beside {
    fn drop(&mut self) {
        if !self.renamed {
            // It may never have been created.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Writes all outputs, with the modes a compiler would have given them under `umask`.
///
/// # Errors
/// [`LocalReason::WriteOutput`]; nothing is left behind then.
pub fn write<'p>(
    directory: &Path,
    products: impl IntoIterator<Item = &'p Product>,
    umask: u32,
) -> Result<(), LocalReason> {
    let mut pending = Vec::new();
    for product in products {
        let target = directory.join(&product.path);
        let written = write_beside(&target, &product.body, product.mode & !umask & 0o777);
        pending.push(written.map_err(|error| trouble(&target, &error))?);
    }
    // The first wanted output is the object: when it appears, everything else is there.
    for file in pending.iter_mut().rev() {
        fs::rename(&file.temporary, &file.target).map_err(|error| trouble(&file.target, &error))?;
        file.renamed = true;
    }
    Ok(())
}

fn write_beside(target: &Path, body: &Body, mode: u32) -> io::Result<Beside> {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    // Long names leave no room for a suffix: the random part alone is enough.
    let short: String = name.chars().take(40).collect();
    let hidden = format!(".{short}.{}.jetcc", data_encoding::HEXLOWER.encode(&random));
    let file =
        Beside { temporary: target.with_file_name(hidden), target: target.into(), renamed: false };
    let mut options = OpenOptions::new();
    let mut open = options.write(true).create_new(true).mode(0o600).open(&file.temporary)?;
    match body {
        Body::Bytes(bytes) => open.write_all(bytes)?,
        // Shares the blocks where the file system can. A hard link would be faster elsewhere, but
        // whoever then changes the object in place would change every other copy of it.
        Body::File(source) => match rustix::fs::ioctl_ficlone(&open, source) {
            Ok(()) => {}
            Err(_) => drop(io::copy(&mut &*source, &mut open)?),
        },
    }
    // The daemon's own umask plays no part.
    rustix::fs::fchmod(&open, rustix::fs::Mode::from_raw_mode(mode))?;
    Ok(file)
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
    use super::*;
    use crate::job::{Content, Digest};
    use std::os::unix::fs::PermissionsExt as _;

    fn output(path: &str) -> Output {
        let content = Content::Blob { digest: Digest::of(b""), size: 0 };
        Output { path: path.into(), mode: 0o666, content }
    }

    fn product(path: &str, bytes: &'static str) -> Product {
        Product { path: path.into(), mode: 0o666, body: Body::Bytes(bytes.into()) }
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
        let kept = Product { path: "a.su".into(), mode: 0o666, body: kept };
        let products = [product("a.o", "object"), product("a.d", "deps"), kept];
        write(folder.path(), &products, 0o027).unwrap();
        assert_eq!(fs::read(folder.path().join("a.su")).unwrap(), b"kept");
        assert_eq!(fs::read(folder.path().join("a.o")).unwrap(), b"object");
        assert_eq!(fs::metadata(folder.path().join("a.d")).unwrap().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4);
    }

    #[test]
    fn nothing_is_left_when_a_target_is_impossible() {
        let folder = tempfile::tempdir().unwrap();
        let products = [product("a.o", ""), product("missing/a.d", "")];
        let written = write(folder.path(), &products, 0);
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
