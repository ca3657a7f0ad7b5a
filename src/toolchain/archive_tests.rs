//! Archives of a real compiler, and archives that somebody made to do harm.

use super::*;
use crate::store::stamps::FileIndex;
use crate::toolchain::{collect, resolve};

async fn packed() -> Packed {
    let environment = [("PATH".into(), "/usr/bin:/bin".into())].into();
    let gcc = resolve("gcc", Path::new("/"), &environment, Path::new("/x")).await.unwrap();
    collect(&gcc, &FileIndex::new(1_000, |_| ()), &Settings::default()).await.unwrap()
}

#[tokio::test]
async fn what_is_exported_is_imported() {
    let (folder, packed) = (tempfile::tempdir().unwrap(), packed().await);
    let (one, two) = (folder.path().join("one.tar.zst"), folder.path().join("two.tar.zst"));
    export(&packed, &one).unwrap();
    export(&packed, &two).unwrap();
    assert!(std::fs::read(&one).unwrap() == std::fs::read(&two).unwrap());
    let blobs = tempfile::tempdir().unwrap();
    let back = import(&one, blobs.path(), &Settings::default()).unwrap();
    assert_eq!(back.toolchain, packed.toolchain);
    assert_eq!(back.path, packed.path);
    assert!(back.sources.keys().eq(packed.sources.keys()));
    for (digest, path) in &back.sources {
        assert_eq!(Digest::of(&std::fs::read(path).unwrap()), *digest);
    }
    for settings in [
        Settings { toolchain_bytes_max: 1 << 20, ..Settings::default() },
        Settings { toolchain_entries_max: 10, ..Settings::default() },
    ] {
        let refused = import(&one, blobs.path(), &settings);
        assert!(matches!(refused, Err(ToolchainError::TooLarge { .. })));
    }
}

#[tokio::test]
async fn a_changed_file_is_not_exported() {
    let (folder, mut packed) = (tempfile::tempdir().unwrap(), packed().await);
    let other = folder.path().join("other");
    std::fs::write(&other, "other").unwrap();
    for path in packed.sources.values_mut() {
        path.clone_from(&other);
    }
    let archive = folder.path().join("a.tar.zst");
    assert!(export(&packed, &archive).is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// An archive with one entry under each of `names`, as hostile as need be.
fn archive(path: &Path, entries: &[(&str, EntryType, &str)]) {
    let encoder = zstd::Encoder::new(File::create(path).unwrap(), 1).unwrap();
    let mut tar = tar::Builder::new(encoder);
    for (name, kind, content) in entries {
        let body = if *kind == EntryType::Regular { content.as_bytes() } else { b"" };
        let mut header = header(*kind, body.len() as u64, 0o644);
        // The crate's own setters refuse such names.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        if *kind != EntryType::Regular {
            header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
        }
        header.set_cksum();
        tar.append(&header, body).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap();
}

#[test]
fn hostile_archives_are_refused() {
    use EntryType::{Char, Fifo, Link, Regular, Symlink};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar.zst");
    let blobs = tempfile::tempdir().unwrap();
    let bad: [&[(&str, EntryType, &str)]; 10] = [
        &[("../etc/passwd", Regular, "x")],
        &[("usr/../../etc/passwd", Regular, "x")],
        &[("/etc/passwd", Regular, "x")],
        &[("usr//bin", Regular, "x")],
        &[("usr", Symlink, "/etc"), ("usr/passwd", Regular, "x")],
        &[("usr", Regular, "x"), ("usr", Symlink, "/etc")],
        &[("dev/null", Char, "")],
        &[("pipe", Fifo, "")],
        &[("hard", Link, "/etc/passwd")],
        &[(MANIFEST, Regular, "{\"version\":2,\"path\":\"\",\"references\":[]}")],
    ];
    for entries in bad {
        archive(&path, entries);
        let read = import(&path, blobs.path(), &Settings::default());
        assert!(read.is_err(), "{entries:?} gave {read:?}");
    }
    archive(&path, &[("./usr/bin/cc", Regular, "x"), ("./bin", Symlink, "usr/bin")]);
    let read = import(&path, blobs.path(), &Settings::default()).unwrap();
    assert_eq!((read.toolchain.tree.len(), read.toolchain.references.len()), (2, 0));
    std::fs::write(&path, "no zstd").unwrap();
    assert!(import(&path, blobs.path(), &Settings::default()).is_err());
}

#[test]
fn what_stands_between_members_has_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar.zst");
    for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader] {
        // Some KB of zstd that would be 64 MiB of a name, kept in memory.
        let encoder = zstd::Encoder::new(File::create(&path).unwrap(), 1).unwrap();
        let mut tar = tar::Builder::new(encoder);
        let mut header = header(kind, 64 << 20, 0o644);
        header.set_cksum();
        tar.append(&header, io::repeat(b'x').take(64 << 20)).unwrap();
        tar.into_inner().unwrap().finish().unwrap();
        let refused = import(&path, folder.path(), &Settings::default());
        assert!(matches!(refused, Err(ToolchainError::Io { .. })), "{refused:?}");
    }
}

#[test]
fn one_folder_named_without_end_is_too_many_members() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar.zst");
    archive(&path, &[("usr", EntryType::Directory, ""); 12]);
    let settings = Settings { toolchain_entries_max: 10, ..Settings::default() };
    let refused = import(&path, folder.path(), &settings);
    assert!(matches!(refused, Err(ToolchainError::TooLarge { .. })), "{refused:?}");
    let manifest =
        (MANIFEST, EntryType::Regular, "{\"version\":1,\"path\":\"\",\"references\":[]}");
    archive(&path, &[manifest; 2]);
    let refused = import(&path, folder.path(), &Settings::default());
    assert!(matches!(refused, Err(ToolchainError::Archive { .. })), "{refused:?}");
}
