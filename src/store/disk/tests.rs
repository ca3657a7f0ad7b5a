//! The disk cache against a real folder.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::sync::Arc;
use std::task::Poll;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::poll;
use object_store::ObjectStoreExt as _;
use object_store::memory::InMemory;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use tempfile::TempDir;

use super::*;
use crate::store::Limits;

const PLENTY: u64 = 1 << 30;
const BLOCK: u64 = 4_096;

/// A cache in a folder of its own, with another folder to link into.
struct Scene {
    folder: TempDir,
    cache: DiskCache,
}

impl Scene {
    fn new(bytes_max: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cache = DiskCache::open(folder.path().join("cache"), bytes_max).unwrap();
        Self { folder, cache }
    }

    fn reopen(self, bytes_max: u64) -> Self {
        let Self { folder, cache } = self;
        drop(cache);
        let cache = DiskCache::open(folder.path().join("cache"), bytes_max).unwrap();
        Self { folder, cache }
    }

    fn target(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn stored(&self, digest: Digest) -> PathBuf {
        self.folder.path().join("cache/blobs/shared").join(digest.to_string())
    }

    /// Links and reads.
    fn read(&self, digest: Digest) -> Result<Vec<u8>, DiskError> {
        let target = tempfile::tempdir_in(self.folder.path()).unwrap();
        let target = target.path().join("linked");
        self.cache.link(digest, Kind::Plain, &target)?;
        Ok(fs::read(target).unwrap())
    }
}

fn long_ago() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_000)
}

/// Writes what does not belong there; with a time that differs, however coarse the clock is.
fn overwrite(path: &Path, bytes: &[u8]) {
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    fs::write(path, bytes).unwrap();
    set_times(path, long_ago());
}

fn set_times(path: &Path, time: SystemTime) {
    let file = fs::File::open(path).unwrap();
    file.set_times(fs::FileTimes::new().set_accessed(time).set_modified(time)).unwrap();
}

async fn store_with(bytes: &'static [u8]) -> (Arc<InMemory>, Blobs, Digest) {
    let backend = Arc::new(InMemory::new());
    let blobs = Blobs::new(backend.clone(), Limits::default());
    let digest = blobs.put(BlobClass::Input, Bytes::from_static(bytes)).await.unwrap();
    (backend, blobs, digest)
}

#[test]
fn links_share_the_file_and_are_read_only() {
    let scene = Scene::new(PLENTY);
    let digest = scene.cache.insert(b"int main;").unwrap();
    let (plain, again, program) = (scene.target("a"), scene.target("b"), scene.target("c"));
    scene.cache.link(digest, Kind::Plain, &plain).unwrap();
    scene.cache.link(digest, Kind::Plain, &again).unwrap();
    scene.cache.link(digest, Kind::Executable, &program).unwrap();
    let status = |path: &Path| fs::metadata(path).unwrap();
    assert_eq!(status(&plain).ino(), status(&again).ino());
    assert_ne!(status(&plain).ino(), status(&program).ino());
    assert_eq!(status(&plain).mode() & 0o7777, 0o444);
    assert_eq!(status(&program).mode() & 0o7777, 0o555);
    assert_eq!(fs::read(program).unwrap(), b"int main;");
}

#[test]
fn a_copy_is_private() {
    let scene = Scene::new(PLENTY);
    let digest = scene.cache.insert(b"notes").unwrap();
    let copy = scene.target("a.gcno");
    scene.cache.copy(digest, 0o640, &copy).unwrap();
    assert_eq!(fs::metadata(&copy).unwrap().mode() & 0o7777, 0o640);
    fs::write(&copy, b"changed").unwrap();
    assert_eq!(scene.read(digest).unwrap(), b"notes");
    assert!(matches!(scene.cache.copy(digest, 0o640, &copy), Err(DiskError::Io { .. })));
    assert_eq!(fs::read(&copy).unwrap(), b"changed");
}

#[test]
fn a_file_that_nobody_else_has_is_taken_as_it_is() {
    let scene = Scene::new(PLENTY);
    let (made, other) = (scene.target("made"), scene.target("other"));
    fs::write(&made, "crate").unwrap();
    let digest = Digest::of(b"crate");
    fs::hard_link(&made, &other).unwrap();
    // Whoever has the other name could change it; and nothing but a file is a blob.
    assert!(scene.cache.adopt(digest, &made).is_err());
    std::os::unix::fs::symlink(&made, scene.target("link")).unwrap();
    assert!(scene.cache.adopt(digest, &scene.target("link")).is_err());
    assert!(!scene.cache.contains(digest));
    fs::remove_file(&other).unwrap();
    let inode = made.metadata().unwrap().ino();
    scene.cache.adopt(digest, &made).unwrap();
    assert!(!made.exists());
    let kept = scene.stored(digest).metadata().unwrap();
    assert_eq!((kept.ino(), kept.mode() & 0o777), (inode, 0o444));
    assert_eq!(scene.read(digest).unwrap(), b"crate");
}

