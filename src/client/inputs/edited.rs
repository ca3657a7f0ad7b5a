//! Inputs after an edit, without looking for them again.
//!
//! Where a file's facts ([`FileFacts`]: all that it may include, test and define) are what they were,
//! a scan would find what it found before. So inputs that were scanned, *T*, are right with the file's
//! new content. Inputs that a compile was seen to read, *R*, a part of *T*, may be too few: a
//! condition may hold now that did not. They are taken all the same if no include in a file of *R*
//! can find another file there than here ([`is_unmistakable`]): then a compile that needs more misses
//! a file and says so, and the compiler is asked.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{About, Extent, Inputs, Reader, absolute, base_name, folder_of};
use crate::compiler::FileFacts;
use crate::compiler::includes::{self, Header, Include};
use crate::compiler::search::Search;
use crate::job::{Digest, Node, Tree, TreePath};
use crate::store::stamps::{FileIndex, Stamp};
use crate::store::walk::Seen;

/// How the includes of a command are followed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Folders for `#include "…"` alone, absolute.
    pub quote: Vec<String>,
    /// Folders for both forms, behind `quote`, absolute.
    pub angle: Vec<String>,
    /// Macros of the command line that name headers.
    headers: Vec<(String, Header)>,
}

impl Rules {
    /// Those of `reader`'s command, whose compiler looks into the folders of `search`.
    pub fn of(reader: &Reader, search: &Search) -> Self {
        let folders = |list: &[String]| {
            list.iter().map(|folder| absolute(&reader.directory, folder)).collect()
        };
        let defined = reader.plan.preprocessing.defines.iter();
        let header = |text: &String| {
            let (name, header) = includes::definition(text);
            Some((name.to_owned(), header?))
        };
        Self {
            quote: folders(&search.quote),
            angle: folders(&search.angle),
            headers: defined.filter_map(header).collect(),
        }
    }

    /// Where an include in a file of `folder` looks, in order.
    fn places<'a>(
        &'a self,
        folder: &'a str,
        include: &'a Include,
    ) -> impl Iterator<Item = String> + 'a {
        let Header { name, quoted } = &include.header;
        let is_full = name.starts_with('/');
        let beside = [folder].into_iter().chain(self.quote.iter().map(String::as_str));
        let beside = beside.filter(|_| *quoted);
        let places = beside.chain(self.angle.iter().map(String::as_str)).filter(move |_| !is_full);
        let full = is_full.then(|| name.clone());
        full.into_iter().chain(places.map(move |place| format!("{place}/{name}")))
    }
}

/// A file with another content than before.
#[derive(Clone, Debug)]
pub struct Edit {
    /// Where it is.
    pub path: TreePath,
    /// What it held.
    pub before: Digest,
    /// What it is now.
    pub now: Node,
}

impl Inputs {
    /// The inputs with what `edits` say of files in their `tree`, which were seen as `seen` says.
    pub fn edited(&self, mut tree: Tree, edits: Vec<Edit>, seen: Vec<Seen>) -> Self {
        let mut about = self.about();
        for Edit { path, before, now } in edits {
            if let Node::File { digest, .. } = now
                && about.main == Some(before)
            {
                about.main = Some(digest);
            }
            tree.insert(path, now);
        }
        let extent = match self.extent {
            Extent::Larger => Extent::Larger,
            Extent::Likely | Extent::Exact => Extent::Likely,
        };
        Self::of_tree(About { extent, ..about }, &Arc::new(tree), seen)
    }

    /// The rules, if `precise`, which is what is left of `tree`, can do with them. `seen` says which
    /// files were read.
    pub(super) fn rules_for(
        &self,
        tree: &Tree,
        precise: &Tree,
        seen: &[Seen],
        index: &FileIndex<FileFacts>,
    ) -> Option<Rules> {
        let stamps: HashMap<&str, &Stamp> = seen
            .iter()
            .filter_map(|seen| Some((seen.path.to_str()?, seen.stamp.as_ref()?)))
            .collect();
        let facts = |path: &TreePath, content: &Digest| {
            let known = index.read_last(stamps.get(path.as_str())?)?;
            known.facts.filter(|_| known.digest == *content)
        };
        let rules = self.rules.as_ref()?;
        is_unmistakable(tree, precise, rules, facts).then(|| rules.clone())
    }
}

