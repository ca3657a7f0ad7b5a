//! What the store holds, as far as this daemon knows, and the uploads under way: each blob goes up
//! once, however many compiles need it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::fs::File;
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

use super::bases::Bases;
use super::sent::Sent;
use crate::job::wire::{BlobClass, FILES_INSIDE_MAX};
use crate::job::{Digest, LocalReason, Space};
use crate::store::streamed::{Hashed, LARGE_BYTES_MIN, Unsent};
use crate::store::{Blobs, Compressed};

/// Inputs are forgotten by the store after an hour; we forget earlier.
const INPUT_KNOWN: Duration = Duration::from_secs(30 * 60);
/// Toolchains are kept for a month; looking again once a day is cheap.
const TOOLCHAIN_KNOWN: Duration = Duration::from_secs(24 * 3_600);
/// Smallest file that the store is asked about before it goes up, in bytes: a smaller one is sent in
/// less time than the question takes.
const ASKED_BYTES_MIN: u64 = 64 << 10;
/// Uploads at once, per compile.
const AT_ONCE: usize = 16;
/// Most KiB of large files that are held for uploads at once; a larger one goes alone.
const HELD_KIB_MAX: u32 = 16 << 10;
/// Largest file that travels inside a request, in bytes.
const INSIDE_BYTES_MAX: u64 = 128 << 10;
/// Most bytes of all files inside one request, compressed.
const INSIDE_TOGETHER_MAX: usize = 128 << 10;
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

impl Source {
    /// Its size in bytes; 0 when it is gone, which its reader finds out too.
    async fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(path) => tokio::fs::metadata(path).await.map_or(0, |found| found.len()),
        }
    }
}

/// What the store calls a blob.
pub type Name = (BlobClass, Digest);

/// Blobs that a compile needs the store to hold.
pub type Sources = BTreeMap<Name, Source>;

/// zstd frames of files that travel inside a request.
pub type Inside = BTreeMap<Name, Bytes>;

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
pub struct Uploads {
    table: Mutex<HashMap<Name, Flight>>,
    /// Room in memory for large files on their way, in KiB.
    room: Semaphore,
    /// The same for those of toolchains, which nobody's compile shall wait behind.
    toolchain_room: Semaphore,
    /// Files that went inside a request, and so to one worker alone.
    went_inside: Mutex<HashSet<Name>>,
    /// Trees among what it holds.
    pub bases: Bases,
}

impl Default for Uploads {
    fn default() -> Self {
        Self {
            table: Mutex::default(),
            room: Semaphore::new(HELD_KIB_MAX as usize),
            toolchain_room: Semaphore::new(HELD_KIB_MAX as usize),
            went_inside: Mutex::default(),
            bases: Bases::default(),
        }
    }
}

impl Uploads {
    /// Uploads what the store is not known to hold.
    ///
    /// # Errors
    /// [`LocalReason::Store`], or [`LocalReason::InputChanged`] when a file no longer holds the
    /// bytes that were hashed.
    pub async fn ensure(
        &self,
        blobs: &Blobs,
        sources: Vec<(&Name, &Source)>,
        sent: &Sent,
    ) -> Result<(), LocalReason> {
        let mut under_way = FuturesUnordered::new();
        let unknown: Vec<_> = {
            let table = self.lock();
            sources.into_iter().filter(|(name, _)| !knows(&table, **name)).collect()
        };
        for (name, source) in unknown {
            if under_way.len() == AT_ONCE {
                under_way.try_next().await?;
            }
            under_way.push(self.ensure_one(blobs, *name, source, sent));
        }
        while under_way.try_next().await?.is_some() {}
        Ok(())
    }