#[test]
fn a_changed_file_is_never_used() {
    let scene = Scene::new(PLENTY);
    let digest = scene.cache.insert(b"right bytes").unwrap();
    assert_eq!(scene.read(digest).unwrap(), b"right bytes");
    overwrite(&scene.stored(digest), b"wrong bytes");
    assert!(matches!(scene.read(digest), Err(DiskError::Missing(_))));
    assert!(!scene.cache.contains(digest) && !scene.stored(digest).exists());
    scene.cache.insert(b"right bytes").unwrap();
    assert_eq!(scene.read(digest).unwrap(), b"right bytes");
}

#[test]
fn damage_while_nobody_looked_is_found() {
    let scene = Scene::new(PLENTY);
    let damaged = scene.cache.insert(b"right bytes").unwrap();
    let sound = scene.cache.insert(b"other bytes").unwrap();
    let path = scene.stored(damaged);
    let before = fs::metadata(&path).unwrap().modified().unwrap();
    overwrite(&path, b"wrong bytes");
    set_times(&path, before);
    let scene = scene.reopen(PLENTY);
    assert!(scene.cache.contains(damaged) && scene.cache.contains(sound));
    let copied = scene.cache.copy(damaged, 0o600, &scene.target("x"));
    assert!(matches!(copied, Err(DiskError::Missing(_))));
    assert_eq!(scene.read(sound).unwrap(), b"other bytes");
}

#[test]
fn verify_evicts_what_is_damaged() {
    let scene = Scene::new(PLENTY);
    let digest = scene.cache.insert(b"right bytes").unwrap();
    scene.cache.verify(digest).unwrap();
    overwrite(&scene.stored(digest), b"wrong bytes");
    assert!(matches!(scene.cache.verify(digest), Err(DiskError::Missing(_))));
    assert!(!scene.cache.contains(digest));
}

#[test]
fn a_file_that_was_taken_away_is_missing_and_a_missing_folder_is_named() {
    let scene = Scene::new(PLENTY);
    let digest = scene.cache.insert(b"bytes").unwrap();
    let nowhere = scene.target("no/such/folder");
    let error = scene.cache.link(digest, Kind::Plain, &nowhere).unwrap_err();
    assert!(error.to_string().contains("no/such/folder"), "{error}");
    fs::remove_file(scene.stored(digest)).unwrap();
    assert!(matches!(scene.read(digest), Err(DiskError::Missing(_))));
    assert!(!scene.cache.contains(digest));
}

#[test]
fn the_least_recently_used_goes_and_links_stay() {
    let scene = Scene::new(2 * BLOCK);
    let first = scene.cache.insert(b"first").unwrap();
    let second = scene.cache.insert(b"second").unwrap();
    let linked = scene.target("linked");
    scene.cache.link(second, Kind::Plain, &linked).unwrap();
    scene.read(first).unwrap();
    let third = scene.cache.insert(b"third").unwrap();
    assert!(scene.cache.contains(first) && scene.cache.contains(third));
    assert!(!scene.cache.contains(second) && !scene.stored(second).exists());
    assert_eq!(fs::read(linked).unwrap(), b"second");
    let huge = vec![0; 3 * 4_096];
    assert!(matches!(scene.cache.insert(&huge), Err(DiskError::Full { .. })));
    assert!(scene.cache.contains(first));
}

#[test]
fn order_and_limit_hold_over_a_restart() {
    let scene = Scene::new(PLENTY);
    let old = scene.cache.insert(b"old").unwrap();
    let new = scene.cache.insert(b"new").unwrap();
    set_times(&scene.stored(old), long_ago());
    let scene = scene.reopen(BLOCK);
    assert!(scene.cache.contains(new) && !scene.cache.contains(old));
}

#[test]
fn a_use_is_noted_on_disk_when_the_last_note_is_old() {
    let scene = Scene::new(PLENTY);
    let digest = scene.cache.insert(b"bytes").unwrap();
    set_times(&scene.stored(digest), long_ago());
    let scene = scene.reopen(PLENTY);
    scene.read(digest).unwrap();
    let status = fs::metadata(scene.stored(digest)).unwrap();
    assert!(status.accessed().unwrap() > long_ago());
    assert_eq!(status.modified().unwrap(), long_ago());
}

#[test]
fn a_folder_has_one_user_and_leftovers_go() {
    let scene = Scene::new(PLENTY);
    let root = scene.folder.path().join("cache");
    assert!(matches!(DiskCache::open(root.clone(), PLENTY), Err(DiskError::Locked(_))));
    fs::write(root.join("tmp/half"), b"half").unwrap();
    fs::write(root.join("blobs/shared/README"), b"not ours").unwrap();
    let scene = scene.reopen(PLENTY);
    assert!(!root.join("tmp/half").exists() && root.join("blobs/shared/README").exists());
    drop(scene);
}

#[test]
fn another_file_system_gets_a_copy() {
    let scene = Scene::new(PLENTY);
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    let digest = scene.cache.insert(b"far").unwrap();
    let target = elsewhere.path().join("far");
    scene.cache.link(digest, Kind::Executable, &target).unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"far");
    assert_eq!(fs::metadata(&target).unwrap().mode() & 0o7777, 0o555);
}

