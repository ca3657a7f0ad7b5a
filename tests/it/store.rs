//! What the blob store promises, on every backend that can be had here.

use std::fs;
use std::io::{Read as _, Seek as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use jetcc::exec::Ended;
use jetcc::job::Digest;
use jetcc::job::wire::{BlobClass, Examined};
use jetcc::queue::blobs::NatsBlobs;
use jetcc::queue::streams;
use jetcc::setup::certificates::Authority;
use jetcc::store::blobs::Intake;
use jetcc::store::streamed::{Hashed, Unreceived, Unsent};
use jetcc::store::{
    Blobs, Compressed, DiskCache, DiskError, Limits, StoreError, StoreSettings, open_backend,
};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, PutMode};

use crate::harness::farm::Farm;
use crate::harness::project::Project;
use crate::harness::s3::{self, S3Server};
use crate::harness::tiny_disk::TinyDisk;
use crate::harness::tls_end::TlsEnd;

const MIB: usize = 1 << 20;

#[tokio::test]
async fn in_memory() {
    keeps_the_contract(Arc::new(InMemory::new())).await;
}

#[tokio::test]
async fn in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    keeps_the_contract(open(&in_folder(&folder.path().join("a b%c")))).await;
    assert!(folder.path().join("a b%c/shared/in").is_dir());
}

#[tokio::test]
async fn in_a_farms_nats_server() {
    let farm = Farm::builder().start().await;
    let connection = farm.connect_as_scheduler().await;
    streams::declare_space(&connection, &"acme".parse().unwrap(), MIB as u64).await.unwrap();
    let backend = NatsBlobs::shared(connection);
    keeps_the_contract_with(Intake::InPieces, backend).await;
    farm.finish().await;
}

#[tokio::test]
async fn what_is_left_of_a_file_that_changed_on_its_way_is_found_and_replaced() {
    let farm = Farm::builder().start().await;
    let blobs = farm.blobs().await;
    let (bytes, folder) = (noise(9 * MIB), tempfile::tempdir().unwrap());
    let (digest, size, path) =
        (Digest::of(&bytes), bytes.len() as u64, folder.path().join("large"));
    let put = async |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        put_file(&blobs, (digest, size), &path).await
    };
    // Its first piece is the right one, and gives the others their names.
    let changed = [&bytes[..8 * MIB], &noise(MIB)].concat();
    assert!(matches!(put(&changed).await, Err(Unsent::Changed)));
    assert_eq!(blobs.has(BlobClass::Toolchain, digest).await, Ok(false));
    put(&bytes).await.unwrap();
    let mixed = get(&blobs, BlobClass::Toolchain, digest, size).await;
    assert!(mixed == Err(StoreError::Corrupt(digest)));
    assert_eq!(blobs.examine(BlobClass::Toolchain, digest).await, Ok(Examined::Discarded));
    put(&bytes).await.unwrap();
    assert!(get(&blobs, BlobClass::Toolchain, digest, size).await == Ok(bytes));
    farm.finish().await;
}

#[tokio::test]
async fn on_an_s3_server() {
    let server = S3Server::start();
    keeps_the_contract(open(&server.settings("some/prefix"))).await;
    assert!(server.file("some/prefix/shared/in").is_dir());
}

#[tokio::test]
async fn on_an_s3_server_with_a_certificate_of_a_private_authority() {
    let server = S3Server::start();
    let end = TlsEnd::of(server.host_and_port()).await;
    keeps_the_contract(open(&server.settings_over_tls(&end, "some/prefix"))).await;
    assert!(server.file("some/prefix/shared/in").is_dir());
}