    /// The small files of `sources` that the store is not known to hold, to send inside a request:
    /// `main`, and with [`Extra::Edited`] others, unless they are on their way to the store, or
    /// travelled so before: who needs one of them next finds it in the store.
    ///
    /// # Errors
    /// [`LocalReason::InputChanged`] when a file no longer holds the bytes that were hashed.
    pub async fn inside(
        &self,
        main: Option<Name>,
        extra: Extra,
        sources: &Sources,
    ) -> Result<Inside, LocalReason> {
        let main = main.filter(|name| !self.knows(*name));
        let is_new = |name: &Name| {
            extra == Extra::Edited
                && Some(*name) != main
                && !self.lock().contains_key(name)
                && !self.went_inside().contains(name)
        };
        let others = sources.keys().copied().filter(is_new);
        let wanted: Vec<Name> = main.into_iter().chain(others).take(FILES_INSIDE_MAX).collect();
        let (mut inside, mut room) = (Inside::new(), INSIDE_TOGETHER_MAX);
        for name in wanted {
            let Some(source) = sources.get(&name) else { continue };
            if let Some(frame) = small(name, source).await?.filter(|frame| frame.len() <= room) {
                room -= frame.len();
                inside.insert(name, frame);
            }
        }
        Ok(inside)
    }

