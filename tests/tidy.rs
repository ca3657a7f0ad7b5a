//! Rules of the house that no compiler checks: who may import whom, sizes, headers, links, reasons.
//!
//! Reads the sources as text, without any dependency. Each finding names file, line and the reason
//! of its rule; the import table is the one of `docs/architecture.md`.

#[path = "tidy/markdown.rs"]
mod markdown;
#[path = "tidy/rust.rs"]
mod rust;

use std::fmt;
use std::path::{Path, PathBuf};

use markdown::{anchors, links};
use rust::{Named, paths, tokens};

/// Most lines of a source file.
const LINES_MAX: usize = 500;

/// What each room may use of the others; `*` is everything, `*::Settings` only settings.
const TABLE: &[(&str, &[&str])] = &[
    ("job", &[]),
    ("exec", &[]),
    ("lifecycle", &[]),
    ("telemetry", &[]),
    ("compiler", &["job"]),
    ("store", &["job"]),
    ("queue", &["job", "lifecycle"]),
    ("toolchain", &["job", "store", "exec"]),
    (
        "client",
        &["job", "compiler", "store", "queue", "toolchain", "exec", "lifecycle", "telemetry"],
    ),
    (
        "worker",
        &[
            "job",
            "compiler::allow",
            "compiler::depfile",
            "store",
            "queue",
            "toolchain",
            "exec",
            "lifecycle",
            "telemetry",
        ],
    ),
    ("scheduler", &["job", "store", "queue", "lifecycle", "telemetry"]),
    ("config", &["job", "queue::Secret", "*::Settings"]),
    ("cli", &["*"]),
    ("dev", &["*"]),
    ("setup", &["*"]),
    ("tools", &["*"]),
    ("lib", &["*"]),
    ("main", &["*"]),
    ("jetccd", &["*"]),
];

/// What test modules may use besides: real processes, clean ends, logs.
const TEST_TOOLS: &[&str] = &["exec", "lifecycle", "telemetry"];

/// Files that decide without acting, and what they may therefore not name.
const PURE: &[(&str, &[&str])] = &[
    ("src/scheduler/lanes.rs", &["tokio", "queue"]),
    ("src/scheduler/registry.rs", &["tokio", "queue"]),
    ("src/worker/layout.rs", &["tokio", "exec"]),
    ("src/worker/paths.rs", &["tokio", "exec"]),
    ("src/worker/sandbox/arguments.rs", &["tokio", "exec"]),
];

/// The only readers of the environment.
const ENVIRONMENT_READERS: &[&str] = &["src/config/environment.rs", "src/client/wrapper.rs"];

/// A broken rule.
#[derive(Debug, PartialEq)]
struct Finding {
    file: String,
    line: usize,
    what: String,
    why: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}\n    why: {}", self.file, self.line, self.what, self.why)
    }
}

/// A text file of the project; `name` is relative to the project's folder.
struct Source {
    name: String,
    text: String,
}

impl Source {
    fn finding(&self, line: usize, what: String, why: &'static str) -> Finding {
        Finding { file: self.name.clone(), line, what, why }
    }

    /// The modules from the crate's root down to this file; `x_tests.rs` is `x::tests`.
    fn module(&self) -> Vec<&str> {
        let inner = self.name.strip_prefix("src/").unwrap_or(&self.name);
        let mut parts: Vec<&str> = inner.trim_end_matches(".rs").split('/').collect();
        let Some(last) = parts.pop() else { return parts };
        match last.strip_suffix("_tests") {
            Some(tested) => parts.extend([tested, "tests"]),
            None if matches!(last, "mod" | "lib" | "main" | "jetccd") => {}
            None => parts.push(last),
        }
        parts
    }

    /// The first folder or file under `src/`.
    fn room(&self) -> &str {
        let inner = self.name.strip_prefix("src/").unwrap_or(&self.name);
        inner.split('/').next().unwrap_or(inner).trim_end_matches(".rs")
    }

    /// Whether the file as a whole is a test.
    fn is_test(&self) -> bool {
        !self.name.starts_with("src/") || self.module().contains(&"tests")
    }
}

// --- the rules ---

/// The path from the crate's root, when it leads into our crate.
fn from_root<'a>(source: &'a Source, named: &Named<'a>) -> Option<Vec<&'a str>> {
    let supers = named.segments.iter().take_while(|segment| **segment == "super").count();
    match named.segments[0] {
        "crate" | "jetcc" => Some(named.segments[1..].to_vec()),
        "super" => {
            let mut base = source.module();
            base.extend(&named.inside);
            base.truncate(base.len().saturating_sub(supers));
            base.extend(&named.segments[supers..]);
            Some(base)
        }
        _ => None,
    }
}

