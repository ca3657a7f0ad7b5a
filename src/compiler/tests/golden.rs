//! Command lines and their plans, from `tests/data/args/*/*.txt`. A block is `$ command`, then
//! `cwd FOLDER` and `file NAME CONTENT` lines where needed, then what is expected of it.

use std::fmt::Write as _;
use std::path::Path;
use std::{fs, io};

use crate::compiler::response::split;
use crate::compiler::rustc::{self, CratePlan, Depth};
use crate::compiler::{Invocation, Plan, Verdict, plan};
use crate::job::{Family, Kind, RustTool};

struct Case<'a> {
    setup: Vec<&'a str>,
    expected: Vec<&'a str>,
}

fn cases(text: &str) -> Vec<Case<'_>> {
    text.split("\n\n")
        .map(|block| {
            block.lines().filter(|line| !line.starts_with('#')).partition::<Vec<_>, _>(|line| {
                ["$ ", "cwd ", "file "].iter().any(|head| line.starts_with(head))
            })
        })
        .map(|(setup, expected)| Case { setup, expected })
        .filter(|case| !case.setup.is_empty())
        .collect()
}

fn verdict(kind: Kind, case: &Case<'_>) -> Verdict {
    let part = |head: &str| case.setup.iter().find_map(|line| line.strip_prefix(head));
    let directory = part("cwd ").unwrap_or("/w");
    let words = split(part("$ ").unwrap()).unwrap();
    let read = |path: &str| {
        let files = case.setup.iter().filter_map(|line| line.strip_prefix("file "));
        files
            .filter_map(|line| line.split_once(' '))
            .find(|(name, _)| path == format!("{directory}/{name}"))
            .map(|(_, content)| content.as_bytes().to_vec())
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    };
    let (program, arguments) = (&words[0], &words[1..]);
    match kind {
        Kind::C(family) => plan(&Invocation { family, program, arguments, directory }, &read),
        Kind::Rust(_) => rustc::plan(arguments, directory, &read),
    }
}

fn rendered(verdict: &Verdict) -> String {
    match verdict {
        Verdict::NotACompile => "not a compile".into(),
        Verdict::Local(reason) => format!("local {reason}"),
        Verdict::Remote(plan) => rendered_plan(plan),
    }
}

fn rendered_plan(plan: &Plan) -> String {
    let mut text = format!("remote {} {}", plan.language, plan.source);
    for output in &plan.outputs {
        let kind = if output.required { "writes" } else { "may write" };
        write!(text, "\n  {kind} {}", output.path).unwrap();
    }
    for file in &plan.input_files {
        write!(text, "\n  reads {file}").unwrap();
    }
    for directory in &plan.directories {
        write!(text, "\n  folder {directory}").unwrap();
    }
    match (&plan.dependency, &plan.krate) {
        (Some(arguments), _) => write!(text, "\n  pass {}", arguments.join(" ")).unwrap(),
        (None, Some(krate)) => render_crate(krate, &mut text),
        (None, None) => text.push_str("\n  no pass"),
    }
    if plan.fixed_time {
        text.push_str("\n  time fixed");
    }
    text
}

fn render_crate(krate: &CratePlan, text: &mut String) {
    write!(text, "\n  crate {}", krate.name).unwrap();
    for used in &krate.externs {
        let path = used.path.as_deref().unwrap_or("searched");
        write!(text, "\n  extern {} {path}", used.name).unwrap();
    }
    for folder in &krate.crate_folders {
        write!(text, "\n  crates in {folder}").unwrap();
    }
    for folder in &krate.native_folders {
        write!(text, "\n  libraries in {folder}").unwrap();
    }
    for library in &krate.libraries {
        let kind = if library.verbatim { "file" } else { "library" };
        write!(text, "\n  {kind} {}", library.name).unwrap();
    }
    if let Some(target) = &krate.target {
        write!(text, "\n  target {target}").unwrap();
    }
    if krate.links {
        text.push_str("\n  links");
    }
    if let Some(linker) = &krate.linker {
        write!(text, "\n  linker {linker}").unwrap();
    }
    if krate.depth == Depth::Objects {
        text.push_str("\n  uses objects");
    }
    if let Some(announced) = &krate.announced {
        write!(text, "\n  announces {announced}").unwrap();
    }
    write!(text, "\n  told in {}", krate.dep_info.as_deref().unwrap_or("nothing")).unwrap();
}

fn check(kind: Kind, folder: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/args").join(folder);
    let mut wrong = Vec::new();
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        for case in cases(&fs::read_to_string(&path).unwrap()) {
            count += 1;
            let found = rendered(&verdict(kind, &case));
            let expected = case.expected.join("\n");
            if found != expected {
                let setup = case.setup.join("\n");
                wrong.push(format!("{setup}\n--- expected\n{expected}\n--- found\n{found}\n"));
            }
        }
    }
    assert!(count > 20, "only {count} cases");
    assert!(wrong.is_empty(), "{} of {count} cases:\n\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn gcc_command_lines() {
    check(Kind::C(Family::Gcc), "gcc");
}

#[test]
fn clang_command_lines() {
    check(Kind::C(Family::Clang), "clang");
}

#[test]
fn rustc_command_lines() {
    check(Kind::Rust(RustTool::Rustc), "rustc");
}
