//! The story of one command line: expand, scan, fold, then say what it reads and writes, or why it
//! stays at home.

use std::io;

use super::flags::{Effect, Table};
use super::fold::{self, DependencyFlag, Seen};
use super::language::{Kind, Language};
use super::outputs;
use super::rustc::CratePlan;
use super::scan::{Word, scan};
use super::{nested, response};
use crate::job::reads::Way;
use crate::job::{Family, LocalReason, WantedOutput};

/// A command as it was typed.
#[derive(Clone, Copy, Debug)]
pub struct Invocation<'a> {
    /// Whose command line it is.
    pub family: Family,
    /// `argv[0]`; `g++` and `clang++` take `.c` for C++.
    pub program: &'a str,
    /// The arguments after `argv[0]`.
    pub arguments: &'a [String],
    /// Working directory, absolute.
    pub directory: &'a str,
}

/// What is to be done with a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may travel.
    Remote(Box<Plan>),
    /// It compiles, but only here.
    Local(LocalReason),
    /// It is no compile step: it links, or prints something.
    NotACompile,
}

/// Everything there is to know of a compile that travels. Paths are as written: absolute or
/// relative to the working directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The source file.
    pub source: String,
    /// What it is written in.
    pub language: Language,
    /// All arguments without `argv[0]`, response files expanded: what the worker runs.
    pub arguments: Vec<String>,
    /// Every file that the compile writes.
    pub outputs: Vec<WantedOutput>,
    /// Arguments of the dependency pass: make rules to stdout, search list to stderr (run it with
    /// `LC_ALL=C`, the list's headings are translated). `None` when the source is the only file
    /// that the preprocessor sees.
    pub dependency: Option<Vec<String>>,
    /// What the command line says to whoever looks for the includes without the compiler.
    pub preprocessing: Preprocessing,
    /// Files that the compile reads and the dependency pass does not list.
    pub input_files: Vec<String>,
    /// Directories that flags name; they must exist remotely if they do here, even when empty.
    pub directories: Vec<String>,
    /// Where the compiler can say what it reads, if that changes nothing of what it writes.
    pub reads: Option<Way>,
    /// The command itself defines both `__DATE__` and `__TIME__`, so the clock does not matter.
    pub fixed_time: bool,
    /// What only a crate of Rust has; it has no dependency pass and nothing to preprocess.
    pub krate: Option<CratePlan>,
}

/// What decides about includes besides the files themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preprocessing {
    /// Files that are read before the source, as `-include` and `-imacros` name them.
    pub forced: Vec<String>,
    /// Macros that are defined, `NAME` or `NAME=TEXT`.
    pub defines: Vec<String>,
    /// All arguments that may decide in which folders is searched.
    pub search: Vec<String>,
}

/// What to do with a command. `read_file` gets absolute paths of response files.
pub fn plan(
    invocation: &Invocation<'_>,
    read_file: &dyn Fn(&str) -> io::Result<Vec<u8>>,
) -> Verdict {
    let arguments = match response::expand(invocation.arguments, invocation.directory, read_file) {
        Ok(arguments) => arguments,
        Err(reason) => return Verdict::Local(reason),
    };
    if !arguments.iter().any(|argument| STEPS.contains(&argument.as_str())) {
        return Verdict::NotACompile;
    }
    decide(&Invocation { arguments: &arguments, ..*invocation }).into()
}

impl From<Result<Option<Plan>, LocalReason>> for Verdict {
    fn from(decided: Result<Option<Plan>, LocalReason>) -> Self {
        match decided {
            Ok(Some(plan)) => Self::Remote(Box::new(plan)),
            Ok(None) => Self::NotACompile,
            Err(reason) => Self::Local(reason),
        }
    }
}

/// Without one of these the driver links or prints.
const STEPS: [&str; 9] =
    ["-c", "-S", "-E", "-M", "-MM", "--compile", "--assemble", "--preprocess", "--dependencies"];

fn decide(invocation: &Invocation<'_>) -> Result<Option<Plan>, LocalReason> {
    let words = scan(Table::of(invocation.family), invocation.arguments)?;
    let mut seen = fold::fold(invocation, &words);
    if seen.operands.iter().any(|operand| operand.path == "-") {
        return Err(LocalReason::StandardInput);
    }
    if seen.informs || seen.operands.iter().all(|operand| operand.kind == Kind::Linked) {
        return Ok(None);
    }
    if let Some(probe) = probe(&seen, invocation.directory) {
        return Err(LocalReason::ConfigureProbe(probe));
    }
    if let Some(reason) = seen.refusal.take() {
        return Err(reason);
    }
    let Some(step) = seen.step else { return Ok(None) };
    let (source, language) = the_source(&seen, invocation.family)?;
    let outputs = outputs::wanted(&seen, step, source, language)?;
    let preprocessed = language.includes(invocation.family);
    let reads = if preprocessed { way(&seen, invocation, &outputs) } else { None };
    Ok(Some(Plan {
        source: source.to_owned(),
        language,
        outputs,
        reads,
        dependency: preprocessed.then(|| dependency_pass(&words, invocation.family, language)),
        fixed_time: fixes_time(&seen),
        preprocessing: preprocessing(&seen, &words),
        krate: None,
        arguments: invocation.arguments.to_vec(),
        input_files: seen.input_files,
        directories: seen.directories,
    }))
}