/// Whether includes in the files of `precise` find there what they find in `tree`, of which it is a
/// part, or nothing.
fn is_unmistakable(
    tree: &Tree,
    precise: &Tree,
    rules: &Rules,
    facts: impl Fn(&TreePath, &Digest) -> Option<FileFacts>,
) -> bool {
    let said: Option<Vec<(&TreePath, FileFacts)>> = precise
        .iter()
        .filter_map(|(path, node)| match node {
            Node::File { digest, .. } => Some(facts(path, digest).map(|facts| (path, facts))),
            Node::Symlink { .. } | Node::Directory => None,
        })
        .collect();
    let Some(said) = said else { return false };
    let twins = twin_names(tree);
    let defined = said.iter().flat_map(|(_, facts)| &facts.includes.definitions);
    let defined: Vec<&(String, Header)> = rules.headers.iter().chain(defined).collect();
    let links = links_to_files(tree);
    // Many files have the same includes, and beside its file looks a quoted one alone.
    let mut settled = HashSet::new();
    let mut finds_same_from = |folder, include: &Include| {
        let Include { header, next } = include;
        !settled.insert((header.quoted.then_some(folder), header.clone(), *next))
            || finds_same(tree, precise, rules.places(folder, include), *next)
    };
    said.iter().all(|(path, facts)| {
        // A file that is read through a link has its includes beside the link.
        let links = links.iter().filter(|(_, file)| file == path).map(|(link, _)| link);
        let folders: Vec<&str> = links.chain([path]).map(|path| folder_of(path.as_str())).collect();
        let mut finds_same = |include: &Include| {
            !twins.contains(base_name(&include.header.name))
                || folders.iter().all(|folder| finds_same_from(*folder, include))
        };
        facts.includes.headers.iter().all(&mut finds_same)
            && facts.includes.macros.iter().all(|named| {
                let mut meant = defined.iter().filter(|(name, _)| *name == named.name);
                meant.all(|(_, header)| {
                    finds_same(&Include { header: header.clone(), next: named.next })
                })
            })
    })
}

/// Whether the first of `places` that leads to a file of `tree` leads to one of `precise`, or no
/// later one does. Where an include begins in the middle, all have to lead into `precise`, or none.
fn finds_same(
    tree: &Tree,
    precise: &Tree,
    places: impl Iterator<Item = String>,
    from_the_middle: bool,
) -> bool {
    let mut found = places.filter_map(|place| tree.resolve_file(&place));
    let is_kept = |file: &TreePath| precise.get(file).is_some();
    match found.next().map(is_kept) {
        None => true,
        Some(true) if from_the_middle => found.all(is_kept),
        Some(true) => true,
        Some(false) => !found.any(is_kept),
    }
}

/// Names that more than one file or link has: an include of any other can find one file alone.
fn twin_names(tree: &Tree) -> HashSet<&str> {
    let mut names = HashSet::with_capacity(tree.len());
    let listed = tree.iter().filter(|(_, node)| **node != Node::Directory);
    listed.map(|(path, _)| base_name(path.as_str())).filter(|name| !names.insert(*name)).collect()
}

