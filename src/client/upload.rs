//! What the store holds, as far as this daemon knows, and the uploads under way: each blob goes up
//! once, however many compiles need it.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::OnceCell;

use super::stats::Stats;
use crate::job::wire::BlobClass;
use crate::job::{Digest, LocalReason, Space};
use crate::store::{Blobs, Compressed};

/// Inputs are forgotten by the store after an hour; we forget earlier.
const INPUT_KNOWN: Duration = Duration::from_secs(30 * 60);
/// Toolchains are kept for a month; looking again once a day is cheap.
const TOOLCHAIN_KNOWN: Duration = Duration::from_secs(24 * 3_600);
/// Uploads at once, per compile.
const AT_ONCE: usize = 16;
/// Largest file that travels inside a request, in bytes.
const INLINE_BYTES_MAX: usize = 128 << 10;
/// Most blobs that are remembered; then the table starts anew.
const KNOWN_MAX: usize = 500_000;
/// Most spaces that are remembered; one user has one at a time.
const SPACES_MAX: usize = 8;

/// Where the bytes of a blob are.
#[derive(Clone, Debug)]
pub enum Source {
    /// In a file of the client; its content may have changed meanwhile.
    File(PathBuf),
    /// Here.
    Bytes(Bytes),
}

/// Blobs that a compile needs the store to hold.
pub type Sources = BTreeMap<(BlobClass, Digest), Source>;

type Flight = Arc<OnceCell<Instant>>;

/// A table for each space: what one holds, another may lack. A login as another tenant leads to another.
#[derive(Default)]
pub struct Tables(Mutex<HashMap<Space, Arc<Uploads>>>);

impl Tables {
    /// The table of `space`.
    pub fn of(&self, space: &Space) -> Arc<Uploads> {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tables.len() >= SPACES_MAX && !tables.contains_key(space) {
            tables.clear();
        }
        tables.entry(space.clone()).or_default().clone()
    }
}

/// The table of what one space of the store holds.
#[derive(Default)]
pub struct Uploads {
    table: Mutex<HashMap<(BlobClass, Digest), Flight>>,
}

impl Uploads {
    /// Uploads what the store is not known to hold, but for `except`.
    ///
    /// # Errors
    /// [`LocalReason::Store`], or [`LocalReason::InputChanged`] when a file no longer holds the
    /// bytes that were hashed.
    pub async fn ensure(
        &self,
        blobs: &Blobs,
        sources: &Sources,
        except: Option<(BlobClass, Digest)>,
        stats: &Stats,
    ) -> Result<(), LocalReason> {
        let mut under_way = FuturesUnordered::new();
        for (name, source) in sources {
            if Some(*name) == except || self.knows(*name) {
                continue;
            }
            if under_way.len() == AT_ONCE {
                under_way.try_next().await?;
            }
            under_way.push(self.ensure_one(blobs, *name, source, stats));
        }
        while under_way.try_next().await?.is_some() {}
        Ok(())
    }

    /// The zstd frame of `name` to send inside a request, if the store is not known to hold it and
    /// it is small.
    ///
    /// # Errors
    /// [`LocalReason::InputChanged`] when the file no longer holds the bytes that were hashed.
    pub async fn inline(
        &self,
        name: (BlobClass, Digest),
        source: &Source,
    ) -> Result<Option<Bytes>, LocalReason> {
        if self.knows(name) {
            return Ok(None);
        }
        let bytes = read(name.1, source).await?;
        if bytes.len() > INLINE_BYTES_MAX {
            return Ok(None);
        }
        let compressed = Compressed::new(&bytes);
        if compressed.digest == name.1 { Ok(Some(compressed.zstd)) } else { Err(changed(source)) }
    }

    /// Whether the store is known to hold `name`.
    pub fn knows(&self, name: (BlobClass, Digest)) -> bool {
        let table = self.lock();
        table
            .get(&name)
            .is_some_and(|flight| flight.get().is_some_and(|since| is_fresh(name.0, *since)))
    }

    /// Remembers that the store holds `names`.
    pub fn learn<'a>(&self, names: impl Iterator<Item = &'a (BlobClass, Digest)>) {
        for name in names {
            // An upload under way will say the same.
            let _ = self.flight(*name).set(Instant::now());
        }
    }

    /// Forgets that the store holds `names`: a worker did not find them.
    pub fn forget(&self, names: &[(BlobClass, Digest)]) {
        let mut table = self.lock();
        for name in names {
            table.remove(name);
        }
    }

    async fn ensure_one(
        &self,
        blobs: &Blobs,
        name: (BlobClass, Digest),
        source: &Source,
        stats: &Stats,
    ) -> Result<(), LocalReason> {
        let flight = self.flight(name);
        flight
            .get_or_try_init(|| async {
                let bytes = read(name.1, source).await?;
                let size = bytes.len() as u64;
                let stored = blobs.put(name.0, bytes).await;
                let digest = stored.map_err(|error| LocalReason::Store(error.to_string()))?;
                if digest != name.1 {
                    self.forget(&[(name.0, digest)]);
                    return Err(changed(source));
                }
                stats.count_upload(size);
                Ok(Instant::now())
            })
            .await
            .map(drop)
    }

    /// The upload of `name`, under way, done, or to be begun.
    fn flight(&self, name: (BlobClass, Digest)) -> Flight {
        let mut table = self.lock();
        if table.len() >= KNOWN_MAX {
            table.clear();
        }
        let flight = table.entry(name).or_default();
        if flight.get().is_some_and(|since| !is_fresh(name.0, *since)) {
            *flight = Flight::default();
        }
        flight.clone()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(BlobClass, Digest), Flight>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the store still holds what it was given at that moment.
fn is_fresh(class: BlobClass, since: Instant) -> bool {
    let known = match class {
        BlobClass::Toolchain => TOOLCHAIN_KNOWN,
        BlobClass::Input | BlobClass::Output => INPUT_KNOWN,
    };
    since.elapsed() <= known
}

async fn read(digest: Digest, source: &Source) -> Result<Bytes, LocalReason> {
    match source {
        Source::Bytes(bytes) => Ok(bytes.clone()),
        Source::File(path) => match tokio::fs::read(path).await {
            Ok(bytes) => Ok(bytes.into()),
            Err(error) => {
                tracing::debug!(%digest, path = %path.display(), %error, "input is gone");
                Err(changed(source))
            }
        },
    }
}

fn changed(source: &Source) -> LocalReason {
    match source {
        Source::File(path) => LocalReason::InputChanged(path.display().to_string()),
        Source::Bytes(_) => LocalReason::Store("bytes do not match their digest".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_space_holds_is_not_known_of_another() {
        let tables = Tables::default();
        let (ours, theirs) = (Space::shared(), "acme".parse().unwrap());
        let name = (BlobClass::Input, Digest::of(b"a"));
        tables.of(&ours).learn([name].iter());
        assert!(tables.of(&ours).knows(name));
        assert!(!tables.of(&theirs).knows(name));
    }
}
