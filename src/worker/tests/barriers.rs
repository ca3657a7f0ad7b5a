//! One test for each barrier of [`crate::worker::sandbox`].

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::job::Exit;

/// Everything below `folder` with mode and bytes.
fn contents(folder: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let mode = path.metadata().unwrap().permissions().mode();
            let bytes = std::fs::read(&path).unwrap();
            (path, (mode, bytes))
        })
        .collect()
}

#[tokio::test]
async fn files_of_the_caches_cannot_be_changed() {
    let bench = Bench::open().await;
    let script = "for f in i/h.h ../usr/bin/gcc a.c large.h; do echo x >> $f; chmod 777 $f; \
        rm -f $f; mv i/h.h i/g.h; echo > i/new; done; ls i; exit 0";
    let job = Recipe::script(script).await;
    // So large that it is mounted where the compile writes.
    let large = "x".repeat(1 << 20);
    let inputs = job.inputs.clone().file("/w/i/h.h", "header").file("/w/large.h", &large);
    let job = Recipe { inputs, ..job };
    let before_run = bench.printed(&Recipe::script("echo > $1").await).await;
    assert_eq!(before_run, "");
    assert_eq!(bench.printed(&job).await, "h.h\n");
    for (cache, kit) in [("inputs", &job.inputs), ("toolchains", &job.toolchain)] {
        let found = contents(&bench.cache().join(cache).join("blobs/shared"));
        for bytes in kit.bytes.values() {
            let digest = Digest::of(bytes).to_string();
            let mut kept = found.iter().filter(|(path, _)| text(path).contains(&digest)).peekable();
            assert!(kept.peek().is_some());
            for (path, (mode, found)) in kept {
                assert!(found == bytes && mode & 0o222 == 0, "{}", path.display());
            }
        }
    }
    bench.is_clean().await;
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn nothing_of_this_machine_is_seen() {
    let bench = Bench::open().await;
    let home = bench.folder.path().join("secret");
    std::fs::write(&home, "secret").unwrap();
    let script = format!(
        "cat {} /etc/passwd /etc/hostname /sys/kernel/notes; ls /; ls /dev; ls /home /root; exit 0",
        text(&home)
    );
    let printed = bench.printed(&Recipe::script(&script).await).await;
    let root = ["bin", "dev", "lib", "lib64", "proc", "tmp", "usr", "w"];
    let dev = ["fd", "null", "stderr", "stdin", "stdout", "urandom"];
    let wanted: Vec<_> = root.into_iter().chain(dev).collect();
    assert_eq!(printed.lines().collect::<Vec<_>>(), wanted);
    bench.is_clean().await;
}

#[tokio::test]
async fn nothing_of_the_job_before_is_seen() {
    let bench = Bench::open().await;
    let job = Recipe::script("cat /x/*.h; ls -R /x; exit 0").await;
    let inputs = job.inputs.clone();
    let before = inputs
        .clone()
        .file("/x/a.h", "old")
        .file("/x/b.h", "secret")
        .file("/x/d/e/f.h", "deep")
        .file("/x/l", "file")
        .link("/x/k", "a.h");
    let after = inputs.file("/x/a.h", "new").file("/x/d", "file").link("/x/l", "d");
    let (before, after) =
        (Recipe { inputs: before, ..job.clone() }, Recipe { inputs: after, ..job });
    let deep = "/x:\na.h\nb.h\nd\nk\nl\n\n/x/d:\ne\n\n/x/d/e:\nf.h\n";
    for _ in 0..2 {
        assert_eq!(bench.printed(&before).await, format!("oldsecret{deep}"));
        assert_eq!(bench.printed(&after).await, "new/x:\na.h\nd\nl\n");
    }
    bench.is_clean().await;
}

#[tokio::test]
async fn the_environment_is_the_clients_alone() {
    let bench = Bench::open().await;
    let job = Recipe::script("cat /proc/self/environ").await;
    let printed = bench.printed(&job).await;
    let mut names: Vec<_> = printed.split_terminator('\0').collect();
    names.sort_unstable();
    // The shell itself adds `OLDPWD`.
    names.retain(|name| !name.starts_with("OLDPWD"));
    assert_eq!(names, [format!("PATH={SEARCH_PATH}"), "PWD=/w".to_owned()]);
    bench.is_clean().await;
}

#[tokio::test]
async fn there_is_no_network_and_no_privilege() {
    let bench = Bench::open().await;
    let script = "cat /proc/net/dev /proc/self/status; for f in kernel/printk vm/swappiness; do \
        f=/proc/sys/$f; { cat $f > $f; } 2>/dev/null && echo CHANGED $f; done; exit 0";
    let printed = bench.printed(&Recipe::script(script).await).await;
    let devices: Vec<_> = printed
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, _)| name.trim())
        .collect();
    assert!(devices.contains(&"lo") && !devices.contains(&"eth0"));
    for line in ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(printed.contains(line), "{line} in {printed}");
    }
    assert!(!printed.contains("CHANGED"), "{printed}");
    bench.is_clean().await;
}

#[tokio::test]
async fn no_other_process_is_seen_and_none_survives() {
    let bench = Bench::open().await;
    let script = "(sleep 1000; echo > $1) & (sleep 1000 </dev/null >/dev/null 2>&1 &) & \
        for p in /proc/[0-9]*; do echo $p; done; exit 0";
    let printed = bench.printed(&Recipe::script(script).await).await;
    assert!(printed.lines().count() < 10, "{printed}");
    bench.is_clean().await;
}

