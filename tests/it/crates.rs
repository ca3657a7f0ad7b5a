//! Crates of Rust through a farm: `cargo` with `RUSTC_WRAPPER` makes and says what it does without.

mod kinds;
mod program;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jetcc::config::Environment;
use jetcc::exec::{self, Ended, Finished, Spec};
use tempfile::TempDir;

use crate::harness::farm::{Farm, JETCC};
use crate::harness::project::{Files, differences, files_in};
use crate::harness::wait::until;

/// Not below `/tmp`, where a worker lets compilers write anyway.
const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");
/// The packages of [`workspace`].
const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/crates");
/// Longest that rustc may take to say where it is.
const ANSWER: Duration = Duration::from_secs(60);

/// A farm whose client has the machine's cargo and rustc, without rustup; and the folder of both.
async fn farm() -> (Farm, String) {
    let environment = Environment::capture();
    let path = environment.text("PATH").unwrap();
    let variables = ["PATH", "HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"];
    let known = variables.iter().filter_map(|name| Some((*name, environment.text(name)?)));
    let asked = Spec {
        arguments: ["rustc", "--print", "sysroot"].map(Into::into).into(),
        environment: known.map(|(name, value)| (name.into(), value.into())).collect(),
        deadline: ANSWER,
        ..Spec::of(Path::new("/usr/bin/env"))
    };
    let sysroot = String::from_utf8(exec::run(asked).await.unwrap().stdout).unwrap();
    let mut farm = Farm::builder()
        // A compiler of Rust with its libraries is large, and a test may be in a hurry.
        .setting("client", "dist.toolchain_wait_seconds_max = 240")
        .start()
        .await;
    let tools = format!("{}/bin", sysroot.trim());
    farm.set_variable("PATH", format!("{tools}:{path}"));
    farm.set_variable("CARGO_INCREMENTAL", "0");
    farm.set_variable("CARGO_TERM_COLOR", "never");
    (farm, tools)
}

/// A copy of the packages, in a folder that has only this name.
struct Workspace {
    folder: TempDir,
    cargo: String,
}

impl Workspace {
    fn new(tools: &str) -> Self {
        Self::of(WORKSPACE, tools)
    }

    fn of(packages: &str, tools: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("crates-").tempdir_in(SCRATCH).unwrap();
        copy(Path::new(packages), folder.path());
        Self { folder, cargo: format!("{tools}/cargo") }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).unwrap();
    }

    /// What cargo has made; takes it away.
    fn take_away(&self) -> Files {
        let target = self.path().join("target");
        let mut files = files_in(&target);
        // What cargo writes for itself holds times; and programs in use are linked twice.
        files.retain(|name, _| {
            (name.contains("/deps/") || name.contains("/build/")) && !name.contains(".fingerprint")
        });
        fs::remove_dir_all(target).unwrap();
        files
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Everything that cargo says but how long it took, in no order: crates are compiled at once.
fn said(done: &Finished) -> (Ended, BTreeSet<String>, String) {
    let words = String::from_utf8_lossy(&done.stderr);
    let lines = words.lines().filter(|line| !line.contains("Finished"));
    // Of two crates with the same warning, who is told of it first is left to chance.
    let lines = lines.map(|line| line.replace(" (1 duplicate)", ""));
    let printed = String::from_utf8_lossy(&done.stdout).into_owned();
    (done.status, lines.collect(), printed)
}

async fn cargo(farm: &Farm, workspace: &Workspace, arguments: &str) -> Finished {
    // In one order, so that what it says of several crates is the same each time.
    let words: Vec<&str> = arguments.split(' ').chain(["--offline", "--jobs", "1"]).collect();
    farm.run(&workspace.path(), &workspace.cargo, &words).await
}

/// Runs cargo without the farm and through it, and asserts that nothing differs.
async fn same(farm: &mut Farm, workspace: &Workspace, arguments: &str) {
    farm.unset_variable("RUSTC_WRAPPER");
    let local = cargo(farm, workspace, arguments).await;
    let made = workspace.take_away();
    farm.set_variable("RUSTC_WRAPPER", JETCC);
    let through = cargo(farm, workspace, arguments).await;
    assert_eq!(said(&local), said(&through), "{arguments}: {}", farm.explain("").await);
    let different = differences(&made, &workspace.take_away());
    assert!(different.is_empty(), "{arguments}: {different:?} differ");
}

#[tokio::test]
async fn cargo_gives_what_it_gives_without_us() {
    let (mut farm, tools) = farm().await;
    let workspace = Workspace::new(&tools);
    same(&mut farm, &workspace, "build").await;
    let stats = farm.stats().await;
    assert_eq!(stats.local(), [].into(), "{}", farm.explain("").await);
    assert_eq!(stats.remote(), 5, "{}", farm.explain("").await);
    for arguments in [
        "build --release",
        "check --all-targets",
        "test --no-run",
        "clippy",
        "build --features loud",
    ] {
        same(&mut farm, &workspace, arguments).await;
    }
    assert_eq!(farm.stats().await.local(), [].into(), "{}", farm.explain("").await);
    // A failure is told as it is, and by the compiler of this machine.
    workspace.write("app/src/broken.rs", "pub fn broken() -> u32 { \"no number\" }\n");
    same(&mut farm, &workspace, "build").await;
    assert_eq!(farm.stats().await.local_for("remote-failed"), 1);
    farm.finish().await;
}

/// What the program says after a build through the farm.
async fn runs(farm: &Farm, workspace: &Workspace) -> String {
    let done = cargo(farm, workspace, "run --quiet --package app").await;
    let words = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status, Ended::Code(0), "{words}\n{}", farm.explain("").await);
    String::from_utf8(done.stdout).unwrap()
}

