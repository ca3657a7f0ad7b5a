//! Results that are kept on the client's disk: no farm, no process, the same bytes; and a disk that
//! is damaged, full, small or shared.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use jetcc::exec::Ended;

use crate::harness::farm::{Farm, JETCC};
use crate::harness::processes;
use crate::harness::project::{Project, many_sources};
use crate::harness::tiny_disk::TinyDisk;

/// Somebody else: `nobody` on every Debian machine.
const STRANGER: u32 = 65_534;
const COMMANDS: [&str; 3] =
    ["gcc -g -c f0.c", "gcc -MD -Wall -c warn.c -o w.o", "gcc -O2 -c big.c -o big.o"];

async fn farm_with_cache(size: &str) -> Farm {
    let mut farm = Farm::builder().start().await;
    farm.set_variable("JETCC_CACHE_SIZE", size);
    farm
}

/// Every file of results below `cache`.
fn kept(cache: &Path) -> Vec<PathBuf> {
    let shelves = fs::read_dir(cache.join("results")).unwrap().flatten();
    let shelves = shelves.filter(|entry| entry.file_name().len() == 2);
    shelves
        .flat_map(|shelf| fs::read_dir(shelf.path()).unwrap().flatten())
        .map(|e| e.path())
        .collect()
}

#[tokio::test]
async fn a_rebuild_needs_neither_farm_nor_compiler() {
    let mut farm = farm_with_cache("1G").await;
    let project = Project::with_results_of_all_kinds();
    assert_eq!(project.same(&farm, &COMMANDS).await, 3);
    farm.kill("worker-1").await;
    farm.kill("scheduler").await;
    farm.kill("nats-server").await;
    let before = farm.childrens_faults();
    assert_eq!(project.same(&farm, &COMMANDS).await, 0);
    assert_eq!(farm.childrens_faults(), before, "the daemon has started a process");
    let stats = farm.stats().await;
    assert_eq!((stats.count("local_cache_hits"), stats.hits()), (3, 3));
    assert_eq!(stats.local(), [].into());
    assert!(farm.explain("big.c").await.contains("kept result of worker worker-1"));
    farm.finish().await;
}

#[tokio::test]
async fn a_clean_rebuild_of_many_files_starts_no_compiler() {
    const FILES: u64 = 60;
    let farm = farm_with_cache("1G").await;
    let project = Project::many(FILES);
    project.begin_build(&farm, 4).await.same().await;
    let before = farm.childrens_faults();
    project.begin_build(&farm, 4).await.same().await;
    assert_eq!(farm.childrens_faults(), before, "the daemon has started a process");
    let stats = farm.stats().await;
    assert_eq!((stats.remote(), stats.count("local_cache_hits")), (FILES, FILES));
    assert_eq!(stats.local(), [].into());
    farm.finish().await;
}

#[tokio::test]
async fn a_result_looks_as_if_it_were_just_compiled() {
    let farm = farm_with_cache("1G").await;
    let project = Project::with_results_of_all_kinds();
    let made = project.through(&farm, &["gcc -O2 -c big.c -o big.o"]).await;
    let run = "umask 027; exec \"$0\" gcc -O2 -c big.c -o big.o";
    let before = std::time::SystemTime::now();
    let done = farm.run(project.path(), "sh", &["-c", run, JETCC]).await;
    assert_eq!(done.status, Ended::Code(0), "{done:?}");
    let found = fs::metadata(project.path().join("big.o")).unwrap();
    assert_eq!(found.permissions().mode() & 0o777, 0o640);
    let tick = std::time::Duration::from_millis(20);
    assert!(found.modified().unwrap() + tick >= before);
    let again = project.take_away();
    assert_eq!(again["big.o"].1, made.files["big.o"].1);
    assert_eq!(farm.stats().await.count("local_cache_hits"), 1);
    farm.finish().await;
}

#[tokio::test]
async fn damage_is_found_and_mended() {
    let farm = farm_with_cache("1G").await;
    let project = Project::with_results_of_all_kinds();
    assert_eq!(project.same(&farm, &COMMANDS).await, 3);
    for path in kept(&farm.path("client")) {
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
    }
    // The farm knows them still.
    assert_eq!(project.same(&farm, &COMMANDS).await, 0);
    let stats = farm.stats().await;
    assert_eq!((stats.hits(), stats.count("local_cache_hits")), (3, 0));
    assert!(stats.count("local_cache_damaged") >= 3);
    project.same(&farm, &COMMANDS).await;
    project.same(&farm, &COMMANDS).await;
    assert!(farm.stats().await.count("local_cache_hits") >= 5);
    farm.finish().await;
}

