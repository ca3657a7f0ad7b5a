//! What a job's folder has to look like: which files, which folders can be written, which mounts.
//! Pure.
//!
//! The root is read-only and made of hard links. A folder that the compile writes to is a folder of
//! its own that is mounted there: tree files that lie directly in it are private copies, and its
//! sub-folders are mounted read-only again. So no compile can change a file of the cache, whoever
//! owns it. Links are cheap (4 µs each, a mount 70 µs) and stay for the next job, hence nothing is
//! mounted to save links; a copy costs 1 ms/MB, hence the largest files of writable folders are links
//! aside that are mounted over empty files.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::job::wire::BlobClass;
use crate::job::{Command, Digest, Node, WantedOutput};
use crate::store::Kind;

use super::paths::{Merged, RESERVED, Refusal, parent};

/// Where compilers put their temporary files; can always be written.
const TEMPORARY: &str = "/tmp";
/// A file is mounted instead of copied from this size on, in bytes.
const MOUNT_BYTES_MIN: u64 = 256 << 10;
/// Most files that are mounted: bubblewrap looks through all mounts for each one.
const MOUNTS_MAX: usize = 64;

/// Which of the job's folders on disk something lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// The read-only root.
    Root,
    /// The writable folder of this number.
    Writable(usize),
    /// Beside them: links that are mounted.
    Aside,
}

/// How a file comes into its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// As a link to the cache's file.
    Link,
    /// As a file of its own.
    Copy,
}

/// A tree's file and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct File {
    pub(super) place: Place,
    /// Path below the place.
    pub(super) path: String,
    pub(super) class: BlobClass,
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) executable: bool,
    pub(super) way: Way,
}

impl File {
    /// Which file of its blob it is.
    pub(super) fn kind(&self) -> Kind {
        if self.executable { Kind::Executable } else { Kind::Plain }
    }
}

/// A symbolic link and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) place: Place,
    pub(super) path: String,
    pub(super) target: String,
}

/// Something that is mounted over the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// The writable folder, the root for what is read-only again, or a file aside.
    pub(super) place: Place,
    /// Path below the place; empty for all of it.
    pub(super) from: String,
    /// Where, for the compiler.
    pub(super) path: String,
}

/// A wanted output and where it will appear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Number of the writable folder.
    pub(super) folder: usize,
    /// File name in it.
    pub(super) name: String,
    pub(super) wanted: WantedOutput,
}

/// How the compiler is started so that it sees the client's `argv[0]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// `argv[0]` leads to the executable.
    ByName,
    /// It leads elsewhere or nowhere: path and name have to be given apart.
    ByPath,
}

/// Everything that has to be made before the command can run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Folders, parents first.
    pub(super) folders: Vec<(Place, String)>,
    pub(super) files: Vec<File>,
    pub(super) links: Vec<Link>,
    /// Empty files of writable folders, over which files are mounted.
    pub(super) points: Vec<(Place, String)>,
    /// Folders that can be written, as the compiler sees them.
    pub(super) writable: Vec<String>,
    /// Mounts in their order.
    pub(super) mounts: Vec<Mount>,
    pub(super) targets: Vec<Target>,
    pub(super) start: Start,
}

impl Layout {
    /// Plans `command` over both trees.
    pub(super) fn of(
        merged: &Merged<'_>,
        command: &Command,
        outputs: &[WantedOutput],
    ) -> Result<Self, Refusal> {
        let directory = merged.resolve_folder("/", &command.directory)?;
        let mut places = Vec::with_capacity(outputs.len());
        for wanted in outputs {
            places.push(target_of(merged, &command.directory, wanted)?);
        }
        let temporary = merged.resolve_folder("/", TEMPORARY)?;
        let writable: BTreeSet<&str> =
            places.iter().map(|(folder, _)| folder.as_str()).chain([temporary.as_str()]).collect();
        if let Some(root) = writable.get("") {
            return Err(Refusal::Reserved(format!("{root}/")));
        }
        let writable: BTreeMap<&str, usize> =
            writable.into_iter().enumerate().map(|(number, path)| (path, number)).collect();
        let ground = Ground { writable: &writable };
        let folders = all_folders(merged, writable.keys().copied().chain([directory.as_str()]));
        let (files, links) = ground.entries(merged);
        let targets = places.iter().zip(outputs).map(|((folder, name), wanted)| Target {
            folder: writable[folder.as_str()],
            name: name.clone(),
            wanted: wanted.clone(),
        });
        let mut layout = Self {
            mounts: ground.mounts(&folders),
            folders: ground.folders(&folders),
            files,
            links,
            points: Vec::new(),
            targets: targets.collect(),
            start: if merged.starts_by_name(command) { Start::ByName } else { Start::ByPath },
            writable: writable.keys().map(|path| (*path).to_owned()).collect(),
        };
        layout.mount_the_largest();
        Ok(layout)
    }

