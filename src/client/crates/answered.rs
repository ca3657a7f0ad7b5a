//! What a worker's answer says of a crate's inputs: something was missing, or something is in the
//! store now.

use super::learned::told_otherwise;
use super::{CrateReader, words};
use crate::client::daemon::Daemon;
use crate::client::inputs::Inputs;
use crate::client::outputs::Product;
use crate::client::upload::Name;
use crate::compiler::rustc::dep_info::BYTES_MAX;
use crate::job::outcome::is_artifact;
use crate::job::wire::BlobClass;
use crate::job::{Content, Exit, LocalReason, Outcome, Output};

/// What LLVM's runtime says of a profile that it cannot write, before the name
/// (`InstrProfilingFile.c`).
const NO_PROFILE: &str = "LLVM Profile Error: Failed to write file \"";

/// Whether a worker's compile of a crate lacked a file that is here, or a variable; what it was is
/// known from now on.
pub(in crate::client) fn lacked(
    daemon: &Daemon,
    (reader, inputs): (&CrateReader, &Inputs),
    exit: Exit,
    words: &[u8],
    outputs: &[Product],
) -> bool {
    let learned = &daemon.crates.learned;
    let there = inputs.tree.open().unwrap_or_default();
    tokio::task::block_in_place(|| match exit.is_success() {
        false => learned.learn_from_failure(reader, words, &there),
        // A message quotes files, of other crates too: without them it is shorter.
        true => {
            learned.learn_from_words(reader, words, &there)
                || was_told_otherwise(daemon, reader, outputs)
        }
    })
}

/// Macros that are compiled for coverage write a profile when the compiler ends, and say so where they
/// cannot.
///
/// # Errors
/// [`LocalReason::UnexpectedOutput`] where `words` say so: the profile belongs here.
pub(in crate::client) fn check_profiles(words: &[u8]) -> Result<(), LocalReason> {
    let text = String::from_utf8_lossy(words);
    match text.lines().find_map(|line| line.strip_prefix(NO_PROFILE)) {
        Some(rest) => {
            let file = rest.split('"').next().unwrap_or_default();
            Err(LocalReason::UnexpectedOutput(file.to_owned()))
        }
        None => Ok(()),
    }
}

/// Whether `words` quote a file that is here and was not there: then they are not all that the local
/// compiler would say.
pub(in crate::client) fn quotes_more(reader: &CrateReader, inputs: &Inputs, words: &[u8]) -> bool {
    let text = String::from_utf8_lossy(words);
    let mut files = words::files(reader, &text).peekable();
    if files.peek().is_none() {
        return false;
    }
    let there = inputs.tree.open().unwrap_or_default();
    files.any(|path| there.resolve_file(&path).is_none())
}

/// Whether the compile that gave `outputs` was told other variables than it would be here: its result
/// is not the one for here, and the variables are known from now on.
pub(in crate::client) fn was_told_otherwise(
    daemon: &Daemon,
    reader: &CrateReader,
    outputs: &[Product],
) -> bool {
    let path = reader.krate.dep_info.as_ref();
    let told = outputs.iter().find(|product| Some(&product.path) == path);
    let told = told.and_then(|product| product.body.read(BYTES_MAX as u64).ok());
    told.is_some_and(|told| daemon.crates.learned.learn_variables(reader, &told))
}

/// Whether the compile that wrote `told` heard of every variable what it would hear here.
pub(in crate::client) fn was_told_the_same(reader: &CrateReader, told: &[u8]) -> bool {
    told_otherwise(reader, told).is_some_and(|variables| variables.is_empty())
}

/// What a worker has put into the store for other compiles to read.
pub(in crate::client) fn made(outcome: &Outcome) -> Vec<Name> {
    let is_read = |output: &&Output| {
        is_artifact(&output.path) && matches!(output.content, Content::Blob { .. })
    };
    let outputs = outcome.outputs.iter().filter(is_read);
    outputs.map(|output| (BlobClass::Input, output.content.digest())).collect()
}
