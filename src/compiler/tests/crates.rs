//! The real rustc as judge: it writes what the plan says, and what it writes is read.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::compiler::rustc::dep_info::{self, DepInfo};
use crate::compiler::rustc::mentions::{Extra, Scan};
use crate::compiler::rustc::plan;
use crate::compiler::{Plan, Verdict};
use crate::exec::{Ended, Finished, Spec, run};

/// Flags over the sources of [`workspace`]; each writes something else, or elsewhere.
const CASES: [&str; 40] = [
    "lib.rs --crate-type lib --emit=dep-info,metadata,link",
    "lib.rs --crate-type rlib --emit=dep-info,link -C extra-filename=-00000000000000aa --out-dir out",
    "lib.rs --crate-type lib --crate-type rlib --emit=dep-info,link",
    "lib.rs --crate-type lib --emit=dep-info,metadata",
    "lib.rs --crate-type lib --emit=dep-info",
    "lib.rs --crate-type lib --emit=dep-info -o out/x.deps",
    "lib.rs --crate-type lib --emit=dep-info,link --out-dir .",
    "lib.rs --crate-type dylib --emit=dep-info,link -C prefer-dynamic",
    "lib.rs --crate-type cdylib --emit=dep-info,link --out-dir out/",
    "lib.rs --crate-type cdylib --crate-type rlib --crate-type staticlib --emit=dep-info,link",
    "lib.rs --crate-type staticlib --emit=dep-info,link -C extra-filename=-1 --out-dir out",
    "lib.rs --crate-type staticlib --emit=dep-info,metadata",
    "lib.rs --emit=dep-info,link --test -C extra-filename=-1 --out-dir out",
    "lib.rs --crate-type lib --emit=dep-info,link --test",
    "lib.rs --emit=dep-info,metadata --test",
    "macros.rs --crate-type proc-macro --emit=dep-info,link -C prefer-dynamic --extern proc_macro",
    "macros.rs --crate-type proc-macro --emit=dep-info,metadata --extern proc_macro",
    "macros.rs --crate-type proc-macro --emit=dep-info,link --test --extern proc_macro",
    "main.rs --crate-type bin --emit=dep-info,link -C extra-filename=-1 --out-dir out",
    "main.rs --crate-type bin --emit=dep-info,metadata",
    "main.rs --crate-type bin --emit=dep-info,metadata,link",
    "main.rs --crate-type bin --emit=dep-info,link -g -C split-debuginfo=packed",
    "main.rs --crate-type bin --emit=dep-info,link -C split-debuginfo=packed",
    "main.rs --crate-type bin --emit=dep-info,link -C debuginfo=2 -C split-debuginfo=off",
    "main.rs --crate-type bin --emit=dep-info,link=out/x.y -g -C split-debuginfo=packed",
    "lib.rs --crate-type cdylib,rlib,staticlib --emit=dep-info,link -g -C split-debuginfo=packed",
    "lib.rs --crate-type lib --emit=dep-info=out/x.deps,metadata=out/x.meta,link=out/x.d --out-dir out",
    "lib.rs --crate-type lib --emit=dep-info,asm,llvm-ir,llvm-bc,mir,obj --out-dir out",
    "lib.rs --crate-type lib --emit=dep-info,asm,obj,link,metadata -C codegen-units=1 -C opt-level=3",
    "lib.rs --crate-type lib --emit=dep-info,asm=out/x.s,obj=out/x.o -C extra-filename=-1",
    "main.rs --crate-type bin --emit=dep-info,link,asm,llvm-ir,llvm-bc,mir,obj -C lto=off",
    "main.rs --crate-type bin --emit=dep-info,link,obj,asm --test",
    "main.rs --crate-type bin --emit=dep-info,link -C lto=thin -C opt-level=2 -C panic=abort",
    "lib.rs --crate-type lib --emit=dep-info,link -C linker-plugin-lto -C codegen-units=4",
    "main.rs --crate-type bin --emit=dep-info,link -C instrument-coverage -C strip=symbols",
    "main.rs --crate-type bin --emit=dep-info,link -C profile-generate=prof -C target-cpu=x86-64-v2",
    "main.rs --crate-type bin --emit=dep-info,link -C link-arg=-Wl,--as-needed -C link-dead-code -C rpath",
    "main.rs --crate-type bin --emit=dep-info,link -C linker=rust-lld -C linker-flavor=gcc -C linker=cc",
    "lib.rs --crate-type lib --emit=dep-info,link -C llvm-args=-inline-threshold=3 -C passes=mem2reg",
    "@flags --emit=dep-info,link",
];

