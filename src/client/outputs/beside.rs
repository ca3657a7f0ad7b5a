//! Files that are written beside their targets, so that nobody ever sees half of one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// An open file beside its target; removed unless it gets the target's place.
#[derive(Debug)]
pub struct Beside {
    /// Open for reading and writing.
    pub file: File,
    temporary: PathBuf,
    target: PathBuf,
    is_placed: bool,
}

impl Beside {
    /// An empty file beside `target`, for nobody but its owner.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(target: &Path) -> io::Result<Self> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        // Long names leave no room for a suffix: the random part alone is enough.
        let short: String = name.chars().take(40).collect();
        let hidden = format!(".{short}.{}.jetcc", data_encoding::HEXLOWER.encode(&random));
        let temporary = target.with_file_name(hidden);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&temporary)?;
        Ok(Self { file, temporary, target: target.into(), is_placed: false })
    }

    /// Where it is to be.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Puts it there.
    ///
    /// # Errors
    /// Those of renaming; it may be tried again.
    pub fn place(&mut self) -> io::Result<()> {
        if !self.is_placed {
            fs::rename(&self.temporary, &self.target)?;
            self.is_placed = true;
        }
        Ok(())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if !self.is_placed {
            // A folder that was removed meanwhile took it along.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}
