//! What a compile really read, of all that it might have read.
//!
//! A result is known under the action that ran, and under the *precise* action: the same command
//! over the tree restricted to what was read ([`Tree::restricted`](super::Tree::restricted)). A
//! header that was not read may then change, come or go.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{ActionKey, Digest, TreePath, bounded};

/// Most files of one list.
const PATHS_MAX: usize = 20_000;
/// Most bytes of all paths of one list, as they travel.
const PATHS_BYTES_MAX: usize = 1 << 20;
/// Most lists of one command.
pub const LISTS_MAX: usize = 4;

/// Paths in order; each travels as the length of what it shares with the one before, and the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Packed", into = "Packed")]
pub struct PathList(BTreeSet<TreePath>);

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Packed(#[serde(deserialize_with = "bounded::list::<_, _, PATHS_MAX>")] Vec<(usize, String)>);

impl PathList {
    /// A list of these paths; `None` when they are too many or too long to travel.
    pub fn new(paths: BTreeSet<TreePath>) -> Option<Self> {
        let list = Self(paths);
        let packed = list.pack();
        let bytes: usize = packed.iter().map(|(_, rest)| rest.len()).sum();
        (packed.len() <= PATHS_MAX && bytes <= PATHS_BYTES_MAX).then_some(list)
    }

    /// The paths.
    pub fn paths(&self) -> &BTreeSet<TreePath> {
        &self.0
    }

    fn pack(&self) -> Vec<(usize, String)> {
        let mut before = "";
        let mut packed = Vec::with_capacity(self.0.len());
        for path in &self.0 {
            let text = path.as_str();
            let same = before.bytes().zip(text.bytes()).take_while(|(one, two)| one == two).count();
            let shared = (0..=same).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            packed.push((shared, text[shared..].to_owned()));
            before = text;
        }
        packed
    }
}

impl From<PathList> for Packed {
    fn from(list: PathList) -> Self {
        Self(list.pack())
    }
}

impl TryFrom<Packed> for PathList {
    type Error = String;

    fn try_from(Packed(packed): Packed) -> Result<Self, String> {
        let (mut paths, mut before, mut bytes) = (BTreeSet::new(), String::new(), 0);
        for (shared, rest) in packed {
            let head = before.get(..shared).ok_or("a path shares more than there is")?;
            let text = format!("{head}{rest}");
            bytes += text.len();
            if bytes > PATHS_BYTES_MAX * 16 {
                return Err("paths are too long together".into());
            }
            paths.insert(TreePath::try_from(text.clone()).map_err(|error| error.to_string())?);
            before = text;
        }
        Ok(Self(paths))
    }
}

/// Client to worker: how it can tell what the compile read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadsAsked {
    /// Where the compiler says it.
    pub way: Way,
    /// Files of the tree that count as read although no list names them: the source, files whose
    /// being there is tested, files that flags name.
    pub always: PathList,
}

/// Where a compiler says what it reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    /// In a wanted output, which is a make rule that names system headers too (`-MD`).
    Output(String),
    /// gcc: in a make rule of its own, for the variable `SUNPRO_DEPENDENCIES`.
    MakeRule,
    /// clang: in a list of its own, for the variable `CC_PRINT_HEADERS_FILE`.
    HeaderList,
}

/// Worker to client and scheduler: what a compile read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reads {
    /// [`Action::command_key`] of the action that ran.
    pub command: Digest,
    /// Digest of the whole input tree. Together with the command it must give the action's key:
    /// so nobody can speak of another command than the one that ran.
    pub whole: Digest,
    /// Digest of the tree restricted to what was read.
    pub precise: Digest,
    /// The files that were read.
    pub paths: PathList,
}

impl Reads {
    /// Keys of the action that ran and of the precise one.
    pub fn keys(&self) -> (ActionKey, ActionKey) {
        (ActionKey::of(&self.command, &self.whole), ActionKey::of(&self.command, &self.precise))
    }
}

/// The lists of one command that are known, used last first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadLists(
    #[serde(deserialize_with = "bounded::list::<_, _, LISTS_MAX>")] pub Vec<PathList>,
);

impl ReadLists {
    /// Puts `list` before the others, of which the oldest makes room; tells whether that changed
    /// anything.
    pub fn renew(&mut self, list: &PathList) -> bool {
        if self.0.first() == Some(list) {
            return false;
        }
        self.0.retain(|known| known != list);
        self.0.insert(0, list.clone());
        self.0.truncate(LISTS_MAX);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::wire;

    fn list(paths: &[&str]) -> PathList {
        let paths = paths.iter().map(|path| TreePath::try_from(*path).unwrap());
        PathList::new(paths.collect()).unwrap()
    }

    #[test]
    fn a_list_travels_and_is_short() {
        let paths: Vec<String> =
            (0..400).map(|n| format!("/usr/include/a-very-long-folder/é{n}.h")).collect();
        let list = list(&paths.iter().map(String::as_str).collect::<Vec<_>>());
        let bytes = wire::encode(&list);
        assert!(bytes.len() < 400 * 12, "{}", bytes.len());
        assert_eq!(wire::decode::<PathList>(&bytes).unwrap(), list);
    }

    #[test]
    fn hostile_lists_are_refused() {
        for packed in [
            vec![(1, "/a".to_owned())],
            vec![(0, "/a/../b".to_owned())],
            vec![(0, "/é".to_owned()), (2, "x".to_owned())],
            vec![(0, String::new())],
        ] {
            let bytes = wire::encode(&packed);
            assert!(wire::decode::<PathList>(&bytes).is_err(), "{packed:?}");
        }
        let many = vec![(0, "/a".to_owned()); PATHS_MAX + 1];
        assert!(wire::decode::<PathList>(&wire::encode(&many)).is_err());
        // Each path is as long as the one before and a little longer.
        let long = format!("/{}", "x".repeat(3_000));
        let mut growing = vec![(0, long.clone())];
        growing.extend((0..PATHS_MAX - 1).map(|n| (3_000, format!("{n}"))));
        assert!(wire::decode::<PathList>(&wire::encode(&growing)).is_err());
    }

    #[test]
    fn lists_are_few_and_the_latest_comes_first() {
        let mut lists = ReadLists::default();
        for name in ["/a", "/b", "/c", "/d", "/e", "/b"] {
            assert!(lists.renew(&list(&[name])));
        }
        assert!(!lists.renew(&list(&["/b"])));
        assert_eq!(lists.0, ["/b", "/e", "/d", "/c"].map(|name| list(&[name])));
    }
}