#[tokio::test]
async fn an_object_store_that_is_not_the_right_one_is_not_spoken_to() {
    let server = S3Server::start();
    let end = TlsEnd::of(server.host_and_port()).await;
    let (_, others) = Authority::make().unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("other.pem"), others.certificate).unwrap();
    let right = server.settings_over_tls(&end, "");
    let to = |settings: &StoreSettings, scheme: &str, host: &str| {
        let endpoint = scheme.to_owned() + "://" + host;
        let mut settings = settings.clone();
        settings.options.insert("endpoint".into(), endpoint);
        settings
    };
    let end_at = end.endpoint().replace("https://", "");
    let by_name = end_at.replace("127.0.0.1", "localhost");
    for (settings, found, wanted) in [
        (StoreSettings { ca_file: None, ..right.clone() }, "UnknownIssuer", "`ca_file`"),
        (
            StoreSettings { ca_file: Some(folder.path().join("other.pem")), ..right.clone() },
            "UnknownIssuer",
            "put the store's authority into `ca_file`",
        ),
        (to(&right, "https", &by_name), "not valid for name", "a certificate for this address"),
        (to(&right, "https", server.host_and_port()), "corrupt", "speak TLS"),
        (to(&right, "http", server.host_and_port()), "scheme", "`allow_http`"),
    ] {
        let blobs = Blobs::new(open(&settings), Limits::default());
        let begun = Instant::now();
        let refused = blobs.put(BlobClass::Input, Bytes::from_static(b"x")).await.unwrap_err();
        assert!(matches!(refused, StoreError::Unavailable(_)), "{refused:?}");
        let words = refused.to_string();
        for told in [found, wanted, "wanted", "hint: "] {
            assert!(words.contains(told), "no `{told}` in {words}");
        }
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
    assert!(!server.file("shared").exists());
}

#[tokio::test]
async fn a_farm_keeps_its_blobs_at_a_private_authoritys_server_and_no_other() {
    let server = S3Server::start();
    let end = TlsEnd::of(server.host_and_port()).await;
    let store = s3::section(&server.settings_over_tls(&end, ""));
    let mut farm = Farm::builder().stored(&store).start().await;
    farm.set_variable("JETCC_DIST_TOOLCHAIN_WAIT_SECONDS_MAX", "120");
    let project = Project::new(&[("a.c", "int a;\n"), ("b.c", "int b;\n"), ("c.c", "int c;\n")]);
    assert_eq!(project.same(&farm, &["gcc -c a.c"]).await, 1);
    assert!(server.file("shared/tc").is_dir());

    farm.stop_daemon().await;
    let (_, others) = Authority::make().unwrap();
    fs::write(farm.path("farm/other.pem"), others.certificate).unwrap();
    farm.set("client", "dist.store.ca_file = 'other.pem'");
    assert_eq!(project.same(&farm, &["gcc -c b.c"]).await, 0);
    assert_eq!(farm.stats().await.local_for("store"), 1);
    let explained = farm.explain("b.c").await;
    for told in ["UnknownIssuer", "wanted a server with a certificate", "hint: put the store's"] {
        assert!(explained.contains(told), "{explained}");
    }
    farm.stop_daemon().await;

    fs::write(farm.path("farm/empty.pem"), "").unwrap();
    for file in ["empty.pem", "absent.pem"] {
        for role in ["scheduler", "worker"] {
            farm.set(role, &format!("store.ca_file = '{file}'"));
            let config = farm.path(&format!("farm/{role}.toml")).display().to_string();
            let done = farm.jetcc(&farm.path("farm"), &[role, "--config", &config]).await;
            assert_eq!(done.status, Ended::Code(64), "{done:?}");
            let words = String::from_utf8_lossy(&done.stderr);
            assert!(words.contains(file) && words.contains("wanted a readable PEM"), "{words}");
        }
        farm.set("client", &format!("dist.store.ca_file = '{file}'"));
        let run = project.through(&farm, &["gcc -c c.c"]).await.runs.remove(0);
        assert_eq!(run.status, Ended::Code(0), "{run:?}");
        let done = farm.jetcc(&farm.path("farm"), &["--start-server"]).await;
        let words = String::from_utf8_lossy(&done.stderr);
        assert!(words.contains(file) && words.contains("wanted a readable PEM"), "{done:?}");
    }
    farm.set("client", &format!("dist.store.ca_file = '{}'", end.ca_file().display()));
    assert_eq!(project.same(&farm, &["gcc -c c.c"]).await, 1);
    farm.finish().await;
}

