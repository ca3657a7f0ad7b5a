//! Real compilers, packed, laid out by hand and run by bubblewrap with nothing else.

use std::ffi::OsString;
use std::sync::LazyLock;
use std::time::Duration;

use super::*;
use crate::exec::{self, Ended, Finished, Spec};
use crate::job::Node;

/// Shared, so that each library is hashed once.
static INDEX: LazyLock<FileIndex<()>> = LazyLock::new(|| FileIndex::new(10_000, |_| ()));

const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

const C_SOURCE: &str = "#include <stdio.h>\n#include <math.h>\n#include <stdlib.h>\n\
    int main(int c, char **v) { int unused; printf(\"%s %f\\n\", __FILE__, sin(atof(v[c - 1]))); }\n";
const CPLUSPLUS_SOURCE: &str = "#include <algorithm>\n#include <iostream>\n#include <string>\n\
    #include <vector>\nint main() { std::vector<std::string> v{\"b\", \"a\"}; int unused;\n\
    std::sort(v.begin(), v.end()); std::cout << v[0] << __FILE__; }\n";

/// A compiler, its toolchain, and a folder with sources.
struct Bench {
    packed: Packed,
    compiler: Resolved,
    work: tempfile::TempDir,
}

impl Bench {
    async fn new(name: &str) -> Self {
        let environment = [("PATH".into(), PATH.into())].into();
        let own = Path::new("/nonexistent");
        let compiler =
            super::super::resolve(name, Path::new("/"), &environment, own).await.unwrap();
        let packed = collect(&compiler, &INDEX, &Settings::default()).await.unwrap();
        let work = tempfile::tempdir().unwrap();
        std::fs::write(work.path().join("a.c"), C_SOURCE).unwrap();
        std::fs::write(work.path().join("a.cc"), CPLUSPLUS_SOURCE).unwrap();
        Self { packed, compiler, work }
    }

    fn folder(&self) -> PathBuf {
        self.work.path().canonicalize().unwrap()
    }

    fn spec(&self, arguments: &[&str]) -> Spec {
        Spec {
            program: self.compiler.executable.clone(),
            argv0: Some(self.compiler.argv0.clone().into()),
            arguments: arguments.iter().map(OsString::from).collect(),
            environment: [
                ("PATH".into(), OsString::from(&self.packed.path)),
                ("LC_ALL".into(), "C.UTF-8".into()),
            ]
            .into(),
            directory: self.folder(),
            stream_bytes_max: 1 << 20,
            deadline: Duration::from_secs(60),
        }
    }

    async fn local(&self, arguments: &[&str]) -> Finished {
        exec::run(self.spec(arguments)).await.unwrap()
    }

    /// Source and headers, as the compiler lists them.
    async fn inputs(&self, arguments: &[&str]) -> Built {
        let done = self.local(&[arguments, &["-M", "-MF", "deps"]].concat()).await;
        assert_eq!(done.status, Ended::Code(0), "{}", String::from_utf8_lossy(&done.stderr));
        let rule =
            std::fs::read_to_string(self.folder().join("deps")).unwrap().replace("\\\n", " ");
        let (_, paths) = rule.split_once(':').unwrap();
        let mut builder = TreeBuilder::new(&*INDEX);
        for path in paths.split_whitespace() {
            builder.add(self.folder().join(path).to_str().unwrap()).unwrap();
        }
        builder.add_directory(self.folder().to_str().unwrap()).unwrap();
        builder.finish()
    }

    fn world(&self, inputs: Option<&Built>) -> World {
        let mut world = World { root: tempfile::tempdir().unwrap(), mounts: Vec::new() };
        std::fs::create_dir_all(world.path("/tmp")).unwrap();
        world.lay_out(&self.packed.toolchain.tree, &self.packed.sources);
        if let Some(inputs) = inputs {
            world.lay_out(&inputs.tree, &inputs.sources);
        }
        std::fs::create_dir_all(world.path(self.folder().to_str().unwrap())).unwrap();
        world
    }

