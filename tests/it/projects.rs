//! Real projects, compile by compile: every object, dependency file and `.dwo` is the local one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::farm::Farm;

/// What one build wrote, by name.
type Written = BTreeMap<String, Vec<u8>>;

fn project(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("build/projects").join(name);
    assert!(
        folder.exists(),
        "no `{}`\nhint: run scripts/fetch-projects build/projects",
        folder.display()
    );
    folder
}

/// Builds the project into a folder of this test, and takes what was written away: the folder's
/// name is part of some outputs and has to be the same for both builds.
async fn build(farm: &Farm, project: &Path, compilers: [&str; 2], flags: &str) -> Written {
    let out = farm.path("out");
    let [cc, cxx] = compilers.map(ToOwned::to_owned);
    let words = [
        "-j4".to_owned(),
        format!("OUT={}", out.display()),
        format!("FLAGS={flags}"),
        format!("CC={cc}"),
        format!("CXX={cxx}"),
    ];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = farm.run(project, "make", &words).await;
    let messages = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status, jetcc::exec::Ended::Code(0), "{messages}");
    let written = fs::read_dir(&out).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, fs::read(path).unwrap())
    });
    let written = written.collect();
    fs::remove_dir_all(out).unwrap();
    written
}

/// Builds with each set of flags, locally and through the farm, and compares everything.
async fn compare(name: &str, compilers: [&str; 2], flag_sets: &[&str]) {
    let farm = Farm::builder().start().await;
    let project = project(name);
    let wrapped = compilers.map(|compiler| format!("{} {compiler}", env!("CARGO_BIN_EXE_jetcc")));
    for flags in flag_sets {
        let local = build(&farm, &project, compilers, flags).await;
        let again = build(&farm, &project, compilers, flags).await;
        let wrapped = [wrapped[0].as_str(), wrapped[1].as_str()];
        let remote = build(&farm, &project, wrapped, flags).await;
        let names = |written: &Written| written.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&local), names(&remote), "{name} {flags}");
        // gcc hashes a random seed into some files: those differ between two local runs, too.
        let stable = local.keys().filter(|file| local[*file] == again[*file]);
        let differing: Vec<_> = stable.filter(|file| local[*file] != remote[*file]).collect();
        assert!(differing.is_empty(), "{name} {flags}: {differing:?}");
    }
    let stats = farm.stats().await;
    let (remote, local): (u64, u64) = (stats.remote(), stats.local().values().sum());
    println!("{name}: {remote} remote, {local} local: {:?}", stats.local());
    assert!(remote > 0, "{name}: {:?}", stats.local());
    farm.finish().await;
}

const ALL: [&str; 4] = ["-O0 -g", "-O2 -g3", "-O2 -g -gsplit-dwarf -frandom-seed=1", "-O1 -MD"];

#[tokio::test]
async fn zlib() {
    compare("zlib", ["gcc", "g++"], &ALL).await;
}

#[tokio::test]
async fn zlib_by_clang() {
    compare("zlib", ["clang", "clang++"], &["-O2 -g3 -MMD", "-O1 -gsplit-dwarf -g"]).await;
}

#[tokio::test]
async fn lua() {
    compare("lua", ["gcc", "g++"], &ALL).await;
}

#[tokio::test]
async fn zstd() {
    compare("zstd", ["gcc", "g++"], &["-O0 -g3 -MD"]).await;
}

#[tokio::test]
async fn leveldb_in_cxx() {
    compare("leveldb", ["gcc", "g++"], &["-O0 -g3 -MD"]).await;
}