#[tokio::test]
async fn a_server_that_knows_us_not_is_unavailable_at_once() {
    let server = S3Server::start();
    let blobs = Blobs::new(open(&server.settings_of_a_stranger()), Limits::default());
    let refused = blobs.put(BlobClass::Input, Bytes::from_static(b"x")).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
}

#[tokio::test]
async fn a_server_that_is_gone_is_unavailable_within_a_second() {
    let server = S3Server::start();
    let blobs = Blobs::new(open(&server.settings("")), Limits::default());
    let digest = blobs.put(BlobClass::Input, Bytes::from_static(b"x")).await.unwrap();
    drop(server);
    let begun = Instant::now();
    let gone = blobs.get(BlobClass::Input, digest, 1).await;
    assert!(matches!(gone, Err(StoreError::Unavailable(_))), "{gone:?}");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_server_that_says_nothing_is_unavailable_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let limits =
        Limits { attempts_max: 2, attempt_max: Duration::from_millis(100), ..Limits::default() };
    let blobs = Blobs::new(open(&s3::settings(&endpoint, "", "key")), limits);
    let begun = Instant::now();
    let silence = blobs.has(BlobClass::Input, Digest::of(b"x")).await;
    assert_eq!(silence, Err(StoreError::Unavailable("no answer within 0.1 s".into())));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_full_disk_is_said_to_be_full_and_nothing_half_is_left() {
    let disk = TinyDisk::new(MIB as u64);
    let blobs = Blobs::new(open(&in_folder(&disk.path())), Limits::default());
    let large = noise(4 * MIB);
    let full = blobs.put(BlobClass::Output, large.clone()).await;
    assert!(matches!(full, Err(StoreError::Full(_))), "{full:?}");
    assert_eq!(blobs.has(BlobClass::Output, Digest::of(&large)).await, Ok(false));
    let small = noise(MIB / 2);
    let digest = blobs.put(BlobClass::Output, small.clone()).await.unwrap();
    assert_eq!(blobs.get(BlobClass::Output, digest, MIB as u64).await, Ok(small));
}

#[tokio::test]
async fn a_disk_cache_makes_room_on_a_full_disk() {
    let disk = TinyDisk::new(MIB as u64);
    let cache = DiskCache::open(disk.path().join("cache"), 1 << 30).unwrap();
    let old = cache.insert(&noise(600 << 10)).unwrap();
    let new = cache.insert(&noise(700 << 10)).unwrap();
    assert!(cache.contains(new) && !cache.contains(old));
    let large = noise(2 * MIB);
    assert!(matches!(cache.insert(&large), Err(DiskError::Full { .. })));

    let blobs = Blobs::new(Arc::new(InMemory::new()), Limits::default());
    let digest = blobs.put(BlobClass::Input, large.clone()).await.unwrap();
    let full = cache.fetch(&blobs, BlobClass::Input, digest, large.len() as u64).await;
    assert!(matches!(full, Err(StoreError::Full(_))), "{full:?}");
    let fits = blobs.put(BlobClass::Input, noise(MIB / 2)).await.unwrap();
    cache.fetch(&blobs, BlobClass::Input, fits, MIB as u64).await.unwrap();
    assert!(cache.contains(fits));
}

/// All of the contract, on an empty backend.
async fn keeps_the_contract(backend: Arc<dyn ObjectStore>) {
    keeps_the_contract_with(Intake::Whole, backend).await;
}

async fn keeps_the_contract_with(intake: Intake, backend: Arc<dyn ObjectStore>) {
    let blobs = Blobs::new(backend.clone(), Limits::default()).with(intake);
    what_is_put_can_be_read(&blobs).await;
    classes_are_apart(&blobs).await;
    spaces_are_apart(&blobs).await;
    many_may_put_the_same(&blobs).await;
    limits_hold(&blobs).await;
    wrong_bytes_are_found_and_replaced(&blobs, backend.as_ref()).await;
    a_bomb_is_bounded(&blobs, backend.as_ref()).await;
    a_file_is_put_as_it_was_hashed(&blobs).await;
}

async fn what_is_put_can_be_read(blobs: &Blobs) {
    for bytes in [Bytes::new(), Bytes::from_static(b"#pragma once\n"), noise(5 * MIB)] {
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        assert_eq!(blobs.has(BlobClass::Input, digest).await, Ok(false));
        let missing = get(blobs, BlobClass::Input, digest, size).await;
        assert_eq!(missing, Err(StoreError::Missing(digest)));
        for _again in 0..2 {
            assert_eq!(blobs.put(BlobClass::Input, bytes.clone()).await, Ok(digest));
        }
        assert_eq!(blobs.has(BlobClass::Input, digest).await, Ok(true));
        assert_eq!(get(blobs, BlobClass::Input, digest, size).await, Ok(bytes));
    }
}

async fn classes_are_apart(blobs: &Blobs) {
    let digest = blobs.put(BlobClass::Toolchain, Bytes::from_static(b"cc1")).await.unwrap();
    assert_eq!(blobs.has(BlobClass::Toolchain, digest).await, Ok(true));
    for other in [BlobClass::Input, BlobClass::Output] {
        assert_eq!(get(blobs, other, digest, 3).await, Err(StoreError::Missing(digest)));
    }
}

async fn spaces_are_apart(blobs: &Blobs) {
    let acme = blobs.of(&"acme".parse().unwrap());
    let digest = acme.put(BlobClass::Input, Bytes::from_static(b"acme's")).await.unwrap();
    assert_eq!(acme.has(BlobClass::Input, digest).await, Ok(true));
    let stolen = get(blobs, BlobClass::Input, digest, 6).await;
    assert_eq!(stolen, Err(StoreError::Missing(digest)));
}

async fn many_may_put_the_same(blobs: &Blobs) {
    let blob = Compressed::of(noise(MIB)).await;
    let puts = join_all((0..16).map(|_| blobs.put_compressed(BlobClass::Output, &blob))).await;
    assert!(puts.iter().all(Result::is_ok), "{puts:?}");
    let read = get(blobs, BlobClass::Output, blob.digest, blob.size).await;
    assert_eq!(read, Ok(noise(MIB)));
}

async fn a_file_is_put_as_it_was_hashed(blobs: &Blobs) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large");
    for size in [2 * MIB, 9 * MIB] {
        let bytes = noise(size);
        let (digest, size) = (Digest::of(&bytes), size as u64);
        let put = async || put_file(blobs, (digest, size), &path).await;
        let mut changed = bytes.to_vec();
        changed[0] ^= 1;
        for (wrong, is_changed) in [(&changed[..], true), (&bytes[1..], false)] {
            fs::write(&path, wrong).unwrap();
            let refused = put().await;
            assert_eq!(matches!(refused, Err(Unsent::Changed)), is_changed, "{refused:?}");
            assert!(matches!(refused, Err(Unsent::Changed | Unsent::Source(_))));
            assert_eq!(blobs.has(BlobClass::Toolchain, digest).await, Ok(false));
        }
        fs::write(&path, &bytes).unwrap();
        let puts = join_all((0..4).map(|_| put())).await;
        // Noise does not get smaller.
        assert!(puts.iter().all(|put| put.as_ref().is_ok_and(|sent| *sent > size)), "{puts:?}");
        assert!(get(blobs, BlobClass::Toolchain, digest, size).await == Ok(bytes));
    }
}

