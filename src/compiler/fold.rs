//! Words folded into one description of the command: each flag's effect, in small functions.

use super::family::means_cxx;
use super::flags::Effect;
use super::language::{self, Kind};
use super::nested::{self, Cc1, Preprocessor};
use super::outputs::Step;
use super::plan::Invocation;
use super::scan::Word;
use crate::job::{Family, LocalReason};

/// Extra files that flags ask for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Extras {
    pub(super) split_dwarf: bool,
    pub(super) notes: bool,
    pub(super) stack_usage: bool,
}

/// Who asked for a dependency file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum DependencyFlag {
    /// Nobody.
    #[default]
    Absent,
    /// `-MD` or `-MMD`.
    Driver,
    /// `-Wp,-MD,FILE`.
    Preprocessor,
}

/// An operand and what it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operand<'a> {
    pub(super) path: &'a str,
    pub(super) kind: Kind,
}

/// What the words say together.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    pub(super) family: Family,
    cxx_driver: bool,
    forced: Option<&'a str>,
    cc1_expects: Option<Cc1>,
    architectures: usize,
    dependency_details: Option<&'a str>,
    pub(super) step: Option<Step>,
    pub(super) operands: Vec<Operand<'a>>,
    pub(super) output: Option<&'a str>,
    pub(super) dependencies: DependencyFlag,
    pub(super) dependency_file: Option<&'a str>,
    pub(super) diagnostics_file: Option<&'a str>,
    pub(super) extras: Extras,
    pub(super) directories: Vec<String>,
    pub(super) input_files: Vec<String>,
    pub(super) included: Vec<&'a str>,
    pub(super) defines: Vec<&'a str>,
    pub(super) informs: bool,
    /// The first thing that only the local machine can serve.
    pub(super) refusal: Option<LocalReason>,
}

