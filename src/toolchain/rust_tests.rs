//! The machine's own rustc, packed.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::super::{Equipment, Packed, Settings, collect, resolve};
use super::*;
use crate::job::Node;
use crate::store::stamps::FileIndex;

/// Where the compiler's own libraries are: beside the cargo that compiles these tests.
fn sysroot() -> PathBuf {
    Path::new(env!("CARGO")).parent().and_then(Path::parent).unwrap().to_owned()
}

async fn compiler() -> Resolved {
    let environment = [("PATH".into(), "/usr/bin:/bin".into())].into();
    let rustc = sysroot().join("bin/rustc");
    let own = Path::new("/nonexistent");
    resolve(rustc.to_str().unwrap(), Path::new("/"), &environment, own).await.unwrap()
}

fn paths(packed: &Packed) -> BTreeSet<&str> {
    let files = packed.toolchain.tree.iter();
    files
        .filter(|(_, node)| !matches!(node, Node::Directory))
        .map(|(path, _)| path.as_str())
        .collect()
}

/// Whether a file with this beginning and this end of its name is there.
fn has(paths: &BTreeSet<&str>, start: &str, end: &str) -> bool {
    let name = |path: &&&str| {
        let name = path.rsplit('/').next().unwrap_or_default();
        name.starts_with(start) && name.ends_with(end)
    };
    paths.iter().any(|path| name(&path))
}

/// Platforms whose libraries are installed, besides the compiler's own.
fn other_platforms(own: &str) -> Vec<String> {
    let folders = std::fs::read_dir(sysroot().join("lib/rustlib")).unwrap();
    let folders = folders.map(|entry| entry.unwrap().path()).filter(|it| it.join("lib").is_dir());
    let names = folders.filter_map(|it| it.file_name()?.to_str().map(str::to_owned));
    names.filter(|name| name != own).collect()
}

/// Hashing a compiler takes a while, so all that is said of one is said here.
#[tokio::test]
async fn rustc_is_packed_with_what_it_needs() {
    let index: FileIndex<()> = FileIndex::new(10_000, |_| ());
    let plain = compiler().await;
    let with = |equipment| Resolved { equipment, ..plain.clone() };
    let pack = async |compiler: &Resolved| collect(compiler, &index, &Settings::default()).await;

    // 1. A compiler of metadata and objects.
    let alone = pack(&plain).await.unwrap();
    let found = paths(&alone);
    let executable = plain.executable.to_str().unwrap();
    assert!(found.contains(executable));
    for (start, end) in [
        ("librustc_driver-", ".so"),
        ("libLLVM", ""),
        ("libstd-", ".rlib"),
        ("libstd-", ".so"),
        ("libproc_macro-", ".rlib"),
        ("rust-lld", ""),
        // What macros ask.
        ("cargo", ""),
        // What macros are linked with.
        ("libc.so.6", ""),
        ("libgcc_s.so.1", ""),
        ("ld-linux", ""),
    ] {
        assert!(has(&found, start, end), "{start}*{end}");
    }
    for name in ["cc", "crt1.o", "Scrt1.o", "libgcc.a", "rustdoc"] {
        assert!(
            !has(&found, name, "") || found.iter().all(|it| !it.ends_with(&format!("/{name}"))),
            "{name}"
        );
    }
    assert!(!found.iter().any(|path| path.contains(SANITIZER)), "{found:?}");
    assert_eq!(alone.toolchain.references.len(), 1);

    // 2. The whole standard library is there, and again it is the same.
    let asked = Asked::plain(&plain.executable, "/usr/bin");
    let folder = asked.answer(&["--print", "target-libdir"]).await.unwrap().0;
    for entry in std::fs::read_dir(folder.trim()).unwrap() {
        let path = entry.unwrap().path();
        let path = path.to_str().unwrap();
        assert!(path.contains(SANITIZER) || found.contains(path), "{path}");
    }
    assert_eq!(pack(&plain).await.unwrap().tree_digest, alone.tree_digest);

    // 3. With a linker: its driver, its linker, both ends of a program, its own library.
    let linker = Some(PathBuf::from("/usr/bin/cc"));
    let linking = pack(&with(Equipment { target: None, linker })).await.unwrap();
    let linked = paths(&linking);
    assert!(found.is_subset(&linked));
    for name in [
        "cc",
        "collect2",
        "ld",
        "crt1.o",
        "Scrt1.o",
        "crti.o",
        "crtbeginS.o",
        "libgcc.a",
        "libc.so",
    ] {
        assert!(linked.iter().any(|path| path.rsplit('/').next() == Some(name)), "{name}");
    }
    assert_eq!(linking.toolchain.references.len(), 2);

    // 4. Other platforms: each that is installed, and none that is not.
    let host = Path::new(folder.trim()).parent().and_then(Path::file_name).unwrap();
    let host = host.to_str().unwrap();
    let to = |target: &str| with(Equipment { target: Some(target.to_owned()), linker: None });
    assert_eq!(pack(&to(host)).await.unwrap().tree_digest, alone.tree_digest);
    for target in other_platforms(host) {
        let packed = pack(&to(&target)).await.unwrap();
        let library = format!("/{target}/lib/libcore-");
        assert!(paths(&packed).iter().any(|path| path.contains(&library)), "{target}");
    }
    let absent = pack(&to("sparc-unknown-none-elf")).await;
    assert!(matches!(absent, Err(ToolchainError::Reference { .. })), "{absent:?}");
}

#[test]
fn folders_above_do_not_decide_what_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("tests/with_rt.d");
    for name in ["core/src/lib.rs", "core/tests/t.rs", "core/README.md", "librustc_rt.asan.a"] {
        std::fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        std::fs::write(root.join(name), "x").unwrap();
    }
    let listed = |wanted: &dyn Fn(&Path) -> bool| {
        let mut parts = Parts::default();
        list(&root, &mut parts, wanted);
        let below = |path: &String| path.strip_prefix(root.to_str().unwrap()).unwrap().to_owned();
        parts.files.iter().map(below).collect::<BTreeSet<String>>()
    };
    assert!(listed(&is_quoted).iter().eq(["/core/src/lib.rs"]));
    assert!(listed(&is_library).iter().eq([
        "/core/README.md",
        "/core/src/lib.rs",
        "/core/tests/t.rs"
    ]));
}
