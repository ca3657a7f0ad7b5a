//! Jobs on a real worker: real bubblewrap, real gcc, real caches, and a store in memory.
//!
//! [`Bench`] is the worker; [`Recipe`] says in words what a job is. Toolchains are either the gcc of
//! this machine or [`shell`]: a compiler that runs its source as a shell script, for everything
//! that a compiler would never do.

mod barriers;
mod compiles;
mod hostile;
mod hostile_use;
mod reads;
mod toolchains;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use object_store::memory::InMemory;

use crate::exec::{self, Ended, Finished};
use crate::job::toolchain::Reference;
use crate::job::wire::{self, BlobClass, CacheUse, JobEnd, JobMessage, Progress, Submit, Trouble};
use crate::job::{
    Action, Command, Content, Digest, JobId, Node, Outcome, Pool, Proof, Space, StepTimes,
    Terminal, Tree, WantedOutput,
};
use crate::store::{Blobs, Compressed, Limits};

use super::sandbox::{Mode, Sandbox};
use super::{Capacity, Executed, Executor, Load, Settings, Word};

const SEARCH_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A worker with its store.
struct Bench {
    folder: tempfile::TempDir,
    /// Where its scratch folder is.
    memory: tempfile::TempDir,
    blobs: Blobs,
    executor: Executor,
    capacity: Capacity,
    mode: Mode,
    heard: Mutex<Vec<Word>>,
}

/// Settings of a worker with its own folders: on disk, and in memory.
fn settings(change: impl FnOnce(&mut Settings)) -> ([tempfile::TempDir; 2], Settings) {
    let folder = tempfile::tempdir().unwrap();
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let mut settings = Settings {
        cache_dir: folder.path().join("cache"),
        scratch_dir: Some(memory.path().to_owned()),
        slots: Some(4),
        load: Load::Ignore,
        memory_per_job_bytes: 0,
        ..Settings::default()
    };
    change(&mut settings);
    ([folder, memory], settings)
}

