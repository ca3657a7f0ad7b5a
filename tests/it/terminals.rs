//! What a compiler writes to a terminal is what it would have written there alone, wherever it ran:
//! on a worker, once upon a time, or here. The terminals are those of `script` from util-linux.

use jetcc::exec::Ended;

use crate::harness::farm::{Farm, JETCC};
use crate::harness::project::{Files, Project, differences};

/// A warning with a link, in a line that is wider than the windows.
const WARNS: &str = "int f(int p) { int unused; if (p = 0) return p; /* a comment that goes on and \
    on, until this line is wider than the one window and fits into the other with some room left, or \
    so it should be for anybody who looks at it through either of them */ return 1; }\n";

/// Terminals of all kinds, as a shell makes them, and what is compiled there by `$CC`.
const KINDS: [&str; 17] = [
    "TERM=xterm-256color $CC -Wall -c w.c",
    "TERM=xterm-256color $CC -w -c w.c",
    "TERM=dumb $CC -Wall -c w.c",
    "TERM=xterm-256color $CC -Wall -c w.c </dev/null",
    "TERM=xterm-256color $CC -Wall -c w.c >file",
    "TERM=xterm $CC -Wall -c w.c",
    "TERM=xterm COLORTERM=truecolor $CC -Wall -c w.c",
    "TERM=xterm-256color COLORTERM=xfce4-terminal $CC -Wall -c w.c",
    "TERM=linux $CC -Wall -c w.c",
    "TERM=nobody-has-this $CC -Wall -c w.c",
    "env -u TERM $CC -Wall -c w.c",
    "COLUMNS=70 TERM=xterm-256color $CC -Wall -c w.c",
    "TERM=xterm-256color $CC -Wall -fdiagnostics-color=never -c w.c",
    "TERM=dumb $CC -Wall -fdiagnostics-color=always -c w.c",
    "GCC_COLORS= TERM=xterm-256color $CC -Wall -c w.c",
    "GCC_COLORS=warning=7 GCC_URLS=st TERM=xterm-256color $CC -Wall -c w.c",
    "TERM_URLS=no TERM=xterm-256color $CC -Wall -c w.c",
];
/// So many of them, the first ones, are tried where the question is who keeps what.
const FEW: usize = 5;
/// So many compiles of both compilers, and those of them that have messages.
const BOTH: u64 = 2 * FEW as u64;
const TALK: u64 = BOTH - 2;

/// What a terminal has shown, and the files that were made.
struct Shown {
    words: String,
    files: Files,
}

/// A farm, and a project of one file.
struct Stage {
    farm: Farm,
    project: Project,
}

impl Stage {
    fn of(farm: Farm) -> Self {
        Self { farm, project: Project::new(&[("w.c", WARNS)]) }
    }

    /// A client with a cache and without a farm.
    async fn without_farm() -> Self {
        let mut farm = Farm::builder().workers(0).start().await;
        farm.unset("client", "dist");
        farm.unset_variable("JETCC_DIST_SCHEDULER_URL");
        farm.set_variable("JETCC_CACHE_SIZE", "1G");
        Self::of(farm)
    }

    /// Runs the lines in a window so many `columns` wide.
    async fn shown(&self, columns: u16, lines: &str) -> Shown {
        let line = format!("stty cols {columns}\n{lines}");
        let arguments = ["-qec", &line, "/dev/null"];
        let done = self.farm.run(self.project.path(), "script", &arguments).await;
        assert_eq!(done.status, Ended::Code(0), "{done:?}");
        let words = String::from_utf8(done.stdout).unwrap();
        Shown { words, files: self.project.take_away() }
    }

    /// The compiler alone, and then so many times through the farm: nothing may differ.
    async fn same(&self, kinds: &[&str], (compiler, columns): (&str, u16), times: u32) {
        let alone = self.shown(columns, &lines(kinds, "", compiler)).await;
        assert!(alone.files.len() >= kinds.len());
        for _ in 0..times {
            let through = self.shown(columns, &lines(kinds, JETCC, compiler)).await;
            let explained = self.farm.explain("").await;
            assert_eq!(alone.words, through.words, "{compiler}, {columns} columns\n{explained}");
            let different = differences(&alone.files, &through.files);
            assert!(different.is_empty(), "{compiler}: {different:?}");
        }
    }

