//! What is learned of flags: by one compile for all that wait, and for the next daemon.

use std::path::PathBuf;
use std::pin::{Pin, pin};

use futures_util::future::{join, join_all, join3};
use futures_util::poll;

use super::*;

/// A folder with sources `0.c` to `7.c` that include `x.h`, which is in `inc`.
struct Sources {
    folder: TempDir,
    root: PathBuf,
}

impl Sources {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for number in 0..8 {
            std::fs::write(root.join(format!("{number}.c")), "#include <x.h>\n").unwrap();
        }
        let sources = Self { folder, root };
        sources.make_inc();
        sources
    }

    fn make_inc(&self) {
        std::fs::create_dir(self.root.join("inc")).unwrap();
        std::fs::write(self.root.join("inc/x.h"), "\n").unwrap();
    }

    fn readers(&self, program: &str, flags: &str) -> Vec<Reader> {
        let reader = |number| {
            let arguments = format!("-c {number}.c {flags}");
            let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
            reader(self.folder.path(), program, &arguments)
        };
        (0..8).map(reader).collect()
    }
}

/// How many asked the compiler, and how many scanned.
fn ways(found: &[Result<Found, LocalReason>]) -> (usize, usize) {
    let count = |mode| found.iter().flatten().filter(|found| found.mode == mode).count();
    (count(Mode::Exact), count(Mode::Scanned))
}

impl Desk {
    async fn find_all(&self, readers: &[Reader]) -> Vec<Result<Found, LocalReason>> {
        join_all(readers.iter().map(|reader| self.find(reader, Way::Any))).await
    }

    /// Whether somebody has the turn to ask about these flags.
    async fn is_asked(&self, reader: &Reader) -> bool {
        poll!(pin!(self.scanner.turn(reader))).is_pending()
    }

    /// Goes on with `finding` until it has the turn to ask about `reader`'s flags.
    async fn begin(&self, reader: &Reader, mut finding: Pin<&mut impl Future>) {
        while !self.is_asked(reader).await {
            assert!(poll!(finding.as_mut()).is_pending());
            tokio::task::yield_now().await;
        }
    }

    /// The same for a daemon that has just started.
    fn restarted(mut self) -> Self {
        self.scanner.keep().unwrap();
        self.scanner = Arc::new(Scanner::new(self.file()));
        self
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("searches")
    }
}

#[tokio::test]
async fn one_asks_for_all_that_have_the_same_flags() {
    let sources = Sources::new();
    for program in ["gcc", "clang"] {
        let desk = Desk::new();
        assert_eq!(ways(&desk.find_all(&sources.readers(program, "-Iinc")).await), (1, 7));
        assert_eq!(ways(&desk.find_all(&sources.readers(program, "-Iinc")).await), (0, 8));
        assert_eq!(ways(&desk.find_all(&sources.readers(program, "-Iinc -O1")).await), (1, 7));
    }
}

#[tokio::test]
async fn without_an_answer_each_asks_for_itself() {
    let sources = Sources::new();
    // What clang says of a file in a folder's place is not learned.
    let (desk, readers) = (Desk::new(), sources.readers("clang", "-Iinc -I1.c"));
    let turn = desk.scanner.turn(&readers[0]).await.unwrap();
    let ends = async {
        while turn.waiting() < readers.len() {
            tokio::task::yield_now().await;
        }
        drop(turn);
    };
    let (found, ()) = join(desk.find_all(&readers), ends).await;
    assert_eq!(ways(&found), (readers.len(), 0));
    assert!(found.iter().flatten().all(|found| found.doubt == Some(Doubt::NewFlags)));
}

#[tokio::test]
async fn whoever_asks_may_leave_or_fail() {
    let sources = Sources::new();
    std::fs::write(sources.root.join("0.c"), "#include <none.h>\n").unwrap();
    let readers = sources.readers("gcc", "-Iinc");
    let (first, others) = readers.split_first().unwrap();
    let mut desk = Desk::new();
    desk.passes = Semaphore::new(0);
    desk.begin(first, pin!(desk.find(first, Way::Any))).await;
    assert!(!desk.is_asked(first).await, "it has left");

    let mut fails = pin!(desk.find(first, Way::Any));
    desk.begin(first, fails.as_mut()).await;
    let permits = async { desk.passes.add_permits(2) };
    let (failed, found, ()) = join3(fails, desk.find_all(others), permits).await;
    assert!(matches!(failed, Err(LocalReason::DependencyPass)), "{failed:?}");
    assert_eq!(found.iter().flatten().count(), others.len());
    assert_eq!(ways(&desk.find_all(others).await), (0, others.len()));
}

