//! Programs of a toolchain: the loader that one names is short text, or it is no program.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use jetcc::toolchain::elf::loader;
use jetcc_fuzz::fast_folder;
use libfuzzer_sys::fuzz_target;

/// One file for all runs.
static PROGRAM: LazyLock<PathBuf> =
    LazyLock::new(|| fast_folder().join(format!("jetcc-fuzz-{}", std::process::id())));

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