#[tokio::test]
async fn the_limit_holds() {
    const LIMIT: u64 = 96 << 10;
    let farm = farm_with_cache(&LIMIT.to_string()).await;
    let project = Project::new(&many_sources(40));
    let commands: Vec<String> = (0..40).map(|n| format!("gcc -g -c f{n}.c")).collect();
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    project.same(&farm, &commands).await;
    let stats = farm.stats().await;
    let bytes: u64 =
        kept(&farm.path("client")).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(bytes > 0 && bytes <= LIMIT, "{bytes} bytes");
    assert!(stats.count("local_cache_evicted") > 0);
    project.same(&farm, &commands[35..]).await;
    farm.finish().await;
}

#[tokio::test]
async fn a_full_disk_costs_the_cache_and_not_the_build() {
    let disk = TinyDisk::new(1 << 20);
    let mut farm = farm_with_cache("1G").await;
    farm.set_variable("JETCC_CACHE_DIR", disk.path());
    let project = Project::with_results_of_all_kinds();
    project.same(&farm, &COMMANDS).await;
    fs::write(disk.path().join("filler"), vec![0; 1 << 20]).unwrap_err();
    project.same(&farm, &["gcc -O1 -c big.c", "gcc -O1 -c warn.c"]).await;
    let stats = farm.stats().await;
    assert_eq!((stats.remote(), stats.local()), (5, [].into()));
    assert!(stats.count("cache_write_errors") + stats.count("local_cache_evicted") > 0);
    farm.finish().await;
}

#[tokio::test]
async fn the_users_wishes_are_heard() {
    let mut farm = farm_with_cache("1G").await;
    let project = Project::with_results_of_all_kinds();
    let hits = async |farm: &Farm| farm.stats().await.count("local_cache_hits");
    let command = [COMMANDS[0]];
    farm.set_variable("JETCC_READONLY", "1");
    assert_eq!(project.same(&farm, &command).await, 1);
    farm.stop_daemon().await;
    farm.set_variable("JETCC_READONLY", "0");
    // Nothing was kept here: the farm answers, and then it is.
    project.same(&farm, &command).await;
    assert_eq!(hits(&farm).await, 0);
    project.same(&farm, &command).await;
    assert_eq!(hits(&farm).await, 1);
    farm.set_variable("JETCC_RECACHE", "1");
    assert_eq!(project.same(&farm, &command).await, 1);
    assert_eq!(farm.stats().await.count("forced_recaches"), 1);
    farm.unset_variable("JETCC_RECACHE");
    farm.set_variable("JETCC_NO_CACHE", "1");
    assert_eq!(project.same(&farm, &command).await, 1);
    farm.unset_variable("JETCC_NO_CACHE");
    project.same(&farm, &command).await;
    assert_eq!(hits(&farm).await, 2);
    farm.jetcc(project.path(), &["--zero-stats"]).await;
    let stats = farm.stats().await;
    assert_eq!((hits(&farm).await, stats.count("cache_writes")), (0, 0));
    farm.finish().await;
}

#[tokio::test]
async fn two_daemons_share_one_folder() {
    let mut farm = farm_with_cache("1G").await;
    let project = Project::with_results_of_all_kinds();
    assert_eq!(project.same(&farm, &COMMANDS).await, 3);
    let first = farm.path("daemon.sock");
    farm.set_variable("JETCC_SERVER_UDS", farm.path("second.sock"));
    assert_eq!(project.same(&farm, &COMMANDS).await, 0);
    assert_eq!(farm.stats().await.count("local_cache_hits"), 3);
    farm.jetcc(project.path(), &["--stop-server"]).await;
    farm.set_variable("JETCC_SERVER_UDS", first);
    farm.finish().await;
}

/// Runs `jetcc ARGUMENTS` as the stranger, with the client's environment.
async fn as_stranger(farm: &Farm, folder: &Path, arguments: &[&str]) -> jetcc::exec::Finished {
    let user = STRANGER.to_string();
    let switch = ["--reuid", &user, "--regid", &user, "--clear-groups", "--", JETCC];
    farm.run(folder, "setpriv", &[&switch, arguments].concat()).await
}