#[tokio::test]
async fn a_change_of_anything_that_is_read_is_seen() {
    let (mut farm, tools) = farm().await;
    let workspace = Workspace::new(&tools);
    farm.set_variable("RUSTC_WRAPPER", JETCC);
    farm.set_variable("JETCC_CACHE_SIZE", "1G");
    let first = "base 1 built 7 made 3 greeting hello from `none` and outside\n";
    assert_eq!(runs(&farm, &workspace).await, first);
    // A variable that nobody had told of: the worker's compile was not told it.
    farm.set_variable("WHO", "somebody");
    let second = first.replace("none", "somebody");
    assert_eq!(runs(&farm, &workspace).await, second);
    assert_eq!(farm.stats().await.local(), [].into(), "{}", farm.explain("").await);
    // A file that only a macro reads: cargo does not know, but compiles again for another reason.
    workspace.write("app/greeting.txt", "good day");
    let touched = fs::read_to_string(workspace.path().join("app/src/main.rs")).unwrap();
    workspace.write("app/src/main.rs", &format!("{touched}\n"));
    let third = second.replace("hello", "good day");
    assert_eq!(runs(&farm, &workspace).await, third);
    // A file outside of the package, which was found by the failure without it.
    workspace.write("outside.txt", "elsewhere");
    let fourth = third.replace("outside", "elsewhere");
    assert_eq!(runs(&farm, &workspace).await, fourth);
    // All of it again is known.
    let remote = farm.stats().await.remote();
    fs::remove_dir_all(workspace.path().join("target")).unwrap();
    assert_eq!(runs(&farm, &workspace).await, fourth);
    assert_eq!(farm.stats().await.remote(), remote, "{}", farm.explain("").await);
    // A dependency.
    workspace.write("base/src/number.rs", "pub const NUMBER: u32 = 2;\n");
    let fifth = fourth.replace("base 1", "base 2");
    assert_eq!(runs(&farm, &workspace).await, fifth);
    assert_eq!(farm.stats().await.local(), [].into(), "{}", farm.explain("").await);
    farm.finish().await;
}

/// A crate whose objects take far longer than its metadata, and which has a warning.
fn slow_crate() -> String {
    let mut text =
        String::from("pub fn unused() { let nobody = 1; }\npub fn sum(mut n: u64) -> u64 {\n");
    for number in 0..2_000_u64 {
        text.push_str(&format!("n = n.rotate_left(7) ^ (n.wrapping_mul({number}) % 1013 + 1);\n"));
    }
    text.push_str("n\n}\n");
    text
}

#[tokio::test]
async fn metadata_comes_early_and_outlives_its_worker() {
    let (mut farm, tools) = farm().await;
    let folder = tempfile::tempdir_in(SCRATCH).unwrap();
    let root = folder.path().canonicalize().unwrap();
    fs::write(root.join("lib.rs"), slow_crate()).unwrap();
    fs::create_dir(root.join("out")).unwrap();
    let command = "--crate-name slow --edition=2021 lib.rs --crate-type lib \
                   --error-format=json --json=diagnostic-rendered-ansi,artifacts \
                   --emit=dep-info,metadata,link -Copt-level=1 -C extra-filename=-0123456789abcdef \
                   --out-dir out";
    let rustc = format!("{tools}/rustc");
    let words: Vec<&str> = std::iter::once(&*rustc).chain(command.split_whitespace()).collect();
    let local = farm.run(&root, &rustc, &words[1..]).await;
    assert_eq!(local.status, Ended::Code(0), "{}", String::from_utf8_lossy(&local.stderr));
    let made = files_in(&root.join("out"));
    let clear = || {
        fs::remove_dir_all(root.join("out")).unwrap();
        fs::create_dir(root.join("out")).unwrap();
    };
    clear();
    let through = farm.jetcc(&root, &words).await;
    assert_eq!(said(&local), said(&through));
    assert_eq!(local.stderr, through.stderr);
    assert!(differences(&made, &files_in(&root.join("out"))).is_empty());
    clear();

    // The other crates could begin now, and the worker dies.
    farm.set_variable("JETCC_RECACHE", "1");
    let compiling = tokio::spawn(farm.jetcc(&root, &words));
    let metadata = root.join("out/libslow-0123456789abcdef.rmeta");
    until("the metadata is there", async || metadata.exists().then_some(())).await;
    assert!(!root.join("out/libslow-0123456789abcdef.rlib").exists());
    // The list was there before, as it is without us: who uses the crate looks for sources in it.
    let list = "slow-0123456789abcdef.d";
    assert_eq!(fs::read(root.join("out").join(list)).unwrap(), made[list].1);
    farm.kill("worker-1").await;
    let through = compiling.await.unwrap();
    assert_eq!(local.stderr, through.stderr, "{}", String::from_utf8_lossy(&through.stderr));
    assert!(differences(&made, &files_in(&root.join("out"))).is_empty());
    farm.start_again("worker-1").await;
    farm.finish().await;
}
