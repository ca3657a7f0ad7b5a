//! Programs that use up what they are given, or do not end, in every kind of sandbox that this
//! machine can build.

use super::hostile::Hostile;
use super::*;
use crate::worker::sandbox::{Memory, Processes};

const DISK: &str = include_str!("../../../tests/data/hostile/disk.c");
const MEMORY: &str = include_str!("../../../tests/data/hostile/memory.c");
const PROCESSES: &str = include_str!("../../../tests/data/hostile/processes.c");

const MIB: u64 = 1 << 20;

/// Waits until no process has `word` in its command line.
async fn gone(word: &str) {
    let has = |entry: std::fs::DirEntry| {
        std::fs::read(entry.path().join("cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(word))
    };
    while std::fs::read_dir("/proc").unwrap().flatten().any(has) {
        tokio::task::yield_now().await;
    }
}

/// `job` with a name in its command line that no other process has.
fn marked(job: Recipe, bench: &Bench) -> (Recipe, String) {
    let word = bench.folder.path().file_name().unwrap().to_str().unwrap();
    let source = String::from_utf8(job.inputs.bytes.values().next().unwrap().clone()).unwrap();
    let name = format!("{word}.c");
    let job = job.inputs(Kit::default().file(&format!("/w/{name}"), &source));
    (job.command(&format!("gcc -c {name} -o a.o"), "/w"), name)
}

#[tokio::test]
async fn a_compile_cannot_leave_a_process() {
    let hostile = Hostile::compile(PROCESSES).await;
    for bench in Bench::every(|_| {}).await {
        let (job, name) = marked(hostile.job("stay"), &bench);
        bench.outcome(&job).await;
        gone(&name).await;
        bench.is_clean().await;
    }
}

#[tokio::test]
async fn a_compile_cannot_outlive_its_deadline() {
    let hostile = Hostile::compile(PROCESSES).await;
    for bench in Bench::every(|settings| settings.job_seconds_max = 1).await {
        let (job, name) = marked(hostile.job("outlive"), &bench);
        assert_eq!(bench.trouble(&job).await, Trouble::TimedOut(1), "{:?}", bench.mode);
        gone(&name).await;
        bench.is_clean().await;
    }
}

#[tokio::test]
async fn a_compile_cannot_fork_past_the_limit() {
    let hostile = Hostile::compile(PROCESSES).await;
    for bench in Bench::every(|settings| settings.job_processes_max = 40).await {
        let (job, name) = marked(hostile.job("bomb"), &bench);
        let forks: u32 = bench.printed(&job).await.trim().parse().unwrap();
        if bench.mode.processes == Processes::Free {
            let lacks = bench.mode.lacks();
            assert!(lacks.iter().any(|lacks| lacks.contains("processes")), "{lacks:?}");
        } else {
            assert!((10..40).contains(&forks), "{:?}: {forks}", bench.mode);
        }
        gone(&name).await;
        // The next one finds all of its own there.
        bench.outcome(&hostile.job("stay")).await;
        bench.is_clean().await;
    }
}

#[tokio::test]
async fn a_compile_cannot_fill_the_memory() {
    let hostile = Hostile::compile(MEMORY).await;
    for bench in Bench::every(|settings| settings.job_memory_bytes_max = 64 * MIB).await {
        for words in ["alone 400", "together 40 4"] {
            let end = bench.run(&hostile.job(words)).await.0;
            match (bench.mode.memory, end) {
                (Memory::Job, end) => {
                    assert_eq!(end, JobEnd::Undone(Trouble::TooMuchMemory(64 * MIB)), "{words}");
                }
                (Memory::Process, JobEnd::Done(outcome)) => {
                    let got = bench.bytes(&outcome.stdout).await;
                    let got: u64 = String::from_utf8(got).unwrap().trim().parse().unwrap();
                    assert!(got < 64 || words != "alone 400", "{:?}: {got} MiB", bench.mode);
                }
                (mode, end) => panic!("{mode:?}: {end:?}"),
            }
        }
        // What one used up is not missing for the next.
        bench.outcome(&hostile.job("alone 20")).await;
        bench.is_clean().await;
    }
}

#[tokio::test]
async fn a_compile_cannot_fill_the_disk_with_deleted_mapped_or_empty_files() {
    let hostile = Hostile::compile(DISK).await;
    let limit = 4 * MIB;
    for bench in Bench::every(|settings| settings.output_bytes_max = limit).await {
        for words in ["deleted", "mapped", "empty", "sparse"] {
            let trouble = bench.trouble(&hostile.job(words)).await;
            assert_eq!(trouble, Trouble::TooMuchOutput(limit), "{words}: {:?}", bench.mode);
        }
        bench.is_clean().await;
    }
}