    /// Every file that `arguments` writes, and its streams, are the same here and there.
    async fn compiles_equally(&self, arguments: &[&str], outputs: &[&str]) {
        let world = self.world(Some(&self.inputs(arguments).await));
        let compile = [arguments, &["-c"]].concat();
        let here = self.local(&compile).await;
        let there = world.run(self.spec(&compile)).await;
        assert_eq!(text(&here.stderr), text(&there.stderr));
        assert_eq!((here.status, there.status), (Ended::Code(0), Ended::Code(0)));
        for output in outputs {
            let local = self.folder().join(output);
            let remote = world.path(local.to_str().unwrap());
            let remote = std::fs::read(&remote).unwrap_or_else(|e| panic!("{remote:?}: {e}"));
            assert!(std::fs::read(&local).unwrap() == remote, "{output} of {arguments:?} differs");
        }
    }
}

/// A folder that becomes `/` for a command; large files are mounted. Hard links would be as
/// cheap but change the compiler's own files: their count of links is part of their stamp.
struct World {
    root: tempfile::TempDir,
    mounts: Vec<OsString>,
}

/// Files from this size on are mounted, in bytes.
const MOUNT_BYTES_MIN: u64 = 1 << 20;

impl World {
    fn path(&self, absolute: &str) -> PathBuf {
        self.root.path().join(&absolute[1..])
    }

    fn lay_out(&mut self, tree: &crate::job::Tree, sources: &BTreeMap<Digest, PathBuf>) {
        for (path, node) in tree.iter() {
            let place = self.path(path.as_str());
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            match node {
                Node::Directory => std::fs::create_dir_all(&place).unwrap(),
                Node::Symlink { target } if !place.is_symlink() => {
                    std::os::unix::fs::symlink(target, &place).unwrap();
                }
                Node::File { digest, size, .. } if *size >= MOUNT_BYTES_MIN => {
                    let source = sources[digest].clone().into_os_string();
                    self.mounts.extend(["--ro-bind".into(), source, path.as_str().into()]);
                }
                Node::File { digest, .. } => {
                    std::fs::copy(&sources[digest], &place).unwrap();
                }
                _ => {}
            }
        }
    }

