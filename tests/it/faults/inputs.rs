//! Files that change and blobs that vanish while they are needed.

use std::fs;

use crate::harness::farm::Farm;
use crate::harness::project::{Project, SLOW, slow_source};

#[tokio::test]
async fn an_input_that_changes_during_the_compile_is_compiled_locally() {
    let farm = Farm::builder().start().await;
    let source = format!("#include \"h.h\"\nint h = H;\n{}", slow_source(31));
    let mut project = Project::new(&[("slow.cc", source.as_str()), ("h.h", "#define H 2\n")]);
    let local = project.locally(&farm, &[SLOW]).await;

    project.write("h.h", b"#define H 1\n");
    let words: Vec<&str> = SLOW.split_whitespace().collect();
    let compile = tokio::spawn(farm.jetcc(project.path(), &words));
    farm.compiles("worker-1", "slow.cc").await;
    project.write("h.h", b"#define H 2\n");
    compile.await.unwrap();
    let object = fs::read(project.path().join("slow.o")).unwrap();
    assert!(object == local.files["slow.o"].1, "the object is of the old header");
    assert_eq!(farm.stats().await.local_for("input-changed"), 1);
    assert!(farm.explain("slow.cc").await.contains("h.h"));
    farm.finish().await;
}

#[tokio::test]
async fn blobs_that_vanish_from_the_store_are_uploaded_again() {
    let store = tempfile::tempdir().unwrap();
    let url = format!("file://{}", store.path().display());
    let mut farm = Farm::builder().store(&url).start().await;
    let project = Project::new(&[
        ("a.c", "#include \"h.h\"\nint a = H;\n"),
        ("b.c", "#include \"h.h\"\nint b = H;\n"),
        ("h.h", "#define H 1\n"),
    ]);
    assert_eq!(project.same(&farm, &["gcc -c a.c"]).await, 1);
    let before = farm.stats().await.count("uploaded_blobs");

    // Neither the store nor the worker has anything any more; the client believes they have.
    farm.stop("worker-1").await;
    fs::remove_dir_all(farm.path("worker-1")).unwrap();
    for class in ["in", "tc"] {
        fs::remove_dir_all(store.path().join("shared").join(class)).unwrap();
    }
    farm.start_again("worker-1").await;
    farm.wait_for_workers(1).await;
    assert_eq!(project.same(&farm, &["gcc -c b.c"]).await, 1);
    let again = farm.stats().await.count("uploaded_blobs") - before;
    assert!(again > before / 2, "{again} of {before} were uploaded again");
    farm.finish().await;
}