async fn put_file(
    blobs: &Blobs,
    name: (Digest, u64),
    path: &std::path::Path,
) -> Result<u64, Unsent> {
    let file = Arc::new(fs::File::open(path).unwrap());
    blobs.put_file(BlobClass::Toolchain, name, &file, Hashed::Earlier).await
}

async fn limits_hold(blobs: &Blobs) {
    for size in [5_000, 2 * MIB] {
        let digest = blobs.put(BlobClass::Output, noise(size)).await.unwrap();
        let limit = size as u64 - 1;
        let refused = get(blobs, BlobClass::Output, digest, limit).await;
        assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
        assert_eq!(blobs.has(BlobClass::Output, digest).await, Ok(true));
    }
}

async fn wrong_bytes_are_found_and_replaced(blobs: &Blobs, backend: &dyn ObjectStore) {
    let right = Bytes::from_static(b"the right bytes");
    let digest = Digest::of(&right);
    let other = Compressed::new(b"the wrong bytes").zstd;
    let cut = Compressed::new(&right).zstd.slice(..10);
    for wrong in [other, cut, Bytes::from_static(b"no frame at all"), Bytes::new()] {
        plant(backend, digest, wrong).await;
        let corrupt = get(blobs, BlobClass::Input, digest, 100).await;
        assert_eq!(corrupt, Err(StoreError::Corrupt(digest)));
        assert_eq!(blobs.examine(BlobClass::Input, digest).await, Ok(Examined::Discarded));
        assert_eq!(blobs.has(BlobClass::Input, digest).await, Ok(false));
        assert_eq!(blobs.examine(BlobClass::Input, digest).await, Ok(Examined::Missing));
    }
    blobs.put(BlobClass::Input, right.clone()).await.unwrap();
    assert_eq!(blobs.examine(BlobClass::Input, digest).await, Ok(Examined::Sound));
    assert_eq!(get(blobs, BlobClass::Input, digest, 100).await, Ok(right));
}