    /// Mounts the largest files that would have to be copied, but for those that the compile writes.
    fn mount_the_largest(&mut self) {
        let linked = self.files.iter().filter(|file| file.way == Way::Link);
        let mut linked: HashSet<Digest> = linked.map(|file| file.digest).collect();
        let mut largest: Vec<usize> =
            (0..self.files.len()).filter(|file| self.may_be_mounted(&self.files[*file])).collect();
        largest.sort_by_key(|file| Reverse(self.files[*file].size));
        largest.retain(|file| linked.insert(self.files[*file].digest));
        for number in largest.into_iter().take(MOUNTS_MAX) {
            let file = &mut self.files[number];
            let Place::Writable(folder) = file.place else { continue };
            let path = format!("{}/{}", self.writable[folder], file.path);
            let aside = number.to_string();
            let point = std::mem::replace(&mut file.path, aside.clone());
            self.points.push((file.place, point));
            (file.place, file.way) = (Place::Aside, Way::Link);
            self.mounts.push(Mount { place: Place::Aside, from: aside, path });
        }
    }

    fn may_be_mounted(&self, file: &File) -> bool {
        let is_written = |target: &Target| {
            (Place::Writable(target.folder), &target.name) == (file.place, &file.path)
        };
        file.size >= MOUNT_BYTES_MIN
            && matches!(file.place, Place::Writable(_))
            && !self.targets.iter().any(is_written)
    }

    /// Whether what is left in this writable folder is nobody's concern.
    pub(super) fn is_temporary(&self, folder: usize) -> bool {
        self.writable[folder] == TEMPORARY
    }
}

/// Folder and name of an output.
fn target_of(
    merged: &Merged<'_>,
    directory: &str,
    wanted: &WantedOutput,
) -> Result<(String, String), Refusal> {
    let (folder, name) = wanted.path.rsplit_once('/').map_or((".", &*wanted.path), |parts| {
        if parts.0.is_empty() { ("/", parts.1) } else { parts }
    });
    if matches!(name, "" | "." | "..") {
        return Err(Refusal::NoName(wanted.path.clone()));
    }
    let folder = merged.resolve_folder(directory, folder)?;
    let whole = format!("{folder}/{name}");
    if merged.is_folder(&whole) || RESERVED.contains(&whole.as_str()) {
        return Err(Refusal::IsFolder(wanted.path.clone()));
    }
    Ok((folder, name.to_owned()))
}

/// The folders of both trees, `more`, and what leads there.
fn all_folders<'a>(merged: &Merged<'a>, more: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let mut folders: BTreeSet<&str> = merged.folders().collect();
    for folder in more.filter(|folder| !folder.is_empty()) {
        let mut next = Some(folder);
        while let Some(folder) = next
            && folders.insert(folder)
        {
            next = parent(folder);
        }
    }
    folders
}

/// Knows which folders can be written.
struct Ground<'a> {
    writable: &'a BTreeMap<&'a str, usize>,
}

