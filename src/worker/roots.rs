//! Roots of sandboxes, kept for the next job of the same space: two jobs in a row read mostly the same
//! files.
//!
//! A root is read-only for its sandbox, so what lies in it is known for certain. Fitting it to the
//! next job costs the difference; making and removing a hundred files costs milliseconds, most of
//! all where the file system looks for a free inode.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::job::{Digest, Space};
use crate::store::DiskError;

use super::folder::Caches;
use super::layout::{self, Layout, Place, Way};
use super::sandbox::DEVICES;

/// Most roots that wait for a job; each is some hundred names on disk, and keeps the blocks of
/// files that the caches may have evicted meanwhile.
const IDLE_MAX: usize = 64;
/// Most empty folders that wait beside one root for a use.
const SPARE_MAX: usize = 256;

/// What lies at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    Folder,
    Link { target: String },
    File { digest: Digest, executable: bool, way: Way },
}

impl Item {
    fn of(file: &layout::File) -> Self {
        Self::File { digest: file.digest, executable: file.executable, way: file.way }
    }
}

/// Whose jobs a root is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    /// What lies in a root was fetched in this space, and no other may find it there.
    pub(super) space: Space,
    /// Jobs of one compiler have the most in common.
    pub(super) compiler: String,
}

/// A folder that is the `/` of a sandbox, with what lies in it beside what every sandbox has.
#[derive(Debug, Default)]
pub(super) struct Root {
    /// Holds the root, and beside it empty folders `spare-0` and so on: giving one another name is far
    /// cheaper than making it, as file systems look long for an inode that was not just deleted.
    home: PathBuf,
    path: PathBuf,
    spare: usize,
    user: Option<User>,
    items: BTreeMap<String, Item>,
}

impl Root {
    /// A new one in `home` with what every sandbox has.
    pub(super) fn make(home: PathBuf, user: User) -> io::Result<Self> {
        make_private(&home)?;
        let path = home.join("root");
        make_folder(&path)?;
        let root = Self { home, path, spare: 0, user: Some(user), items: BTreeMap::new() };
        for folder in ["proc", "dev"] {
            make_folder(&root.path.join(folder))?;
        }
        let dev = root.path.join("dev");
        for device in DEVICES {
            File::create(dev.join(device))?;
        }
        for (name, target) in [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")] {
            symlink(format!("/proc/self/fd{target}"), dev.join(name))?;
        }
        Ok(root)
    }

    /// Where it lies on this machine.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Everything that belongs to it.
    pub(super) fn home(&self) -> &Path {
        &self.home
    }

    /// Removes what `layout` does not want here, and makes its folders and links.
    pub(super) fn fit(&mut self, layout: &Layout) -> io::Result<()> {
        let wanted = wanted(layout);
        let strange = |(path, item): &(&String, &Item)| wanted.get(path.as_str()) != Some(*item);
        let gone: Vec<String> =
            self.items.iter().filter(strange).map(|(path, _)| path.clone()).collect();
        // What lies in a folder comes after it.
        for path in gone.into_iter().rev() {
            let place = self.path.join(&path);
            match self.items.remove(&path) {
                Some(Item::Folder) => self.lay_by(&place)?,
                Some(Item::Link { .. } | Item::File { .. }) => fs::remove_file(place)?,
                None => {}
            }
        }
        for (path, item) in wanted {
            let place = self.path.join(path);
            match &item {
                _ if self.items.contains_key(path) => continue,
                Item::Folder => self.folder(&place)?,
                Item::Link { target } => symlink(target, place)?,
                // Its bytes may have to be fetched first.
                Item::File { .. } => continue,
            }
            self.items.insert(path.to_owned(), item);
        }
        Ok(())
    }

    /// Takes an empty folder away.
    fn lay_by(&mut self, place: &Path) -> io::Result<()> {
        if self.spare == SPARE_MAX {
            return fs::remove_dir(place);
        }
        fs::rename(place, self.home.join(format!("spare-{}", self.spare)))?;
        self.spare += 1;
        Ok(())
    }

    /// Makes an empty folder.
    fn folder(&mut self, place: &Path) -> io::Result<()> {
        match self.spare.checked_sub(1) {
            None => make_folder(place),
            Some(last) => {
                fs::rename(self.home.join(format!("spare-{last}")), place)?;
                self.spare = last;
                Ok(())
            }
        }
    }

    /// Puts `file` into its place, unless it lies there already.
    ///
    /// # Errors
    /// Those of [`crate::store::DiskCache::link`].
    pub(super) fn put(&mut self, file: &layout::File, caches: &Caches) -> Result<(), DiskError> {
        let item = Item::of(file);
        if self.items.get(&file.path) == Some(&item) {
            caches.of(file.class).touch(file.digest, file.kind());
            return Ok(());
        }
        caches.put(file, &self.path.join(&file.path))?;
        self.items.insert(file.path.clone(), item);
        Ok(())
    }
}

