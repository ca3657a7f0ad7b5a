//! Real projects, compile by compile: each runs on a worker, and every object, dependency file and
//! `.dwo`, both streams and the exit code are the local ones.

use std::fs;
use std::path::{Path, PathBuf};

use jetcc::exec::Ended;

use crate::harness::farm::{Farm, JETCC};
use crate::harness::project::{Files, differences, files_in};

/// Keeps what each compile says, and how it ends, beside its object.
const REDIRECT: &str = "REDIRECT=>$@.stdout 2>$@.stderr; echo $$? >$@.exit";
/// Sets of flags: `-Wconversion` gives every project something to say, and without a seed gcc hashes
/// a random one into what it splits.
const GCC: [&str; 4] =
    ["-O0 -g", "-O2 -g3 -Wconversion", "-O2 -g -gsplit-dwarf -frandom-seed=1", "-MD"];
const CLANG: [&str; 2] = ["-O2 -g3 -MMD -Wconversion", "-O1 -g -gsplit-dwarf"];

/// The folder of a project that `scripts/fetch-projects` laid out.
pub(crate) fn project(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("build/projects").join(name);
    assert!(
        folder.exists(),
        "no `{}`\nhint: run scripts/fetch-projects build/projects",
        folder.display()
    );
    folder
}

/// Builds the project into a folder of this test, and takes what was written away: the folder's
/// name is part of some outputs and has to be the same for all builds.
async fn build(
    farm: &Farm,
    project: &Path,
    launcher: &str,
    compilers: [&str; 2],
    flags: &str,
) -> Files {
    let out = farm.path("out");
    let [cc, cxx] = compilers.map(|compiler| format!("{launcher} {compiler}"));
    let words = [
        "-s".to_owned(),
        "-j3".to_owned(),
        format!("OUT={}", out.display()),
        format!("FLAGS={flags}"),
        format!("CC={cc}"),
        format!("CXX={cxx}"),
        REDIRECT.to_owned(),
    ];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = farm.run(project, "make", &words).await;
    assert_eq!(done.status, Ended::Code(0), "{}", String::from_utf8_lossy(&done.stderr));
    let written = files_in(&out);
    fs::remove_dir_all(out).unwrap();
    written
}

/// Builds with each set of flags, locally and through the farm, and compares everything.
async fn compare(name: &str, compilers: [&str; 2], flag_sets: &[&str]) {
    let farm = Farm::builder().start().await;
    let project = project(name);
    let (mut compiles, mut messages) = (0, 0);
    for flags in flag_sets {
        let local = build(&farm, &project, "", compilers, flags).await;
        let through = build(&farm, &project, JETCC, compilers, flags).await;
        let mut different = differences(&local, &through);
        if !different.is_empty() {
            let again = build(&farm, &project, "", compilers, flags).await;
            different.retain(|file| local.get(file) == again.get(file));
        }
        assert!(different.is_empty(), "{name} {flags}: {different:?} differ");
        for (file, (_, text)) in &local {
            match file.rsplit_once('.') {
                Some((_, "exit")) => {
                    assert_eq!(text, b"0\n", "{file}");
                    compiles += 1;
                }
                Some((_, "stderr")) => messages += text.len(),
                _ => {}
            }
        }
    }
    let stats = farm.stats().await;
    assert!(stats.local().is_empty(), "{:?}\n{}", stats.local(), farm.explain(": local, ").await);
    assert_eq!(stats.remote() + stats.hits(), compiles);
    // The first ones of each set of flags ask the compiler, as many as run at once.
    let scanned = stats.inputs("scanned");
    assert!(scanned * 10 >= compiles * 7, "{scanned} of {compiles} compiles were scanned");
    assert!(messages > 0, "no compile said anything");
    farm.finish().await;
}

/// The demo moves every project's objects, and builds through the makefile of all.
#[test]
fn every_project_is_in_the_makefile_of_all() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("build/projects");
    let makefile = fs::read_to_string(folder.join("Makefile")).unwrap();
    let mut named: Vec<&str> =
        makefile.lines().next().unwrap().split_whitespace().skip(1).collect();
    named.sort_unstable();
    let mut there: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.'))
        .collect();
    there.sort_unstable();
    assert_eq!(named, there);
}

#[tokio::test]
async fn zlib() {
    compare("zlib", ["gcc", "g++"], &GCC).await;
}

#[tokio::test]
async fn zlib_by_clang() {
    compare("zlib", ["clang", "clang++"], &CLANG).await;
}

#[tokio::test]
async fn lua() {
    compare("lua", ["gcc", "g++"], &GCC).await;
}

#[tokio::test]
async fn lua_by_clang() {
    compare("lua", ["clang", "clang++"], &CLANG).await;
}

#[tokio::test]
async fn zstd() {
    compare("zstd", ["gcc", "g++"], &GCC).await;
}

#[tokio::test]
async fn leveldb() {
    compare("leveldb", ["gcc", "g++"], &GCC).await;
}

#[tokio::test]
async fn leveldb_by_clang() {
    compare("leveldb", ["clang", "clang++"], &CLANG).await;
}