/// The one source of the command.
fn the_source<'a>(seen: &Seen<'a>, family: Family) -> Result<(&'a str, Language), LocalReason> {
    let [operand] = seen.operands.as_slice() else { return Err(LocalReason::SeveralSources) };
    let path = operand.path;
    let Kind::Source(language) = operand.kind else {
        let name = path.rsplit('/').next().unwrap_or(path);
        return Err(LocalReason::Language(name.to_owned()));
    };
    match seen.included.last() {
        Some(file) if !language.includes(family) => {
            Err(LocalReason::Flag(format!("-include {file}")))
        }
        _ => Ok((path, language)),
    }
}

/// The folder or file that shows that a configure system asks, not a build.
fn probe(seen: &Seen<'_>, directory: &str) -> Option<String> {
    const FOLDERS: [&str; 5] =
        ["CMakeScratch", "CMakeTmp", "meson-private", "CompilerIdC", "CompilerIdCXX"];
    let sources = seen.operands.iter().map(|operand| operand.path);
    for source in sources {
        let name = source.rsplit('/').next().unwrap_or(source);
        if name.starts_with("conftest.") || source == "/dev/null" {
            return Some(source.to_owned());
        }
        let mut parts = directory.split('/').chain(source.split('/'));
        if let Some(folder) = parts.find(|part| FOLDERS.contains(part)) {
            return Some(folder.to_owned());
        }
    }
    None
}

fn fixes_time(seen: &Seen<'_>) -> bool {
    ["__DATE__=", "__TIME__="]
        .iter()
        .all(|name| seen.defines.iter().any(|definition| definition.starts_with(name)))
}

/// Where the compiler can say what it reads. A rule without system headers says too little, and
/// keeps clang from saying more elsewhere.
fn way(seen: &Seen<'_>, invocation: &Invocation<'_>, outputs: &[WantedOutput]) -> Option<Way> {
    if seen.dependencies == DependencyFlag::Absent {
        return Some(match invocation.family {
            Family::Gcc => Way::MakeRule,
            Family::Clang => Way::HeaderList,
        });
    }
    let is_partial =
        |argument: &String| argument.contains("-MMD") || argument == "--write-user-dependencies";
    if invocation.arguments.iter().any(is_partial) || seen.dependency_file == Some("/dev/null") {
        return None;
    }
    // The rule comes right after the main output.
    outputs.get(1).map(|rule| Way::Output(rule.path.clone()))
}

/// The same command as a dependency pass: nothing is written and nothing is compiled.
fn dependency_pass(words: &[Word<'_>], family: Family, language: Language) -> Vec<String> {
    // Asked for the dependencies of preprocessed text, clang says nothing; as C it lists them.
    let as_plain = match language {
        Language::PreprocessedC => Some("c"),
        Language::PreprocessedCxx => Some("c++"),
        _ => None,
    };
    let mut arguments = Vec::new();
    for word in words {
        match (word.flag, as_plain) {
            (None, Some(name)) => arguments.extend(["-x".to_owned(), name.to_owned()]),
            (Some(flag), Some(_)) if flag.effect == Effect::Language => continue,
            (Some(flag), _) if !stays_in_pass(flag.effect, word.value) => continue,
            _ => {}
        }
        arguments.extend_from_slice(word.spelled);
    }
    arguments.extend(["-M", "-v"].map(String::from));
    arguments.push(match family {
        // A system header that was found through a link would be listed where the link leads if
        // that is shorter (`<asm/errno.h>` of Debian 13): the link itself would be missing.
        Family::Gcc => "-fno-canonical-system-headers".into(),
        // With `-Werror`, flags for later steps would be errors.
        Family::Clang => "-Qunused-arguments".into(),
    });
    arguments
}

fn preprocessing(seen: &Seen<'_>, words: &[Word<'_>]) -> Preprocessing {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let may_decide = |word: &&Word<'_>| {
        word.flag.is_some_and(|flag| {
            !matches!(flag.effect, Effect::Define | Effect::Include)
                && flag.name != "-U"
                && stays_in_pass(flag.effect, word.value)
        })
    };
    Preprocessing {
        forced: owned(&seen.included),
        defines: owned(&seen.defines),
        search: words.iter().filter(may_decide).flat_map(|word| word.spelled).cloned().collect(),
    }
}

fn stays_in_pass(effect: Effect, value: &str) -> bool {
    match effect {
        Effect::Object
        | Effect::Assembly
        | Effect::Output
        | Effect::Dependencies
        | Effect::DependencyFile
        | Effect::DependencyText
        | Effect::DiagnosticsFile => false,
        Effect::Preprocessor => {
            matches!(nested::preprocessor(value), Some(nested::Preprocessor::Plain(_)))
        }
        _ => true,
    }
}
