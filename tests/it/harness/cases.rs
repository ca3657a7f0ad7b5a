//! Cases in data files: shell scripts that run once with the local compiler and once through a
//! farm, in the same folder, and must leave and say the same.
//!
//! A file holds cases, each a line `== name`, one line for each compiler that it is for, and the
//! script. `> gcc: remote 2, flag 1` says where the compiles of the second run take place: known
//! results count as remote, local ones under the code of their reason. In the script `cc` and `cxx`
//! run the compiler and tell how it ended; `$COMPILER` is its name and `$JETCC` what goes before
//! it. For rustc there are `crate NAME KINDS ARGUMENT...`, a compile as cargo asks for it, and `built`,
//! cargo with the compiler behind it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use jetcc::exec::Finished;
use tempfile::TempDir;

use super::farm::{Farm, JETCC};
use super::stats::Stats;

/// Data files and the project that each case starts with.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/identity");
/// Not below `/tmp`, where a worker lets compilers write anyway.
const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");
const PREAMBLE: &str = r#"
cc() { $JETCC $COMPILER "$@"; echo "= $?"; }
cxx() { $JETCC $COMPILERXX "$@"; echo "= $?"; }
crate() { mkdir -p out; cc --crate-name "$1" --crate-type "$2" --edition 2024 --emit=dep-info,link --out-dir out "${@:3}"; }
built() {
  RUSTC_WRAPPER=$JETCC cargo "$1" --offline --quiet --jobs 1 "${@:2}"; echo "= $?"
  # What cargo writes for itself holds times.
  find . \( -name .fingerprint -o -name .rustc_info.json \) -prune -exec rm -r {} +
}
"#;
/// Most characters of a difference that are shown.
const SHOWN: usize = 600;

/// One case for one compiler.
struct Case {
    name: String,
    places: String,
    script: String,
}

/// What stands at a path.
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    File { mode: u32, links: u64, bytes: Vec<u8> },
    Link(PathBuf),
    Other(u32),
}

/// What a script left and said, by path or stream.
type Left = BTreeMap<OsString, Entry>;

/// Runs all cases of `file` for `compiler` (`gcc`, `clang` or `rustc`); gives all that is wrong, as text.
pub(crate) async fn run(farm: &Farm, file: &str, compiler: &str) -> String {
    let text = fs::read_to_string(format!("{FOLDER}/{file}.txt")).unwrap();
    let cases = parse(&text, compiler);
    assert!(!cases.is_empty(), "`{file}` has no case for {compiler}");
    let stage = Stage::new(farm, compiler);
    let mut wrong = String::new();
    for case in &cases {
        if let Err(what) = stage.judge(case).await {
            write!(wrong, "\n{file}.txt == {} ({compiler})\n{what}", case.name).unwrap();
        }
    }
    wrong
}

fn parse(text: &str, compiler: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    for part in text.split("\n== ").skip(1) {
        let (name, rest) = part.split_once('\n').unwrap();
        let (places, script): (Vec<&str>, Vec<&str>) =
            rest.lines().partition(|line| line.starts_with("> "));
        let own = places.iter().find_map(|line| line[2..].strip_prefix(&format!("{compiler}:")));
        let Some(places) = own else { continue };
        cases.push(Case {
            name: name.to_owned(),
            places: sorted(places.split(',').map(str::trim)),
            script: script.join("\n"),
        });
    }
    cases
}

fn sorted<T: AsRef<str>>(places: impl Iterator<Item = T>) -> String {
    let mut places: Vec<T> = places.collect();
    places.sort_by(|one, two| one.as_ref().cmp(two.as_ref()));
    places.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ")
}

/// The folder in which cases run.
struct Stage<'a> {
    farm: &'a Farm,
    compiler: &'a str,
    folder: TempDir,
}

impl<'a> Stage<'a> {
    fn new(farm: &'a Farm, compiler: &'a str) -> Self {
        let folder = tempfile::Builder::new().prefix("case-").tempdir_in(SCRATCH).unwrap();
        Self { farm, compiler, folder }
    }