#[tokio::test]
async fn an_endless_compile_is_ended() {
    let bench = Bench::with(|settings| settings.job_seconds_max = 2).await;
    let trouble = bench.trouble(&Recipe::script("sleep 1000").await).await;
    assert_eq!(trouble, Trouble::TimedOut(2));
    bench.is_clean().await;
}

#[tokio::test]
async fn endless_text_is_ended() {
    let bench = Bench::with(|settings| settings.stream_bytes_max = 1_000).await;
    let trouble = bench.trouble(&Recipe::script("cat /dev/urandom >&2").await).await;
    assert_eq!(trouble, Trouble::TooMuchOutput(1_000));
    bench.is_clean().await;
}

#[tokio::test]
async fn the_disk_cannot_be_filled() {
    let limited = |settings: &mut Settings| settings.output_bytes_max = 1 << 20;
    let in_memory = Bench::with(limited).await;
    let on_disk = Bench::with(|settings| {
        limited(settings);
        settings.scratch_dir = Some(settings.build_dir());
    });
    let benches = [in_memory, on_disk.await];
    for script in [
        "exec cat /dev/urandom > $1",
        "i=0; while :; do i=$((i+1)); (ulimit -f 512; cat /dev/urandom > /tmp/$i); done",
        "for i in 1 2 3; do (ulimit -f 1024; cat /dev/urandom > /tmp/$i); done; cat /tmp/1 > $1; \
         exec cat /dev/urandom >> $1",
    ] {
        for bench in &benches {
            let trouble = bench.trouble(&Recipe::script(script).await).await;
            assert_eq!(trouble, Trouble::TooMuchOutput(1 << 20), "{script}");
        }
    }
    for bench in &benches {
        bench.is_clean().await;
    }
}

#[tokio::test]
async fn outputs_together_have_a_limit() {
    let bench = Bench::with(|settings| settings.output_bytes_max = 6).await;
    let script = "printf 1234 > $1; printf 1234 > a.d";
    let job = Recipe::script(script).await.outputs(&["a.o", "a.d"]);
    assert_eq!(bench.trouble(&job).await, Trouble::TooMuchOutput(6));
    bench.is_clean().await;
}

#[tokio::test]
async fn links_and_pipes_are_no_outputs() {
    let bench = Bench::open().await;
    for script in
        ["ln -s /etc/passwd $1", "mkfifo $1", "mkdir $1", "ln /usr/bin/gcc $1 || mkdir $1"]
    {
        let outcome = bench.outcome(&Recipe::script(script).await).await;
        assert_eq!(outcome.outputs, [], "{script}");
        assert_eq!(outcome.unexpected[0].as_str(), "/w/a.o", "{script}");
    }
    bench.is_clean().await;
}

#[tokio::test]
async fn modes_come_back_as_they_are() {
    let bench = Bench::open().await;
    for (script, mode) in [("echo > $1; chmod 4751 $1", 0o4751), ("echo > $1; chmod 0 $1", 0)] {
        let outcome = bench.outcome(&Recipe::script(script).await).await;
        assert_eq!(outcome.outputs[0].mode, mode, "{script}");
    }
    bench.is_clean().await;
}

#[tokio::test]
async fn signals_come_back_as_signals() {
    let bench = Bench::open().await;
    let outcome = bench.outcome(&Recipe::script("kill -SEGV $$").await).await;
    assert_eq!(outcome.exit, Exit::Signal(11));
    let outcome = bench.outcome(&Recipe::script("exit 7").await).await;
    assert_eq!(outcome.exit, Exit::Code(7));
}

#[tokio::test]
async fn closed_folders_are_removed_all_the_same() {
    let bench = Bench::open().await;
    let script = "mkdir -p n/n/n; echo > n/n/n/f; chmod 0 n/n/n n/n n; echo > $1";
    let outcome = bench.outcome(&Recipe::script(script).await).await;
    assert_eq!(outcome.exit, Exit::Code(0));
    bench.is_clean().await;
}

#[tokio::test]
async fn a_job_that_is_given_up_leaves_nothing() {
    let bench = Bench::open().await;
    let message = bench.message(&Recipe::script("echo > $1; sleep 1000").await).await;
    let job = message.submit.job.to_string();
    let runs = || {
        // The first attempt's folders are the proof's.
        bench.jobs_in_memory().any(|path| text(&path).contains(&job) && has(&path, "a.o"))
    };
    let started = async {
        while !runs() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        end = bench.execute(&message) => panic!("{end:?}"),
        () = started => {}
    }
    bench.is_clean().await;
}

fn has(folder: &Path, name: &str) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| entry.path().join(name).exists())
}

#[tokio::test]
async fn what_a_dead_worker_left_is_removed_and_a_live_one_is_not_disturbed() {
    let folder = tempfile::tempdir().unwrap();
    let cache_dir = folder.path().join("cache");
    let left = cache_dir.join("build/0123-0/root/usr");
    std::fs::create_dir_all(&left).unwrap();
    let blobs = Blobs::new(std::sync::Arc::new(InMemory::new()), Limits::default());
    let settings = Settings { cache_dir, ..Settings::default() };
    let executor = Executor::open(&settings, blobs.clone()).await.unwrap();
    assert!(!left.exists());
    let second = Executor::open(&settings, blobs.clone()).await;
    assert!(matches!(second, Err(crate::worker::WorkerError::FolderInUse(_))));
    drop(executor);
    let absent = Settings { bwrap_path: "/nonexistent/bwrap".into(), ..settings };
    let error = Executor::open(&absent, blobs).await.unwrap_err().to_string();
    assert!(error.contains("hint: install bubblewrap"), "{error}");
}
