//! What a source file is written in, from `-x` or from its name, as the drivers see it.

use std::fmt;

use crate::job::Family;

/// A language whose compile travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// C.
    C,
    /// C++.
    Cxx,
    /// C after the preprocessor.
    PreprocessedC,
    /// C++ after the preprocessor.
    PreprocessedCxx,
    /// Assembler as it is.
    Assembler,
    /// Assembler that goes through the preprocessor first.
    AssemblerWithCpp,
    /// Rust; no flag of a C compiler names it.
    Rust,
}

impl Language {
    /// Whether this family reads included files while it compiles. clang does so even in text that
    /// is called preprocessed.
    pub(super) fn includes(self, family: Family) -> bool {
        match self {
            Self::C | Self::Cxx | Self::AssemblerWithCpp => true,
            Self::PreprocessedC | Self::PreprocessedCxx => family == Family::Clang,
            Self::Assembler | Self::Rust => false,
        }
    }

    /// Whether the compiler proper sees it, which writes `.gcno` and `.su`.
    pub(super) fn is_compiled(self) -> bool {
        !matches!(self, Self::Assembler | Self::AssemblerWithCpp)
    }

    /// Name of its row in the statistics, as sccache names them.
    pub fn bucket(self) -> &'static str {
        match self {
            Self::C | Self::Cxx | Self::PreprocessedC | Self::PreprocessedCxx => "C/C++",
            Self::Assembler | Self::AssemblerWithCpp => "Assembler",
            Self::Rust => "Rust",
        }
    }

    /// Name for `-x`.
    pub(super) fn flag_value(self) -> &'static str {
        match self {
            Self::C => "c",
            Self::Cxx => "c++",
            Self::PreprocessedC => "cpp-output",
            Self::PreprocessedCxx => "c++-cpp-output",
            Self::Assembler => "assembler",
            Self::AssemblerWithCpp => "assembler-with-cpp",
            Self::Rust => "rust",
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.flag_value())
    }
}

/// What an operand is to the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A source that travels.
    Source(Language),
    /// A source in a language that does not: Fortran, Objective-C, headers, modules.
    Foreign,
    /// Something for the linker.
    Linked,
}

/// What `-x name` makes of every following operand.
pub(super) fn of_flag(name: &str) -> Option<Language> {
    [
        Language::C,
        Language::Cxx,
        Language::PreprocessedC,
        Language::PreprocessedCxx,
        Language::Assembler,
        Language::AssemblerWithCpp,
    ]
    .into_iter()
    .find(|language| language.flag_value() == name)
}

/// What the name of an operand says to a C driver.
pub(super) fn of_path(path: &str, family: Family) -> Kind {
    let name = path.rsplit('/').next().unwrap_or(path);
    let Some((_, extension)) = name.rsplit_once('.') else { return Kind::Linked };
    let language = match extension {
        "c" => Language::C,
        "cc" | "cp" | "cxx" | "cpp" | "CPP" | "c++" | "C" => Language::Cxx,
        "CC" | "CXX" | "C++" if family == Family::Clang => Language::Cxx,
        "i" => Language::PreprocessedC,
        "ii" => Language::PreprocessedCxx,
        "s" => Language::Assembler,
        "S" | "sx" => Language::AssemblerWithCpp,
        _ if FOREIGN.contains(&extension) => return Kind::Foreign,
        _ => return Kind::Linked,
    };
    Kind::Source(language)
}

/// Extensions of sources that some build of gcc or clang compiles and that never travel.
const FOREIGN: [&str; 54] = [
    "m", "mi", "mm", "M", "mii", "h", "hh", "H", "hp", "hxx", "hpp", "HPP", "h++", "tcc", "cppm",
    "ixx", "ccm", "cxxm", "c++m", "pcm", "iim", "inc", "cu", "cui", "hip", "cl", "clcpp", "rs",
    "ll", "bc", "ast", "f", "for", "ftn", "F", "FOR", "FTN", "fpp", "FPP", "f90", "F90", "f95",
    "F95", "f03", "F03", "f08", "F08", "ads", "adb", "d", "di", "dd", "go", "asm",
];

/// What a C++ driver (`g++`, `clang++`) makes of a C source it was not told the language of.
pub(super) fn for_cxx_driver(language: Language) -> Language {
    match language {
        Language::C => Language::Cxx,
        Language::PreprocessedC => Language::PreprocessedCxx,
        other => other,
    }
}
