//! `jetcc dev`: a farm for as long as a command runs, and nothing of it afterwards.

use std::path::Path;
use std::time::Duration;

use jetcc::config::Environment;
use jetcc::exec::{self, Ended, Spec};
use rustix::process::Signal;

use crate::harness::farm::JETCC;
use crate::harness::members::{Member, Variables};
use crate::harness::wait::until;
use crate::harness::{nats, processes};

const DEADLINE: Duration = Duration::from_secs(120);
const STANDS: &str = "its files are in ";

fn variables(folder: &Path) -> Variables {
    let server = nats::program();
    let tools = server.parent().unwrap();
    let path = Environment::capture().text("PATH").unwrap();
    [
        ("PATH", format!("{}:{path}", tools.display())),
        ("HOME", folder.display().to_string()),
        ("TMPDIR", folder.display().to_string()),
    ]
    .map(|(name, value)| (name.into(), value.into()))
    .into()
}

async fn assert_nothing_is_left(folder: &Path) {
    let name = folder.display().to_string();
    until("every process is gone", async || processes::naming(&name).is_empty().then_some(()))
        .await;
    let left: Vec<_> = std::fs::read_dir(folder).unwrap().flatten().map(|it| it.path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_command_compiles_in_it() {
    let root = tempfile::tempdir().unwrap();
    let script = "cd $TMPDIR; echo 'int a;' >a.c; $CC -c a.c -o 1.o; jetcc gcc -c a.c -o 2.o\n\
        gcc -c a.c -o 3.o; cmp 1.o 2.o; cmp 1.o 3.o; rm a.c *.o; echo equal >&2";
    let done = exec::run(Spec {
        arguments: ["dev", "--", "sh", "-euc", script].map(Into::into).into(),
        environment: variables(root.path()),
        deadline: DEADLINE,
        ..Spec::of(Path::new(JETCC))
    });
    let done = done.await.unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status, Ended::Code(0), "{said}");
    assert!(said.contains("\nequal\n") && said.contains("worker-1  "), "{said}");
    assert_nothing_is_left(root.path()).await;
}

#[tokio::test]
async fn nothing_is_left_when_it_is_told_to_end() {
    let root = tempfile::tempdir().unwrap();
    let logs = tempfile::tempdir().unwrap();
    let (variables, log) = (variables(root.path()), logs.path().join("dev.log"));
    let words = ["dev", "--", "sleep", "600"].map(Into::into).into();
    let mut dev = Member::new("dev", JETCC.into(), words, variables, log);
    dev.start_until(STANDS).await;
    dev.end(Signal::TERM).await;
    assert_nothing_is_left(root.path()).await;
}
