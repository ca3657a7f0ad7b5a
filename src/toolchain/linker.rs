//! What a C compiler needs to link: its own driver, the linkers that it may call, the objects at both
//! ends of a program, and the libraries of the C and C++ runtimes.

use std::path::Path;

use super::ToolchainError;
use super::ask::Asked;
use super::parts::{Parts, file, search_directories};

/// Programs on the way from the driver to the linker; each is there or not.
const PROGRAMS: [&str; 8] =
    ["collect2", "ld", "ld.bfd", "ld.gold", "ld.lld", "ld.mold", "lto-wrapper", "lto1"];
/// Objects at the ends of programs and libraries.
const OBJECTS: [&str; 13] = [
    "Scrt1.o",
    "crt1.o",
    "crtbegin.o",
    "crtbeginS.o",
    "crtbeginT.o",
    "crtend.o",
    "crtendS.o",
    "crti.o",
    "crtn.o",
    "gcrt1.o",
    "grcrt1.o",
    "rcrt1.o",
    "crtfastmath.o",
];
/// Libraries, each perhaps as an archive and as a shared object.
const LIBRARIES: [&str; 16] = [
    "atomic",
    "c",
    "c_nonshared",
    "dl",
    "gcc",
    "gcc_eh",
    "gcc_s",
    "m",
    "mvec",
    "pthread",
    "pthread_nonshared",
    "rt",
    "stdc++",
    "supc++",
    "unwind",
    "util",
];
/// Read at every start when they are there, and what a script names without its folder.
const FILES: [&str; 3] = ["libgcc_s.so.1", "liblto_plugin.so", "specs"];
/// Largest library that is looked at as a script of the linker, in bytes.
const SCRIPT_BYTES_MAX: u64 = 4_096;

/// Adds to `parts` what the C compiler at `driver` needs to link.
pub(super) async fn add(
    driver: &Path,
    search_path: &str,
    parts: &mut Parts,
) -> Result<(), ToolchainError> {
    let asked = Asked::plain(driver, search_path);
    parts.programs.push(driver.display().to_string());
    for name in PROGRAMS {
        parts.add_program(search_path, &asked, name).await?;
    }
    let mut names: Vec<String> =
        OBJECTS.iter().chain(&FILES).map(|name| (*name).to_owned()).collect();
    for library in LIBRARIES {
        names.extend([format!("lib{library}.a"), format!("lib{library}.so")]);
    }
    for name in names {
        if let Some(found) = file(&asked, &name).await? {
            parts.files.extend(named_by_script(Path::new(&found)));
            parts.files.push(found);
        }
    }
    let (answer, _) = asked.answer(&["-print-search-dirs"]).await?;
    parts.directories.extend(search_directories(&answer));
    Ok(())
}

/// The files that a library names if it is a script of the linker, as `libc.so` is.
fn named_by_script(path: &Path) -> Vec<String> {
    let is_small = std::fs::metadata(path).is_ok_and(|found| found.len() <= SCRIPT_BYTES_MAX);
    let text = is_small.then(|| std::fs::read_to_string(path).ok()).flatten().unwrap_or_default();
    text.split(|c: char| c.is_whitespace() || "(),".contains(c))
        .filter(|word| word.starts_with('/') && Path::new(word).is_file())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_of_the_linker_name_files() {
        let folder = tempfile::tempdir().unwrap();
        let (script, library) = (folder.path().join("libx.so"), folder.path().join("libx.so.1"));
        std::fs::write(&library, "x").unwrap();
        let named = library.display();
        std::fs::write(&script, format!("/* GNU ld */\nGROUP ( {named} AS_NEEDED({named}) /no )"))
            .unwrap();
        assert_eq!(named_by_script(&script), [named.to_string(), named.to_string()]);
        assert!(named_by_script(&library).is_empty());
    }
}
