//! What flags exist, how each is spelled and what it does: static tables and their lookup.
//!
//! Spellings and effects were taken from `gcc --help=separate`, `clang --help-hidden` and from
//! running gcc 12 and clang 14; the oracle test runs them again.

mod clang;
mod common;
mod gcc;

use crate::job::Family;

/// How a flag takes its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// No value: the argument is exactly the name.
    Alone,
    /// The rest of the argument, which may be empty.
    Joined,
    /// The next argument.
    Separate,
    /// The rest of the argument or, when that is empty, the next argument.
    Either,
}

/// What a flag means for a compile that travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Changes nothing but the bytes of the outputs, or nothing at all.
    Keep,
    /// As `Keep` unless the value after `=` looks like the name of a file.
    Check,
    /// Stop after the object.
    Object,
    /// Stop after the assembler text.
    Assembly,
    /// Names the output.
    Output,
    /// Language of the following operands.
    Language,
    /// Names a directory to look for headers in.
    Directory,
    /// Names a file to read first; the dependency pass lists it.
    Include,
    /// Defines a macro.
    Define,
    /// Write a dependency file.
    Dependencies,
    /// Names the dependency file.
    DependencyFile,
    /// Shapes the dependency file's text; useless without `Dependencies`.
    DependencyText,
    /// Names a file that the compile reads and the dependency pass does not list.
    InputFile,
    /// Profile data: a file, or a directory with a file of a fixed name in it.
    Profile,
    /// Names a file with diagnostics that the compile writes.
    DiagnosticsFile,
    /// Shape of diagnostics; some shapes are files.
    DiagnosticsFormat,
    /// Write debug information into a `.dwo`.
    SplitDwarf,
    /// Write a `.gcno`.
    Notes,
    /// Write a `.su`.
    StackUsage,
    /// List of options for the assembler.
    Assembler,
    /// One option for the assembler.
    AssemblerOne,
    /// List of options for the preprocessor.
    Preprocessor,
    /// One option for the preprocessor.
    PreprocessorOne,
    /// One option for clang's compiler proper.
    Cc1,
    /// One option for LLVM.
    Llvm,
    /// Names a processor.
    Cpu,
    /// Where the driver looks for its programs first.
    Prefix,
    /// Spec file of gcc.
    Specs,
    /// Architecture of a Mach-O output; several make several outputs.
    Architecture,
    /// Only the local machine can serve it.
    Refuse,
    /// Prints something about the compiler; nothing is compiled.
    Information,
}

/// One line of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flag {
    pub(super) name: &'static str,
    pub(super) form: Form,
    pub(super) effect: Effect,
}

/// Short form for the tables.
const fn flag(name: &'static str, form: Form, effect: Effect) -> Flag {
    Flag { name, form, effect }
}

/// Flags of one family: its own, then those of both.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    own: &'static [Flag],
    common: &'static [Flag],
}

impl Table {
    /// The family's table.
    pub(super) fn of(family: Family) -> Self {
        let own = match family {
            Family::Gcc => gcc::FLAGS,
            Family::Clang => clang::FLAGS,
        };
        Self { own, common: common::FLAGS }
    }

    /// The line with the longest name that fits `argument`, as the drivers choose it.
    pub(super) fn find(self, argument: &str) -> Option<&'static Flag> {
        match (longest(self.own, argument), longest(self.common, argument)) {
            (Some(own), Some(common)) if common.name.len() > own.name.len() => Some(common),
            (Some(own), _) => Some(own),
            (None, common) => common,
        }
    }
}

/// Every prefix of `argument` stands before it in the order of names, longer ones later.
fn longest(flags: &'static [Flag], argument: &str) -> Option<&'static Flag> {
    let end = flags.partition_point(|flag| flag.name <= argument);
    let head = argument.as_bytes().get(..2)?;
    flags[..end]
        .iter()
        .rev()
        .take_while(|flag| flag.name.as_bytes().starts_with(head))
        .find(|flag| fits(flag, argument))
}

fn fits(flag: &Flag, argument: &str) -> bool {
    match flag.form {
        Form::Alone | Form::Separate => flag.name == argument,
        Form::Joined | Form::Either => argument.starts_with(flag.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted() {
        for table in [common::FLAGS, gcc::FLAGS, clang::FLAGS] {
            for pair in table.windows(2) {
                assert!(pair[0].name < pair[1].name, "{} before {}", pair[0].name, pair[1].name);
            }
            assert!(table.iter().all(|flag| flag.name.len() > 1));
        }
    }

    #[test]
    fn the_longest_name_wins() {
        let name = |family, argument: &str| {
            Table::of(family).find(argument).map(|flag| flag.name).unwrap_or_default()
        };
        assert_eq!(name(Family::Gcc, "-MMD"), "-MMD");
        assert_eq!(name(Family::Gcc, "-MDfoo"), "");
        assert_eq!(name(Family::Clang, "-include-pch"), "-include-pch");
        assert_eq!(name(Family::Clang, "-includefoo.h"), "-include");
        assert_eq!(name(Family::Gcc, "-fprofile-use=x"), "-fprofile-use");
        assert_eq!(name(Family::Gcc, "-funroll-loops"), "-f");
        assert_eq!(name(Family::Clang, "-mllvm"), "-mllvm");
        assert_eq!(name(Family::Gcc, "-static-libgcc"), "-static");
        assert_eq!(name(Family::Gcc, "-sectcreate"), "");
    }
}