#[test]
fn linking_while_others_evict_gives_the_right_bytes_or_missing() {
    let scene = Scene::new(4 * BLOCK);
    let contents: Vec<Vec<u8>> = (0..8_u8).map(|n| vec![n; 100]).collect();
    thread::scope(|scope| {
        for thread in 0..4_usize {
            let (scene, contents) = (&scene, &contents);
            scope.spawn(move || {
                for round in 0..200 {
                    let content = &contents[(thread * 3 + round) % contents.len()];
                    let digest = scene.cache.insert(content).unwrap();
                    match scene.read(digest) {
                        Ok(bytes) => assert_eq!(&bytes, content),
                        Err(error) => assert!(matches!(error, DiskError::Missing(_)), "{error}"),
                    }
                }
            });
        }
    });
    assert!(fs::read_dir(scene.folder.path().join("cache/blobs/shared")).unwrap().count() <= 4);
}

#[tokio::test]
async fn many_who_want_one_blob_cause_one_download() {
    let scene = Scene::new(PLENTY);
    let (backend, blobs, digest) = store_with(b"wanted by many").await;
    let fetch = || Box::pin(scene.cache.fetch(&blobs, BlobClass::Input, digest, 100));
    let mut first = fetch();
    let begun = poll!(&mut first);
    // From here on a second download would find nothing.
    backend.delete(&format!("shared/in/{digest}").as_str().into()).await.unwrap();
    for result in join_all((0..50).map(|_| fetch())).await {
        result.unwrap();
    }
    if begun == Poll::Pending {
        first.await.unwrap();
    }
    assert_eq!(scene.read(digest).unwrap(), b"wanted by many");
    assert!(scene.cache.flights.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_download_that_nobody_waits_for_ends() {
    let scene = Scene::new(PLENTY);
    let (backend, blobs, digest) = store_with(b"not wanted any more").await;
    // Its answer takes longer than this test.
    let slow = ThrottleConfig { wait_get_per_call: Duration::from_secs(60), ..Default::default() };
    let slow = Blobs::new(Arc::new(ThrottledStore::new(backend, slow)), Limits::default());
    let mut one = Box::pin(scene.cache.fetch(&slow, BlobClass::Input, digest, 100));
    let mut two = Box::pin(scene.cache.fetch(&slow, BlobClass::Input, digest, 100));
    assert!(poll!(&mut one).is_pending() && poll!(&mut two).is_pending());
    drop(one);
    assert_eq!(scene.cache.flights.lock().unwrap().len(), 1);
    drop(two);
    assert!(scene.cache.flights.lock().unwrap().is_empty());
    scene.cache.fetch(&blobs, BlobClass::Input, digest, 100).await.unwrap();
}

#[tokio::test]
async fn a_failed_download_is_tried_again_by_the_next() {
    let scene = Scene::new(PLENTY);
    let blobs = Blobs::new(Arc::new(InMemory::new()), Limits::default());
    let digest = Digest::of(b"late");
    let fetch = || scene.cache.fetch(&blobs, BlobClass::Input, digest, 100);
    assert_eq!(fetch().await, Err(StoreError::Missing(digest)));
    blobs.put(BlobClass::Input, Bytes::from_static(b"late")).await.unwrap();
    let small = scene.cache.fetch(&blobs, BlobClass::Input, digest, 3).await;
    assert!(matches!(small, Err(StoreError::TooLarge { size: 4, limit: 3, .. })));
    fetch().await.unwrap();
    assert_eq!(scene.read(digest).unwrap(), b"late");
}

#[test]
fn what_is_here_for_one_space_is_not_here_for_another() {
    let scene = Scene::new(2 * BLOCK);
    let acme = scene.cache.of(&"acme".parse().unwrap()).unwrap();
    let digest = acme.insert(b"acme's").unwrap();
    let target = scene.target("linked");
    assert!(acme.contains(digest) && !scene.cache.contains(digest));
    let stolen = scene.cache.link(digest, Kind::Plain, &target);
    assert!(matches!(stolen, Err(DiskError::Missing(_))), "{stolen:?}");
    assert!(matches!(scene.cache.copy(digest, 0o644, &target), Err(DiskError::Missing(_))));
    assert!(matches!(scene.cache.verify(digest), Err(DiskError::Missing(_))));
    assert!(matches!(scene.cache.read(digest), Err(DiskError::Missing(_))));
    assert_eq!(acme.read(digest).unwrap(), b"acme's");

    // The same bytes are here twice, the order of use is one, and a restart forgets nothing.
    scene.cache.insert(b"acme's").unwrap();
    acme.link(digest, Kind::Plain, &target).unwrap();
    drop(acme);
    let scene = scene.reopen(2 * BLOCK);
    let acme = scene.cache.of(&"acme".parse().unwrap()).unwrap();
    assert!(acme.contains(digest) && scene.cache.contains(digest));
    acme.touch(digest, Kind::Plain);
    scene.cache.insert(b"newer").unwrap();
    assert!(acme.contains(digest) && !scene.cache.contains(digest));
}