const LIB: &str = "pub fn f(a: u32) -> String { format!(\"{a}\") }\n\
    #[test]\nfn f_writes() { assert_eq!(f(1), \"1\"); }\n";
const MAIN: &str = "fn main() { println!(\"{:?}\", std::env::args().collect::<Vec<_>>()); }\n";
const MACROS: &str = "extern crate proc_macro;\n#[proc_macro]\n\
    pub fn same(words: proc_macro::TokenStream) -> proc_macro::TokenStream { words }\n";

/// Beside the cargo that compiles these tests.
fn rustc() -> PathBuf {
    Path::new(env!("CARGO")).with_file_name("rustc")
}

fn workspace(folder: &Path) {
    fs::create_dir(folder.join("out")).unwrap();
    for (name, text) in [("lib.rs", LIB), ("main.rs", MAIN), ("macros.rs", MACROS)] {
        fs::write(folder.join(name), text).unwrap();
    }
    fs::write(folder.join("flags"), "lib.rs\n--crate-type\nlib\n--cfg\nfeature=\"a b\"\n").unwrap();
}

fn words(arguments: &str) -> Vec<String> {
    arguments.split(' ').map(str::to_owned).collect()
}

/// Everything below `folder`, by path from there.
fn files(folder: &Path) -> BTreeSet<String> {
    let (mut found, mut pending) = (BTreeSet::new(), vec![folder.to_owned()]);
    while let Some(at) = pending.pop() {
        for path in fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                pending.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found
}

async fn compile(arguments: &[String], folder: &Path, variables: &[(&str, &str)]) -> Finished {
    let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
    let done = run(Spec {
        program: rustc(),
        argv0: None,
        arguments: arguments.iter().map(OsString::from).collect(),
        environment: std::iter::once(("PATH".into(), "/usr/bin:/bin".into()))
            .chain(variables)
            .collect::<BTreeMap<OsString, OsString>>(),
        directory: folder.to_owned(),
        stream_bytes_max: 1 << 20,
        deadline: Duration::from_secs(120),
    });
    done.await.unwrap()
}

fn planned(arguments: &[String], folder: &Path) -> Plan {
    match plan(arguments, folder.to_str().unwrap(), &|path| fs::read(path)) {
        Verdict::Remote(plan) => *plan,
        other => panic!("{arguments:?}: {other:?}"),
    }
}

/// Compiles what must compile; gives the plan.
async fn compiled(arguments: &str, folder: &Path, variables: &[(&str, &str)]) -> Plan {
    let plan = planned(&words(arguments), folder);
    let done = compile(&plan.arguments, folder, variables).await;
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status, Ended::Code(0), "{arguments}: {stderr}");
    plan
}

/// Runs one case in a fresh folder and says what differs from the plan.
async fn judge(arguments: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    workspace(folder);
    let plan = planned(&words(&format!("--crate-name c {arguments}")), folder);
    let before = files(folder);
    let done = compile(&plan.arguments, folder, &[]).await;
    if done.status != Ended::Code(0) {
        return Err(format!("{:?}: {}", done.status, String::from_utf8_lossy(&done.stderr)));
    }
    let clean = |path: &str| path.trim_start_matches("./").to_owned();
    let written: BTreeSet<String> = files(folder).difference(&before).cloned().collect();
    let may: BTreeSet<String> = plan.outputs.iter().map(|output| clean(&output.path)).collect();
    let must = plan.outputs.iter().filter(|output| output.required);
    let must: BTreeSet<String> = must.map(|output| clean(&output.path)).collect();
    if !must.is_subset(&written) || !written.is_subset(&may) {
        return Err(format!("planned {may:?}, of them surely {must:?}, but found {written:?}"));
    }
    let told = plan.krate.and_then(|krate| krate.dep_info).map(|path| read(folder, &path));
    match told {
        Some(told) if told.files.contains(&plan.source) => Ok(()),
        other => Err(format!("`{}` is not among {other:?}", plan.source)),
    }
}

fn read(folder: &Path, path: &str) -> DepInfo {
    dep_info::parse(&fs::read(folder.join(path)).unwrap()).unwrap()
}

