//! The folder of the results, with damage, several users of it, and too little room.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::*;

const ROOMY: u64 = 1 << 30;

fn key(number: u32) -> ActionKey {
    ActionKey::from(Digest::of(&number.to_le_bytes()))
}

fn kept(object: &[u8]) -> Kept {
    let product = |path: &str, bytes: &[u8]| Product {
        path: path.into(),
        mode: 0o666,
        digest: None,
        body: Body::Bytes(Bytes::copy_from_slice(bytes)),
    };
    Kept {
        stdout: Bytes::new(),
        stderr: Bytes::from_static(b"a warning\n"),
        outputs: vec![product("a.o", object), product("a.d", b"a.o: a.c\n")],
        worker: "w".into(),
    }
}

fn bytes(product: &Product) -> Vec<u8> {
    product.body.read(1 << 20).unwrap().to_vec()
}

fn large() -> Vec<u8> {
    (0..200_000_u32).flat_map(u32::to_le_bytes).collect()
}

/// Every file of the cache.
fn files(root: &Path) -> Vec<PathBuf> {
    let shelves = std::fs::read_dir(root.join("results")).unwrap().flatten();
    let shelves = shelves.filter(|entry| entry.file_name().len() == 2);
    shelves.flat_map(|s| std::fs::read_dir(s.path()).unwrap().flatten()).map(|e| e.path()).collect()
}

#[test]
fn what_was_kept_is_given_out_small_or_large() {
    let root = tempfile::tempdir().unwrap();
    let results = Results::open(root.path(), ROOMY);
    assert!(!results.may_know() && results.find(&key(1)).is_none());
    results.keep(&key(1), &kept(b"small"), str::to_owned);
    results.keep(&key(2), &kept(&large()), str::to_owned);
    assert!(results.may_know());
    // The second process hashes what the first one wrote.
    for results in [results, Results::open(root.path(), ROOMY)] {
        let (small, large_one) = (results.find(&key(1)).unwrap(), results.find(&key(2)).unwrap());
        assert_eq!(bytes(&small.outputs[0]), b"small");
        assert_eq!(bytes(&large_one.outputs[0]), large());
        assert_eq!(bytes(&large_one.outputs[1]), b"a.o: a.c\n");
        assert_eq!(small.stderr, "a warning\n");
        assert!(results.find(&key(3)).is_none());
        assert_eq!(results.state().counters.read_errors, 0);
    }
    assert_eq!(files(root.path()).len(), 3);
}

#[test]
fn damage_is_found_removed_and_counted() {
    for fresh in [true, false] {
        let root = tempfile::tempdir().unwrap();
        let results = Results::open(root.path(), ROOMY);
        results.keep(&key(1), &kept(b"small"), str::to_owned);
        results.keep(&key(2), &kept(&large()), str::to_owned);
        let results = if fresh { Results::open(root.path(), ROOMY) } else { results };
        for path in files(root.path()) {
            let mut damaged = std::fs::read(&path).unwrap();
            let at = damaged.len() - 3;
            damaged[at] ^= 1;
            std::fs::write(path, damaged).unwrap();
        }
        assert!(results.find(&key(1)).is_none() && results.find(&key(2)).is_none());
        // The record of the large one was damaged too, and hides its content.
        assert_eq!(results.state().counters.damaged, 2);
        results.keep(&key(2), &kept(&large()), str::to_owned);
        let found = results.find(&key(2));
        assert!(found.is_none() || bytes(&found.unwrap().outputs[0]) == large());
        results.keep(&key(2), &kept(&large()), str::to_owned);
        assert_eq!(bytes(&results.find(&key(2)).unwrap().outputs[0]), large());
    }
}