async fn a_bomb_is_bounded(blobs: &Blobs, backend: &dyn ObjectStore) {
    let bomb = Compressed::new(&vec![0; 64 * MIB]);
    plant(backend, bomb.digest, bomb.zstd.clone()).await;
    let refused = get(blobs, BlobClass::Input, bomb.digest, MIB as u64).await;
    assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");

    let honest = Compressed::new(b"announces six and a bomb follows");
    let both = [honest.zstd, bomb.zstd].concat();
    plant(backend, honest.digest, both.into()).await;
    let corrupt = get(blobs, BlobClass::Input, honest.digest, MIB as u64).await;
    assert_eq!(corrupt, Err(StoreError::Corrupt(honest.digest)));
}

/// Reads a blob, whole and in pieces, which ends in the same way.
async fn get(
    blobs: &Blobs,
    class: BlobClass,
    digest: Digest,
    bytes_max: u64,
) -> Result<Bytes, StoreError> {
    let whole = blobs.get(class, digest, bytes_max).await;
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"what stood there before, and was longer than all of it").unwrap();
    let received = blobs.get_into(class, digest, bytes_max, &file).await;
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    let in_pieces = received.map(|()| Bytes::from(bytes)).map_err(|error| match error {
        Unreceived::Store(error) => error,
        Unreceived::Target(error) => panic!("{error}"),
    });
    assert!(whole == in_pieces);
    whole
}

/// Stores `frame` under a digest that may not be its own.
async fn plant(backend: &dyn ObjectStore, digest: Digest, frame: Bytes) {
    let key = Path::from(format!("shared/in/{digest}"));
    backend.put_opts(&key, frame.into(), PutMode::Create.into()).await.unwrap();
}

fn open(settings: &StoreSettings) -> Arc<dyn ObjectStore> {
    open_backend(settings, None).unwrap()
}

fn in_folder(path: &std::path::Path) -> StoreSettings {
    let url = url::Url::from_directory_path(path).unwrap();
    StoreSettings { url: url.into(), ..StoreSettings::default() }
}

/// Bytes that do not compress, the same in every run.
fn noise(length: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ length as u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}
