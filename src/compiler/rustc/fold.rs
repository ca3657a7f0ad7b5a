//! Words folded into one description of the command.

use super::flags::{self, Codegen, Effect, Flag, Form};
use super::plan::{Extern, NativeLibrary};
use crate::job::LocalReason;

/// How options say yes; without a value they do too.
const YES: [&str; 5] = ["", "y", "yes", "on", "true"];
const NO: [&str; 4] = ["n", "no", "off", "false"];
/// Starts of the linkers' options, behind two hyphens or one, that name what they read or write.
const LINKED_FILES: [&str; 23] = [
    "Map",
    "allow-undefined-file",
    "default-script",
    "dependency-file",
    "dynamic-list",
    "just-symbols",
    "library-path",
    "lto-",
    "mri-script",
    "out-implib",
    "output",
    "plugin",
    "reproduce",
    "retain-symbols-file",
    "save-temps",
    "script",
    "specs",
    "symbol-ordering-file",
    "sysroot",
    "thinlto",
    "time-trace",
    "version-script",
    "wrapper",
];
/// Those of one letter.
const LINKED_FILES_SHORT: [&str; 5] = ["B", "L", "R", "T", "o"];

/// What the words say together. Paths are as written.
#[derive(Debug, Default)]
pub(super) struct Seen<'a> {
    pub(super) operands: Vec<&'a str>,
    pub(super) crate_name: Option<&'a str>,
    pub(super) crate_types: Vec<&'a str>,
    /// Kind and, where one is given, path.
    pub(super) emit: Vec<(&'a str, Option<&'a str>)>,
    pub(super) out_dir: Option<&'a str>,
    pub(super) output: Option<&'a str>,
    pub(super) extra_filename: &'a str,
    pub(super) is_test: bool,
    /// The compiler says which files are written.
    pub(super) announces: bool,
    pub(super) target: Option<&'a str>,
    pub(super) linker: Option<&'a str>,
    pub(super) units: Option<&'a str>,
    pub(super) packs_debug: bool,
    /// Whether what is linked is optimised as a whole.
    pub(super) optimises_linked: bool,
    /// Kind and folder.
    pub(super) searched: Vec<(&'a str, &'a str)>,
    pub(super) libraries: Vec<NativeLibrary>,
    pub(super) externs: Vec<Extern>,
    pub(super) input_files: Vec<&'a str>,
    /// Something is printed instead of compiled.
    pub(super) informs: bool,
    /// The first thing that only the local machine can serve.
    pub(super) refusal: Option<LocalReason>,
}

/// Folds `arguments`, in which nothing has to be expanded any more.
///
/// # Errors
/// [`LocalReason::UnknownFlag`].
pub(super) fn fold(arguments: &[String]) -> Result<Seen<'_>, LocalReason> {
    let mut seen = Seen::default();
    let mut words = arguments.iter().map(String::as_str);
    let mut only_operands = false;
    while let Some(word) = words.next() {
        if only_operands || word == "-" || !word.starts_with('-') {
            seen.operands.push(word);
        } else if word == "--" {
            only_operands = true;
        } else {
            let unknown = || LocalReason::UnknownFlag(word.to_owned());
            let (flag, value) = find(word).ok_or_else(unknown)?;
            let value = match value {
                None if flag.form != Form::Alone => words.next().ok_or_else(unknown)?,
                value => value.unwrap_or_default(),
            };
            seen.flag(flag.effect, word, value)?;
        }
    }
    Ok(seen)
}

/// The flag that `word` is, and the value in it.
fn find(word: &str) -> Option<(&'static Flag, Option<&str>)> {
    let (name, value) = match word.split_once('=') {
        Some((name, value)) if name.starts_with("--") => (name, Some(value)),
        _ => (word, None),
    };
    let exact = flags::FLAGS.iter().find(|flag| flag.name == name);
    if let Some(flag) = exact.filter(|flag| value.is_none() || flag.form == Form::Long) {
        return Some((flag, value));
    }
    let (letter, rest) = word.split_at_checked(2)?;
    let short = flags::FLAGS.iter().find(|flag| flag.form == Form::Short && flag.name == letter)?;
    Some((short, Some(rest)))
}

impl<'a> Seen<'a> {
    fn refuse(&mut self, reason: LocalReason) {
        self.refusal.get_or_insert(reason);
    }