    /// The few kinds with both compilers.
    async fn same_few(&self, columns: u16) {
        for compiler in ["gcc", "clang"] {
            self.same(&KINDS[..FEW], (compiler, columns), 1).await;
        }
    }

    async fn hits_here(&self) -> u64 {
        self.farm.stats().await.count("local_cache_hits")
    }
}

/// A shell's lines for some kinds of terminals; `before` goes before the compiler's name.
fn lines(kinds: &[&str], before: &str, compiler: &str) -> String {
    let line = |(n, kind): (usize, &&str)| {
        let kind = kind.replace("$CC", &format!("{before} {compiler}"));
        format!("echo {n}:; {}\n", kind.replace("w.c", &format!("w.c -o {n}.o")))
    };
    kinds.iter().enumerate().map(line).collect()
}

#[tokio::test]
async fn workers_write_to_terminals_like_the_callers() {
    let stage = Stage::of(Farm::builder().start().await);
    stage.same(&KINDS, ("gcc", 40), 1).await;
    stage.same(&KINDS, ("clang", 40), 1).await;
    // The same again, another width, and a window that nobody measured.
    for columns in [40, 200, 0] {
        stage.same(&KINDS[..FEW], ("gcc", columns), 1).await;
    }
    let (stats, explained) = (stage.farm.stats().await, stage.farm.explain("").await);
    let (all, few) = (KINDS.len() as u64, FEW as u64);
    assert_eq!(stats.remote() + stats.hits(), 2 * all + 3 * few, "{explained}");
    // One has no messages, so that it is the same in every window.
    assert_eq!(stats.hits(), few + 2, "{explained}");
    // Where ncurses looks for descriptions then, nobody else can look.
    let kind = ["TERMINFO_DIRS=/nowhere TERM=xterm-256color $CC -Wall -c w.c"];
    stage.same(&kind, ("clang", 80), 1).await;
    assert_eq!(stage.farm.stats().await.local_for("terminal"), 1);
    stage.farm.finish().await;
}

#[tokio::test]
async fn results_for_terminals_are_kept_beside_the_others() {
    let mut stage = Stage::of(Farm::builder().start().await);
    stage.farm.set_variable("JETCC_CACHE_SIZE", "1G");
    let piped = ["gcc -Wall -c w.c", "clang -Wall -c w.c"];
    assert_eq!(stage.project.same(&stage.farm, &piped).await, 2);
    stage.same_few(90).await;
    stage.farm.stop("scheduler").await;
    let before = stage.hits_here().await;
    stage.same_few(90).await;
    stage.project.same(&stage.farm, &piped).await;
    let hits = stage.hits_here().await - before;
    assert_eq!(hits, BOTH + 2, "{}", stage.farm.explain("").await);
    stage.farm.finish().await;
}

#[tokio::test]
async fn without_a_farm_the_terminals_own_compiles_are_kept() {
    let stage = Stage::without_farm().await;
    stage.same_few(40).await;
    let first = stage.hits_here().await;
    assert_eq!(first, 0, "{}", stage.farm.explain("").await);
    let before = stage.farm.childrens_faults();
    stage.same_few(40).await;
    assert_eq!(stage.farm.childrens_faults(), before, "the daemon has started a process");
    let second = stage.hits_here().await;
    assert_eq!(second, BOTH, "{}", stage.farm.explain("").await);
    // What has no messages is good for everybody; what has some is for that window alone.
    stage.project.same(&stage.farm, &["gcc -w -c w.c -o 1.o", "gcc -Wall -c w.c -o 0.o"]).await;
    let third = stage.hits_here().await;
    assert_eq!(third, second + 1, "{}", stage.farm.explain("").await);
    stage.same_few(41).await;
    let fourth = stage.hits_here().await;
    assert_eq!(fourth, third + BOTH - TALK, "{}", stage.farm.explain("").await);
    // A plain build, twice.
    let stage = Stage { project: Project::many(4), ..stage };
    let build = format!("make -s -j2 CC='{JETCC} gcc'");
    let (first, second) = (stage.shown(80, &build).await, stage.shown(80, &build).await);
    assert!(first.files == second.files && first.files.len() == 4);
    assert_eq!(stage.hits_here().await, fourth + 4, "{}", stage.farm.explain("").await);
    stage.farm.finish().await;
}
