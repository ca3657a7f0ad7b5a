//! Compiles that run here because the farm cannot have them fill the cache on this disk, and are in
//! everything else what the compiler alone would have been.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use jetcc::exec::{Ended, Finished};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::JoinHandle;

use crate::harness::farm::{Farm, JETCC};
use crate::harness::processes::{self, Process};
use crate::harness::project::{Project, SLOW, slow_source, switched_source};
use crate::harness::wait::until;

const COMMANDS: [&str; 5] = [
    "gcc -g -c f0.c",
    "gcc -MD -Wall -c warn.c -o w.o",
    "gcc -O2 -c big.c -o big.o",
    "gcc -g -gsplit-dwarf -fstack-usage -MMD -MF s.d -c f0.c -o s.o",
    "clang -g -MD -Wall -S warn.c -o c.s",
];

/// A client with a cache and without a farm.
async fn no_farm() -> Farm {
    let mut farm = Farm::builder().workers(0).start().await;
    farm.unset("client", "dist");
    farm.unset_variable("JETCC_DIST_SCHEDULER_URL");
    farm.set_variable("JETCC_CACHE_SIZE", "1G");
    farm
}

/// Results that were kept, and compiles that took one.
async fn kept_and_taken(farm: &Farm) -> (u64, u64) {
    let stats = farm.stats().await;
    (stats.count("cache_writes"), stats.count("local_cache_hits"))
}

#[tokio::test]
async fn a_second_build_needs_no_compiler() {
    let farm = no_farm().await;
    let project = Project::with_results_of_all_kinds();
    project.same(&farm, &COMMANDS).await;
    assert_eq!(farm.stats().await.local_for("disabled"), 5, "{}", farm.explain("").await);
    assert!(farm.explain("warn.c").await.contains("local, disabled; its result is kept"));
    let before = farm.childrens_faults();
    project.same(&farm, &COMMANDS).await;
    assert_eq!(farm.childrens_faults(), before, "the daemon has started a process");
    let stats = farm.stats().await;
    assert_eq!((stats.hits(), stats.count("local_cache_hits")), (5, 5));
    assert_eq!(stats.local_for("disabled"), 5);
    assert!(farm.explain("big.c").await.contains("kept result of this machine"));
    // What is remembered outlives the daemon.
    farm.stop_daemon().await;
    project.same(&farm, &COMMANDS).await;
    assert_eq!(kept_and_taken(&farm).await, (0, 5));
    farm.finish().await;
}

#[tokio::test]
async fn a_farm_that_is_down_leaves_the_cache() {
    let mut farm = Farm::builder().workers(0).start().await;
    farm.set_variable("JETCC_CACHE_SIZE", "1G");
    farm.stop("scheduler").await;
    let project = Project::with_results_of_all_kinds();
    project.same(&farm, &COMMANDS).await;
    project.same(&farm, &COMMANDS).await;
    let stats = farm.stats().await;
    assert_eq!(stats.local_for("no-scheduler"), 5, "{}", farm.explain("").await);
    assert_eq!(stats.count("local_cache_hits"), 5);
    farm.finish().await;
}

const FLAGS: &str = "-O1 -MD -Iinc";

#[tokio::test]
async fn an_edit_counts_where_it_is_read() {
    let farm = no_farm().await;
    let mut project = Project::new(&[
        ("a.c", "#include \"a.h\"\n#include <which.h>\nint a = A;\n".to_owned()),
        ("b.c", switched_source(1, false)),
        ("a.h", "#define A 1\n".to_owned()),
        ("inc/which.h", "static int which = 1;\n".to_owned()),
    ]);
    let (a, b) = (format!("gcc {FLAGS} -c a.c"), format!("gcc {FLAGS} -c b.c"));
    project.same(&farm, &[&a, &b]).await;
    assert_eq!(farm.stats().await.inputs("scanned"), 1);
    // It was found, and the rule of dependencies says that it was not read.
    project.write("inc/which.h", b"static int which = 2;\n");
    project.same(&farm, &[&b]).await;
    assert_eq!(kept_and_taken(&farm).await, (2, 1), "{}", farm.explain("").await);
    project.write("a.h", b"#define A 2\n");
    project.same(&farm, &[&b]).await;
    assert_eq!(kept_and_taken(&farm).await, (3, 1), "{}", farm.explain("").await);
    project.write("a.h", b"#define A 1\n");
    project.same(&farm, &[&b]).await;
    assert_eq!(kept_and_taken(&farm).await, (3, 2), "{}", farm.explain("").await);

    // Now it is read, and nobody would say that a file was missing.
    project.write("b.c", switched_source(1, true).as_bytes());
    project.same(&farm, &[&b]).await;
    assert_eq!(kept_and_taken(&farm).await, (4, 2), "{}", farm.explain("").await);
    project.write("inc/which.h", b"static int which = 3;\nint more = 4;\n");
    project.same(&farm, &[&b]).await;
    assert_eq!(kept_and_taken(&farm).await, (5, 2), "{}", farm.explain("").await);
    project.same(&farm, &[&b]).await;
    assert_eq!(kept_and_taken(&farm).await, (5, 3), "{}", farm.explain("").await);
    farm.finish().await;
}

