//! What was found out about crates when an earlier compile lacked something: variables that they ask
//! for, files that macros read outside of the package, native libraries of the system.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::{CrateReader, native, uses, words};
use crate::compiler::rustc::{dep_info, environment};
use crate::job::{Digest, Tree};
use crate::store::sealed;

/// The version of the file's form.
const KIND: &str = "crates 1";
/// Largest file, in bytes.
const BYTES_MAX: usize = 16 << 20;
/// Most crates; then the table starts anew.
const CRATES_MAX: usize = 20_000;
/// Most files or variables of one crate.
const LESSON_MAX: usize = 256;

/// What is known of one crate besides what its command says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lesson {
    /// Absolute paths of files that it reads.
    pub files: BTreeSet<String>,
    /// Names of variables that it asks for.
    pub variables: BTreeSet<String>,
}

/// All that was learned.
#[derive(Debug)]
pub struct Learned {
    path: PathBuf,
    lessons: Mutex<Option<HashMap<Digest, Arc<Lesson>>>>,
    /// Commands whose crate a worker failed to compile and this machine compiled, for no known
    /// reason.
    strange: Mutex<BTreeSet<Digest>>,
}

impl Learned {
    /// What the file at `path` holds, which is read when somebody asks.
    pub fn open(path: PathBuf) -> Self {
        Self { path, lessons: Mutex::default(), strange: Mutex::default() }
    }

    /// What is known of the crate `key`.
    pub fn of(&self, key: &Digest) -> Arc<Lesson> {
        self.with(|lessons| lessons.get(key).cloned().unwrap_or_default())
    }

    /// Whether workers fail at the command `key`, so far as this daemon has seen.
    pub fn is_strange(&self, key: &Digest) -> bool {
        self.strange().contains(key)
    }

    /// Notes that a worker fails at what this machine compiles for `reader`.
    pub fn note_strange(&self, reader: &CrateReader) {
        let mut strange = self.strange();
        if strange.len() >= CRATES_MAX {
            strange.clear();
        }
        strange.insert(reader.command_key());
    }

    /// Adds to what is known of `reader`'s crate: the variables for which the compile that wrote
    /// `dep_info` heard something else than it would here. Gives whether there are any.
    pub fn learn_variables(&self, reader: &CrateReader, dep_info: &[u8]) -> bool {
        let variables = told_otherwise(reader, dep_info).unwrap_or_default();
        self.add(reader, Lesson { variables, ..Lesson::default() })
    }

    /// Adds the files that a compile's `words` name, if they are of the project and were not there: a
    /// macro wanted to read one, or a message quotes it. Gives whether there are any.
    pub fn learn_from_words(&self, reader: &CrateReader, words: &[u8], there: &Tree) -> bool {
        let text = String::from_utf8_lossy(words);
        self.add_files(reader, words::files(reader, &text), there)
    }

    /// As [`Learned::learn_from_words`], for the words of a failure that may be one of something
    /// missing: native libraries and crates too.
    pub fn learn_from_failure(&self, reader: &CrateReader, words: &[u8], there: &Tree) -> bool {
        let text = String::from_utf8_lossy(words);
        let (libraries, crates) = (words::missing_libraries(&text), words::missing_crates(&text));
        if libraries.is_empty() && crates.is_empty() && !words::tell_of_absence(&text) {
            return false;
        }
        let libraries = libraries.into_iter().flat_map(|name| native::called(reader, name));
        let crates = crates.into_iter().flat_map(|name| uses::called(reader, name));
        self.add_files(reader, libraries.chain(crates).chain(words::files(reader, &text)), there)
    }

    /// Adds those of `files` that were not there; gives whether there are any.
    fn add_files(
        &self,
        reader: &CrateReader,
        files: impl Iterator<Item = String>,
        there: &Tree,
    ) -> bool {
        let files = files.filter(|path| there.resolve_file(path).is_none()).collect();
        self.add(reader, Lesson { files, ..Lesson::default() })
    }

    /// Adds the files that the local compile which wrote `dep_info` has read and that were not
    /// there, and its variables. Gives whether there are any.
    pub fn learn_from_local(&self, reader: &CrateReader, dep_info: &[u8], there: &Tree) -> bool {
        let Some(told) = dep_info::parse(dep_info) else { return false };
        let absolute = |file: &String| super::absolute(&reader.logical_directory, file);
        let is_new = |path: &String| path.starts_with('/') && there.resolve_file(path).is_none();
        let files = told.files.iter().map(absolute).filter(is_new).collect();
        let is_asked = |name: &String| !environment::travels(name);
        let variables = told.variables.into_keys().filter(is_asked).collect();
        self.add(reader, Lesson { files, variables })
    }

    /// Adds `more` to what is known; gives whether anything of it is new.
    fn add(&self, reader: &CrateReader, more: Lesson) -> bool {
        let key = reader.key();
        let (grown, known) = self.with(|lessons| {
            if lessons.len() >= CRATES_MAX && !lessons.contains_key(&key) {
                lessons.clear();
            }
            let lesson = lessons.entry(key).or_default();
            let mut all = (**lesson).clone();
            all.files.extend(more.files);
            all.variables.extend(more.variables);
            let fits = all.files.len() <= LESSON_MAX && all.variables.len() <= LESSON_MAX;
            let grown = fits && all != **lesson;
            if grown {
                *lesson = Arc::new(all);
            }
            (grown, grown.then(|| lessons.clone()))
        });
        if let Some(Err(error)) = known.map(|known| write(&self.path, &known)) {
            tracing::debug!(%error, "what was learned of crates is not kept");
        }
        grown
    }

    fn with<R>(&self, act: impl FnOnce(&mut HashMap<Digest, Arc<Lesson>>) -> R) -> R {
        let mut lessons = self.lessons.lock().unwrap_or_else(PoisonError::into_inner);
        act(lessons.get_or_insert_with(|| read(&self.path)))
    }

    fn strange(&self) -> MutexGuard<'_, BTreeSet<Digest>> {
        self.strange.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The variables for which the compile that wrote `dep_info` heard something else than `reader`'s would
/// here; `None` where that does not stand there.
pub(super) fn told_otherwise(reader: &CrateReader, dep_info: &[u8]) -> Option<BTreeSet<String>> {
    let told = dep_info::parse(dep_info).filter(|told| !told.files.is_empty())?;
    let differs =
        |(name, value): &(String, Option<String>)| reader.environment.get(name) != value.as_ref();
    Some(told.variables.into_iter().filter(differs).map(|(name, _)| name).collect())
}

fn write(path: &Path, lessons: &HashMap<Digest, Arc<Lesson>>) -> io::Result<()> {
    let plain: BTreeMap<&Digest, &Lesson> = lessons.iter().map(|(k, v)| (k, &**v)).collect();
    let bytes = rmp_serde::to_vec(&plain).map_err(io::Error::other)?;
    if bytes.len() > BYTES_MAX {
        return Err(io::Error::other("more is known than is kept"));
    }
    sealed::write(path, KIND, &bytes).map(drop)
}

/// What [`write`] wrote; nothing when the file is damaged or of another version.
fn read(path: &Path) -> HashMap<Digest, Arc<Lesson>> {
    let bytes = sealed::read(path, KIND, BYTES_MAX).unwrap_or_default();
    let plain: BTreeMap<Digest, Lesson> = rmp_serde::from_slice(&bytes).unwrap_or_default();
    plain.into_iter().map(|(key, lesson)| (key, Arc::new(lesson))).collect()
}
