//! The tables of rustc's flags: names, arity, effect. Taken from `rustc --help -v` and `rustc -C
//! help` of 1.95; what is not listed keeps the compile at home.

/// How a flag takes its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// It has none.
    Alone,
    /// In the next word, or behind `=`.
    Long,
    /// In the next word, or right behind the letter.
    Short,
}

/// What a flag means to a compile that may travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It says nothing about files.
    Keep,
    /// Its value names the crate.
    CrateName,
    /// Kinds of crates to make, separated by commas.
    CrateType,
    /// Kinds of files to write, separated by commas, each perhaps with a path.
    Emit,
    /// The folder of the outputs.
    OutDir,
    /// The one output.
    Output,
    /// A test harness is made.
    Test,
    /// What is said as JSON, separated by commas.
    Json,
    /// The platform compiled for: a name, or a file with its description.
    Target,
    /// `[KIND=]FOLDER` where crates or libraries are searched.
    Search,
    /// `[KIND[:MODIFIERS]=]NAME[:RENAME]`, a native library.
    Library,
    /// `[OPTIONS:]NAME[=FILE]`, a crate in use.
    Extern,
    /// An option of code generation.
    Codegen,
    /// It prints something, and nothing is compiled.
    Information,
    /// Only the local machine can serve it.
    Refuse,
}

/// One flag.
pub(super) struct Flag {
    pub(super) name: &'static str,
    pub(super) form: Form,
    pub(super) effect: Effect,
}

const fn flag(name: &'static str, form: Form, effect: Effect) -> Flag {
    Flag { name, form, effect }
}

/// All flags but those of code generation.
pub(super) const FLAGS: &[Flag] = &[
    flag("--allow", Form::Long, Effect::Keep),
    flag("--cap-lints", Form::Long, Effect::Keep),
    flag("--cfg", Form::Long, Effect::Keep),
    flag("--check-cfg", Form::Long, Effect::Keep),
    flag("--codegen", Form::Long, Effect::Codegen),
    flag("--color", Form::Long, Effect::Keep),
    flag("--crate-name", Form::Long, Effect::CrateName),
    flag("--crate-type", Form::Long, Effect::CrateType),
    flag("--deny", Form::Long, Effect::Keep),
    flag("--diagnostic-width", Form::Long, Effect::Keep),
    flag("--edition", Form::Long, Effect::Keep),
    flag("--emit", Form::Long, Effect::Emit),
    flag("--env-set", Form::Long, Effect::Refuse),
    flag("--error-format", Form::Long, Effect::Keep),
    flag("--explain", Form::Long, Effect::Information),
    flag("--extern", Form::Long, Effect::Extern),
    flag("--forbid", Form::Long, Effect::Keep),
    flag("--force-warn", Form::Long, Effect::Keep),
    flag("--help", Form::Alone, Effect::Information),
    flag("--json", Form::Long, Effect::Json),
    flag("--out-dir", Form::Long, Effect::OutDir),
    flag("--print", Form::Long, Effect::Information),
    flag("--remap-path-prefix", Form::Long, Effect::Keep),
    flag("--remap-path-scope", Form::Long, Effect::Keep),
    flag("--sysroot", Form::Long, Effect::Refuse),
    flag("--target", Form::Long, Effect::Target),
    flag("--test", Form::Alone, Effect::Test),
    flag("--verbose", Form::Alone, Effect::Keep),
    flag("--version", Form::Alone, Effect::Information),
    flag("--warn", Form::Long, Effect::Keep),
    flag("-A", Form::Short, Effect::Keep),
    flag("-C", Form::Short, Effect::Codegen),
    flag("-D", Form::Short, Effect::Keep),
    flag("-F", Form::Short, Effect::Keep),
    flag("-L", Form::Short, Effect::Search),
    flag("-O", Form::Alone, Effect::Keep),
    flag("-V", Form::Alone, Effect::Information),
    flag("-W", Form::Short, Effect::Keep),
    flag("-Z", Form::Short, Effect::Refuse),
    flag("-g", Form::Alone, Effect::Keep),
    flag("-h", Form::Alone, Effect::Information),
    flag("-l", Form::Short, Effect::Library),
    flag("-o", Form::Short, Effect::Output),
    flag("-v", Form::Alone, Effect::Keep),
    flag("-vV", Form::Alone, Effect::Information),
    flag("-Vv", Form::Alone, Effect::Information),
    flag("-q", Form::Alone, Effect::Refuse),
];