#[tokio::test]
async fn failures_are_shown_each_time() {
    let farm = no_farm().await;
    let project =
        Project::new(&[("a.c", "int a(void) { return b; }\n"), ("m.c", "#include <m.h>\n")]);
    for _ in 0..2 {
        project.same(&farm, &["gcc -Wall -c a.c", "gcc -c m.c"]).await;
    }
    let stats = farm.stats().await;
    assert_eq!((stats.local_for("disabled"), stats.local_for("dependency-pass")), (2, 2));
    assert_eq!(kept_and_taken(&farm).await, (0, 0));
    farm.finish().await;
}

#[tokio::test]
async fn the_users_wishes_are_heard() {
    let mut farm = no_farm().await;
    let project = Project::with_results_of_all_kinds();
    let command = [COMMANDS[0]];
    for (name, value) in
        [("JETCC_NO_CACHE", "1"), ("JETCC_READONLY", "1"), ("LD_LIBRARY_PATH", "/nowhere")]
    {
        farm.set_variable(name, value);
        project.same(&farm, &command).await;
        farm.unset_variable(name);
        farm.stop_daemon().await;
    }
    project.same(&farm, &command).await;
    assert_eq!(kept_and_taken(&farm).await, (1, 0));
    farm.set_variable("JETCC_RECACHE", "1");
    project.same(&farm, &command).await;
    assert_eq!(kept_and_taken(&farm).await, (2, 0));
    farm.unset_variable("JETCC_RECACHE");
    farm.set_variable("JETCC_READONLY", "1");
    project.same(&farm, &command).await;
    assert_eq!(kept_and_taken(&farm).await, (2, 1));
    farm.finish().await;
}

#[tokio::test]
async fn both_streams_in_one_file_are_what_the_compiler_writes() {
    let farm = no_farm().await;
    let project = Project::with_results_of_all_kinds();
    let into = async |program: &str, redirect: &str| {
        let script = format!("{program} gcc -H -Wall -c warn.c -o w.o {redirect}");
        farm.run(project.path(), "sh", &["-c", &script, JETCC]).await;
        project.take_away()
    };
    for redirect in [">log 2>&1", "2>log >&2", ">>log 2>&1", "2>&1 | cat >log", "2>log >/dev/null"]
    {
        let plain = into("", redirect).await;
        assert!(plain["log"].1.len() > 100);
        assert!(into("JETCC_RECACHE=1 \"$0\"", redirect).await == plain, "{redirect}");
    }
    // None was told from afar, and each was told whole.
    assert_eq!(kept_and_taken(&farm).await, (5, 0), "{}", farm.explain("").await);
    farm.finish().await;
}

/// Begins to compile `slow.cc`.
fn begin(farm: &Farm, project: &Project) -> JoinHandle<Finished> {
    let words: Vec<&str> = SLOW.split_whitespace().collect();
    tokio::spawn(farm.jetcc(project.path(), &words))
}

/// The compiler that runs for `slow.cc` in the project, and the wrapper that waits for it.
async fn compiler_and_wrapper(project: &Project) -> (Process, Process) {
    let is_here = |process: &&Process| {
        let folder = fs::read_link(format!("/proc/{}/cwd", process.id));
        folder.is_ok_and(|folder| folder == project.path().canonicalize().unwrap())
    };
    until("the compiler runs", async || {
        let all = processes::all();
        let mut here = all.iter().filter(is_here);
        let compiles = |process: &&Process| process.words.contains("cc1plus");
        here.clone().find(compiles)?;
        let one = |start: &str| here.clone().find(|it| it.words.starts_with(start)).cloned();
        let found = (one("g++ -c slow.cc")?, one(JETCC)?);
        here.next().map(|_| found)
    })
    .await
}

fn kill(process: &Process, signal: Signal) {
    kill_process(Pid::from_raw(process.id.cast_signed()).unwrap(), signal).unwrap();
}