#[tokio::test]
async fn a_daemon_that_starts_again_knows_the_flags() {
    let sources = Sources::new();
    for program in ["gcc", "clang"] {
        let readers = sources.readers(program, "-Iinc");
        let mut desk = Desk::new();
        desk.find(&readers[0], Way::Any).await.unwrap();
        desk = desk.restarted();
        assert_eq!(desk.judge(&readers[1]).await, None);
        assert_eq!(ways(&desk.find_all(&readers).await), (0, 8));
        // Nothing was learned: the file stays as it is, and whole.
        std::fs::remove_file(desk.file()).unwrap();
        desk = desk.restarted();
        assert_eq!(ways(&desk.find_all(&readers[..1]).await), (1, 0));
    }
}

#[tokio::test]
async fn damaged_answers_are_forgotten() {
    let sources = Sources::new();
    let readers = sources.readers("gcc", "-Iinc");
    let mut desk = Desk::new();
    desk.find(&readers[0], Way::Any).await.unwrap();
    desk = desk.restarted();
    let whole = std::fs::read(desk.file()).unwrap();
    for at in [0, 20, whole.len() / 2, whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        // It is read when flags are asked for.
        desk = desk.restarted();
        std::fs::write(desk.file(), damaged).unwrap();
        assert_eq!(ways(&desk.find_all(&readers[..1]).await), (1, 0), "byte {at}");
    }
    desk = desk.restarted();
    std::fs::write(desk.file(), whole).unwrap();
    assert_eq!(ways(&desk.find_all(&readers[..1]).await), (0, 1));
}

/// Whether the compiler is asked again after `change`, by a running and by a restarted daemon.
async fn is_asked_after(program: &str, flags: &str, change: impl Fn(&Sources)) -> bool {
    let mut asked = Vec::new();
    for restart in [false, true] {
        let (sources, mut desk) = (Sources::new(), Desk::new());
        let readers = sources.readers(program, flags);
        assert_eq!(ways(&desk.find_all(&readers[..2]).await), (1, 1));
        if restart {
            desk = desk.restarted();
        }
        change(&sources);
        let found = desk.find(&readers[2], Way::Any).await.unwrap();
        asked.push(found.doubt == Some(Doubt::NewFlags));
        assert_eq!(desk.judge(&readers[3]).await, None);
    }
    assert_eq!(asked[0], asked[1], "a restart makes a difference");
    asked[0]
}

#[tokio::test]
async fn folders_that_are_others_now_are_asked_for() {
    let place = |sources: &Sources, name: &str| sources.root.join(name);
    let replace = |sources: &Sources| {
        std::fs::rename(place(sources, "inc"), place(sources, "old")).unwrap();
        sources.make_inc();
    };
    let appear = |sources: &Sources| std::fs::create_dir(place(sources, "early")).unwrap();
    for program in ["gcc", "clang"] {
        assert!(is_asked_after(program, "-Iinc", replace).await);
        assert!(is_asked_after(program, "-Iearly -Iinc", appear).await);
        assert!(!is_asked_after(program, "-Iinc", appear).await);
    }
    // gcc passes over a file without a word.
    let become_folder = |sources: &Sources| {
        std::fs::remove_file(place(sources, "1.c")).unwrap();
        std::fs::create_dir(place(sources, "1.c")).unwrap();
    };
    assert!(is_asked_after("gcc", "-I1.c -Iinc", become_folder).await);
}

#[tokio::test]
async fn folders_that_gcc_adds_unasked_are_a_doubt() {
    let sources = Sources::new();
    let desk = Desk::new();
    assert_eq!(
        desk.judge(&sources.readers("gcc", "-Iinc -B/usr/bin")[0]).await,
        Some(Doubt::Flags)
    );
    assert_eq!(desk.judge(&sources.readers("clang", "-Iinc -B/usr/bin")[0]).await, None);
    let mut reader = sources.readers("gcc", "-Iinc").remove(0);
    reader.travelling.insert("COMPILER_PATH".into(), "/usr/bin".into());
    assert_eq!(desk.judge(&reader).await, Some(Doubt::Flags));
}
