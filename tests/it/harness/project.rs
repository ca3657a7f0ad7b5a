//! A small project that is compiled twice into the same paths, by the local compiler and through a
//! farm, and must come out the same: every file with its mode, both streams, every exit code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use jetcc::exec::Finished;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::farm::{Farm, JETCC};

/// C++ that keeps a compiler busy for some seconds and holds one number; `salt` makes it unique.
pub(crate) fn slow_source(salt: u32) -> String {
    format!(
        "constexpr unsigned spin(unsigned n) {{\n\
         unsigned s = {salt};\n\
         for (unsigned i = 0; i < n; ++i) s = s * 31 + i;\n\
         return s;\n}}\n\
         constexpr unsigned spun = spin({SPINS});\n\
         unsigned value() {{ return spun; }}\n"
    )
}

/// So many small C files, `f0.c` and so on.
pub(crate) fn many_sources(count: u64) -> Vec<(String, String)> {
    let text =
        |n| format!("#include <stdio.h>\nint f{n}(int x) {{ return printf(\"%d\", x * {n}); }}\n");
    (0..count).map(|n| (format!("f{n}.c"), text(n))).collect()
}

/// A source that reads `a.h`, which defines `A`, and `which.h` too if `more` says so.
pub(crate) fn switched_source(number: u32, more: bool) -> String {
    format!(
        "#include \"a.h\"\n#define MORE {}\n#if MORE\n#include <which.h>\n#endif\n\
         int b = {number} + A;\n",
        u32::from(more)
    )
}

const MAKEFILE: &str = "all: $(patsubst %.c,%.o,$(wildcard *.c))\n\
                        %.o: %.c\n\t$(CC) -O1 -c $< -o $@\n";

/// Compiles [`Project::slow`].
pub(crate) const SLOW: &str = "g++ -c slow.cc -fconstexpr-loop-limit=2147483647 \
                               -fconstexpr-ops-limit=9223372036854775807";
/// More than a second of gcc on a machine of 2020.
const SPINS: u32 = 500_000;

/// Files by name, with their modes.
pub(crate) type Files = BTreeMap<String, (u32, Vec<u8>)>;

/// All files in a folder and below.
pub(crate) fn files_in(folder: &Path) -> Files {
    let mut found = Files::new();
    collect(folder, folder, &mut found);
    found
}

/// Names of files that only one has, or whose mode or content differs.
pub(crate) fn differences(one: &Files, two: &Files) -> Vec<String> {
    let names: BTreeSet<&String> = one.keys().chain(two.keys()).collect();
    names.into_iter().filter(|name| one.get(*name) != two.get(*name)).cloned().collect()
}

/// A folder with sources.
pub(crate) struct Project {
    folder: TempDir,
    sources: Files,
}

/// What commands made.
pub(crate) struct Made {
    pub(crate) runs: Vec<Finished>,
    pub(crate) files: Files,
}

impl Made {
    /// Asserts that nothing differs but files in `unsteady`.
    pub(crate) fn assert_same(&self, other: &Self, unsteady: &[String]) {
        for (one, two) in self.runs.iter().zip(&other.runs) {
            assert_eq!(text(one), text(two));
        }
        let mut different = differences(&self.files, &other.files);
        different.retain(|name| !unsteady.contains(name));
        assert!(different.is_empty(), "{different:?} differ");
    }
}

/// Something through the farm that is under way, and what it made locally.
pub(crate) struct Begun<'a> {
    project: &'a Project,
    local: Made,
    task: JoinHandle<Finished>,
}

impl Begun<'_> {
    /// Waits for its end, and asserts that nothing differs.
    pub(crate) async fn same(self) {
        let run = self.task.await.unwrap();
        let through = Made { runs: vec![run], files: self.project.take_away() };
        self.local.assert_same(&through, &[]);
    }
}

impl Project {
    /// A project of these files.
    pub(crate) fn new<N: AsRef<str>, T: AsRef<[u8]>>(files: &[(N, T)]) -> Self {
        let folder = tempfile::Builder::new().prefix("jetcc-project-").tempdir().unwrap();
        let mut project = Self { folder, sources: Files::new() };
        for (name, text) in files {
            project.write(name.as_ref(), text.as_ref());
        }
        project
    }

    /// A project of one file that takes some seconds, `slow.cc`.
    pub(crate) fn slow(salt: u32) -> Self {
        Self::new(&[("slow.cc", slow_source(salt))])
    }

