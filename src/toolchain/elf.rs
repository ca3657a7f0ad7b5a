//! Which shared libraries a program loads: its own loader is asked, so that run paths, caches and
//! the C library's flavour (glibc, musl) need no rules of ours.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::ToolchainError;
use super::ask::{Asked, beginning, text};
use crate::exec::Ended;

/// First bytes of every ELF file.
pub(super) const MAGIC: [u8; 4] = *b"\x7fELF";
const PT_INTERP: u64 = 3;
/// Longest path of a loader that is believed, in bytes.
const LOADER_BYTES_MAX: u64 = 4_096;

/// What a program loads before its first instruction.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// Loader and libraries, as the loader names them; empty for a static program.
    pub(super) paths: BTreeSet<String>,
    /// Without `/etc/ld.so.cache` the loader would find other libraries or none.
    pub(super) needs_cache: bool,
}

/// Asks the loader of `program` what it would load.
pub(super) async fn loaded(program: &Path) -> Result<Loaded, ToolchainError> {
    let Some(loader) = loader(program)? else { return Ok(Loaded::default()) };
    let asked = Asked { environment: [].into(), ..Asked::plain(Path::new(&loader), "") };
    let name = program.to_str().ok_or_else(|| ToolchainError::NotElf(program.to_owned()))?;
    let with_cache = list(&asked, &["--list", name], program).await?;
    let musl = loader.contains("ld-musl");
    let needs_cache = !musl
        && match list(&asked, &["--inhibit-cache", "--list", name], program).await {
            Ok(without) => without != with_cache,
            Err(ToolchainError::Exec(error)) => return Err(error.into()),
            Err(_) => true,
        };
    let mut paths = with_cache;
    // Another machine's CPU may lack what a variant needs; its loader then wants the plain one.
    let plain: Vec<String> = paths.iter().filter_map(|path| plain_variant(path)).collect();
    paths.extend(plain);
    paths.insert(loader);
    Ok(Loaded { paths, needs_cache })
}

/// `/lib/glibc-hwcaps/x86-64-v3/libz.so.1` → `/lib/libz.so.1`, when that exists.
fn plain_variant(path: &str) -> Option<String> {
    let (folder, variant) = path.split_once("/glibc-hwcaps/")?;
    let plain = format!("{folder}/{}", variant.split_once('/')?.1);
    Path::new(&plain).is_file().then_some(plain)
}

async fn list(
    asked: &Asked,
    arguments: &[&str],
    program: &Path,
) -> Result<BTreeSet<String>, ToolchainError> {
    let done = asked.run(arguments).await?;
    let (answer, trouble) = (text(&done.stdout), text(&done.stderr));
    if let Some(library) = answer.lines().chain(trouble.lines()).find_map(missing) {
        return Err(ToolchainError::MissingLibrary {
            program: program.to_owned(),
            library: library.to_owned(),
        });
    }
    if done.status != Ended::Code(0) {
        return Err(ToolchainError::Answer {
            program: asked.program.display().to_string(),
            question: arguments.join(" "),
            answer: beginning(&done.stderr),
        });
    }
    Ok(answer.lines().filter_map(listed).map(str::to_owned).collect())
}

/// The path in `name => /path (0x1)` or `/path (0x1)`; none for the kernel's own `linux-vdso`.
fn listed(line: &str) -> Option<&str> {
    let line = line.trim();
    let path = line.split_once(" => ").map_or(line, |(_, path)| path);
    let path = path.rsplit_once(" (0x").map_or(path, |(path, _)| path);
    path.starts_with('/').then_some(path)
}

/// The library in `name => not found` or in what a loader says when it gives up: glibc's
/// `error while loading shared libraries: name: …`, musl's `Error loading shared library name: …`.
fn missing(line: &str) -> Option<&str> {
    let complaints = ["loading shared libraries: ", "Error loading shared library "];
    let complaint = complaints.iter().find_map(|words| line.split_once(words));
    match complaint {
        Some((_, rest)) => rest.split(':').next(),
        None => line.trim().strip_suffix(" => not found"),
    }
}

/// The loader that `program` asks for, at most 4,096 bytes of it; `None` when it is static.
///
/// # Errors
/// [`ToolchainError::NotElf`], or when it cannot be read.
pub fn loader(program: &Path) -> Result<Option<String>, ToolchainError> {
    let file = File::open(program).map_err(ToolchainError::io(program))?;
    let not_elf = || ToolchainError::NotElf(program.to_owned());
    let mut start = [0; 64];
    file.read_exact_at(&mut start, 0).map_err(|_| not_elf())?;
    if start[..4] != MAGIC {
        return Err(not_elf());
    }
    segment_text(&file, &start).map_err(|_| not_elf())
}