fn check_imports(source: &Source) -> Vec<Finding> {
    const WHY: &str = "arrows point one way: the import table of docs/architecture.md says who may use whom, so that a room can be read and changed alone";
    let room = source.room();
    let Some((_, allowed)) = TABLE.iter().find(|(name, _)| *name == room) else {
        let what = format!("room `{room}` is not in the import table");
        return vec![source.finding(1, what, WHY)];
    };
    let mut findings = Vec::new();
    for named in paths(&tokens(&source.text)) {
        let Some(target) = from_root(source, &named) else { continue };
        let in_tests = source.is_test() || named.inside.contains(&"tests");
        let fits = |rule: &str| match rule.strip_prefix("*") {
            Some("") => true,
            Some(_) => target.iter().any(|part| *part == "settings" || part.ends_with("Settings")),
            None => rule.split("::").eq(target.iter().copied().take(rule.split("::").count())),
        };
        let own = target.is_empty() || target[0] == room;
        let tool = in_tests && target.first().is_some_and(|first| TEST_TOOLS.contains(first));
        if !own && !tool && !allowed.iter().copied().any(fits) {
            let what = format!("`{room}` uses `{}`", target.join("::"));
            findings.push(source.finding(named.line, what, WHY));
        }
    }
    findings
}

fn check_purity(source: &Source) -> Vec<Finding> {
    const WHY: &str = "pure core, I/O at the rim: this file takes values and returns values, so that it is tested without clock, process or network";
    let Some((_, banned)) = PURE.iter().find(|(name, _)| *name == source.name) else {
        return Vec::new();
    };
    let names_banned = |named: &Named<'_>| {
        let target = from_root(source, named).unwrap_or_else(|| named.segments.clone());
        banned.iter().find(|word| target.first() == Some(*word)).copied()
    };
    paths(&tokens(&source.text))
        .iter()
        .filter(|named| !named.inside.contains(&"tests"))
        .filter_map(|named| Some((named.line, names_banned(named)?)))
        .map(|(line, word)| source.finding(line, format!("pure file uses `{word}`"), WHY))
        .collect()
}

fn check_environment(source: &Source) -> Vec<Finding> {
    const WHY: &str = "settings are read in src/config/ and the compiler's variables in src/client/wrapper.rs; everyone else gets values, so that tests need no environment";
    const READS: [&str; 6] = ["var", "var_os", "vars", "vars_os", "set_var", "remove_var"];
    if ENVIRONMENT_READERS.contains(&source.name.as_str()) {
        return Vec::new();
    }
    let reads = |named: &Named<'_>| {
        named.segments.windows(2).any(|pair| pair[0] == "env" && READS.contains(&pair[1]))
    };
    paths(&tokens(&source.text))
        .iter()
        .filter(|named| reads(named))
        .map(|named| source.finding(named.line, format!("`{}`", named.segments.join("::")), WHY))
        .collect()
}

fn check_globs(source: &Source) -> Vec<Finding> {
    const WHY: &str = "a reader finds a name by looking for it: `use super::*` hides where names come from and is for test modules alone";
    paths(&tokens(&source.text))
        .iter()
        .filter(|named| named.segments == ["super", "*"])
        .filter(|named| !source.is_test() && !named.inside.contains(&"tests"))
        .map(|named| source.finding(named.line, "`use super::*` outside a test module".into(), WHY))
        .collect()
}

fn check_shape(source: &Source) -> Vec<Finding> {
    const SIZE: &str =
        "files aim at 300 lines and stop at 500: beyond that the design asks for a split";
    const HEADER: &str = "every file opens with a sentence that says why it exists";
    let mut findings = Vec::new();
    let lines = source.text.lines().count();
    if lines > LINES_MAX {
        let what = format!("file has {lines} lines, wanted at most {LINES_MAX}");
        findings.push(source.finding(LINES_MAX + 1, what, SIZE));
    }
    let header = source.text.lines().next().and_then(|line| line.strip_prefix("//!"));
    if header.is_none_or(|line| line.trim().len() < 10) {
        findings.push(source.finding(1, "no `//!` header with a sentence".into(), HEADER));
    }
    findings
}

fn check_links(root: &Path, source: &Source) -> Vec<Finding> {
    const WHY: &str =
        "a link that leads nowhere is worse than none: documents change with what they state";
    let is_outside = |target: &str| target.contains("://") || target.starts_with("mailto:");
    let alive = |target: &str| {
        let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
        let name = root.join(&source.name);
        let aim = if file.is_empty() { name } else { name.with_file_name("").join(file) };
        let has_anchor =
            || std::fs::read_to_string(&aim).is_ok_and(|text| anchors(&text).contains(anchor));
        aim.exists() && (anchor.is_empty() || has_anchor())
    };
    links(&source.text)
        .into_iter()
        .filter(|(_, target)| !is_outside(target) && !alive(target))
        .map(|(line, target)| source.finding(line, format!("dead link `{target}`"), WHY))
        .collect()
}

