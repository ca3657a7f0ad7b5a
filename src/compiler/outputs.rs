//! Which files a compile writes, and under which names.
//!
//! Names without `-o` come from the source's last part in the working directory; names with it
//! replace the output's suffix. Taken from gcc 12 and clang 14; the oracle test runs them.

use super::fold::{DependencyFlag, Seen};
use super::language::Language;
use crate::job::{Family, LocalReason, WantedOutput};

/// What the driver was told to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// `-c`.
    Object,
    /// `-S`.
    Assembly,
}

impl Step {
    fn suffix(self) -> &'static str {
        match self {
            Self::Object => "o",
            Self::Assembly => "s",
        }
    }
}

const NOWHERE: &str = "/dev/null";

/// Every file that the compile writes, the main one first.
///
/// # Errors
/// [`LocalReason::OutputTarget`] for outputs that are not plain files with a known name.
pub(super) fn wanted(
    seen: &Seen<'_>,
    step: Step,
    source: &str,
    language: Language,
) -> Result<Vec<WantedOutput>, LocalReason> {
    let source_stem = stem(file_name(source));
    let main = match seen.output {
        Some(path) => plain_file(path)?.to_owned(),
        None if source_stem.is_empty() => return Err(LocalReason::OutputTarget(source.to_owned())),
        None => format!("{source_stem}.{}", step.suffix()),
    };
    let main_stem = seen.output.map_or(source_stem, stem);
    // Asked for assembler text of assembler, gcc writes nothing.
    let is_made = step == Step::Object || language.is_compiled();
    let mut files = vec![WantedOutput { required: is_made && main != NOWHERE, path: main }];
    files.extend(dependency_file(seen, main_stem, language)?);
    for (suffix, stem) in extras(seen, step, language, main_stem, source_stem) {
        files.push(beside(stem, suffix)?);
    }
    if let Some(path) = seen.diagnostics_file {
        files.push(WantedOutput { path: plain_file(path)?.to_owned(), required: false });
    }
    match files
        .iter()
        .enumerate()
        .find(|(at, file)| files[..*at].iter().any(|f| f.path == file.path))
    {
        Some((_, twice)) => Err(LocalReason::OutputTarget(twice.path.clone())),
        None => Ok(files),
    }
}

fn dependency_file(
    seen: &Seen<'_>,
    main_stem: &str,
    language: Language,
) -> Result<Option<WantedOutput>, LocalReason> {
    if seen.dependencies == DependencyFlag::Absent {
        return Ok(None);
    }
    let mut file = match seen.dependency_file {
        Some(path) if plain_file(path)? == NOWHERE => return Ok(None),
        Some(path) => WantedOutput { path: path.to_owned(), required: true },
        None => beside(main_stem, "d")?,
    };
    // Without a preprocessor there are no dependencies to write.
    file.required = matches!(language, Language::C | Language::Cxx | Language::AssemblerWithCpp);
    Ok(Some(file))
}

/// Suffix and stem of each file that flags ask for beside the object. None is required: whether
/// it comes depends on other flags and on the source.
fn extras<'a>(
    seen: &Seen<'_>,
    step: Step,
    language: Language,
    main_stem: &'a str,
    source_stem: &'a str,
) -> Vec<(&'static str, &'a str)> {
    let mut files = Vec::new();
    if seen.extras.split_dwarf {
        match (seen.family, step) {
            (Family::Gcc, Step::Assembly) => {}
            (Family::Clang, Step::Assembly) => files.push(("dwo", source_stem)),
            (_, Step::Object) => files.push(("dwo", main_stem)),
        }
    }
    if language.is_compiled() {
        files.extend(seen.extras.notes.then_some(("gcno", main_stem)));
        files.extend(seen.extras.stack_usage.then_some(("su", main_stem)));
    }
    files
}

/// A file named after the main output. Names like `.x` and outputs that are no files are
/// treated differently by the compilers.
fn beside(stem: &str, suffix: &str) -> Result<WantedOutput, LocalReason> {
    if file_name(stem).is_empty() || stem == NOWHERE {
        return Err(LocalReason::OutputTarget(format!("{stem}.{suffix}")));
    }
    Ok(WantedOutput { path: format!("{stem}.{suffix}"), required: false })
}

fn plain_file(path: &str) -> Result<&str, LocalReason> {
    let special = path.is_empty()
        || path == "-"
        || path.ends_with('/')
        || (path.starts_with("/dev/") && path != NOWHERE);
    if special { Err(LocalReason::OutputTarget(path.to_owned())) } else { Ok(path) }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// `path` without the suffix of its last part.
fn stem(path: &str) -> &str {
    let name_length = file_name(path).len();
    match file_name(path).rfind('.') {
        Some(dot) => &path[..path.len() - name_length + dot],
        None => path,
    }
}
