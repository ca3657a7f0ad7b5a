//! Follows includes from the source to every file that they may lead to, whatever `#if` says.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::path::Path;

use super::Doubt;
use super::presence::{Found, Place, Presence, Probe, Standing};
use crate::client::inputs::{Reader, Rules, absolute, folder_of};
use crate::compiler::FileFacts;
use crate::compiler::includes::{self, Header, Include, MacroInclude, macro_hash};
use crate::compiler::search::Search;
use crate::store::stamps::{FileIndex, Known};

/// Most files of one scan; a compile with more is asked of the compiler.
const FILES_MAX: usize = 20_000;
/// gcc reads it before the source, where the system has it.
const PREINCLUDED: &str = "stdc-predef.h";

/// Where includes lead.
#[derive(Debug, Default)]
pub(super) struct Closure {
    /// The files, as their includes spell them; the source first.
    pub(super) files: Vec<String>,
    /// What is in each of them, if it is no link.
    pub(super) known: Vec<Option<Known<FileFacts>>>,
    /// The folders that were looked into, and their folders.
    pub(super) standing: Standing,
    /// Names that led nowhere.
    pub(super) missing: BTreeSet<String>,
}

/// Follows everything that `reader`'s command may include.
pub(super) fn follow(
    reader: &Reader,
    search: &Search,
    presence: &Presence,
    index: &FileIndex<FileFacts>,
) -> Result<Closure, Doubt> {
    let Rules { quote, angle, .. } = Rules::of(reader, search);
    let mut walk = Walk {
        quote,
        angle,
        index,
        probe: Probe::new(presence),
        closure: Closure::default(),
        source: String::new(),
        listed: HashSet::new(),
        expanded: HashSet::new(),
        included: HashMap::new(),
        chained: HashMap::new(),
        macros: Macros::default(),
    };
    for definition in &reader.plan.preprocessing.defines {
        let (name, header) = includes::definition(definition);
        walk.macros.define(name, header.as_ref());
    }
    walk.begin(reader)?;
    walk.run()?;
    Ok(Closure { standing: walk.probe.into_standing(), ..walk.closure })
}

struct Walk<'a> {
    quote: Vec<String>,
    angle: Vec<String>,
    index: &'a FileIndex<FileFacts>,
    probe: Probe<'a>,
    closure: Closure,
    /// Full path of the source.
    source: String,
    listed: HashSet<String>,
    /// A file's identity and its folder's: where its includes lead depends on no more.
    expanded: HashSet<(Place, Place)>,
    /// What files of a folder include: the same leads to the same.
    included: HashMap<String, HashSet<Header>>,
    /// Where a name leads that is not beside its includer.
    chained: HashMap<Header, Option<String>>,
    macros: Macros,
}

/// Macros that name headers, and who asks for them.
#[derive(Default)]
struct Macros {
    headers: BTreeMap<String, BTreeSet<Header>>,
    others: HashSet<u32>,
    /// With the includer's folder.
    asked: BTreeSet<(String, MacroInclude)>,
    settled: HashSet<(String, bool, Header)>,
}

impl Macros {
    fn define(&mut self, name: &str, header: Option<&Header>) {
        match header {
            Some(header) => {
                self.headers.entry(name.to_owned()).or_default().insert(header.clone());
            }
            None => {
                self.others.insert(macro_hash(name));
            }
        }
    }

    /// The headers that the macro may name. One that nothing defines is not read where anything is
    /// compiled, unless the compiler itself defines it.
    fn resolve(&self, include: &MacroInclude) -> Result<Vec<Header>, Doubt> {
        let name = &include.name;
        let headers = self.headers.get(name);
        let is_other = self.others.contains(&macro_hash(name));
        match headers {
            _ if is_other || (name.starts_with("__") && headers.is_none()) => Err(Doubt::Macro),
            Some(_) if !include.alone => Err(Doubt::Macro),
            Some(headers) => Ok(headers.iter().cloned().collect()),
            None => Ok(Vec::new()),
        }
    }
}

