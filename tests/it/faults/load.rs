//! Many compiles at once, and compiles that nobody has to run.

use std::collections::BTreeMap;

use crate::harness::farm::Farm;
use crate::harness::project::Project;

/// Files of the large build.
const FILES: u64 = 500;

#[tokio::test]
async fn a_build_of_many_files_loses_none() {
    let farm = Farm::builder().workers(2).start().await;
    let project = Project::many(FILES);
    project.begin_build(&farm, 32).await.same().await;
    let stats = farm.stats().await;
    assert_eq!((stats.remote(), stats.local()), (FILES, BTreeMap::new()));
    farm.finish().await;
}

#[tokio::test]
async fn a_known_result_needs_no_worker() {
    let mut farm = Farm::builder().start().await;
    let project = Project::new(&[("a.c", "#include <stdlib.h>\nint a(void) { return abs(1); }\n")]);
    assert_eq!(project.same(&farm, &["gcc -c a.c"]).await, 1);
    farm.stop("worker-1").await;
    farm.wait_for_workers(0).await;
    assert_eq!(project.same(&farm, &["gcc -c a.c"]).await, 0);
    let stats = farm.stats().await;
    assert_eq!((stats.hits(), stats.local()), (1, BTreeMap::new()));
    farm.finish().await;
}