    async fn run(&self, spec: Spec) -> Finished {
        let mut arguments: Vec<OsString> = vec!["--unshare-all".into(), "--die-with-parent".into()];
        arguments.extend(["--bind".into(), self.root.path().into(), "/".into()]);
        arguments.extend(self.mounts.iter().cloned());
        arguments.extend(["--proc", "/proc", "--dev", "/dev", "--chdir"].map(OsString::from));
        arguments.push(spec.directory.into());
        // bubblewrap searches PATH itself and passes the name on as `argv[0]`.
        arguments.push(spec.argv0.unwrap());
        arguments.extend(spec.arguments);
        let program = "/usr/bin/bwrap".into();
        exec::run(Spec { program, argv0: None, arguments, directory: "/".into(), ..spec })
            .await
            .unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn gcc_compiles_equally_elsewhere() {
    let bench = Bench::new("gcc").await;
    for options in [&["-O2", "-g", "-Wall"][..], &["-O0", "-g3"], &["-finput-charset=LATIN1"]] {
        bench.compiles_equally(&[options, &["a.c"]].concat(), &["a.o"]).await;
    }
    bench.compiles_equally(&["-gsplit-dwarf", "-O1", "a.c"], &["a.o", "a.dwo"]).await;
    let types = bench.packed.toolchain.tree.iter().map(|(path, _)| path.as_str().to_owned());
    let types: Vec<String> = types.collect();
    assert!(!types.iter().any(|path| path.ends_with(".h") || path.ends_with(".a")), "{types:#?}");
}

#[tokio::test]
async fn gplusplus_compiles_equally_elsewhere() {
    let bench = Bench::new("g++").await;
    bench.compiles_equally(&["-O2", "-g", "-Wall", "a.cc"], &["a.o"]).await;
    bench.compiles_equally(&["-O0", "-g", "-gsplit-dwarf", "a.cc"], &["a.o", "a.dwo"]).await;
}

#[tokio::test]
async fn clang_compiles_equally_elsewhere() {
    let bench = Bench::new("clang").await;
    bench.compiles_equally(&["-O2", "-g", "-Wall", "a.c"], &["a.o"]).await;
    bench.compiles_equally(&["-O2", "-g", "-fno-integrated-as", "a.c"], &["a.o"]).await;
    let bench = Bench::new("clang++").await;
    bench.compiles_equally(&["-O2", "-g", "-Wall", "a.cc"], &["a.o"]).await;
    bench.compiles_equally(&["-O0", "-g", "-gsplit-dwarf", "a.cc"], &["a.o", "a.dwo"]).await;
}

#[tokio::test]
async fn the_search_lists_are_the_same_elsewhere() {
    for name in ["gcc", "g++", "clang", "clang++"] {
        let bench = Bench::new(name).await;
        // Without any input: whatever decides where to look is in the toolchain.
        let world = bench.world(None);
        for question in [
            &["-v", "-E", "-x", "c", "/dev/null"][..],
            &["-v", "-E", "-x", "c++", "/dev/null"],
            &["-v", "-S", "-O2", "-x", "c", "/dev/null", "-o", "-"],
            &["-###", "-pipe", "-c", "-x", "c++", "/dev/null", "-o", "/dev/null"],
            &["-m32", "-v", "-E", "-x", "c", "/dev/null"],
            &["-print-search-dirs"],
            &["-dumpspecs"],
        ] {
            let (here, there) =
                (bench.local(question).await, world.run(bench.spec(question)).await);
            assert_eq!(text(&here.stderr), text(&there.stderr), "{name} {question:?}");
            // What `-E` writes begins with gcc's own header, an input.
            if !question.contains(&"-E") {
                assert_eq!(text(&here.stdout), text(&there.stdout), "{name} {question:?}");
            }
        }
    }
}

#[tokio::test]
async fn references_are_reproduced_elsewhere() {
    for (name, count) in [("gcc", 2), ("g++", 2), ("clang", 2)] {
        let bench = Bench::new(name).await;
        let world = bench.world(None);
        assert_eq!(bench.packed.toolchain.references.len(), count);
        for reference in &bench.packed.toolchain.references {
            let source = world.path(&reference.source_path);
            std::fs::create_dir_all(source.parent().unwrap()).unwrap();
            std::fs::write(source, &reference.source).unwrap();
            let command = &reference.command;
            let environment = command.environment.iter();
            let spec = Spec {
                program: command.executable.clone().into(),
                argv0: Some(command.arguments[0].clone().into()),
                arguments: command.arguments[1..].iter().map(OsString::from).collect(),
                environment: environment.map(|(k, v)| (k.into(), v.into())).collect(),
                directory: command.directory.clone().into(),
                ..bench.spec(&[])
            };
            let done = world.run(spec).await;
            assert_eq!(done.status, Ended::Code(0), "{}", text(&done.stderr));
            let object = std::fs::read(world.path(&reference.object_path)).unwrap();
            assert!(Digest::of(&object) == reference.object, "{name}: {}", reference.source_path);
        }
    }
}

#[tokio::test]
async fn limits_hold() {
    let bench = Bench::new("gcc").await;
    for settings in [
        Settings { toolchain_bytes_max: 1 << 20, ..Settings::default() },
        Settings { toolchain_entries_max: 10, ..Settings::default() },
    ] {
        let refused = collect(&bench.compiler, &INDEX, &settings).await;
        assert!(matches!(refused, Err(ToolchainError::TooLarge { .. })));
    }
}