async fn wait_until_gone(process: &Process) {
    let file = format!("/proc/{}/cmdline", process.id);
    until("the compiler is gone", async || {
        fs::read(&file).unwrap_or_default().is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn signals_end_both() {
    let farm = no_farm().await;
    let project = Project::slow(1);
    // To the compiler alone.
    let running = begin(&farm, &project);
    let (compiler, _) = compiler_and_wrapper(&project).await;
    kill(&compiler, Signal::USR1);
    assert_eq!(running.await.unwrap().status, Ended::Signal(10));
    // To the wrapper alone.
    for (signal, number) in
        [(Signal::TERM, 15), (Signal::HUP, 1), (Signal::INT, 2), (Signal::KILL, 9)]
    {
        let running = begin(&farm, &project);
        let (compiler, wrapper) = compiler_and_wrapper(&project).await;
        kill(&wrapper, signal);
        assert_eq!(running.await.unwrap().status, Ended::Signal(number));
        wait_until_gone(&compiler).await;
    }
    project.take_away();
    assert_eq!(kept_and_taken(&farm).await, (0, 0));
    farm.finish().await;
}

#[tokio::test]
async fn a_key_pressed_in_a_terminal_ends_both() {
    let farm = no_farm().await;
    let project = Project::slow(3);
    let keys = farm.path("keys");
    mknodat(CWD, &keys, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let mut pressed = fs::File::options().read(true).write(true).open(&keys).unwrap();
    let line = format!("script -qec '{JETCC} {SLOW}' /dev/null <{}", keys.display());
    let running = tokio::spawn(farm.run(project.path(), "sh", &["-c", &line]));
    let (compiler, _) = compiler_and_wrapper(&project).await;
    pressed.write_all(b"\x03").unwrap();
    assert_eq!(running.await.unwrap().status, Ended::Code(128 + 2));
    wait_until_gone(&compiler).await;
    project.take_away();
    assert_eq!(kept_and_taken(&farm).await, (0, 0));
    farm.finish().await;
}

#[tokio::test]
async fn a_daemon_that_dies_or_hangs_changes_nothing() {
    let farm = no_farm().await;
    let project = Project::slow(2);
    let local = project.locally(&farm, &[SLOW]).await;
    for signal in [Signal::KILL, Signal::STOP] {
        let running = begin(&farm, &project);
        compiler_and_wrapper(&project).await;
        let [daemon] = farm.daemons().try_into().unwrap();
        kill(&daemon, signal);
        let done = tokio::time::timeout(Duration::from_secs(120), running).await.unwrap().unwrap();
        assert_eq!((done.status, done.stderr.len()), (Ended::Code(0), 0));
        assert!(project.take_away() == local.files);
        if signal == Signal::STOP {
            kill(&daemon, Signal::CONT);
        }
    }
    farm.finish().await;
}

/// Compiles `slow.cc`, and does something meanwhile.
async fn compile_while(farm: &Farm, project: &Project, act: impl FnOnce(&Path)) {
    let running = begin(farm, project);
    compiler_and_wrapper(project).await;
    act(project.path());
    assert_eq!(running.await.unwrap().status, Ended::Code(0));
}

#[tokio::test]
async fn what_changes_while_it_is_compiled_is_not_kept() {
    let farm = no_farm().await;
    let mut project = Project::slow(3);
    let source = slow_source(3);
    compile_while(&farm, &project, |folder| {
        fs::write(folder.join("slow.cc"), format!("{source}int more;\n")).unwrap();
    })
    .await;
    let explained = farm.explain("slow.cc").await;
    assert!(explained.contains("its result is not kept: `"), "{explained}");
    // Were it kept, it would be found again.
    project.write("slow.cc", source.as_bytes());
    compile_while(&farm, &project, |_| {}).await;
    assert_eq!(kept_and_taken(&farm).await, (1, 0), "{}", farm.explain("").await);
    farm.finish().await;
}

#[tokio::test]
async fn a_header_that_comes_between_is_noticed() {
    let farm = no_farm().await;
    let mut project = Project::new(&[("two/h.h", "\n"), ("one/other.h", "\n")]);
    project.write("slow.cc", format!("#include <h.h>\n{}", slow_source(4)).as_bytes());
    let command = format!("{SLOW} -Ione -Itwo");
    let words: Vec<&str> = command.split_whitespace().collect();
    let running = tokio::spawn(farm.jetcc(project.path(), &words));
    compiler_and_wrapper(&project).await;
    fs::write(project.path().join("one/h.h"), "").unwrap();
    assert_eq!(running.await.unwrap().status, Ended::Code(0));
    let explained = farm.explain("slow.cc").await;
    assert!(explained.contains("other files may have been read"), "{explained}");
    assert_eq!(kept_and_taken(&farm).await, (0, 0));
    farm.finish().await;
}