#[tokio::test]
async fn rustc_writes_what_the_plan_says() {
    let mut wrong = Vec::new();
    for arguments in CASES {
        if let Err(difference) = judge(arguments).await {
            wrong.push(format!("{arguments}: {difference}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), CASES.len(), wrong.join("\n"));
}

/// The compiler says for every platform what its files are called, and needs none of its libraries
/// for that.
#[tokio::test]
async fn files_are_called_as_the_platform_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    workspace(folder);
    let listed = compile(&words("--print=target-list"), folder, &[]).await.stdout;
    let listed = String::from_utf8(listed).unwrap();
    let mut known = 0;
    for target in listed.lines() {
        let command = format!(
            "main.rs --crate-name c --crate-type bin,cdylib,rlib,staticlib --emit=dep-info,link \
             --target {target}"
        );
        let Verdict::Remote(plan) = plan(&words(&command), "/w", &|path| fs::read(path)) else {
            continue;
        };
        known += 1;
        let planned: BTreeSet<&str> = plan.outputs.iter().map(|it| it.path.as_str()).collect();
        let done = compile(&words(&format!("{command} --print=file-names")), folder, &[]).await;
        let names = String::from_utf8_lossy(&done.stdout);
        // A platform may have fewer kinds of crates.
        let other = names.lines().find(|name| !planned.contains(name));
        assert_eq!(other, None, "{target}: {planned:?}");
    }
    assert!(known > 100, "only {known} platforms");
}

#[tokio::test]
async fn what_rustc_tells_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    workspace(folder);
    fs::create_dir(folder.join("with space")).unwrap();
    for (name, text) in [
        ("with space/text file.txt", "text"),
        ("with space/bytes", "bytes"),
        ("odd.rs", "pub const ODD: u8 = 1;\n"),
        (
            "asks.rs",
            "#[path = \"odd.rs\"]\npub mod odd;\n\
            pub const TEXT: &str = include_str!(\"with space/text file.txt\");\n\
            pub const BYTES: &[u8] = include_bytes!(\"with space/bytes\");\n\
            pub const SET: &str = env!(\"SET\");\n\
            pub const LINES: Option<&str> = option_env!(\"LINES\");\n\
            pub const EMPTY: Option<&str> = option_env!(\"EMPTY\");\n\
            pub const UNSET: Option<&str> = option_env!(\"UNSET\");\n",
        ),
    ] {
        fs::write(folder.join(name), text).unwrap();
    }
    let variables =
        [("SET", "a=b \\ c # d"), ("LINES", "one\ntwo\r\n\\n"), ("EMPTY", ""), ("OTHER", "x")];
    let command = "asks.rs --crate-name asks --crate-type lib --emit=metadata,dep-info";
    let plan = compiled(command, folder, &variables).await;
    let told = read(folder, &plan.krate.unwrap().dep_info.unwrap());
    let files = ["asks.rs", "odd.rs", "with space/bytes", "with space/text file.txt"];
    assert!(told.files.iter().eq(files), "{:?}", told.files);
    let known = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
    let mut wanted: BTreeMap<_, _> =
        variables[..3].iter().map(|(name, value)| known(name, value)).collect();
    wanted.insert("UNSET".to_owned(), None);
    assert_eq!(told.variables, wanted);
}

#[tokio::test]
async fn crates_speak_of_the_crates_that_they_use() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (one, two, three) = ("0123456789abcdef", "fedcba9876543210", "00000000000000aa");
    for (name, text) in [
        ("one.rs", "#[derive(Debug)]\npub struct One;\n"),
        ("two.rs", "pub fn two() -> one::One { one::One }\n"),
        ("three.rs", "pub fn three() -> String { format!(\"{:?}\", two::two()) }\n"),
    ] {
        fs::write(folder.join(name), text).unwrap();
    }
    let command = |name: &str, extra: &str, more: &str| {
        format!(
            "{name}.rs --crate-name {name} --edition=2021 --crate-type lib -C metadata={extra} \
             --emit=dep-info,metadata,link -C extra-filename=-{extra} -L dependency=.{more}"
        )
    };
    compiled(&command("one", one, ""), folder, &[]).await;
    compiled(&command("two", two, &format!(" --extern one=libone-{one}.rmeta")), folder, &[]).await;
    // It names one crate, and uses the other through it.
    let third = command("three", three, &format!(" --extern two=libtwo-{two}.rlib"));
    compiled(&third, folder, &[]).await;
    let extra = |digits: &str| Extra::of_stem(&format!("x-{digits}")).unwrap();
    for suffix in ["rmeta", "rlib"] {
        let found = |stem: String| {
            let bytes = fs::read(folder.join(format!("{stem}.{suffix}"))).unwrap();
            let mut scan = Scan::default();
            scan.take(&bytes);
            let found = scan.end().unwrap();
            [one, two, three].map(|digits| found.contains(&extra(digits)))
        };
        let of_one = found(format!("libone-{one}"));
        assert_eq!(of_one[1..], [false, false], "{suffix}");
        let of_two = found(format!("libtwo-{two}"));
        assert_eq!((of_two[0], of_two[2]), (true, false), "{suffix}");
        let of_three = found(format!("libthree-{three}"));
        assert_eq!(of_three[..2], [true, true], "{suffix}");
    }
}
