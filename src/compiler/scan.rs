//! The one scanner: argv cut into words by a family's flag table, each flag with its value.

use super::flags::{Flag, Form, Table};
use crate::job::LocalReason;

/// One flag with its value, or one operand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word<'a> {
    /// What the table says of it; `None` for an operand (a file name or `-`).
    pub(super) flag: Option<&'static Flag>,
    /// The flag's value, empty when it has none; an operand's name.
    pub(super) value: &'a str,
    /// The arguments it was written as, one or two.
    pub(super) spelled: &'a [String],
}

/// Cuts `arguments` into words.
///
/// # Errors
/// [`LocalReason::UnknownFlag`]: after a flag of unknown arity nothing can be told for sure.
pub(super) fn scan<'a>(
    table: Table,
    arguments: &'a [String],
) -> Result<Vec<Word<'a>>, LocalReason> {
    let mut words = Vec::with_capacity(arguments.len());
    let mut at = 0;
    while let Some(argument) = arguments.get(at) {
        let rest = &arguments[at..];
        let word = match argument.strip_prefix('-') {
            None | Some("") => Word { flag: None, value: argument, spelled: &rest[..1] },
            Some(_) => flagged(table, argument, rest)
                .ok_or_else(|| LocalReason::UnknownFlag(argument.clone()))?,
        };
        at += word.spelled.len();
        words.push(word);
    }
    Ok(words)
}

fn flagged<'a>(table: Table, argument: &'a str, rest: &'a [String]) -> Option<Word<'a>> {
    let flag = table.find(argument)?;
    let joined = argument.get(flag.name.len()..).unwrap_or_default();
    let separate = match flag.form {
        Form::Alone | Form::Joined => false,
        Form::Separate => true,
        Form::Either => joined.is_empty(),
    };
    if separate {
        let spelled = rest.get(..2)?;
        Some(Word { flag: Some(flag), value: &spelled[1], spelled })
    } else {
        Some(Word { flag: Some(flag), value: joined, spelled: &rest[..1] })
    }
}
