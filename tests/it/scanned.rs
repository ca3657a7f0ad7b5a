//! Includes that are followed without the compiler: nothing is started on the client, results are the
//! local ones, and what was missed is made good without a word.

use std::fs;
use std::time::Duration;

use crate::harness::farm::Farm;
use crate::harness::project::{Project, switched_source};

const FLAGS: &str = "-O1 -g -Iinc -DWHICH=<which.h> -c";

fn project() -> Project {
    let source = |name: &str| {
        format!(
            "#include <stdio.h>\n#include \"{name}.h\"\n#include WHICH\n#include \"names.h\"\n\
             #include NAMED_H\n#if 0\n#include <never.h>\n#include \"time.h.in\"\n#endif\n\
             int {name}(void) {{ return WHAT + NAMED + printf(\"{name}\"); }}\n"
        )
    };
    Project::new(&[
        ("a.c", source("a")),
        ("b.c", source("b")),
        ("c.c", source("c")),
        ("a.h", "#define A 1\n".to_owned()),
        ("b.h", "#define B 1\n#include \"a.h\"\n".to_owned()),
        ("c.h", "#pragma once\n".to_owned()),
        ("inc/which.h", "#define WHAT 7\n".to_owned()),
        (
            "names.h",
            "#ifdef OTHER\n#define NAMED_H \"other.h\"\n#else\n#define NAMED_H \"named.h\"\n#endif\n"
                .to_owned(),
        ),
        ("named.h", "#define NAMED 3\n".to_owned()),
        ("other.h", "#define NAMED 4\n".to_owned()),
    ])
}

fn command(name: &str) -> String {
    format!("gcc {FLAGS} {name}.c -o {name}.o")
}

#[tokio::test]
async fn no_compiler_is_started_where_the_flags_are_known() {
    let farm = Farm::builder().start().await;
    let project = project();
    assert_eq!(project.same(&farm, &[&command("a")]).await, 1);
    let first = farm.stats().await;
    assert_eq!((first.inputs("exact"), first.asked_for("new-flags")), (1, 1));
    assert_eq!(project.same(&farm, &[&command("b"), &command("c")]).await, 2);
    let stats = farm.stats().await;
    assert_eq!((stats.inputs("exact"), stats.inputs("scanned")), (1, 2));
    assert!(farm.explain("b.c").await.contains("inputs (scanned)"));
    assert!(stats.local().is_empty(), "{:?}", stats.local());
    farm.finish().await;
}

#[tokio::test]
async fn of_compiles_at_once_one_asks_the_compiler() {
    let farm = Farm::builder().start().await;
    let project = Project::many(8);
    project.begin_build(&farm, 8).await.same().await;
    let stats = farm.stats().await;
    assert_eq!((stats.inputs("exact"), stats.inputs("scanned")), (1, 7));
    assert_eq!((stats.asked_for("new-flags"), stats.remote()), (1, 8));
    farm.finish().await;
}

#[tokio::test]
async fn a_daemon_that_starts_again_knows_the_flags() {
    let farm = Farm::builder().start().await;
    let mut project = project();
    assert_eq!(project.same(&farm, &[&command("a")]).await, 1);
    farm.stop_daemon().await;
    assert_eq!(project.same(&farm, &[&command("b")]).await, 1);
    let stats = farm.stats().await;
    assert_eq!((stats.inputs("exact"), stats.inputs("scanned")), (0, 1));
    farm.stop_daemon().await;

    // As long as it is open, no other folder has its number.
    let _open = fs::File::open(project.path().join("inc")).unwrap();
    project.remove("inc");
    project.write("inc/which.h", b"#define WHAT 8\n");
    assert_eq!(project.same(&farm, &[&command("c")]).await, 1);
    let stats = farm.stats().await;
    assert_eq!((stats.inputs("scanned"), stats.asked_for("new-flags")), (0, 1));
    assert!(stats.local().is_empty(), "{:?}", stats.local());
    farm.finish().await;
}

#[tokio::test]
async fn what_only_dead_code_includes_keeps_nothing_at_home() {
    let farm = Farm::builder().start().await;
    let mut project = project();
    project.same(&farm, &[&command("a")]).await;
    project.write("time.h.in", b"const char *now = __TIME__;\n");
    assert_eq!(project.same(&farm, &[&command("b")]).await, 1);
    let stats = farm.stats().await;
    assert_eq!((stats.inputs("scanned"), stats.asked_for("time-macro")), (0, 1));
    assert!(stats.local().is_empty(), "{:?}", stats.local());
    farm.finish().await;
}