    /// Remembers that `names` went to a worker, but not to the store.
    pub fn note_inside<'a>(&self, names: impl Iterator<Item = &'a Name>) {
        let mut went_inside = self.went_inside();
        if went_inside.len() >= KNOWN_MAX {
            went_inside.clear();
        }
        went_inside.extend(names);
    }

    /// Whether the store is known to hold `name`.
    pub fn knows(&self, name: Name) -> bool {
        knows(&self.lock(), name)
    }

    /// Remembers that the store holds `names`.
    pub fn learn<'a>(&self, names: impl Iterator<Item = &'a Name>) {
        for name in names {
            // An upload under way will say the same.
            let _ = self.flight(*name).set(Instant::now());
        }
    }

    /// Forgets that the store holds `names`: a worker did not find them.
    pub fn forget(&self, names: &[Name]) {
        let mut table = self.lock();
        for name in names {
            table.remove(name);
        }
    }

    async fn ensure_one(
        &self,
        blobs: &Blobs,
        name: Name,
        source: &Source,
        sent: &Sent,
    ) -> Result<(), LocalReason> {
        let upload = || async {
            let size = source.size().await;
            if size >= ASKED_BYTES_MIN && is_there(blobs, name).await {
                return Ok(Instant::now());
            }
            match source {
                Source::File(path) if size >= LARGE_BYTES_MIN => {
                    let _room = self.room_for(name.0, blobs.bytes_held(size)).await;
                    put_file(blobs, name, (path, size), sent).await
                }
                _ => put(blobs, name.0, &pack(name.1, source).await?, sent).await,
            }
        };
        self.flight(name).get_or_try_init(upload).await.map(drop)
    }

    /// Uploads `blob`, unless the store is known to hold it.
    ///
    /// # Errors
    /// [`LocalReason::Store`].
    pub async fn ensure_packed(
        &self,
        blobs: &Blobs,
        class: BlobClass,
        blob: &Compressed,
        sent: &Sent,
    ) -> Result<(), LocalReason> {
        let flight = self.flight((class, blob.digest));
        flight.get_or_try_init(|| put(blobs, class, blob, sent)).await.map(drop)
    }

    /// Waits until so many bytes may be held.
    async fn room_for(&self, class: BlobClass, bytes: u64) -> Option<SemaphorePermit<'_>> {
        let room = match class {
            BlobClass::Toolchain => &self.toolchain_room,
            BlobClass::Input | BlobClass::Output => &self.room,
        };
        let kib = u32::try_from(bytes >> 10).map_or(HELD_KIB_MAX, |kib| kib.min(HELD_KIB_MAX));
        // Never closed.
        room.acquire_many(kib).await.ok()
    }

    /// The upload of `name`, under way, done, or to be begun.
    fn flight(&self, name: Name) -> Flight {
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

    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Flight>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn went_inside(&self) -> MutexGuard<'_, HashSet<Name>> {
        self.went_inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which files besides the source travel inside a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extra {
    /// None: there is no tree like this one in the store, so most of its files are new.
    None,
    /// Those that were edited: most files of this tree are in the store.
    Edited,
}

/// The zstd frame of a small file.
async fn small(name: Name, source: &Source) -> Result<Option<Bytes>, LocalReason> {
    match source.size().await {
        size if size <= INSIDE_BYTES_MAX => Ok(Some(pack(name.1, source).await?.zstd)),
        _ => Ok(None),
    }
}

/// The blob of `source`, which is to be what was hashed.
async fn pack(digest: Digest, source: &Source) -> Result<Compressed, LocalReason> {
    let bytes = match source {
        Source::Bytes(bytes) => bytes.clone(),
        Source::File(path) => match tokio::fs::read(path).await {
            Ok(bytes) => bytes.into(),
            Err(error) => return Err(changed(path, &error)),
        },
    };
    let blob = Compressed::of(bytes).await;
    match (blob.digest == digest, source) {
        (true, _) => Ok(blob),
        (false, Source::File(path)) => Err(changed(path, &"it has other bytes")),
        (false, Source::Bytes(_)) => {
            Err(LocalReason::Store("bytes do not match their digest".into()))
        }
    }
}

/// Whether the store holds an input already, perhaps as the output of an earlier compile: workers look
/// there too. An upload that was not needed does no harm.
async fn is_there(blobs: &Blobs, (class, digest): Name) -> bool {
    let places = match class {
        BlobClass::Input => &[BlobClass::Output, BlobClass::Input][..],
        BlobClass::Output | BlobClass::Toolchain => &[],
    };
    for place in places {
        if blobs.has(*place, digest).await.unwrap_or(false) {
            return true;
        }
    }
    false
}

/// Stores `blob`; gives when that was.
async fn put(
    blobs: &Blobs,
    class: BlobClass,
    blob: &Compressed,
    sent: &Sent,
) -> Result<Instant, LocalReason> {
    let stored = blobs.put_compressed(class, blob).await;
    stored.map_err(|error| LocalReason::Store(error.to_string()))?;
    sent.blob(blob.size, blob.zstd.len() as u64);
    Ok(Instant::now())
}

/// Stores what is in a large file of so many bytes; gives when that was.
async fn put_file(
    blobs: &Blobs,
    (class, digest): Name,
    (path, size): (&Path, u64),
    sent: &Sent,
) -> Result<Instant, LocalReason> {
    let file = File::open(path).await.map_err(|error| changed(path, &error))?;
    let file = Arc::new(file.into_std().await);
    match blobs.put_file(class, (digest, size), &file, Hashed::Earlier).await {
        Ok(bytes) => {
            sent.blob(size, bytes);
            Ok(Instant::now())
        }
        Err(Unsent::Store(error)) => Err(LocalReason::Store(error.to_string())),
        Err(error @ (Unsent::Source(_) | Unsent::Changed)) => Err(changed(path, &error)),
    }
}

/// Whether the store is known to hold `name`.
fn knows(table: &HashMap<Name, Flight>, name: Name) -> bool {
    let since = table.get(&name).and_then(|flight| flight.get());
    since.is_some_and(|since| is_fresh(name.0, *since))
}

/// Whether the store still holds what it was given at that moment.
fn is_fresh(class: BlobClass, since: Instant) -> bool {
    let known = match class {
        BlobClass::Toolchain => TOOLCHAIN_KNOWN,
        BlobClass::Input | BlobClass::Output => INPUT_KNOWN,
    };
    since.elapsed() <= known
}

fn changed(path: &Path, found: &dyn Display) -> LocalReason {
    tracing::debug!(input = %path.display(), %found, "is not what was hashed");
    LocalReason::InputChanged(path.display().to_string())
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;
    use crate::store::Limits;

    fn sources(texts: &[&str]) -> Sources {
        let source = |text: &&str| {
            let bytes = Bytes::copy_from_slice(text.as_bytes());
            ((BlobClass::Input, Digest::of(&bytes)), Source::Bytes(bytes))
        };
        texts.iter().map(source).collect()
    }

    #[tokio::test]
    async fn after_an_edit_what_is_new_and_small_travels_inside_once() {
        let uploads = Uploads::default();
        let large = "large".repeat(INSIDE_BYTES_MAX as usize);
        let name = |text: &str| (BlobClass::Input, Digest::of(text.as_bytes()));
        let all = sources(&["source", "new", "known", &large]);
        uploads.learn([name("known")].iter());
        let inside = async |extra| {
            let inside = uploads.inside(Some(name("source")), extra, &all).await.unwrap();
            inside.into_keys().collect::<HashSet<_>>()
        };
        let expected = |texts: &[&str]| texts.iter().map(|text| name(text)).collect();
        let none: HashSet<Name> = expected(&["source"]);
        assert_eq!(inside(Extra::None).await, none);
        let edited: HashSet<Name> = expected(&["source", "new"]);
        assert_eq!(inside(Extra::Edited).await, edited);
        uploads.note_inside(edited.iter());
        assert_eq!(inside(Extra::Edited).await, none, "others find the header in the store");
    }

    #[tokio::test]
    async fn what_travels_inside_is_bounded_and_is_what_was_hashed() {
        let uploads = Uploads::default();
        let many: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        let many = sources(&many.iter().map(String::as_str).collect::<Vec<_>>());
        let inside = uploads.inside(None, Extra::Edited, &many).await.unwrap();
        assert_eq!(inside.len(), FILES_INSIDE_MAX);

        let mut random = vec![0; FILES_INSIDE_MAX * (100 << 10)];
        getrandom::fill(&mut random).unwrap();
        let random = random.chunks(100 << 10).map(|chunk| {
            let bytes = Bytes::copy_from_slice(chunk);
            ((BlobClass::Input, Digest::of(&bytes)), Source::Bytes(bytes))
        });
        let inside = uploads.inside(None, Extra::Edited, &random.collect()).await.unwrap();
        assert_eq!(inside.len(), 1, "their bytes together are bounded");

        let other = Source::Bytes(Bytes::from_static(b"other"));
        let changed = Sources::from([((BlobClass::Input, Digest::of(b"hashed")), other)]);
        assert!(uploads.inside(None, Extra::Edited, &changed).await.is_err());
    }

    #[tokio::test]
    async fn large_files_go_up_in_pieces_and_only_as_they_were_hashed() {
        let blobs = Blobs::new(Arc::new(InMemory::new()), Limits::default());
        let (uploads, sent) = (Uploads::default(), Sent::new(Arc::default()));
        let folder = tempfile::tempdir().unwrap();
        // More of them at once than may be held.
        let sources: Sources = (0..24_u8)
            .map(|number| {
                let bytes = vec![number; LARGE_BYTES_MIN as usize];
                let path = folder.path().join(number.to_string());
                std::fs::write(&path, &bytes).unwrap();
                ((BlobClass::Input, Digest::of(&bytes)), Source::File(path))
            })
            .collect();
        uploads.ensure(&blobs, sources.iter().collect(), &sent).await.unwrap();
        for (class, digest) in sources.keys() {
            assert!(blobs.get(*class, *digest, LARGE_BYTES_MIN).await.is_ok());
        }
        // While a toolchain takes all room there is, others go on.
        let large = u64::from(HELD_KIB_MAX) << 11;
        let full = uploads.room_for(BlobClass::Toolchain, large).await;
        assert!(full.is_some() && uploads.toolchain_room.available_permits() == 0);
        assert!(uploads.room_for(BlobClass::Input, large).await.is_some());
        let (name, source) = sources.first_key_value().unwrap();
        let Source::File(path) = source else { panic!("{source:?}") };
        for changed in [vec![77; LARGE_BYTES_MIN as usize], vec![77; LARGE_BYTES_MIN as usize + 1]]
        {
            std::fs::write(path, changed).unwrap();
            let other = Blobs::new(Arc::new(InMemory::new()), Limits::default());
            let refused = Uploads::default().ensure(&other, vec![(name, source)], &sent).await;
            assert!(matches!(refused, Err(LocalReason::InputChanged(_))), "{refused:?}");
        }
    }

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