/// What `layout` wants in the root, by path.
fn wanted(layout: &Layout) -> BTreeMap<&str, Item> {
    let folders = layout.folders.iter().filter(|(place, _)| *place == Place::Root);
    let links = layout.links.iter().filter(|link| link.place == Place::Root);
    let files = layout.files.iter().filter(|file| file.place == Place::Root);
    let folders = folders.map(|(_, path)| (path.as_str(), Item::Folder));
    let links = links.map(|link| (link.path.as_str(), Item::Link { target: link.target.clone() }));
    let files = files.map(|file| (file.path.as_str(), Item::of(file)));
    folders.chain(links).chain(files).collect()
}

/// Roots that wait for a job.
#[derive(Debug, Default)]
pub(super) struct Idle(Mutex<Vec<Root>>);

impl Idle {
    /// The latest of `user`.
    pub(super) fn take(&self, user: &User) -> Option<Root> {
        let mut roots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = roots.iter().rposition(|root| root.user.as_ref() == Some(user))?;
        Some(roots.remove(index))
    }

    /// Keeps `root`; gives back the one that waited longest, if there are too many now.
    pub(super) fn keep(&self, root: Root) -> Option<Root> {
        let mut roots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        roots.push(root);
        (roots.len() > IDLE_MAX).then(|| roots.remove(0))
    }

    /// All of them.
    pub(super) fn take_all(&self) -> Vec<Root> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Makes one folder that nobody else can look into.
pub(super) fn make_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Makes one folder; it may be there already.
pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o755).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::super::layout::{Link, Start};
    use super::*;
    use crate::job::wire::BlobClass;
    use crate::store::DiskCache;

    /// A layout of folders, links and files (path and text) in the root.
    fn layout(folders: &[&str], links: &[(&str, &str)], files: &[(&str, &str)]) -> Layout {
        let link = |(path, target): &(&str, &str)| Link {
            place: Place::Root,
            path: (*path).into(),
            target: (*target).into(),
        };
        let file = |(path, text): &(&str, &str)| layout::File {
            place: Place::Root,
            path: (*path).into(),
            class: BlobClass::Input,
            digest: Digest::of(text.as_bytes()),
            size: 0,
            executable: false,
            way: Way::Link,
        };
        Layout {
            folders: folders.iter().map(|path| (Place::Root, (*path).into())).collect(),
            files: files.iter().map(file).collect(),
            links: links.iter().map(link).collect(),
            points: Vec::new(),
            writable: Vec::new(),
            mounts: Vec::new(),
            targets: Vec::new(),
            start: Start::ByName,
        }
    }

    #[test]
    fn a_root_waits_for_jobs_of_its_own_space() {
        let home = tempfile::tempdir().unwrap();
        let user = |space: &str| User { space: space.parse().unwrap(), compiler: "gcc".into() };
        let idle = Idle::default();
        idle.keep(Root::make(home.path().join("root"), user("acme")).unwrap());
        assert!(idle.take(&user("shared")).is_none());
        assert!(idle.take(&user("acme")).is_some());
    }

    #[test]
    fn what_two_jobs_share_stays_and_the_rest_goes() {
        let home = tempfile::tempdir().unwrap();
        let cache = |name| DiskCache::open(home.path().join(name), 1 << 20).unwrap();
        let caches = Caches { toolchains: cache("t"), inputs: cache("i") };
        for text in ["same", "old", "new"] {
            caches.inputs.insert(text.as_bytes()).unwrap();
        }
        let user = User { space: Space::shared(), compiler: "gcc".into() };
        let mut root = Root::make(home.path().join("home"), user).unwrap();
        let mut fit = |layout: &Layout| {
            root.fit(layout).unwrap();
            layout.files.iter().for_each(|file| root.put(file, &caches).unwrap());
        };
        let place = home.path().join("home/root");
        let inode = |path: &str| place.join(path).metadata().unwrap().ino();
        let text = |path: &str| fs::read_to_string(place.join(path)).ok();

        let files = [("i/same", "same"), ("i/a", "old"), ("d/e/f", "old")];
        fit(&layout(&["i", "d", "d/e"], &[("l", "i/a")], &files));
        let before = inode("i");
        assert_eq!(text("l").as_deref(), Some("old"));
        fit(&layout(
            &["i"],
            &[("l", "i/same")],
            &[("i/same", "same"), ("i/a", "new"), ("d", "new")],
        ));
        assert_eq!((inode("i"), text("l").as_deref()), (before, Some("same")));
        assert_eq!((text("i/a").as_deref(), text("d").as_deref()), (Some("new"), Some("new")));
        let before = inode("i");
        fit(&layout(&[], &[], &[]));
        let left = fs::read_dir(&place).unwrap();
        let mut left: Vec<_> = left.map(|found| found.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["dev", "proc"]);
        // A folder that was not needed any more is one that is.
        fit(&layout(&["n", "o", "p", "q"], &[], &[]));
        let inodes = ["n", "o", "p", "q"].map(inode);
        assert!(inodes.contains(&before));
        assert!(fs::read_dir(place.join("n")).unwrap().next().is_none());
    }
}
