//! A farm does what it is for: a compile runs on a worker and gives the local compiler's bytes.

use crate::harness::farm::Farm;
use crate::harness::project::Project;

#[tokio::test]
async fn a_compile_runs_on_a_worker_and_is_known_afterwards() {
    let farm = Farm::builder().start().await;
    let project = Project::new(&[
        ("src/a.c", "#include \"a.h\"\n#include <stdio.h>\nint main(void) { return puts(A); }\n"),
        ("include/a.h", "#define A \"hello\"\n"),
        ("w.c", "int f(void) { int unused; return 1; }\n"),
    ]);
    let commands = [
        "gcc -O2 -g -MD -Iinclude -c src/a.c -o a.o",
        "gcc -Wall -c w.c",
        "gcc -c missing.c",
        "gcc -gsplit-dwarf -g --coverage -c w.c -o w2.o",
    ];
    assert_eq!(project.same(&farm, &commands).await, 3);
    assert_eq!(project.same(&farm, &commands[..2]).await, 0);
    assert_eq!(farm.stats().await.hits(), 2);
    farm.finish().await;
}