#[test]
fn a_cut_file_is_damage() {
    let root = tempfile::tempdir().unwrap();
    let results = Results::open(root.path(), ROOMY);
    results.keep(&key(1), &kept(b"small"), str::to_owned);
    let [path] = files(root.path()).try_into().unwrap();
    File::options().write(true).open(&path).unwrap().set_len(20).unwrap();
    assert!(results.find(&key(1)).is_none());
    assert!(!path.exists());
    std::fs::create_dir(&path).unwrap();
    assert!(results.find(&key(1)).is_none());
    assert_eq!((results.state().counters.damaged, results.state().counters.read_errors), (1, 1));
}

#[test]
fn the_longest_unused_goes_first() {
    let root = tempfile::tempdir().unwrap();
    let results = Results::open(root.path(), 100 * 4_096);
    for number in 0..60 {
        results.keep(&key(number), &kept(b"small"), str::to_owned);
    }
    for (age, number) in (0..60).rev().enumerate() {
        let name = Name::record(&key(number)).to_string();
        let file = File::open(root.path().join("results").join(name)).unwrap();
        let seconds = 1_600_000_000 - i64::try_from(age).unwrap();
        let old = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: 0 };
        let times = rustix::fs::Timestamps { last_access: old, last_modification: old };
        rustix::fs::futimens(&file, &times).unwrap();
    }
    // Used: not among the oldest any more.
    assert!(results.find(&key(0)).is_some());
    for number in 60..120 {
        results.keep(&key(number), &kept(b"small"), str::to_owned);
    }
    assert!(results.is_untidy());
    let size = results.state().size.unwrap();
    assert!(size.bytes <= size.bytes_max, "{size:?}");
    assert_eq!(results.state().counters.evicted, 30);
    assert!(results.find(&key(0)).is_some() && results.find(&key(31)).is_some());
    assert!(results.find(&key(1)).is_none() && results.find(&key(30)).is_none());
}

#[test]
fn nobody_elses_files_are_read() {
    let root = tempfile::tempdir().unwrap();
    Results::open(root.path(), ROOMY).keep(&key(1), &kept(b"small"), str::to_owned);
    let usual = root.path().join("results");
    let user = rustix::process::geteuid().as_raw();
    for mode in [0o777, 0o1777, 0o770] {
        std::fs::set_permissions(&usual, std::fs::Permissions::from_mode(mode)).unwrap();
        let results = Results::open(root.path(), ROOMY);
        assert!(results.find(&key(1)).is_none());
        results.keep(&key(2), &kept(b"small"), str::to_owned);
        assert!(root.path().join(format!("results-{user}")).is_dir());
    }
    assert_eq!(files(root.path()).len(), 1);
    // A group that may write, by its mode.
    std::fs::set_permissions(&usual, std::fs::Permissions::from_mode(0o2770)).unwrap();
    let results = Results::open(root.path(), ROOMY);
    assert!(results.find(&key(1)).is_some());
    results.keep(&key(3), &kept(b"small"), str::to_owned);
    let name = Name::record(&key(3)).to_string();
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(usual.join(&name)), 0o640);
    assert_eq!(mode(usual.join(&name[..2])), 0o2770);
}

#[test]
fn a_link_in_the_folders_place_is_not_followed() {
    let root = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), root.path().join("results")).unwrap();
    let results = Results::open(root.path(), ROOMY);
    results.keep(&key(1), &kept(b"small"), str::to_owned);
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
}

#[test]
fn two_daemons_use_one_folder() {
    let root = tempfile::tempdir().unwrap();
    let (one, two) = (Results::open(root.path(), ROOMY), Results::open(root.path(), ROOMY));
    std::thread::scope(|scope| {
        for results in [&one, &two] {
            scope.spawn(|| {
                for number in 0..200 {
                    results.keep(&key(number), &kept(&number.to_le_bytes()), str::to_owned);
                    let found = results.find(&key(number)).unwrap();
                    assert_eq!(bytes(&found.outputs[0]), number.to_le_bytes());
                    if number % 50 == 0 {
                        results.tidy();
                    }
                }
            });
        }
    });
    for results in [&one, &two] {
        let counters = results.state().counters;
        assert_eq!((counters.damaged, counters.read_errors, counters.write_errors), (0, 0, 0));
    }
}