/// Folds all words of a command.
pub(super) fn fold<'a>(invocation: &Invocation<'a>, words: &[Word<'a>]) -> Seen<'a> {
    let mut seen = Seen {
        family: invocation.family,
        cxx_driver: means_cxx(invocation.program),
        forced: None,
        cc1_expects: None,
        architectures: 0,
        dependency_details: None,
        step: None,
        operands: Vec::new(),
        output: None,
        dependencies: DependencyFlag::Absent,
        dependency_file: None,
        diagnostics_file: None,
        extras: Extras::default(),
        directories: Vec::new(),
        input_files: Vec::new(),
        included: Vec::new(),
        defines: Vec::new(),
        informs: false,
        refusal: None,
    };
    for word in words {
        match word.flag {
            None => seen.operand(word.value),
            Some(flag) => {
                if let Err(reason) = seen.flag(flag.effect, word) {
                    seen.refuse(reason);
                }
            }
        }
    }
    seen.close();
    seen
}

/// The word's spelling as the reason for staying at home.
fn unserved(word: &Word<'_>) -> LocalReason {
    LocalReason::Flag(word.spelled.join(" "))
}

impl<'a> Seen<'a> {
    fn refuse(&mut self, reason: LocalReason) {
        self.refusal.get_or_insert(reason);
    }

    fn operand(&mut self, path: &'a str) {
        let kind = match self.forced {
            Some(name) => language::of_flag(name).map_or(Kind::Foreign, Kind::Source),
            None => match language::of_path(path, self.family) {
                Kind::Source(plain) if self.cxx_driver => {
                    Kind::Source(language::for_cxx_driver(plain))
                }
                kind => kind,
            },
        };
        self.operands.push(Operand { path, kind });
    }

    fn flag(&mut self, effect: Effect, word: &Word<'a>) -> Result<(), LocalReason> {
        let value = word.value;
        match effect {
            Effect::Keep => {}
            Effect::Object => self.step = self.step.or(Some(Step::Object)),
            Effect::Assembly => self.step = Some(Step::Assembly),
            Effect::Output => self.output = Some(value),
            Effect::Language => self.forced = (value != "none").then_some(value),
            Effect::Directory => return self.directory(value, word),
            Effect::Include => self.included.push(value),
            Effect::Define => return self.define(value),
            Effect::Architecture => self.architectures += 1,
            Effect::Information => self.informs = true,
            Effect::SplitDwarf => self.extras.split_dwarf = true,
            Effect::Notes => self.extras.notes = true,
            Effect::StackUsage => self.extras.stack_usage = true,
            Effect::DiagnosticsFile => self.diagnostics_file = Some(value),
            Effect::Dependencies | Effect::DependencyFile | Effect::DependencyText => {
                return self.dependency(effect, word);
            }
            Effect::Assembler
            | Effect::AssemblerOne
            | Effect::Preprocessor
            | Effect::PreprocessorOne
            | Effect::Cc1 => return self.nested(effect, word),
            Effect::Check
            | Effect::Cpu
            | Effect::DiagnosticsFormat
            | Effect::Llvm
            | Effect::Prefix
            | Effect::Specs
            | Effect::InputFile
            | Effect::Profile
            | Effect::Refuse => return self.guarded(effect, word),
        }
        Ok(())
    }

    /// Flags that pass only with some values.
    fn guarded(&mut self, effect: Effect, word: &Word<'a>) -> Result<(), LocalReason> {
        let value = word.value;
        let passes = match effect {
            Effect::Check => !nested::names_file(&word.spelled[0]),
            Effect::Cpu => !value.starts_with("native"),
            Effect::DiagnosticsFormat => !value.ends_with("-file"),
            Effect::Llvm => nested::is_plain_llvm_option(value),
            // Any other place may hold another assembler than the toolchain that travels.
            Effect::Prefix => matches!(value.trim_end_matches('/'), "/usr/bin" | "/bin"),
            // A bare name is looked up among the toolchain's own files.
            Effect::Specs => !value.is_empty() && !value.contains('/'),
            Effect::InputFile => !value.is_empty(),
            Effect::Profile => file_extension(value).is_some(),
            _ => false,
        };
        if !passes {
            return Err(unserved(word));
        }
        match effect {
            Effect::InputFile | Effect::Profile => self.input_files.push(value.to_owned()),
            Effect::Prefix => self.directories.push(value.to_owned()),
            _ => {}
        }
        Ok(())
    }

    fn directory(&mut self, path: &str, word: &Word<'_>) -> Result<(), LocalReason> {
        // `=` and `$SYSROOT` in front stand for the system root.
        if path.is_empty() || path.starts_with(['=', '$']) {
            return Err(unserved(word));
        }
        self.directories.push(path.to_owned());
        Ok(())
    }

    fn define(&mut self, definition: &'a str) -> Result<(), LocalReason> {
        self.defines.push(definition);
        nested::define(definition)
    }

    fn dependency(&mut self, effect: Effect, word: &Word<'a>) -> Result<(), LocalReason> {
        match effect {
            Effect::Dependencies if self.dependencies == DependencyFlag::Preprocessor => {
                return Err(unserved(word));
            }
            Effect::Dependencies => self.dependencies = DependencyFlag::Driver,
            Effect::DependencyFile => self.dependency_file = Some(word.value),
            _ => {}
        }
        if effect != Effect::Dependencies {
            self.dependency_details = Some(&word.spelled[0]);
        }
        Ok(())
    }

    fn nested(&mut self, effect: Effect, word: &Word<'a>) -> Result<(), LocalReason> {
        let value = word.value;
        let understood = match effect {
            Effect::AssemblerOne | Effect::PreprocessorOne if value.contains(',') => None,
            Effect::Assembler | Effect::AssemblerOne => nested::assembler(value),
            Effect::Preprocessor => return self.preprocessor(word),
            Effect::PreprocessorOne => match nested::preprocessor(value) {
                Some(Preprocessor::Plain(directories)) => Some(directories),
                _ => None,
            },
            _ => self.cc1(value).then(Vec::new),
        };
        for directory in understood.ok_or_else(|| unserved(word))? {
            self.directory(directory, word)?;
        }
        Ok(())
    }

    fn preprocessor(&mut self, word: &Word<'a>) -> Result<(), LocalReason> {
        match nested::preprocessor(word.value) {
            None => Err(unserved(word)),
            Some(Preprocessor::DependencyText) => {
                self.dependency_details = Some(&word.spelled[0]);
                Ok(())
            }
            Some(Preprocessor::DependencyFile(file)) => {
                if self.dependencies != DependencyFlag::Absent || self.dependency_file.is_some() {
                    return Err(unserved(word));
                }
                self.dependencies = DependencyFlag::Preprocessor;
                self.dependency_file = Some(file);
                Ok(())
            }
            Some(Preprocessor::Plain(directories)) => {
                directories.into_iter().try_for_each(|directory| self.directory(directory, word))
            }
        }
    }

    fn cc1(&mut self, option: &str) -> bool {
        match self.cc1_expects.take() {
            Some(Cc1::TakesLlvm) => return nested::is_plain_llvm_option(option),
            Some(_) => return true,
            None => {}
        }
        let understood = nested::cc1(option);
        if let Some(expects @ (Cc1::TakesLlvm | Cc1::TakesValue)) = understood {
            self.cc1_expects = Some(expects);
        }
        understood.is_some()
    }

    /// What can be told only at the end.
    fn close(&mut self) {
        if self.cc1_expects.is_some() {
            self.refuse(LocalReason::Flag("-Xclang".into()));
        }
        if self.architectures > 1 {
            self.refuse(LocalReason::Flag("-arch".into()));
        }
        match self.dependency_details {
            Some(flag) if self.dependencies == DependencyFlag::Absent => {
                self.refuse(LocalReason::Flag(flag.to_owned()));
            }
            _ => {}
        }
    }
}

/// Extension of the path's last part.
fn file_extension(path: &str) -> Option<&str> {
    let name = path.rsplit('/').next()?;
    name.rsplit_once('.').map(|(_, extension)| extension).filter(|text| !text.is_empty())
}