/// The words that `LocalReason::code` gives, with their lines: strings after `=>` made of word
/// characters and dashes.
fn reason_codes(rust: &str) -> Vec<(usize, &str)> {
    let tokens = tokens(rust);
    let arms = tokens.windows(2).filter(|pair| pair[0].text == "=>");
    arms.filter_map(|pair| {
        let code = pair[1].text.strip_prefix('"')?.strip_suffix('"')?;
        Some((pair[1].line, code))
    })
    .collect()
}

/// The codes that the document explains: the first cell of its table rows.
fn explained_codes(markdown: &str) -> Vec<(usize, &str)> {
    let rows = markdown.lines().enumerate();
    rows.filter_map(|(number, line)| {
        Some((number + 1, line.strip_prefix("| `")?.split_once('`')?.0))
    })
    .collect()
}

fn check_reasons(code: &Source, document: &Source) -> Vec<Finding> {
    const WHY: &str =
        "`jetcc explain` sends people to docs/reasons.md: each reason stands there, and no other";
    let (given, explained) = (reason_codes(&code.text), explained_codes(&document.text));
    let lacks = |list: &[(usize, &str)], word: &str| !list.iter().any(|(_, other)| *other == word);
    let unexplained =
        given.iter().filter(|(_, word)| lacks(&explained, word)).map(|(line, word)| {
            code.finding(*line, format!("`{word}` is not in {}", document.name), WHY)
        });
    let unknown = explained
        .iter()
        .filter(|(_, word)| lacks(&given, word))
        .map(|(line, word)| document.finding(*line, format!("`{word}` is no reason"), WHY));
    unexplained.chain(unknown).collect()
}

/// Tests that the last cells of a document's tables name: its line and the name.
fn named_tests(markdown: &str) -> Vec<(usize, &str)> {
    let is_name = |word: &&str| {
        word.len() >= 14 && word.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
    };
    let rows = markdown.lines().enumerate().filter(|(_, line)| line.starts_with('|'));
    rows.flat_map(|(number, line)| {
        let last = line.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        last.split('`').skip(1).step_by(2).filter(is_name).map(move |name| (number + 1, name))
    })
    .collect()
}

fn check_barriers(document: &Source, code: &[Source]) -> Vec<Finding> {
    const WHY: &str = "a barrier without a test is not a barrier: the last column of docs/security.md names functions that attack it";
    let exists = |name: &str| {
        let function = format!("fn {name}(");
        code.iter().any(|source| source.text.contains(&function))
    };
    named_tests(&document.text)
        .into_iter()
        .filter(|(_, name)| !exists(name))
        .map(|(line, name)| document.finding(line, format!("no test is called `{name}`"), WHY))
        .collect()
}

// --- the project's files ---

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Files under `folder` with this extension, in order of their names; none when it is absent.
fn files(folder: &str, extension: &str) -> Vec<Source> {
    let mut names = Vec::new();
    let mut waiting = vec![root().join(folder)];
    while let Some(path) = waiting.pop() {
        if let Ok(entries) = std::fs::read_dir(&path) {
            waiting.extend(entries.flatten().map(|entry| entry.path()));
        } else if path.extension().is_some_and(|found| found == extension) {
            names.push(path);
        }
    }
    names.sort();
    names.iter().filter_map(|path| read(path)).collect()
}

fn read(path: &Path) -> Option<Source> {
    let text = std::fs::read_to_string(path).ok()?;
    let name = path.strip_prefix(root()).ok()?.to_str()?.to_owned();
    Some(Source { name, text })
}

/// All Rust sources; files under `tests/data` are material, not ours.
fn rust_files() -> Vec<Source> {
    let all = ["src", "tests", "benches", "fuzz"].into_iter().flat_map(|at| files(at, "rs"));
    all.filter(|source| !source.name.starts_with("tests/data/")).collect()
}

fn expect_none(findings: impl IntoIterator<Item = Finding>) {
    let lines: Vec<String> = findings.into_iter().map(|finding| finding.to_string()).collect();
    assert!(lines.is_empty(), "{} findings\n\n{}\n", lines.len(), lines.join("\n"));
}

#[test]
fn rooms_import_only_what_the_table_allows() {
    expect_none(files("src", "rs").iter().flat_map(check_imports));
}

#[test]
fn pure_files_stay_pure() {
    expect_none(files("src", "rs").iter().flat_map(check_purity));
}

#[test]
fn the_environment_is_read_in_two_files() {
    expect_none(rust_files().iter().flat_map(check_environment));
}

#[test]
fn glob_imports_are_for_tests() {
    expect_none(rust_files().iter().flat_map(check_globs));
}

#[test]
fn files_are_short_and_say_why_they_exist() {
    expect_none(rust_files().iter().flat_map(check_shape));
}

