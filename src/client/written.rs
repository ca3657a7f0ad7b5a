//! What a local compile wrote: the wanted files, if it was this compile that wrote them and they
//! stand still.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::outputs::{Body, Product};
use crate::job::WantedOutput;
use crate::store::stamps::{Stamp, now_ns};

/// Largest sum of all files of a local compile that are kept, in bytes.
const OUTPUTS_BYTES_MAX: u64 = 512 << 20;

/// Why the files are not taken for what the compile wrote.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unwritten {
    /// A file that every such compile writes is not there, or is an older one.
    #[error("`{0}` was not written")]
    Missing(String),
    /// It is no plain file, or not with the mode that a new file gets.
    #[error("`{0}` is no ordinary file")]
    Special(String),
    /// It changed while it was read.
    #[error("`{0}` changed while it was read")]
    Restless(String),
    /// All together are too large.
    #[error("outputs have more than {OUTPUTS_BYTES_MAX} bytes")]
    TooLarge,
    /// It could not be read.
    #[error("`{0}`: {1}")]
    Read(String, io::Error),
}

/// The files that a compile is about to write.
#[derive(Debug)]
pub(super) struct Targets {
    directory: PathBuf,
    wanted: Vec<WantedOutput>,
    umask: u32,
    /// What stood there when the compile began.
    before: Vec<Option<Stamp>>,
    /// Unix time in ns.
    began_ns: i64,
}

impl Targets {
    /// `wanted` as they are now, before the compile begins.
    pub(super) fn look(directory: &Path, wanted: &[WantedOutput], umask: u32) -> Self {
        let stamp = |output: &WantedOutput| {
            let found = fs::symlink_metadata(directory.join(&output.path)).ok()?;
            Some(Stamp::of(&found))
        };
        let before = wanted.iter().map(stamp).collect();
        let (directory, wanted) = (directory.into(), wanted.to_vec());
        Self { directory, wanted, umask, before, began_ns: now_ns() }
    }

    /// Reads what has been written since.
    ///
    /// # Errors
    /// Why that is not what the compile wrote.
    pub(super) fn read(&self) -> Result<Vec<Product>, Unwritten> {
        let mut left = OUTPUTS_BYTES_MAX;
        let mut products = Vec::with_capacity(self.wanted.len());
        for (WantedOutput { path, required }, before) in self.wanted.iter().zip(&self.before) {
            match self.read_one(path, before.as_ref(), left)? {
                Some((mode, bytes)) => {
                    left -= bytes.len() as u64;
                    let body = Body::Bytes(bytes.into());
                    products.push(Product { path: path.clone(), mode, digest: None, body });
                }
                None if *required => return Err(Unwritten::Missing(path.clone())),
                None => {}
            }
        }
        Ok(products)
    }

    /// Mode under umask 0 and bytes of a file; `None` when the compile has not written it.
    fn read_one(
        &self,
        path: &str,
        before: Option<&Stamp>,
        bytes_max: u64,
    ) -> Result<Option<(u32, Vec<u8>)>, Unwritten> {
        let target = self.directory.join(path);
        let trouble = |error| Unwritten::Read(path.to_owned(), error);
        let mut file = match open(&target) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(trouble(error)),
        };
        let found = file.metadata().map_err(trouble)?;
        let stamp = Stamp::of(&found);
        let is_older = stamp.is_settled(self.began_ns);
        if before == Some(&stamp) || is_older {
            return Ok(None);
        }
        let mode =
            [0o666, 0o777].into_iter().find(|all| found.mode() & 0o7777 == all & !self.umask);
        let Some(mode) = mode.filter(|_| found.is_file() && found.nlink() == 1) else {
            return Err(Unwritten::Special(path.to_owned()));
        };
        if found.size() > bytes_max {
            return Err(Unwritten::TooLarge);
        }
        let mut bytes = Vec::with_capacity(usize::try_from(found.size()).unwrap_or(0));
        (&mut file).take(found.size() + 1).read_to_end(&mut bytes).map_err(trouble)?;
        let now = fs::symlink_metadata(&target).map_err(trouble)?;
        if bytes.len() as u64 != found.size() || Stamp::of(&now) != stamp {
            return Err(Unwritten::Restless(path.to_owned()));
        }
        Ok(Some((mode, bytes)))
    }
}

/// Opens what stands at `path` itself; a pipe without a writer holds nobody.
fn open(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    /// What is taken for written of `a.o` and, if it is there, `a.su`, under umask 027.
    fn read_after(act: impl FnOnce(&Path)) -> Result<Vec<(String, u32, usize)>, Unwritten> {
        let folder = tempfile::tempdir().unwrap();
        let wanted = [("a.o", true), ("a.su", false)]
            .map(|(path, required)| WantedOutput { path: path.into(), required });
        make(folder.path(), "a.su", "older");
        let targets = Targets::look(folder.path(), &wanted, 0o027);
        act(folder.path());
        let products = targets.read()?.into_iter();
        Ok(products.map(|it| (it.path, it.mode, it.body.size() as usize)).collect())
    }

    fn make(folder: &Path, name: &str, text: &str) {
        fs::write(folder.join(name), text).unwrap();
        let mode = fs::Permissions::from_mode(0o640);
        fs::set_permissions(folder.join(name), mode).unwrap();
    }

    #[test]
    fn what_stood_there_before_was_not_written() {
        let object = ("a.o".to_owned(), 0o666, 6);
        let only = read_after(|folder| make(folder, "a.o", "object"));
        assert_eq!(only.unwrap(), std::slice::from_ref(&object));
        let both = read_after(|folder| {
            make(folder, "a.o", "object");
            make(folder, "a.su", "newer one");
        });
        assert_eq!(both.unwrap(), [object, ("a.su".to_owned(), 0o666, 9)]);
        assert!(matches!(read_after(|_| {}), Err(Unwritten::Missing(path)) if path == "a.o"));
    }

    #[test]
    fn only_ordinary_files_are_taken() {
        let acts: [fn(&Path); 4] = [
            |folder| {
                make(folder, "a.o", "object");
                fs::set_permissions(folder.join("a.o"), fs::Permissions::from_mode(0o600)).unwrap();
            },
            |folder| {
                make(folder, "a.o", "object");
                fs::hard_link(folder.join("a.o"), folder.join("b.o")).unwrap();
            },
            |folder| fs::create_dir(folder.join("a.o")).unwrap(),
            |folder| symlink("a.su", folder.join("a.o")).unwrap(),
        ];
        for act in acts {
            let read = read_after(act);
            assert!(matches!(read, Err(Unwritten::Special(_) | Unwritten::Read(..))), "{read:?}");
        }
    }
}
