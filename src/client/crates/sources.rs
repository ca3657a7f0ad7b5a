//! Sources of other crates that a compile reads: where a macro of another crate is expanded, the compiler
//! looks into the file that defines it, if it is there (`SourceMap::span_to_snippet`). What it finds changes
//! the positions that it notes, and with them the hash of the crate.

use std::path::Path;

use memchr::memmem;

use super::uses::crate_file;
use super::{CrateReader, MacroIndex, Mentions, add_if_there, read_list};
use crate::compiler::rustc::dep_info;
use crate::job::LocalReason;
use crate::store::stamps::FileIndex;
use crate::store::walk::TreeBuilder;

/// What a definition of a macro begins with.
const DEFINITION: &[u8] = b"macro_rules!";
/// Files that are remembered.
const INDEX_MAX: usize = 200_000;

/// An empty index.
pub(super) fn index() -> MacroIndex {
    FileIndex::new(INDEX_MAX, |bytes| memmem::find(bytes, DEFINITION).is_some())
}

/// Adds the sources that define macros of the compiled crate at `path`, as far as the list beside it names
/// them: cargo has one for each crate.
pub(super) fn add(
    reader: &CrateReader,
    path: &str,
    macros: &MacroIndex,
    builder: &mut TreeBuilder<'_, Mentions>,
) -> Result<(), LocalReason> {
    let Some(told) = list_beside(path) else { return Ok(()) };
    for file in told.files.iter().map(|file| reader.absolute(file)) {
        let defines = macros.digest(Path::new(&file)).is_ok_and(|known| known.facts != Some(false));
        if defines {
            add_if_there(&file, builder)?;
        }
    }
    Ok(())
}

/// What the compiler said of the crate at `path`; macros of its kind come compiled.
fn list_beside(path: &str) -> Option<dep_info::DepInfo> {
    let (_, stem) = crate_file(path).filter(|_| !path.ends_with(".so"))?;
    dep_info::parse(&read_list(&Path::new(path).with_file_name(format!("{stem}.d")))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_beside_a_crate_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("a-00000000000000ff.d"), "x: src/lib.rs src/m.rs\n").unwrap();
        for name in ["liba-00000000000000ff.rmeta", "liba-00000000000000ff.rlib"] {
            let told = list_beside(&path(name)).unwrap();
            assert!(told.files.iter().eq(["src/lib.rs", "src/m.rs"]), "{name}");
        }
        for name in ["liba-00000000000000ff.so", "libb-00000000000000ff.rlib", "a"] {
            assert!(list_beside(&path(name)).is_none(), "{name}");
        }
        let index = index();
        let defines = |text: &str| {
            std::fs::write(path("m.rs"), text).unwrap();
            index.digest(Path::new(&path("m.rs"))).unwrap().facts
        };
        assert_eq!(defines("macro_rules! m { () => {} }"), Some(true));
        assert_eq!(defines("fn m() { println!() }"), Some(false));
    }
}