#[test]
fn links_lead_somewhere() {
    let top = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"];
    let top = top.iter().filter_map(|name| read(&root().join(name)));
    let below = ["docs", "nats", "deploy", "benches"].into_iter().flat_map(|at| files(at, "md"));
    expect_none(top.chain(below).flat_map(|source| check_links(&root(), &source)));
}

#[test]
fn every_barrier_has_its_tests() {
    let document = read(&root().join("docs/security.md")).unwrap();
    assert!(named_tests(&document.text).len() > 50);
    let code: Vec<Source> = rust_files().into_iter().chain(files("tests", "rs")).collect();
    expect_none(check_barriers(&document, &code));
}

#[test]
fn every_reason_is_explained() {
    let read = |name: &str| read(&root().join(name)).expect(name);
    expect_none(check_reasons(&read("src/job/reason.rs"), &read("docs/reasons.md")));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str, text: &str) -> Source {
        Source { name: name.into(), text: text.into() }
    }

    fn lines(findings: &[Finding]) -> Vec<usize> {
        findings.iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn an_arrow_against_the_table_is_found_however_it_is_spelled() {
        let text =
            "use crate::job::Tree;\nuse crate::{client, store};\nuse super::super::client::x;\n";
        let found = check_imports(&source("src/worker/layout.rs", text));
        assert_eq!(lines(&found), [2, 3]);
        assert!(
            found[0].to_string().starts_with("src/worker/layout.rs:2: `worker` uses `client`\n")
        );
    }

    #[test]
    fn of_the_compiler_a_worker_sees_only_what_it_may_run() {
        let text = "use crate::compiler::allow::check;\nuse crate::compiler::plan;\n";
        assert_eq!(lines(&check_imports(&source("src/worker/execute.rs", text))), [2]);
    }

    #[test]
    fn settings_see_settings() {
        let text = "use crate::worker::Settings;\nuse crate::worker::execute;\n";
        assert_eq!(lines(&check_imports(&source("src/config/environment.rs", text))), [2]);
    }

    #[test]
    fn super_stays_in_its_room_and_tests_may_start_processes() {
        let text = "use super::digest;\nmod tests { use super::*; use crate::exec; }\n";
        assert_eq!(check_imports(&source("src/job/tree.rs", text)), []);
        let text = "use super::*;\nuse super::super::digest;\nuse crate::exec;";
        let beside = source("src/job/tree_tests.rs", text);
        assert_eq!((check_imports(&beside), check_globs(&beside)), (vec![], vec![]));
    }

    #[test]
    fn a_new_room_needs_a_row() {
        assert_eq!(lines(&check_imports(&source("src/util/mod.rs", ""))), [1]);
    }

    #[test]
    fn a_pure_file_names_no_runtime() {
        let text = "use tokio::time;\nuse crate::queue::Lane;\nmod tests { use tokio::test; }\n";
        assert_eq!(lines(&check_purity(&source("src/scheduler/lanes.rs", text))), [1, 2]);
        assert_eq!(check_purity(&source("src/scheduler/serve.rs", text)), []);
    }

    #[test]
    fn reading_the_environment_is_seen() {
        let text = "fn f() {\n    std::env::var(x);\n    std::env::args();\n}";
        assert_eq!(lines(&check_environment(&source("src/store/mod.rs", text))), [2]);
        assert_eq!(check_environment(&source("src/config/environment.rs", text)), []);
    }

    #[test]
    fn globs_headers_and_sizes_are_seen() {
        let text = "//! A sentence that says why.\nuse super::*;\nmod tests { use super::*; }";
        assert_eq!(lines(&check_globs(&source("src/job/x.rs", text))), [2]);
        assert_eq!(check_shape(&source("src/job/x.rs", text)), []);
        assert_eq!(lines(&check_shape(&source("src/job/x.rs", &"\n".repeat(501)))), [501, 1]);
    }

    #[test]
    fn a_barrier_whose_test_is_gone_is_found() {
        let table =
            "| aim | barrier | checked by |\n| x_y | `not_the_last_cell` | `a_test_of_its_own` |\n";
        let document = source("docs/security.md", table);
        let code = [source("src/a.rs", "fn a_test_of_its_own() {}")];
        assert_eq!(check_barriers(&document, &code), []);
        assert_eq!(lines(&check_barriers(&document, &[])), [2]);
    }

    #[test]
    fn reasons_and_their_document_agree() {
        let code = source("r.rs", "match self {\n A => \"flag\",\n B => \"gone\" }");
        let document =
            source("r.md", "| code | meaning |\n|---|---|\n| `flag` | x |\n| `old` | y |\n");
        let found = check_reasons(&code, &document);
        assert_eq!(lines(&found), [3, 4]);
    }
}
