//! Programs of a toolchain: the loader that one names is short text, or it is no program.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use jetcc::toolchain::elf::loader;
use libfuzzer_sys::fuzz_target;

/// One file for all runs, in memory where the system has such a folder.
static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let folder = if memory.is_dir() { memory } else { std::env::temp_dir() };
    folder.join(format!("jetcc-fuzz-{}", std::process::id()))
});

fuzz_target!(|data: &[u8]| {
    fs::write(&*PROGRAM, data).expect("a file");
    let found = loader(&PROGRAM);
    fs::remove_file(&*PROGRAM).expect("the file");
    if let Ok(Some(path)) = found {
        assert!(path.len() <= 4_096 && !path.contains('\0'));
        assert!(path.is_empty() || data.windows(path.len()).any(|part| part == path.as_bytes()));
        assert_eq!(data[..4], *b"\x7fELF");
    }
});