impl Bench {
    async fn open() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let (folders, settings) = settings(change);
        let sandbox = Sandbox::open(&settings).await.unwrap();
        Self::of(folders, &settings, sandbox)
    }

    /// A worker for each kind of sandbox that this machine can build.
    async fn every(change: impl Fn(&mut Settings)) -> Vec<Self> {
        let (_folders, first) = settings(&change);
        let sandboxes = Sandbox::every(&first).await.unwrap().into_iter();
        let bench = |sandbox| {
            let (folders, settings) = settings(&change);
            Self::of(folders, &settings, sandbox)
        };
        sandboxes.map(bench).collect()
    }

    fn of([folder, memory]: [tempfile::TempDir; 2], settings: &Settings, sandbox: Sandbox) -> Self {
        let blobs = Blobs::new(std::sync::Arc::new(InMemory::new()), Limits::default());
        let mode = sandbox.mode;
        let executor = Executor::with(settings, blobs.clone(), sandbox).unwrap();
        let capacity = Capacity::new(settings);
        Self { folder, memory, blobs, executor, capacity, mode, heard: Mutex::default() }
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    /// Folders of jobs in its scratch folder.
    fn jobs_in_memory(&self) -> impl Iterator<Item = PathBuf> {
        let scratch = std::fs::read_dir(self.memory.path()).unwrap();
        let jobs = scratch.flat_map(|own| std::fs::read_dir(own.unwrap().path()).unwrap());
        jobs.map(|entry| entry.unwrap().path())
    }

    async fn put(&self, class: BlobClass, bytes: &[u8]) -> Digest {
        self.blobs.put(class, Bytes::copy_from_slice(bytes)).await.unwrap()
    }

    async fn put_all(&self, class: BlobClass, kit: &Kit) {
        for bytes in kit.bytes.values() {
            self.put(class, bytes).await;
        }
    }

    /// Uploads everything that `recipe` needs.
    async fn message(&self, recipe: &Recipe) -> JobMessage {
        self.put_toolchain(recipe).await;
        self.put_all(BlobClass::Input, &recipe.inputs).await;
        recipe.message()
    }

    async fn put_toolchain(&self, recipe: &Recipe) {
        self.put_all(BlobClass::Toolchain, &recipe.toolchain).await;
        self.put(BlobClass::Toolchain, &recipe.toolchain.tree.encode()).await;
        self.put(BlobClass::Toolchain, &wire::encode(&recipe.references)).await;
    }

    async fn run(&self, recipe: &Recipe) -> (JobEnd, StepTimes) {
        let message = self.message(recipe).await;
        self.execute(&message).await
    }

    async fn execute(&self, message: &JobMessage) -> (JobEnd, StepTimes) {
        let slot = self.capacity.take().unwrap();
        let hear = |word| self.heard.lock().unwrap().push(word);
        let Executed { end, times, .. } = self.executor.execute(message, slot, hear).await;
        (end, times)
    }

    async fn outcome(&self, recipe: &Recipe) -> Outcome {
        match self.run(recipe).await.0 {
            JobEnd::Done(outcome) => outcome,
            JobEnd::Undone(trouble) => panic!("{trouble}"),
        }
    }

    async fn trouble(&self, recipe: &Recipe) -> Trouble {
        match self.run(recipe).await.0 {
            JobEnd::Done(outcome) => panic!("{outcome:?}"),
            JobEnd::Undone(trouble) => trouble,
        }
    }

    async fn bytes(&self, content: &Content) -> Vec<u8> {
        match content {
            Content::Inline { digest, size, zstd } => {
                let blob = Compressed { digest: *digest, size: *size, zstd: zstd.clone() };
                blob.open(*size).unwrap()
            }
            Content::Blob { digest, size } => {
                self.blobs.get(BlobClass::Output, *digest, *size).await.unwrap().to_vec()
            }
        }
    }

    /// What the script of a [`shell`] job printed.
    async fn printed(&self, recipe: &Recipe) -> String {
        let outcome = self.outcome(recipe).await;
        let text = self.bytes(&outcome.stdout).await;
        String::from_utf8(text).unwrap()
    }

    /// Asserts that no job left anything on disk, and no slot is taken.
    async fn is_clean(&self) {
        self.executor.cleaned().await;
        let left: Vec<_> = std::fs::read_dir(self.cache().join("build"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .filter(|name| name != "lock")
            .collect();
        assert!(left.is_empty(), "left: {left:?}");
        assert_eq!(self.jobs_in_memory().count(), 0);
        assert_eq!(self.capacity.running(), 0);
    }
}

/// A tree with the bytes of its files.
#[derive(Clone, Default)]
struct Kit {
    tree: Tree,
    bytes: BTreeMap<Digest, Vec<u8>>,
}

impl Kit {
    fn file(mut self, path: &str, text: &str) -> Self {
        self.add(path, text.as_bytes().to_vec(), false);
        self
    }

    fn program(mut self, path: &str, text: &str) -> Self {
        self.add(path, text.as_bytes().to_vec(), true);
        self
    }

    fn link(mut self, path: &str, target: &str) -> Self {
        self.tree.insert(path.try_into().unwrap(), Node::Symlink { target: target.into() });
        self
    }

    fn add(&mut self, path: &str, bytes: Vec<u8>, executable: bool) {
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        self.tree.insert(path.try_into().unwrap(), Node::File { digest, size, executable });
        self.bytes.insert(digest, bytes);
    }

    /// A file of this machine with every link on the way to it.
    fn local_file(&mut self, path: &Path) {
        let mut done = PathBuf::from("/");
        let mut parts = path.components();
        parts.next();
        while let Some(part) = parts.next() {
            done.push(part);
            if let Ok(target) = std::fs::read_link(&done) {
                let name = done.to_str().unwrap().try_into().unwrap();
                self.tree
                    .insert(name, Node::Symlink { target: target.to_str().unwrap().to_owned() });
                let above = done.parent().unwrap().join(target).join(parts.as_path());
                return self.local_file(&without_dots(&above));
            }
        }
        self.add(done.to_str().unwrap(), std::fs::read(&done).unwrap(), true);
    }

    /// A program of this machine with its shared libraries.
    async fn local_program(&mut self, path: &str) {
        self.local_file(Path::new(path));
        let listed = local("/usr/bin/ldd", &[path], "/").await;
        for word in String::from_utf8(listed.stdout).unwrap().split_whitespace() {
            if word.starts_with('/') {
                self.local_file(&without_dots(Path::new(word)));
            }
        }
    }
}

fn without_dots(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => drop(clean.pop()),
            std::path::Component::CurDir => {}
            part => clean.push(part),
        }
    }
    clean
}

/// Runs a program of this machine.
async fn local(program: &str, arguments: &[&str], directory: &str) -> Finished {
    exec::run(exec::Spec {
        program: program.into(),
        argv0: None,
        arguments: arguments.iter().map(Into::into).collect(),
        environment: BTreeMap::from([("PATH".into(), SEARCH_PATH.into())]),
        directory: directory.into(),
        stream_bytes_max: 64 << 20,
        deadline: Duration::from_secs(60),
    })
    .await
    .unwrap()
}

