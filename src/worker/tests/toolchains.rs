//! Whole toolchains as clients pack them, proved and used by a worker.

use super::*;
use crate::job::Exit;
use crate::store::stamps::FileIndex;
use crate::toolchain;

const C: &str = "#include <stdio.h>\nint main(void) { return puts(__FILE__); }\n";
const CPLUSPLUS: &str = "#include <map>\n#include <string>\n\
    int f(std::map<std::string, int> &m) { return ++m[__FILE__]; }\n";

/// `name` as a client packs it, and how it is called.
async fn packed(name: &str) -> (Kit, Vec<Reference>, String) {
    let environment = BTreeMap::from([("PATH".into(), SEARCH_PATH.into())]);
    let own = Path::new("/nonexistent");
    let found = toolchain::resolve(name, Path::new("/"), &environment, own).await.unwrap();
    let index = FileIndex::new(10_000, |_| ());
    let packed = toolchain::collect(&found, &index, &toolchain::Settings::default()).await.unwrap();
    let mut kit = Kit { tree: packed.toolchain.tree, ..Kit::default() };
    for (digest, path) in packed.sources {
        kit.bytes.insert(digest, std::fs::read(path).unwrap());
    }
    (kit, packed.toolchain.references, found.executable.to_str().unwrap().to_owned())
}

/// Everything that a compile of `source` reads here, as the compiler itself says.
async fn inputs(compiler: &str, folder: &str, source: &str) -> Kit {
    let asked = local(compiler, &["-O2", "-M", source], folder).await;
    let rule = String::from_utf8(asked.stdout).unwrap();
    let mut kit = Kit::default();
    for path in rule.split_whitespace().skip(1).filter(|word| *word != "\\") {
        kit.local_file(&without_dots(&Path::new(folder).join(path)));
    }
    kit
}

#[tokio::test]
async fn each_compiler_of_this_machine_gives_the_bytes_of_a_local_compile() {
    let bench = Bench::open().await;
    let compilers = [
        ("gcc", "a.c", C),
        ("g++", "a.cc", CPLUSPLUS),
        ("clang", "a.c", C),
        ("clang++", "a.cc", CPLUSPLUS),
    ];
    let here = |name: &str| Path::new("/usr/bin").join(name).exists();
    for (name, file, source) in compilers.into_iter().filter(|(name, ..)| here(name)) {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().to_str().unwrap();
        std::fs::write(folder.path().join(file), source).unwrap();
        let (toolchain, references, executable) = packed(name).await;
        let line = format!("{name} -O2 -g -c {file} -o a.o");
        let job = Recipe {
            references,
            inputs: inputs(&executable, directory, file).await,
            ..Recipe::new(toolchain, "").command(&line, directory)
        };
        let job = Recipe { command: Command { executable, ..job.command.clone() }, ..job };
        let outcome = bench.outcome(&job).await;
        let words = bench.bytes(&outcome.stderr).await;
        assert_eq!(outcome.exit, Exit::Code(0), "{name}: {}", String::from_utf8_lossy(&words));
        let arguments: Vec<_> = line.split(' ').skip(1).collect();
        local(&job.command.executable, &arguments, directory).await;
        let wanted = std::fs::read(folder.path().join("a.o")).unwrap();
        let found = bench.bytes(&outcome.outputs[0].content).await;
        assert!(found == wanted, "{name}: objects differ");
    }
    bench.is_clean().await;
}