impl Walk<'_> {
    /// The source, and what is read before it.
    fn begin(&mut self, reader: &Reader) -> Result<(), Doubt> {
        let source = &reader.plan.source;
        self.closure.files.push(source.clone());
        let path = absolute(&reader.directory, source);
        let beside = folder_of(&path).to_owned();
        self.source.clone_from(&path);
        self.listed.insert(path);
        for forced in &reader.plan.preprocessing.forced {
            // Compilers differ in where they begin.
            for folder in [&reader.directory, &beside] {
                self.add_first(std::slice::from_ref(folder), forced)?;
            }
            self.add_all(true, forced)?;
        }
        self.add_all(false, PREINCLUDED)
    }

    fn run(&mut self) -> Result<(), Doubt> {
        loop {
            while let Some(path) = self.next() {
                self.expand(&path)?;
            }
            let asked: Vec<_> = self.macros.asked.iter().cloned().collect();
            for (folder, include) in asked {
                for header in self.macros.resolve(&include)? {
                    let settled = (folder.clone(), include.next, header.clone());
                    if self.macros.settled.insert(settled) {
                        self.include(&folder, &Include { header, next: include.next })?;
                    }
                }
            }
            if self.next().is_none() {
                return Ok(());
            }
        }
    }

    /// Full path of the first file that was not read yet.
    fn next(&self) -> Option<String> {
        match self.closure.known.len() {
            0 => Some(self.source.clone()),
            number => self.closure.files.get(number).cloned(),
        }
    }

    /// Reads what one file includes.
    fn expand(&mut self, path: &str) -> Result<(), Doubt> {
        let known = self.look_into(Path::new(path)).map_err(|_| Doubt::Unreadable)?;
        let folder = folder_of(path);
        let place = self.probe.place(folder).ok_or(Doubt::Unreadable)?;
        if !self.expanded.insert(((known.stamp.dev, known.stamp.ino), place)) {
            return Ok(());
        }
        let facts = known.facts.ok_or(Doubt::TooLarge)?;
        if facts.includes.unresolved {
            return Err(Doubt::Spelling);
        }
        for (name, header) in &facts.includes.definitions {
            self.macros.define(name, Some(header));
        }
        self.macros.others.extend(&facts.includes.other_definitions);
        let asked =
            facts.includes.macros.iter().map(|include| (folder.to_owned(), include.clone()));
        self.macros.asked.extend(asked);
        let mut included = self.included.remove(folder).unwrap_or_default();
        for include in &facts.includes.headers {
            if include.next {
                self.include(folder, include)?;
            } else if !included.contains(&include.header) {
                self.include(folder, include)?;
                included.insert(include.header.clone());
            }
        }
        self.included.insert(folder.to_owned(), included);
        Ok(())
    }

    /// What is in the next file, which is at `path`.
    fn look_into(&mut self, path: &Path) -> io::Result<Known<FileFacts>> {
        let found = std::fs::symlink_metadata(path)?;
        let is_link = found.is_symlink();
        let known =
            if is_link { self.index.digest(path) } else { self.index.digest_at(path, &found) }?;
        self.closure.known.push((!is_link).then(|| known.clone()));
        Ok(known)
    }

    /// Adds what an include in a file of `folder` may find.
    fn include(&mut self, folder: &str, include: &Include) -> Result<(), Doubt> {
        let Header { name, quoted } = &include.header;
        if name.starts_with('/') {
            return self.add_first(&[String::new()], name.trim_start_matches('/')).map(|_| ());
        }
        if *quoted {
            let is_found = self.add_first(&[folder.to_owned()], name)?;
            if is_found && !include.next {
                return Ok(());
            }
        }
        if include.next {
            // Where the includer was found is not asked: the header is in one of the folders.
            return self.add_all(true, name);
        }
        if let Some(known) = self.chained.get(&include.header) {
            if known.is_none() {
                self.closure.missing.insert(name.clone());
            }
            return Ok(());
        }
        let quote = if *quoted { self.quote.clone() } else { Vec::new() };
        let found = self.first(quote.iter(), name)?;
        let angle = std::mem::take(&mut self.angle);
        let found = match found {
            None => self.first(angle.iter(), name),
            found => Ok(found),
        };
        self.angle = angle;
        let found = found?;
        self.chained.insert(include.header.clone(), found.clone());
        match found {
            Some(path) => self.add(path),
            None => {
                self.closure.missing.insert(name.clone());
                Ok(())
            }
        }
    }

    /// The first of `folders` that has the header.
    fn first<'f>(
        &mut self,
        folders: impl Iterator<Item = &'f String>,
        name: &str,
    ) -> Result<Option<String>, Doubt> {
        for folder in folders {
            match self.probe.find(folder, name) {
                Found::Nothing => {}
                Found::File => return Ok(Some(format!("{folder}/{name}"))),
                Found::Doubt => return Err(Doubt::Unreadable),
            }
        }
        Ok(None)
    }

    fn add_first(&mut self, folders: &[String], name: &str) -> Result<bool, Doubt> {
        match self.first(folders.iter(), name)? {
            Some(path) => self.add(path).map(|()| true),
            None => Ok(false),
        }
    }

    /// Adds the header from every folder that has it.
    fn add_all(&mut self, quoted: bool, name: &str) -> Result<(), Doubt> {
        let quote = if quoted { self.quote.clone() } else { Vec::new() };
        for folder in quote.into_iter().chain(self.angle.clone()) {
            self.add_first(&[folder], name)?;
        }
        Ok(())
    }

    fn add(&mut self, path: String) -> Result<(), Doubt> {
        if self.listed.contains(&path) {
            return Ok(());
        }
        if self.closure.files.len() >= FILES_MAX {
            return Err(Doubt::TooMany);
        }
        self.listed.insert(path.clone());
        self.closure.files.push(path);
        Ok(())
    }
}