/// Links, and the files that they lead to.
fn links_to_files(tree: &Tree) -> Vec<(&TreePath, &TreePath)> {
    let links = tree.iter().filter(|(_, node)| matches!(node, Node::Symlink { .. }));
    links.filter_map(|(link, _)| Some((link, tree.resolve_file(link.as_str())?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compiler::scan_facts;

    /// Whether of a project of these files (`text`, or `->target` for a link) the first ones, so
    /// many, find the same without the others. It is searched in `/i` and `/j`.
    fn unmistakable(kept: usize, files: &[(&str, &str)]) -> bool {
        let mut tree = Tree::default();
        for (path, text) in files {
            let node = match text.strip_prefix("->") {
                Some(target) => Node::Symlink { target: target.into() },
                None => {
                    let digest = Digest::of(text.as_bytes());
                    Node::File { digest, size: text.len() as u64, executable: false }
                }
            };
            tree.insert(TreePath::try_from(*path).unwrap(), node);
        }
        let read = files[..kept].iter().map(|(path, _)| TreePath::try_from(*path).unwrap());
        let precise = tree.restricted(&read.collect());
        let angle = vec!["/i".to_owned(), "/j".to_owned()];
        let header = Header { name: "m.h".into(), quoted: false };
        let rules = Rules { quote: Vec::new(), angle, headers: vec![("GIVEN".into(), header)] };
        let facts = |path: &TreePath, _: &Digest| {
            let found = files.iter().find(|(name, _)| *name == path.as_str());
            found.map(|(_, text)| scan_facts(text.as_bytes()))
        };
        is_unmistakable(&tree, &precise, &rules, facts)
    }

    #[test]
    fn names_that_one_file_has_are_not_mistaken() {
        let source = "#include <x.h>\n#if 0\n#include \"y.h\"\n#endif";
        assert!(unmistakable(2, &[("/p/a.c", source), ("/i/x.h", ""), ("/p/y.h", "")]));
        // The same name, but where this include does not look.
        assert!(unmistakable(2, &[("/p/a.c", source), ("/i/x.h", ""), ("/i/sys/x.h", "")]));
        // The one that is read stands before the other.
        assert!(unmistakable(2, &[("/p/a.c", source), ("/i/x.h", ""), ("/j/x.h", "")]));
    }

    #[test]
    fn a_header_behind_the_one_that_is_wanted_would_be_read_instead() {
        let unmistakable_with = |include: &str, unread: &str| {
            let source = format!("#include \"/j/x.h\"\n#if 0\n{include}\n#endif");
            unmistakable(2, &[("/p/a.c", &source), ("/j/x.h", ""), (unread, "1")])
        };
        for include in ["#include <x.h>", "#include_next <x.h>", "#define H <x.h>\n#include H"] {
            assert!(!unmistakable_with(include, "/i/x.h"), "{include}");
        }
        assert!(!unmistakable_with("#include \"x.h\"", "/p/x.h"));
        assert!(unmistakable_with("#include <x.h>", "/p/x.h"));
    }

    #[test]
    fn macros_of_the_command_line_and_links_are_followed() {
        let source = "#include \"/j/m.h\"\n#if 0\n#include GIVEN\n#endif";
        assert!(!unmistakable(2, &[("/p/a.c", source), ("/j/m.h", ""), ("/i/m.h", "1")]));
        let source = "#include \"/j/x.h\"\n#if 0\n#include <x.h>\n#endif";
        let link = [("/p/a.c", source), ("/j/x.h", ""), ("/i/x.h", "->real-1"), ("/i/real-1", "1")];
        assert!(!unmistakable(2, &link));
        // What is read through a link looks beside the link.
        let source = "#include \"/l/x.h\"\n#include \"/j/y.h\"";
        let header = "#if 0\n#include \"y.h\"\n#endif";
        let read =
            [("/p/a.c", source), ("/q/x.h", header), ("/j/y.h", ""), ("/l/x.h", "->../q/x.h")];
        let with = |unread| unmistakable(3, &[&read[..], &[(unread, "1")]].concat());
        assert!(!with("/l/y.h") && with("/k/y.h"));
    }

    #[test]
    fn a_file_of_which_nothing_is_known_may_include_anything() {
        let tree = {
            let mut tree = Tree::default();
            let digest = Digest::of(b"");
            let node = Node::File { digest, size: 0, executable: false };
            tree.insert(TreePath::try_from("/p/a.c").unwrap(), node);
            tree
        };
        assert!(!is_unmistakable(&tree, &tree, &Rules::default(), |_, _| None));
    }
}