/// Text of the segment that names the loader. Offsets are those of `elf(5)`.
fn segment_text(file: &File, start: &[u8; 64]) -> io::Result<Option<String>> {
    let wide = start[4] == 2;
    let number = |bytes: &[u8]| match start[5] {
        1 => bytes.iter().rev().fold(0_u64, |value, &byte| value << 8 | u64::from(byte)),
        _ => bytes.iter().fold(0_u64, |value, &byte| value << 8 | u64::from(byte)),
    };
    let (table, size, count) = if wide {
        (number(&start[0x20..0x28]), number(&start[0x36..0x38]), number(&start[0x38..0x3a]))
    } else {
        (number(&start[0x1c..0x20]), number(&start[0x2a..0x2c]), number(&start[0x2c..0x2e]))
    };
    for index in 0..count {
        let mut header = [0; 56];
        let header = if wide { &mut header[..] } else { &mut header[..32] };
        file.read_exact_at(header, table.saturating_add(index * size))?;
        if number(&header[..4]) != PT_INTERP {
            continue;
        }
        let (offset, length) = if wide {
            (number(&header[8..16]), number(&header[32..40]))
        } else {
            (number(&header[4..8]), number(&header[16..20]))
        };
        let length = usize::try_from(length.min(LOADER_BYTES_MAX)).unwrap_or_default();
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, offset)?;
        let path = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
        return String::from_utf8(path.to_vec()).map(Some).map_err(io::Error::other);
    }
    Ok(None)
}

/// The first four bytes; zeros where the file is shorter.
pub(super) fn first_bytes(path: &Path) -> io::Result<[u8; 4]> {
    let mut bytes = [0; 4];
    let count = File::open(path)?.read_at(&mut bytes, 0)?;
    bytes[count..].fill(0);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_loader_is_asked() {
        let real = loaded(Path::new("/bin/sh")).await.unwrap();
        assert!(!real.needs_cache);
        assert!(real.paths.iter().any(|path| path.contains("libc.so")), "{real:?}");
        assert!(real.paths.iter().any(|path| path.contains("/ld-")), "{real:?}");
        let script = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            script.path(),
            "#!/bin/sh\n# a script that is longer than an ELF header is\n",
        )
        .unwrap();
        assert!(matches!(loaded(script.path()).await, Err(ToolchainError::NotElf(_))));
    }

    #[tokio::test]
    async fn run_paths_missing_libraries_and_static_programs() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        for name in ["bin", "lib"] {
            std::fs::create_dir(base.join(name)).unwrap();
        }
        std::fs::write(base.join("x.c"), "int x(void) { return 0; }\n").unwrap();
        std::fs::write(base.join("main.c"), "int x(void); int main(void) { return x(); }\n")
            .unwrap();
        let gcc = Asked {
            directory: base.clone(),
            ..Asked::plain(Path::new("/usr/bin/gcc"), "/usr/bin:/bin")
        };
        let run_path = "-Wl,-rpath,$ORIGIN/../lib";
        for arguments in [
            &["-shared", "-fPIC", "x.c", "-o", "lib/libx.so"][..],
            &["main.c", "-Llib", "-lx", run_path, "-o", "bin/main"],
            &["main.c", "x.c", "-static", "-o", "bin/static"],
        ] {
            gcc.answer(arguments).await.unwrap();
        }
        let found = loaded(&base.join("bin/main")).await.unwrap();
        let library = base.join("bin/../lib/libx.so").display().to_string();
        assert!(found.paths.contains(&library) && !found.needs_cache, "{found:?}");
        assert!(loaded(&base.join("bin/static")).await.unwrap().paths.is_empty());
        std::fs::remove_file(base.join("lib/libx.so")).unwrap();
        let missing = loaded(&base.join("bin/main")).await;
        assert!(matches!(missing, Err(ToolchainError::MissingLibrary { .. })), "{missing:?}");
    }

    #[test]
    fn lines_of_both_c_libraries_are_read() {
        assert_eq!(listed("\tlibz.so.1 => /lib/libz.so.1 (0x00007f)"), Some("/lib/libz.so.1"));
        assert_eq!(listed("\t/lib/ld-musl-x86_64.so.1 (0x7f)"), Some("/lib/ld-musl-x86_64.so.1"));
        assert_eq!(listed("\tlinux-vdso.so.1 (0x7f)"), None);
        assert_eq!(listed("\tstatically linked"), None);
        assert_eq!(missing("\tlibx.so => not found"), Some("libx.so"));
        let complaint =
            "a: error while loading shared libraries: libx.so: cannot open shared object";
        assert_eq!(missing(complaint), Some("libx.so"));
        let complaint = "Error loading shared library libx.so: No such file (needed by a)";
        assert_eq!(missing(complaint), Some("libx.so"));
    }
}
