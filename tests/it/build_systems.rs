//! Builds as build systems run them: CMake with ninja through its compiler launcher, and make with
//! dependency files, where a changed header compiles again what reads it and nothing else.

use std::fs;
use std::path::Path;

use jetcc::exec::{Ended, Finished};

use crate::harness::farm::{Farm, JETCC};
use crate::harness::project::{Files, Made, Project, differences, files_in};
use crate::projects;

/// Files in CMake's build folder that name the launcher, or hold times and random names.
const OWN: [&str; 7] = [
    ".ninja_deps",
    ".ninja_log",
    "CMakeCache.txt",
    "CMakeFiles/CMakeConfigureLog.yaml",
    "CMakeFiles/CMakeError.log",
    "CMakeFiles/CMakeOutput.log",
    "CMakeFiles/rules.ninja",
];

fn said(done: &Finished) -> String {
    let stream = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(done.status, Ended::Code(0), "{}{}", stream(&done.stdout), stream(&done.stderr));
    stream(&done.stdout)
}

async fn configure(farm: &Farm, source: &Path, folder: &Path) {
    let (source, folder) = (source.display().to_string(), folder.display().to_string());
    let words = [
        "-GNinja",
        "-S",
        &source,
        "-B",
        &folder,
        "-DCMAKE_BUILD_TYPE=Debug",
        "-DLEVELDB_BUILD_TESTS=OFF",
        "-DLEVELDB_BUILD_BENCHMARKS=OFF",
    ];
    said(&farm.run(farm.path("").as_path(), "cmake", &words).await);
}

/// Builds all that was configured, and takes away what is there then.
async fn ninja(farm: &Farm, folder: &Path) -> Files {
    said(&farm.run(folder, "ninja", &["-j3", "-d", "keepdepfile"]).await);
    let second = said(&farm.run(folder, "ninja", &[]).await);
    assert!(second.contains("no work to do"), "{second}");
    let mut files = files_in(folder);
    files.retain(|name, _| !OWN.contains(&name.as_str()));
    fs::remove_dir_all(folder).unwrap();
    files
}

#[tokio::test]
async fn cmake_and_ninja_build_what_they_build_locally() {
    let mut farm = Farm::builder().start().await;
    let (source, folder) = (projects::project("leveldb").join("src"), farm.path("build"));
    configure(&farm, &source, &folder).await;
    let local = ninja(&farm, &folder).await;

    farm.set_variable("CMAKE_C_COMPILER_LAUNCHER", JETCC);
    farm.set_variable("CMAKE_CXX_COMPILER_LAUNCHER", JETCC);
    configure(&farm, &source, &folder).await;
    let probes = farm.stats().await;
    assert!(probes.local_for("configure-probe") > 0, "{:?}", probes.local());
    assert_eq!((probes.local().len(), probes.remote()), (1, 0), "{:?}", probes.local());
    let through = ninja(&farm, &folder).await;

    assert_eq!(differences(&local, &through), Vec::<String>::new());
    let objects = local.keys().filter(|name| name.ends_with(".o")).count();
    let stats = farm.stats().await;
    assert_eq!(stats.local(), probes.local(), "{}", farm.explain(": local, ").await);
    assert_eq!(stats.remote() + stats.hits(), objects as u64);
    farm.finish().await;
}

const MAKEFILE: &str = "\
objects := a.o b.o c.o
prog: $(objects)\n\t$(CC) $^ -o $@
%.o: %.c\n\t@echo $@\n\t$(CC) -g -Wall -MMD -MP -c $< -o $@
-include $(objects:.o=.d)
";
const SOURCES: [(&str, &str); 4] = [
    ("Makefile", MAKEFILE),
    ("a.c", "#include \"outer.h\"\nint main(void) { return NUMBER; }\n"),
    ("b.c", "#include \"outer.h\"\nstatic int unused = NUMBER;\n"),
    ("c.c", "int c;\n"),
];

/// Headers to write, or without a text to remove, before each build; and what it then compiles.
type Step = (&'static [(&'static str, Option<&'static str>)], &'static str);

const STEPS: [Step; 6] = [
    (
        &[("inner.h", Some("#define NUMBER 1\n")), ("outer.h", Some("#include \"inner.h\"\n"))],
        "a.o b.o c.o",
    ),
    (&[], ""),
    (&[("inner.h", Some("#define NUMBER 2\n"))], "a.o b.o"),
    // Newer, with the same text: compiled again, and known.
    (&[("inner.h", Some("#define NUMBER 2\n"))], "a.o b.o"),
    (&[("inner.h", None), ("outer.h", Some("#define NUMBER 3\n"))], "a.o b.o"),
    (&[], ""),
];

/// Takes every step with this compiler; gives what each said, and what was there afterwards.
async fn history(farm: &Farm, project: &mut Project, compiler: &str) -> Vec<Made> {
    let mut builds = Vec::new();
    for (headers, compiled) in STEPS {
        for (header, text) in headers {
            match text {
                Some(text) => project.write(header, text.as_bytes()),
                None => project.remove(header),
            }
        }
        let run = farm.run(project.path(), "make", &["-s", &format!("CC={compiler}")]).await;
        let rebuilt: Vec<String> = said(&run).split_whitespace().map(str::to_owned).collect();
        assert_eq!(rebuilt.join(" "), compiled, "{compiler} after {headers:?}");
        builds.push(Made { runs: vec![run], files: files_in(project.path()) });
    }
    project.take_away();
    builds
}

#[tokio::test]
async fn make_compiles_again_what_a_changed_header_reaches() {
    let farm = Farm::builder().start().await;
    let mut project = Project::new(&SOURCES);
    let local = history(&farm, &mut project, "gcc").await;
    let through = history(&farm, &mut project, &format!("{JETCC} gcc")).await;
    for (local, through) in local.iter().zip(&through) {
        local.assert_same(through, &[]);
    }
    let stats = farm.stats().await;
    assert_eq!((stats.remote(), stats.hits()), (7, 2), "{:?}", stats.local());
    assert!(stats.local().is_empty(), "{}", farm.explain(": local, ").await);
    farm.finish().await;
}