/// The gcc of this machine, for C.
async fn gcc() -> Kit {
    let mut kit = Kit::default();
    kit.local_program("/usr/bin/gcc").await;
    for name in ["cc1", "as"] {
        let asked = local("/usr/bin/gcc", &[&format!("-print-prog-name={name}")], "/").await;
        let path = String::from_utf8(asked.stdout).unwrap().trim().to_owned();
        let path = if path.starts_with('/') { path } else { format!("/usr/bin/{path}") };
        kit.local_program(&path).await;
    }
    // Every C compile reads it.
    kit.local_file(Path::new("/usr/include/stdc-predef.h"));
    kit
}

/// A "gcc" that runs its source with `/bin/sh`; the output's path is `$1`.
async fn shell() -> Kit {
    let mut kit = Kit::default();
    for program in ["sh", "cat", "chmod", "ln", "ls", "mkdir", "mkfifo", "mv", "rm", "sleep"] {
        kit.local_program(&format!("/bin/{program}")).await;
    }
    kit.program("/usr/bin/gcc", "#!/bin/sh\nexec /bin/sh \"$2\" \"$4\"\n")
}

/// A job in words.
#[derive(Clone)]
struct Recipe {
    toolchain: Kit,
    references: Vec<Reference>,
    inputs: Kit,
    command: Command,
    outputs: Vec<WantedOutput>,
    terminal: Option<Terminal>,
}

impl Recipe {
    /// `gcc -c a.c -o a.o` in `/w`, which has to write `a.o`.
    fn new(toolchain: Kit, source: &str) -> Self {
        Self {
            toolchain,
            references: Vec::new(),
            inputs: Kit::default().file("/w/a.c", source),
            command: command("gcc -c a.c -o a.o", "/w"),
            outputs: vec![WantedOutput { path: "a.o".into(), required: true }],
            terminal: None,
        }
    }

    /// A script in the place of a compile, which need not write anything.
    async fn script(script: &str) -> Self {
        let reference = reference("printf x > $1", b"x");
        let outputs = vec![WantedOutput { path: "a.o".into(), required: false }];
        Self { references: vec![reference], outputs, ..Self::new(shell().await, script) }
    }

    fn command(self, line: &str, directory: &str) -> Self {
        Self { command: command(line, directory), ..self }
    }

    fn inputs(self, inputs: Kit) -> Self {
        Self { inputs, ..self }
    }

    fn outputs(self, paths: &[&str]) -> Self {
        let outputs = paths
            .iter()
            .map(|path| WantedOutput { path: (*path).into(), required: true })
            .collect();
        Self { outputs, ..self }
    }

    fn message(&self) -> JobMessage {
        let encoded = self.inputs.tree.encode();
        let action = Action {
            pool: Pool::of_this_machine(),
            toolchain: self.toolchain.tree.digest(),
            command: self.command.clone(),
            inputs: Digest::of(&encoded),
            outputs: self.outputs.clone(),
            terminal: self.terminal,
        };
        let (job, space) = (JobId::random().unwrap(), Space::shared());
        JobMessage {
            proof: Proof::new(&[0; 32], job, &action.key(), &space, u64::MAX),
            submit: Submit {
                job,
                action,
                inputs_zstd: Some(Compressed::new(&encoded).zstd),
                inputs_difference: None,
                files_zstd: Vec::new(),
                references: Digest::of(&wire::encode(&self.references)),
                deadline_unix_ms: u64::MAX,
                interactive: false,
                cache: CacheUse::Off,
                reads: None,
                announced: None,
                offers: false,
            },
            space,
            client: "client".parse().unwrap(),
            tenant: "tenant".parse().unwrap(),
            published_unix_ms: 0,
        }
    }
}

fn command(line: &str, directory: &str) -> Command {
    Command {
        executable: "/usr/bin/gcc".into(),
        arguments: line.split(' ').map(str::to_owned).collect(),
        environment: BTreeMap::from([("PATH".into(), SEARCH_PATH.into())]),
        directory: directory.into(),
    }
}

fn reference(source: &str, object: &[u8]) -> Reference {
    Reference {
        command: command("gcc -c r.c -o r.o", "/ref"),
        source_path: "/ref/r.c".into(),
        source: source.into(),
        object_path: "/ref/r.o".into(),
        object: Digest::of(object),
    }
}

/// What a local gcc makes of the reference.
async fn gcc_reference() -> Reference {
    let source = "int reference(int x) { return x * 3; }\n";
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("r.c"), source).unwrap();
    let directory = folder.path().to_str().unwrap();
    let done = local("/usr/bin/gcc", &["-c", "r.c", "-o", "r.o"], directory).await;
    assert_eq!(done.status, Ended::Code(0));
    reference(source, &std::fs::read(folder.path().join("r.o")).unwrap())
}