/// Compiles as this user and then as another one; how many of the other's were kept results.
async fn hits_of_another_user(mode: u32, group: u32) -> u64 {
    let mut farm = farm_with_cache("1G").await;
    let project = Project::new(&many_sources(1));
    let shared = farm.path("shared");
    fs::create_dir_all(shared.join("results")).unwrap();
    let results = shared.join("results");
    std::os::unix::fs::chown(&results, None, Some(group)).unwrap();
    fs::set_permissions(&results, Permissions::from_mode(mode)).unwrap();
    fs::set_permissions(farm.path(""), Permissions::from_mode(0o755)).unwrap();
    for folder in [project.path(), &shared] {
        fs::set_permissions(folder, Permissions::from_mode(0o777)).unwrap();
    }
    farm.set_variable("JETCC_CACHE_DIR", &shared);
    farm.set_variable("JETCC_ERROR_LOG", "/dev/null");
    let local = project.locally(&farm, &["gcc -c f0.c"]).await;
    project.through(&farm, &["gcc -c f0.c"]).await.assert_same(&local, &[]);
    let (first, private) = (farm.path("daemon.sock"), farm.path("stranger"));
    fs::create_dir(&private).unwrap();
    std::os::unix::fs::chown(&private, Some(STRANGER), Some(STRANGER)).unwrap();
    fs::set_permissions(&private, Permissions::from_mode(0o700)).unwrap();
    farm.set_variable("JETCC_SERVER_UDS", private.join("daemon.sock"));
    // The settings are for their owner alone.
    farm.set_variable("JETCC_CONF", "/dev/null");
    let done = as_stranger(&farm, project.path(), &["gcc", "-c", "f0.c"]).await;
    assert_eq!(done.status, Ended::Code(0), "{done:?}");
    assert_eq!(project.take_away()["f0.o"].1, local.files["f0.o"].1);
    let stats = ["--show-stats", "--stats-format", "json"];
    let stats = as_stranger(&farm, project.path(), &stats).await;
    let stats = crate::harness::stats::Stats::parse(&stats.stdout);
    as_stranger(&farm, project.path(), &["--stop-server"]).await;
    farm.set_variable("JETCC_SERVER_UDS", first);
    crate::harness::wait::until("the stranger's daemon is gone", async || {
        let name = private.display().to_string();
        processes::naming(&name).is_empty().then_some(())
    })
    .await;
    farm.finish().await;
    stats.count("local_cache_hits")
}

#[tokio::test]
async fn users_share_results_only_where_the_folder_says_so() {
    // Root's folder with the set-group-id bit, for the stranger's group.
    assert_eq!(hits_of_another_user(0o2770, STRANGER).await, 1);
    // Writable for all, or for one user alone: everybody has a folder of his own.
    assert_eq!(hits_of_another_user(0o2777, STRANGER).await, 0);
    assert_eq!(hits_of_another_user(0o755, STRANGER).await, 0);
}

/// Two checkouts that read the same: commands with the checkout's folder as `@`.
#[tokio::test]
async fn checkouts_share_what_does_not_depend_on_their_folder() {
    const SHARED: [&str; 3] = [
        "gcc -O1 -MD -Iinclude -c src/a.c -o a.o",
        "gcc -g -ffile-prefix-map=@=. -Iinclude -Wall -c src/a.c -o g.o",
        "gcc -ffile-prefix-map=@=. -I@/include -c @/src/a.c -o @/full.o",
    ];
    const OWN: [&str; 4] = [
        "gcc -g -Iinclude -c src/a.c -o debug.o",
        "gcc -I@/include -c src/a.c -o name.o",
        "gcc -ffile-prefix-map=@=. -MD -I@/include -c src/a.c -o deps.o",
        "gcc -g -gz -ffile-prefix-map=@=. -Iinclude -c src/a.c -o packed.o",
    ];
    let source = "#include \"a.h\"\nconst char *where(void) { int unused; return HERE; }\n";
    let header = "#define HERE __FILE__\nstatic const char *header = __FILE__;\n";
    let files = [("src/a.c", source), ("include/a.h", header)];
    let mut farm = farm_with_cache("1G").await;
    let (one, two) = (Project::new(&files), Project::new(&files));
    let folders = [&one, &two].map(|project| project.path().display().to_string());
    farm.set_variable("JETCC_BASE_DIRS", folders.join(":"));
    for (project, folder) in [&one, &two].into_iter().zip(&folders) {
        for command in SHARED.iter().chain(&OWN) {
            project.same(&farm, &[&command.replace('@', folder)]).await;
        }
    }
    let stats = farm.stats().await;
    assert_eq!(stats.local(), [].into());
    assert_eq!((stats.count("local_cache_hits"), stats.remote()), (3, 4 + 3 + 4));
    farm.finish().await;
}
