//! A login's file: the tokens of one client at one provider, for its user alone, replaced as a whole.
//! A lock beside it says who renews.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::tokens::Tokens;
use super::{LoginError, provider};
use crate::client::settings::OauthClient;
use crate::store::FolderLock;

/// Version of what is in the file.
const VERSION: u32 = 1;
/// Size of a file.
const FILE_BYTES_MAX: u64 = 512 << 10;
/// Bytes of the digest that a file is named by.
const NAME_BYTES: usize = 12;
/// How long somebody else may take to renew: a discovery and a renewal.
const LOCK_MAX: Duration = Duration::from_secs(30);
/// Pause between two looks at the lock.
const LOCK_RETRY: Duration = Duration::from_millis(50);

/// Where a login is kept.
#[derive(Clone, Debug)]
pub(super) struct LoginFile {
    path: PathBuf,
    provider: String,
    client_id: String,
}

/// What is in the file.
#[derive(Deserialize, Serialize)]
struct Kept {
    version: u32,
    provider: String,
    client_id: String,
    #[serde(flatten)]
    tokens: Tokens,
}

/// Which writing of the file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    seconds: i64,
    nanoseconds: i64,
}

/// Nobody else renews this login or writes its file, until dropped.
pub(super) struct Lock {
    _lock: FolderLock,
}

impl LoginFile {
    /// The file of this client's login below `folder`.
    pub(super) fn of(client: &OauthClient, folder: &Path) -> Self {
        let (provider, client_id) = (provider::name(client).to_owned(), client.client_id.clone());
        let digest = Sha256::digest(format!("{provider}\n{client_id}"));
        let path = folder.join(format!("{}.json", HEXLOWER.encode(&digest[..NAME_BYTES])));
        Self { path, provider, client_id }
    }

    /// Which writing of the file is there; none when there is no file.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        let found = fs::symlink_metadata(&self.path).ok()?;
        let (inode, seconds, nanoseconds) = (found.ino(), found.mtime(), found.mtime_nsec());
        Some(Stamp { inode, seconds, nanoseconds })
    }

    /// The tokens; none when nobody has logged in.
    ///
    /// # Errors
    /// When others can read or have written the file, or it is not what [`LoginFile::write`] wrote.
    pub(super) fn read(&self) -> Result<Option<Tokens>, LoginError> {
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(&self.path);
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|error| self.trouble(&error))?,
        };
        let found = file.metadata().map_err(|error| self.trouble(&error))?;
        if !found.is_file() || found.uid() != rustix::process::geteuid().as_raw() {
            return Err(self.trouble(&"is not your own file\nhint: remove it"));
        }
        if found.mode() & 0o077 != 0 {
            let mode = found.mode() & 0o777;
            return Err(self.trouble(&format!(
                "others can read it (mode {mode:o}, wanted 600)\nhint: `jetcc --dist-auth` again, \
                 since its tokens may be known"
            )));
        }
        let mut text = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(|error| self.trouble(&error))?;
        // What was wrong may quote a token.
        let kept: Option<Kept> = serde_json::from_slice(&text).ok();
        let ours = kept.filter(|kept| {
            (kept.version, &kept.provider, &kept.client_id)
                == (VERSION, &self.provider, &self.client_id)
        });
        let broken = || self.trouble(&"holds no login\nhint: run `jetcc --dist-auth`");
        ours.map(|kept| Some(kept.tokens)).ok_or_else(broken)
    }

    /// Puts these tokens into the place of those before.
    ///
    /// # Errors
    /// When the file cannot be written; the one before stays then.
    pub(super) fn write(&self, tokens: &Tokens, _lock: &Lock) -> Result<(), LoginError> {
        let kept = Kept {
            version: VERSION,
            provider: self.provider.clone(),
            client_id: self.client_id.clone(),
            tokens: tokens.clone(),
        };
        let written = || -> io::Result<()> {
            let text = serde_json::to_vec_pretty(&kept)?;
            // Made with mode 0600.
            let mut file = tempfile::NamedTempFile::new_in(self.folder())?;
            file.write_all(&text)?;
            file.as_file().sync_all()?;
            file.persist(&self.path)?;
            Ok(())
        };
        written().map_err(|error| self.trouble(&error))
    }

    /// Waits until nobody else renews this login.
    ///
    /// # Errors
    /// When the folder or the lock cannot be made, or somebody holds it too long.
    pub(super) async fn lock(&self) -> Result<Lock, LoginError> {
        let open = || -> io::Result<File> {
            DirBuilder::new().recursive(true).mode(0o700).create(self.folder())?;
            let path = self.path.with_extension("lock");
            OpenOptions::new().create(true).append(true).mode(0o600).open(path)
        };
        let deadline = Instant::now() + LOCK_MAX;
        loop {
            let lock = open().and_then(FolderLock::take).map_err(|error| self.trouble(&error))?;
            match lock {
                Some(lock) => return Ok(Lock { _lock: lock }),
                None if Instant::now() < deadline => tokio::time::sleep(LOCK_RETRY).await,
                None => return Err(self.trouble(&"another process is renewing this login")),
            }
        }
    }

    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    fn trouble(&self, why: &dyn std::fmt::Display) -> LoginError {
        LoginError::File { path: self.path.display().to_string(), message: why.to_string() }
    }
}