    fn flag(&mut self, effect: Effect, word: &str, value: &'a str) -> Result<(), LocalReason> {
        match effect {
            Effect::Keep => {}
            Effect::CrateName => self.crate_name = Some(value),
            Effect::CrateType => self.crate_types.extend(value.split(',')),
            Effect::Emit => self.emit.extend(value.split(',').map(|kind| {
                kind.split_once('=').map_or((kind, None), |(kind, path)| (kind, Some(path)))
            })),
            Effect::OutDir => self.out_dir = Some(value),
            Effect::Output => self.output = Some(value),
            Effect::Test => self.is_test = true,
            Effect::Json => self.announces |= value.split(',').any(|part| part == "artifacts"),
            Effect::Target => self.target = Some(value),
            Effect::Search => self.searched.push(split_kind(value)),
            Effect::Library => self.libraries.push(NativeLibrary::of(value)),
            Effect::Extern => self.externs.push(Extern::of(value)),
            Effect::Codegen => return self.codegen(value),
            Effect::Information => self.informs = true,
            Effect::Refuse => {
                let text =
                    if word.contains(value) { word.to_owned() } else { format!("{word} {value}") };
                self.refuse(LocalReason::Flag(text.trim_end().to_owned()));
            }
        }
        Ok(())
    }

    fn codegen(&mut self, option: &'a str) -> Result<(), LocalReason> {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let spelled = || format!("-C {option}");
        let passes = match flags::codegen(name) {
            None if name == "help" => {
                self.informs = true;
                true
            }
            None => return Err(LocalReason::UnknownFlag(spelled())),
            Some(effect) => self.apply(effect, value),
        };
        if !passes {
            self.refuse(LocalReason::Flag(spelled()));
        }
        Ok(())
    }

    /// Whether the option may travel with `value`.
    fn apply(&mut self, effect: Codegen, value: &'a str) -> bool {
        match effect {
            Codegen::Keep => true,
            Codegen::ExtraFilename => {
                self.extra_filename = value;
                // The compiler takes what is behind a point for a suffix, and leaves it out.
                !value.contains(['/', '.'])
            }
            Codegen::Units => {
                self.units = Some(value);
                true
            }
            Codegen::Cpu => value != "native",
            Codegen::LinkArgument => value.split_whitespace().all(is_plain_link_argument),
            Codegen::Linker => {
                self.linker = Some(value);
                !value.is_empty()
            }
            // Apart from the objects in no file that is known here.
            Codegen::SplitDebug => {
                self.packs_debug = value == "packed";
                value != "unpacked"
            }
            Codegen::LinkerPlugin => [&YES[..], &NO[..]].concat().contains(&value),
            Codegen::Lto => {
                self.optimises_linked = !NO.contains(&value);
                true
            }
            Codegen::Llvm => value.split_whitespace().all(is_plain_llvm_option),
            Codegen::Profile => {
                self.input_files.push(value);
                !value.is_empty()
            }
            Codegen::Incremental | Codegen::Refuse => false,
        }
    }
}

/// `KIND=FOLDER`, or a folder for everything.
fn split_kind(value: &str) -> (&str, &str) {
    const KINDS: [&str; 5] = ["all", "crate", "dependency", "framework", "native"];
    match value.split_once('=') {
        Some((kind, folder)) if KINDS.contains(&kind) => (kind, folder),
        _ => ("all", value),
    }
}

/// Whether an argument for the linker names no file, no folder and no program.
fn is_plain_link_argument(argument: &str) -> bool {
    let names_file = |part: &str| {
        let name = part.trim_start_matches('-');
        (part.len() == name.len() + 1 && LINKED_FILES_SHORT.iter().any(|it| name.starts_with(it)))
            || (part.len() > name.len() && LINKED_FILES.iter().any(|it| name.starts_with(it)))
    };
    argument.starts_with('-')
        && !argument.contains(['/', '@'])
        && !argument.split([',', '=']).any(names_file)
}

fn is_plain_llvm_option(option: &str) -> bool {
    let name = option.split('=').next().unwrap_or(option);
    option.starts_with('-')
        && !option.contains('/')
        && !name.trim_start_matches('-').starts_with("load")
        && !["file", "output", "path", "dir"].iter().any(|end| name.ends_with(end))
}
