//! Archives of toolchains: what is imported is a valid tree within the limits, its files have the
//! content that their names say, and nothing is written anywhere else.
//!
//! The first byte says what the rest is: a file, a tar archive to be compressed, or members (kind,
//! mode, sizes, name, content) to be packed with right checksums.
#![no_main]

use std::fs;
use std::path::Path;

use jetcc::job::Digest;
use jetcc::toolchain::Settings;
use jetcc::toolchain::archive::import;
use jetcc_fuzz::fast_folder;
use libfuzzer_sys::fuzz_target;

const LIMITS: Settings =
    Settings { toolchain_bytes_max: 64 << 10, toolchain_entries_max: 64, failure_retry_seconds: 1 };
const BLOCK: usize = 512;

fuzz_target!(|data: &[u8]| {
    let Some((shape, rest)) = data.split_first() else { return };
    let bytes = match shape % 3 {
        0 => rest.to_vec(),
        1 => compressed(rest),
        _ => compressed(&members(rest)),
    };
    let outside = tempfile::tempdir_in(fast_folder()).expect("a temporary folder");
    let (archive, inside) = (outside.path().join("archive"), outside.path().join("blobs"));
    fs::create_dir(&inside).expect("an empty folder");
    fs::write(&archive, bytes).expect("a file");
    if let Ok(imported) = import(&archive, &inside, &LIMITS) {
        let tree = &imported.toolchain.tree;
        tree.check().expect("a valid tree");
        assert!(tree.len() <= LIMITS.toolchain_entries_max + 1);
        assert!(tree.files().map(|(_, size)| size).sum::<u64>() <= LIMITS.toolchain_bytes_max);
        for (digest, size) in tree.files() {
            let content = fs::read(&imported.sources[&digest]).expect("a kept file");
            assert_eq!((Digest::of(&content), content.len() as u64), (digest, size));
        }
    }
    assert_eq!(names(outside.path()), ["archive", "blobs"]);
    assert!(names(&inside).iter().all(|name| name.parse::<Digest>().is_ok()));
});

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
    let mut names: Vec<_> =
        entries.map(|entry| name(entry).to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn compressed(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 1).expect("zstd compresses any bytes")
}

/// A tar archive of the members that `data` describes.
fn members(mut data: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    while let [kind, mode, name_length, length, rest @ ..] = data {
        let (name, rest) = rest.split_at(rest.len().min(usize::from(*name_length)));
        let (body, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        data = rest;
        let mut header = [0; BLOCK];
        let (short, long) = name.split_at(name.len().min(100));
        header[..short.len()].copy_from_slice(short);
        header[157..157 + long.len().min(100)].copy_from_slice(&long[..long.len().min(100)]);
        header[100..107].copy_from_slice(format!("{:07o}", u32::from(*mode) * 2).as_bytes());
        // Now and then a size that the body does not have.
        let size = if mode % 16 == 15 { body.len() * 1_000_003 } else { body.len() };
        header[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        header[156] = *kind;
        header[257..265].copy_from_slice(if mode % 2 == 0 { b"ustar  \0" } else { b"ustar\x0000" });
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        tar.extend_from_slice(&header);
        tar.extend_from_slice(body);
        tar.resize(tar.len().next_multiple_of(BLOCK), 0);
    }
    tar.resize(tar.len() + 2 * BLOCK, 0);
    tar
}