    /// What is wrong with a case.
    async fn judge(&self, case: &Case) -> Result<(), String> {
        let local = self.run(case, "").await;
        let before = self.farm.stats().await;
        let through = self.run(case, JETCC).await;
        let places = places(&before, &self.farm.stats().await);
        let mut different = differences(&local, &through);
        if !different.is_empty() {
            let again = self.run(case, "").await;
            let unsteady = differences(&local, &again);
            different.retain(|name| !unsteady.contains(name));
        }
        let mut what = String::new();
        for name in different {
            let shown = |left: &Left| left.get(name).map_or("absent".into(), show);
            let (one, two) = (shown(&local), shown(&through));
            write!(what, "{} differs\n  local:   {one}\n  through: {two}\n", name.display())
                .unwrap();
        }
        if places != case.places {
            let explained = self.farm.explain("").await;
            write!(what, "ran: {places}\nwanted: {}\n{explained}\n", case.places).unwrap();
        }
        if what.is_empty() { Ok(()) } else { Err(what) }
    }

    /// Runs a script in the project as it was at first.
    async fn run(&self, case: &Case, jetcc: &str) -> Left {
        let folder = self.folder.path().join("w");
        if folder.exists() {
            open(&folder);
            fs::remove_dir_all(&folder).unwrap();
        }
        let compiler = self.compiler;
        let (project, cxx) = match compiler {
            "gcc" => ("project", "g++"),
            "clang" => ("project", "clang++"),
            _ => ("package", ""),
        };
        copy(Path::new(FOLDER).join(project).as_path(), &folder);
        let names = format!("JETCC='{jetcc}' COMPILER={compiler} COMPILERXX={cxx}");
        let script = format!("umask 022; export {names}\n{PREAMBLE}\n{}", case.script);
        let done = self.farm.run(&folder, "bash", &["-c", &script]).await;
        let mut left = Left::new();
        look(&folder, &folder, &mut left);
        let Finished { stdout, stderr, .. } = done;
        for (name, bytes) in [("standard output", stdout), ("standard error", stderr)] {
            left.insert(name.into(), Entry::File { mode: 0, links: 0, bytes });
        }
        left
    }
}

/// Where the compiles between two looks at the counters ran.
fn places(before: &Stats, after: &Stats) -> String {
    let known = |stats: &Stats| stats.remote() + stats.hits();
    let remote = known(after) - known(before);
    let earlier = before.local();
    let local = after.local().into_iter().filter_map(|(code, count)| {
        let count = count - earlier.get(&code).copied().unwrap_or(0);
        (count > 0).then(|| format!("{code} {count}"))
    });
    sorted(local.chain((remote > 0).then(|| format!("remote {remote}"))))
}

fn differences<'l>(one: &'l Left, two: &'l Left) -> Vec<&'l OsString> {
    let names = one.keys().chain(two.keys().filter(|name| !one.contains_key(*name)));
    names.filter(|name| one.get(*name) != two.get(*name)).collect()
}

fn show(entry: &Entry) -> String {
    let text = match entry {
        Entry::File { mode, links, bytes } => {
            let text = String::from_utf8_lossy(bytes);
            format!("mode {mode:o}, {links} links, {} bytes: {text:?}", bytes.len())
        }
        other => format!("{other:?}"),
    };
    text.chars().take(SHOWN).collect()
}

fn look(root: &Path, folder: &Path, left: &mut Left) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let found = fs::symlink_metadata(&path).unwrap();
        let here = if found.is_symlink() {
            Entry::Link(fs::read_link(&path).unwrap())
        } else if found.is_file() {
            let (mode, links) = (found.mode() & 0o7777, found.nlink());
            Entry::File { mode, links, bytes: readable(&path, mode) }
        } else {
            Entry::Other(found.mode())
        };
        if found.is_dir() {
            look(root, &path, left);
        }
        left.insert(path.strip_prefix(root).unwrap().into(), here);
    }
}

/// Content of a file that its owner may be forbidden to read.
fn readable(path: &Path, mode: u32) -> Vec<u8> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode | 0o400)).unwrap();
    let bytes = fs::read(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    bytes
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::write(target, fs::read(entry.path()).unwrap()).unwrap();
        }
    }
}

/// Lets a folder and all below it be removed.
fn open(folder: &Path) {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            open(&entry.path());
        }
    }
}

#[test]
fn cases_are_read() {
    let text = "# About.\n\n== one\n> gcc: remote 2, flag 1\n> clang:\necho\ncc\n\n== two\n> gcc: flag 1\n";
    let gcc = parse(text, "gcc");
    assert_eq!((gcc.len(), gcc[0].places.as_str()), (2, "flag 1, remote 2"));
    let clang = parse(text, "clang");
    assert_eq!((clang.len(), clang[0].places.as_str()), (1, ""));
    assert_eq!(OsString::from("one").as_bytes(), clang[0].name.as_bytes());
    assert_eq!(clang[0].script, "echo\ncc");
}