/// What an option of `-C` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codegen {
    /// It says nothing about files.
    Keep,
    /// Put behind the crate's name in the names of its files.
    ExtraFilename,
    /// How many parts the crate is compiled in.
    Units,
    /// The processor compiled for.
    Cpu,
    /// An argument for the linker, or several.
    LinkArgument,
    /// Which linker.
    Linker,
    /// Whether debug information goes into files of its own.
    SplitDebug,
    /// Its value may name a plugin of the linker.
    LinkerPlugin,
    /// Whether what is linked is optimised as a whole.
    Lto,
    /// Options of LLVM.
    Llvm,
    /// Its value names a file that is read.
    Profile,
    /// It keeps its state in a folder of this machine.
    Incremental,
    /// It leaves files behind whose names nobody knows.
    Refuse,
}

/// The options of code generation. `remark` is not there: what it prints depends on how the
/// threads of the compile meet.
const CODEGEN: &[(&str, Codegen)] = &[
    ("ar", Codegen::Keep),
    ("code-model", Codegen::Keep),
    ("codegen-units", Codegen::Units),
    ("collapse-macro-debuginfo", Codegen::Keep),
    ("control-flow-guard", Codegen::Keep),
    ("debug-assertions", Codegen::Keep),
    ("debuginfo", Codegen::Keep),
    ("default-linker-libraries", Codegen::Keep),
    ("dwarf-version", Codegen::Keep),
    ("embed-bitcode", Codegen::Keep),
    ("extra-filename", Codegen::ExtraFilename),
    ("force-frame-pointers", Codegen::Keep),
    ("force-unwind-tables", Codegen::Keep),
    ("incremental", Codegen::Incremental),
    ("inline-threshold", Codegen::Keep),
    ("instrument-coverage", Codegen::Keep),
    ("jump-tables", Codegen::Keep),
    ("link-arg", Codegen::LinkArgument),
    ("link-args", Codegen::LinkArgument),
    ("link-dead-code", Codegen::Keep),
    ("link-self-contained", Codegen::Keep),
    ("linker", Codegen::Linker),
    ("linker-features", Codegen::Keep),
    ("linker-flavor", Codegen::Keep),
    ("linker-plugin-lto", Codegen::LinkerPlugin),
    ("llvm-args", Codegen::Llvm),
    ("lto", Codegen::Lto),
    ("metadata", Codegen::Keep),
    ("no-prepopulate-passes", Codegen::Keep),
    ("no-redzone", Codegen::Keep),
    ("no-stack-check", Codegen::Keep),
    ("no-vectorize-loops", Codegen::Keep),
    ("no-vectorize-slp", Codegen::Keep),
    ("opt-level", Codegen::Keep),
    ("overflow-checks", Codegen::Keep),
    ("panic", Codegen::Keep),
    ("passes", Codegen::Keep),
    ("prefer-dynamic", Codegen::Keep),
    ("profile-generate", Codegen::Keep),
    ("profile-use", Codegen::Profile),
    ("relocation-model", Codegen::Keep),
    ("relro-level", Codegen::Keep),
    ("rpath", Codegen::Keep),
    ("save-temps", Codegen::Refuse),
    ("soft-float", Codegen::Keep),
    ("split-debuginfo", Codegen::SplitDebug),
    ("strip", Codegen::Keep),
    ("symbol-mangling-version", Codegen::Keep),
    ("target-cpu", Codegen::Cpu),
    ("target-feature", Codegen::Keep),
    ("unsafe-allow-abi-mismatch", Codegen::Keep),
];

/// What the option `name` of `-C` means; underscores are as good as hyphens.
pub(super) fn codegen(name: &str) -> Option<Codegen> {
    let name = name.replace('_', "-");
    CODEGEN.iter().find(|(known, _)| *known == name).map(|(_, effect)| *effect)
}
