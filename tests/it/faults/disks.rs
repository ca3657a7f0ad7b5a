//! Disks that are full: the store's and a worker's.

use std::fs;

use crate::harness::farm::Farm;
use crate::harness::project::{Project, many_sources};
use crate::harness::tiny_disk::TinyDisk;

/// Less than a toolchain needs.
const TINY: u64 = 8 << 20;

#[tokio::test]
async fn a_store_that_is_full_from_the_beginning() {
    let disk = TinyDisk::new(TINY);
    let url = format!("file://{}", disk.path().display());
    let farm = Farm::builder().store(&url).start().await;
    let project = Project::new(&many_sources(3));
    let commands = ["gcc -c f0.c", "gcc -c f1.c", "gcc -c f2.c"];
    assert_eq!(project.same(&farm, &commands).await, 0);
    assert_eq!(farm.stats().await.local_for("store"), 3);
    assert!(farm.explain("f0.c").await.contains("full"));
    assert_eq!(farm.client_log().matches("compiling locally for a while").count(), 1);
    farm.finish().await;
}

#[tokio::test]
async fn a_store_that_becomes_full() {
    let disk = TinyDisk::new(512 << 20);
    let url = format!("file://{}", disk.path().display());
    let farm = Farm::builder().store(&url).start().await;
    let mut project = Project::new(&many_sources(5));
    let mut random = vec![0; 256 << 10];
    getrandom::fill(&mut random).unwrap();
    let header = format!("int fresh; // {}\n", data_encoding::HEXLOWER.encode(&random));
    project.write("new.h", header.as_bytes());
    project.write("f2.c", b"#include \"new.h\"\n");
    // For the second one includes are followed, to more headers than the compiler named for the first.
    // They travel inside its job, and go to the store for the third one.
    assert_eq!(project.same(&farm, &["gcc -c f0.c", "gcc -c f3.c", "gcc -c f4.c"]).await, 3);
    let full = fs::write(disk.path().join("filler"), vec![0; 512 << 20]);
    assert!(full.is_err(), "the disk is not full");
    // The source travels inside the job and the object inside the result; a large new header needs room.
    assert_eq!(project.same(&farm, &["gcc -c f1.c"]).await, 1);
    assert_eq!(project.same(&farm, &["gcc -c f2.c"]).await, 0);
    assert_eq!(farm.stats().await.local_for("store"), 1);
    fs::remove_file(disk.path().join("filler")).unwrap();
    farm.finish().await;
}

#[tokio::test]
async fn a_worker_whose_disk_is_full_leaves_its_jobs_to_another() {
    let disk = TinyDisk::new(TINY);
    let mut farm = Farm::builder().workers(0).start().await;
    farm.add_with("worker", "worker-full", &[("JETCC_CACHE_DIR", disk.path())]).await;
    farm.wait_for_workers(1).await;
    let project = Project::new(&many_sources(3));
    assert_eq!(project.same(&farm, &["gcc -c f0.c"]).await, 0);
    assert_eq!(farm.stats().await.local_for("worker-trouble"), 1);

    farm.add("worker", "worker-1").await;
    farm.wait_for_workers(2).await;
    assert_eq!(project.same(&farm, &["gcc -c f1.c", "gcc -c f2.c"]).await, 2);
    assert_eq!(farm.stats().await.remote_on("worker-1"), 2);
    farm.finish().await;
}