    /// Sources `f0.c`, `warn.c`, which a compiler warns of, and `big.c`, whose object is too large for
    /// a record of the cache.
    pub(crate) fn with_results_of_all_kinds() -> Self {
        let mut project = Self::new(&many_sources(1));
        project.write("warn.c", b"#include <stdio.h>\nint f(int x) { int unused; return x; }\n");
        project.write("big.c", b"int table[200000] = { 1 };\n");
        project
    }

    /// A project of so many small files, with a makefile.
    pub(crate) fn many(count: u64) -> Self {
        let mut project = Self::new(&many_sources(count));
        project.write("Makefile", MAKEFILE.as_bytes());
        project
    }

    /// Writes a source, whose folder is made.
    pub(crate) fn write(&mut self, name: &str, text: &[u8]) {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        let mode = fs::metadata(path).unwrap().permissions().mode();
        self.sources.insert(name.to_owned(), (mode, text.to_owned()));
    }

    /// Removes a source, or a folder with all its sources, if it is there.
    pub(crate) fn remove(&mut self, name: &str) {
        let path = self.folder.path().join(name);
        let removed =
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        if removed.is_ok() {
            let below = format!("{name}/");
            self.sources.retain(|source, _| source != name && !source.starts_with(&below));
        }
    }

    /// The project's folder.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Runs commands (words separated by spaces) as they stand, and takes what they made away.
    pub(crate) async fn locally(&self, farm: &Farm, commands: &[&str]) -> Made {
        let mut runs = Vec::new();
        for command in commands {
            let words: Vec<&str> = command.split_whitespace().collect();
            runs.push(farm.run(self.path(), words[0], &words[1..]).await);
        }
        Made { runs, files: self.take_away() }
    }

    /// Runs commands with `jetcc` in front, and takes what they made away.
    pub(crate) async fn through(&self, farm: &Farm, commands: &[&str]) -> Made {
        let mut runs = Vec::new();
        for command in commands {
            let words: Vec<&str> = command.split_whitespace().collect();
            runs.push(farm.jetcc(self.path(), &words).await);
        }
        Made { runs, files: self.take_away() }
    }

    /// Runs commands locally, then through the farm, and asserts that nothing differs wherever two
    /// local runs agree; gives how many ran remotely.
    pub(crate) async fn same(&self, farm: &Farm, commands: &[&str]) -> u64 {
        let local = self.locally(farm, commands).await;
        let before = farm.stats().await.remote();
        let through = self.through(farm, commands).await;
        let remote = farm.stats().await.remote() - before;
        let unsteady = match differences(&local.files, &through.files).as_slice() {
            [] => Vec::new(),
            _ => differences(&local.files, &self.locally(farm, commands).await.files),
        };
        through.assert_same(&local, &unsteady);
        remote
    }

    /// Runs a command locally, then begins it through the farm.
    pub(crate) async fn begin(&self, farm: &Farm, command: &str) -> Begun<'_> {
        let local = self.locally(farm, &[command]).await;
        let words: Vec<&str> = command.split_whitespace().collect();
        let task = tokio::spawn(farm.jetcc(self.path(), &words));
        Begun { project: self, local, task }
    }

    /// Builds locally, then begins to build through the farm with so many jobs at once.
    pub(crate) async fn begin_build(&self, farm: &Farm, jobs: u32) -> Begun<'_> {
        let local = self.locally(farm, &["make -s -j2"]).await;
        let (jobs, compiler) = (format!("-j{jobs}"), format!("CC={JETCC} gcc"));
        let task = tokio::spawn(farm.run(self.path(), "make", &["-s", &jobs, &compiler]));
        Begun { project: self, local, task }
    }

    /// Objects that are there so far.
    pub(crate) fn objects(&self) -> usize {
        let names = fs::read_dir(self.path()).unwrap().flatten().map(|entry| entry.path());
        names.filter(|path| path.extension().is_some_and(|end| end == "o")).count()
    }

    /// All files but the sources, which must be what they were.
    pub(crate) fn take_away(&self) -> Files {
        let mut found = files_in(self.path());
        for (name, source) in &self.sources {
            assert!(found.remove(name).as_ref() == Some(source), "source `{name}` was changed");
        }
        for name in found.keys() {
            fs::remove_file(self.path().join(name)).unwrap();
        }
        found
    }
}

fn text(run: &Finished) -> String {
    let stream = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{:?}\n{}\n{}", run.status, stream(&run.stdout), stream(&run.stderr))
}

fn collect(root: &Path, folder: &Path, found: &mut Files) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(root, &path, found);
        } else {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            found.insert(name, (mode, fs::read(&path).unwrap()));
        }
    }
}