#[tokio::test]
async fn a_file_that_a_worker_misses_is_asked_of_the_compiler() {
    let farm = Farm::builder().start().await;
    let mut project = project();
    project.same(&farm, &[&command("a")]).await;
    project.write("b.c", b"#include \"later.h\"\nint b = LATER;\n");
    assert_eq!(project.same(&farm, &[&command("b")]).await, 0);
    let stats = farm.stats().await;
    // The compiler, asked after the worker had failed, cannot list it either.
    assert_eq!((stats.inputs("scanned"), stats.local_for("dependency-pass")), (1, 1));
    project.write("later.h", b"#define LATER 1\n");
    assert_eq!(project.same(&farm, &[&command("b")]).await, 1);
    farm.finish().await;
}

#[tokio::test]
async fn an_edit_that_includes_the_same_needs_no_search() {
    let farm = Farm::builder().start().await;
    let mut project = project();
    project.write("b.c", switched_source(1, false).as_bytes());
    assert_eq!(project.same(&farm, &[&command("a"), &command("b")]).await, 2);
    let ways = async || {
        let stats = farm.stats().await;
        ["exact", "scanned", "remembered"].map(|way| stats.inputs(way))
    };
    assert_eq!(ways().await, [1, 1, 0]);
    project.write("b.c", switched_source(2, false).as_bytes());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(project.same(&farm, &[&command("b")]).await, 1);
    project.write("a.h", b"#define A 2\n");
    // What a file younger than the file system's clock says is not kept for the next daemon.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(project.same(&farm, &[&command("b")]).await, 1);
    project.write("b.c", switched_source(3, false).as_bytes());
    project.write("a.h", b"#define A 3\n");
    farm.stop_daemon().await;
    assert_eq!(project.same(&farm, &[&command("b")]).await, 1);
    assert_eq!(ways().await, [0, 0, 1]);

    project.write("b.c", format!("#include \"names.h\"\n{}", switched_source(3, false)).as_bytes());
    assert_eq!(project.same(&farm, &[&command("b")]).await, 1);
    assert_eq!(ways().await[2], 1);
    farm.finish().await;
}

#[tokio::test]
async fn an_edit_that_reads_more_is_noticed() {
    let farm = Farm::builder().start().await;
    let mut project = project();
    project.write("b.c", switched_source(1, false).as_bytes());
    assert_eq!(project.same(&farm, &[&command("a"), &command("b")]).await, 2);
    project.write("b.c", switched_source(2, true).as_bytes());
    assert_eq!(project.same(&farm, &[&command("b")]).await, 1);
    let stats = farm.stats().await;
    assert_eq!((stats.inputs("remembered"), stats.asked_for("missed")), (1, 1));
    assert!(stats.local().is_empty(), "{:?}", stats.local());

    // Among the files that were read is another header of that name, where the include looks next.
    project.write("inc/a.h", b"#define A 4\n");
    let command = "gcc -O1 -Iinc -I. -c b.c -o b.o";
    let angled = |number, more| switched_source(number, more).replace("<which.h>", "<a.h>");
    for number in [3, 4] {
        project.write("b.c", angled(number, false).as_bytes());
        assert_eq!(project.same(&farm, &[command]).await, 1);
    }
    let before = farm.stats().await;
    project.write("b.c", angled(5, true).as_bytes());
    assert_eq!(project.same(&farm, &[command]).await, 1);
    let stats = farm.stats().await;
    assert_eq!(stats.inputs("remembered"), before.inputs("remembered"));
    assert_eq!(stats.inputs("scanned"), before.inputs("scanned") + 1);
    farm.finish().await;
}

#[tokio::test]
async fn without_the_scan_the_compiler_is_asked() {
    let farm = Farm::builder().setting("client", "dist.scan = false").start().await;
    let project = project();
    assert_eq!(project.same(&farm, &[&command("a"), &command("b")]).await, 2);
    let stats = farm.stats().await;
    assert_eq!((stats.inputs("exact"), stats.asked_for("off")), (2, 2));
    farm.finish().await;
}
