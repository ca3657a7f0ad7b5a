//! Packed toolchains by compiler: packed once however many jobs wait, looked at again on each
//! use, and a compiler that could not be packed is left alone for a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Packed, Resolved, Settings, ToolchainError, collect};
use crate::store::stamps::FileIndex;
use crate::store::walk::{self, Seen};

/// Most compilers remembered; beyond that all are forgotten and packed again when used.
const COMPILERS_MAX: usize = 64;

type Slot = Arc<tokio::sync::Mutex<Option<State>>>;

/// What is known of one compiler.
#[derive(Debug)]
enum State {
    Packed { packed: Arc<Packed>, seen: Vec<Seen> },
    Failed { error: Arc<ToolchainError>, retry_at: Instant },
}

/// All toolchains that this process has packed.
#[derive(Debug)]
pub struct Toolchains<T> {
    index: FileIndex<T>,
    settings: Settings,
    slots: Mutex<HashMap<Resolved, Slot>>,
}

impl<T: Clone + Send + 'static> Toolchains<T> {
    /// None yet; digests are remembered in `index`.
    pub fn new(index: FileIndex<T>, settings: Settings) -> Self {
        Self { index, settings, slots: Mutex::default() }
    }

    /// The toolchain of `compiler` as it is now on disk.
    ///
    /// # Errors
    /// [`ToolchainError`], the same for all who ask until it is tried again.
    pub async fn get(&self, compiler: &Resolved) -> Result<Arc<Packed>, Arc<ToolchainError>> {
        let slot = self.slot(compiler);
        let mut state = slot.lock().await;
        if let Some(State::Packed { packed, seen }) = &mut *state
            && !matches!(walk::changed_again(seen, |_, _| None), walk::Again::Changed(_))
        {
            return Ok(Arc::clone(packed));
        }
        if let Some(State::Failed { error, retry_at }) = &*state
            && Instant::now() < *retry_at
        {
            return Err(Arc::clone(error));
        }
        match collect(compiler, &self.index, &self.settings).await.map(Arc::new) {
            Ok(packed) => {
                let seen = packed.seen.clone();
                *state = Some(State::Packed { packed: Arc::clone(&packed), seen });
                Ok(packed)
            }
            Err(error) => {
                let error = Arc::new(error);
                let pause = Duration::from_secs(self.settings.failure_retry_seconds);
                let retry_at = Instant::now() + pause;
                *state = Some(State::Failed { error: Arc::clone(&error), retry_at });
                Err(error)
            }
        }
    }

    fn slot(&self, compiler: &Resolved) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= COMPILERS_MAX && !slots.contains_key(compiler) {
            slots.clear();
        }
        Arc::clone(slots.entry(compiler.clone()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::job::{Family, Kind};
    use crate::toolchain::Equipment;

    fn toolchains(failure_retry_seconds: u64) -> Toolchains<()> {
        let settings = Settings { failure_retry_seconds, ..Settings::default() };
        Toolchains::new(FileIndex::new(1_000, |_| ()), settings)
    }

    fn compiler(path: PathBuf) -> Resolved {
        Resolved {
            real: path.clone(),
            executable: path,
            argv0: "gcc".to_owned(),
            kind: Kind::C(Family::Gcc),
            equipment: Equipment::default(),
            search_path: "/usr/bin:/bin".to_owned(),
        }
    }

    #[tokio::test]
    async fn packed_once_and_again_when_a_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("gcc");
        std::os::unix::fs::symlink("/usr/bin/gcc", &link).unwrap();
        let (toolchains, gcc) = (toolchains(60), compiler(link.clone()));
        let (one, two) = tokio::join!(toolchains.get(&gcc), toolchains.get(&gcc));
        let one = one.unwrap();
        assert!(Arc::ptr_eq(&one, &two.unwrap()));
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("/usr/bin/../bin/gcc", &link).unwrap();
        let three = toolchains.get(&gcc).await.unwrap();
        assert_ne!(one.tree_digest, three.tree_digest);
    }

    #[tokio::test]
    async fn a_failure_is_remembered_for_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gcc");
        let (long, none, gcc) = (toolchains(60), toolchains(0), compiler(path.clone()));
        assert!(long.get(&gcc).await.is_err() && none.get(&gcc).await.is_err());
        std::os::unix::fs::symlink("/usr/bin/gcc", &path).unwrap();
        assert!(long.get(&gcc).await.is_err());
        assert!(none.get(&gcc).await.is_ok());
    }
}