impl Ground<'_> {
    /// Where the entry at `path` lies, and its path there.
    fn place<'p>(&self, path: &'p str) -> (Place, &'p str) {
        let below = parent(path)
            .and_then(|folder| Some((self.writable.get(folder)?, &path[folder.len() + 1..])));
        match below {
            Some((number, name)) => (Place::Writable(*number), name),
            None => (Place::Root, &path[1..]),
        }
    }

    /// Sources of equal content get an inode each: clang takes links to one file for one file.
    fn entries(&self, merged: &Merged<'_>) -> (Vec<File>, Vec<Link>) {
        let (mut files, mut links) = (Vec::new(), Vec::new());
        let mut linked = HashSet::new();
        for (path, class, node) in merged.entries() {
            let (place, path) = self.place(path);
            let path = path.to_owned();
            match node {
                Node::File { digest, size, executable } => {
                    let may_link = place == Place::Root
                        && (class == BlobClass::Toolchain || linked.insert(*digest));
                    files.push(File {
                        place,
                        path,
                        class,
                        digest: *digest,
                        size: *size,
                        // Nothing of the inputs is a program, whatever the client says.
                        executable: *executable && class == BlobClass::Toolchain,
                        way: if may_link { Way::Link } else { Way::Copy },
                    });
                }
                Node::Symlink { target } => {
                    links.push(Link { place, path, target: target.clone() })
                }
                Node::Directory => {}
            }
        }
        (files, links)
    }

    /// All folders lie in the root; those directly in a writable one are mount points there too.
    fn folders(&self, folders: &BTreeSet<&str>) -> Vec<(Place, String)> {
        let mut made = Vec::with_capacity(folders.len() + 4);
        for path in folders {
            made.push((Place::Root, path[1..].to_owned()));
            if let (place @ Place::Writable(_), name) = self.place(path) {
                made.push((place, name.to_owned()));
            }
        }
        made
    }

    /// In path order, so that a mount never hides one that is below it.
    fn mounts(&self, folders: &BTreeSet<&str>) -> Vec<Mount> {
        let mut mounts = Vec::new();
        for path in folders {
            let (place, from) = match (self.writable.get(path), self.place(path)) {
                (Some(number), _) => (Place::Writable(*number), ""),
                (None, (Place::Writable(_), _)) => (Place::Root, &path[1..]),
                (None, (Place::Root | Place::Aside, _)) => continue,
            };
            mounts.push(Mount { place, from: from.to_owned(), path: (*path).to_owned() });
        }
        mounts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Tree;

    fn tree(entries: &[(&str, Option<&str>)]) -> Tree {
        let mut tree = Tree::default();
        for (path, target) in entries {
            let node = match target {
                Some("dir") => Node::Directory,
                Some(target) => Node::Symlink { target: (*target).to_owned() },
                None => Node::File { digest: Digest::of(b""), size: 0, executable: false },
            };
            tree.insert((*path).try_into().unwrap(), node);
        }
        tree
    }

    fn layout(inputs: &Tree, outputs: &[&str]) -> Result<Layout, Refusal> {
        let toolchain = tree(&[("/usr/bin/gcc", None)]);
        let merged = Merged::of(&toolchain, inputs).unwrap();
        let command = Command {
            executable: "/usr/bin/gcc".into(),
            arguments: vec!["gcc".into()],
            environment: BTreeMap::new(),
            directory: "/w".into(),
        };
        let outputs: Vec<_> = outputs
            .iter()
            .map(|path| WantedOutput { path: (*path).into(), required: true })
            .collect();
        Layout::of(&merged, &command, &outputs)
    }

    fn mounts(layout: &Layout) -> Vec<(Place, &str)> {
        layout.mounts.iter().map(|mount| (mount.place, mount.path.as_str())).collect()
    }

    #[test]
    fn output_beside_the_source_copies_the_source_and_protects_sub_folders() {
        let inputs = tree(&[("/w/a.c", None), ("/w/inc/a.h", None), ("/w/inc/deep/b.h", None)]);
        let layout = layout(&inputs, &["a.o"]).unwrap();
        assert_eq!(layout.writable, ["/tmp", "/w"]);
        let wanted =
            [(Place::Writable(0), "/tmp"), (Place::Writable(1), "/w"), (Place::Root, "/w/inc")];
        assert_eq!(mounts(&layout), wanted);
        let places: Vec<_> =
            layout.files.iter().map(|file| (file.place, file.path.as_str())).collect();
        let wanted = [
            (Place::Root, "usr/bin/gcc"),
            (Place::Writable(1), "a.c"),
            (Place::Root, "w/inc/a.h"),
            (Place::Root, "w/inc/deep/b.h"),
        ];
        assert_eq!(places, wanted);
        assert!(layout.folders.contains(&(Place::Writable(1), "inc".into())));
        assert_eq!((layout.targets[0].folder, &*layout.targets[0].name), (1, "a.o"));
    }

    #[test]
    fn nested_output_folders_are_mounted_outside_in() {
        let inputs = tree(&[("/w/o/x/i.h", None), ("/w/l", Some("o/y"))]);
        let layout = layout(&inputs, &["o/a.o", "o/x/y/b.d", "l/c.dwo"]).unwrap();
        assert_eq!(layout.writable, ["/tmp", "/w/o", "/w/o/x/y", "/w/o/y"]);
        let wanted = [
            (Place::Writable(0), "/tmp"),
            (Place::Writable(1), "/w/o"),
            (Place::Root, "/w/o/x"),
            (Place::Writable(2), "/w/o/x/y"),
            (Place::Writable(3), "/w/o/y"),
        ];
        assert_eq!(mounts(&layout), wanted);
        assert!(layout.folders.contains(&(Place::Root, "w/o/x/y".into())));
        assert!(layout.folders.contains(&(Place::Writable(1), "y".into())));
    }

    #[test]
    fn outputs_below_the_temporary_folder() {
        let inputs = tree(&[("/tmp/p/a.c", None), ("/tmp/q/a.h", None)]);
        let layout = layout(&inputs, &["/tmp/p/a.o", "/tmp/b.o"]).unwrap();
        assert_eq!(layout.writable, ["/tmp", "/tmp/p"]);
        let wanted =
            [(Place::Writable(0), "/tmp"), (Place::Writable(1), "/tmp/p"), (Place::Root, "/tmp/q")];
        assert_eq!(mounts(&layout), wanted);
        assert!(layout.is_temporary(0) && !layout.is_temporary(1));
    }

    #[test]
    fn large_files_of_writable_folders_are_mounted_unless_they_are_written() {
        let mut inputs = Tree::default();
        let mut add = |path: &str, text: &str, size| {
            let digest = Digest::of(text.as_bytes());
            inputs.insert(path.try_into().unwrap(), Node::File { digest, size, executable: false });
        };
        let large = MOUNT_BYTES_MIN;
        add("/w/large.rmeta", "large", large);
        add("/w/larger.rmeta", "larger", large + 1);
        add("/w/same.rmeta", "larger", large + 1);
        add("/w/again.rmeta", "elsewhere", large);
        add("/w/small.rmeta", "small", large - 1);
        add("/w/a.o", "older", large);
        add("/o/far.rmeta", "elsewhere", large);
        let layout = layout(&inputs, &["a.o"]).unwrap();
        let aside = |mount: &Mount| {
            layout
                .files
                .iter()
                .find(|file| (file.place, &file.path) == (Place::Aside, &mount.from))
                .map(|file| (file.way, file.digest))
        };
        let mounted = layout.mounts.iter().filter(|mount| mount.place == Place::Aside);
        let mounted: Vec<_> = mounted.map(|mount| (mount.path.as_str(), aside(mount))).collect();
        // The first of two equal ones, and what the root has no link to.
        let of = |text: &str| Some((Way::Link, Digest::of(text.as_bytes())));
        assert_eq!(mounted, [("/w/larger.rmeta", of("larger")), ("/w/large.rmeta", of("large"))]);
        let point = |name: &str| (Place::Writable(1), name.to_owned());
        assert_eq!(layout.points, [point("larger.rmeta"), point("large.rmeta")]);
        let copies = layout.files.iter().filter(|file| file.way == Way::Copy);
        let copies: Vec<_> = copies.map(|file| file.path.as_str()).collect();
        assert_eq!(copies, ["a.o", "again.rmeta", "same.rmeta", "small.rmeta"]);
    }

    #[test]
    fn outputs_that_cannot_be() {
        let inputs = tree(&[("/w/d", Some("dir")), ("/w/f", None), ("/w/p", Some("/proc/1"))]);
        for (path, wanted) in [
            ("d", Refusal::IsFolder("d".into())),
            ("d/..", Refusal::NoName("d/..".into())),
            ("", Refusal::NoName(String::new())),
            ("f/a.o", Refusal::NotAFolder("/w/f".into())),
            ("p/mem", Refusal::Reserved("/proc/1".into())),
            ("/dev/null", Refusal::Reserved("/dev".into())),
            ("/a.o", Refusal::Reserved("/".into())),
        ] {
            assert_eq!(layout(&inputs, &[path]).err(), Some(wanted), "{path}");
        }
    }
}
