//! Toolchains as files: `.tar.zst`, the same bytes for the same toolchain, and read back with
//! suspicion.
//!
//! The archive holds the tree below its root and, in front, `jetcc-toolchain.json` with the
//! references. An archive without that file (as `icecc-create-env` writes them, recompressed) is
//! a toolchain without references.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

use super::collect::check_limit;
use super::{Packed, Settings, ToolchainError};
use crate::job::toolchain::Reference;
use crate::job::{Digest, Node, Toolchain, Tree, TreePath};

/// Name of the member in front; no path of a tree lies directly below the root under this name.
const MANIFEST: &str = "jetcc-toolchain.json";
/// Version of the manifest that is written and read.
const MANIFEST_VERSION: u32 = 1;
/// Largest manifest, in bytes.
const MANIFEST_BYTES_MAX: u64 = 4 << 20;
/// Most bytes that stand between two members: headers, long names and padding.
const HEADER_BYTES_MAX: u64 = 1 << 20;
/// Fast and still close to the best that zstd does with machine code.
const ZSTD_LEVEL: i32 = 6;

#[derive(Serialize, Deserialize)]
struct Manifest {
    version: u32,
    /// The `PATH` with which the compiler is to be started.
    path: String,
    references: Vec<Reference>,
}

/// What [`import`] found.
#[derive(Clone, Debug)]
pub struct Imported {
    /// Tree and references.
    pub toolchain: Toolchain,
    /// The `PATH` with which the compiler is to be started; empty when the archive has none.
    pub path: String,
    /// Where the content of each digest lies.
    pub sources: BTreeMap<Digest, PathBuf>,
}

/// Writes `packed` to `archive`: beside it first, then renamed. Blocking.
///
/// # Errors
/// [`ToolchainError`] when a file cannot be read or written, or is no longer what was packed.
pub fn export(packed: &Packed, archive: &Path) -> Result<(), ToolchainError> {
    let folder = archive.parent().filter(|folder| !folder.as_os_str().is_empty());
    let temporary = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))
        .map_err(ToolchainError::io(archive))?;
    let writer = BufWriter::new(temporary.as_file());
    let encoder = zstd::Encoder::new(writer, ZSTD_LEVEL).map_err(ToolchainError::io(archive))?;
    let mut tar = tar::Builder::new(encoder);
    let manifest = Manifest {
        version: MANIFEST_VERSION,
        path: packed.path.clone(),
        references: packed.toolchain.references.clone(),
    };
    let manifest = serde_json::to_vec_pretty(&manifest).map_err(io::Error::from);
    let manifest = manifest.map_err(ToolchainError::io(archive))?;
    let mut file = header(EntryType::Regular, manifest.len() as u64, 0o644);
    tar.append_data(&mut file, MANIFEST, &manifest[..]).map_err(ToolchainError::io(archive))?;
    for (path, node) in packed.toolchain.tree.iter() {
        append(&mut tar, path, node, &packed.sources)?;
    }
    let finish = tar.into_inner().and_then(zstd::Encoder::finish).and_then(|mut w| w.flush());
    finish.map_err(ToolchainError::io(archive))?;
    let written = temporary.persist(archive).map_err(|error| error.error);
    written.map(drop).map_err(ToolchainError::io(archive))
}

fn append<W: Write>(
    tar: &mut tar::Builder<W>,
    path: &TreePath,
    node: &Node,
    sources: &BTreeMap<Digest, PathBuf>,
) -> Result<(), ToolchainError> {
    let name = path.relative();
    let failed = ToolchainError::io(path.as_str());
    match node {
        Node::Directory => {
            let mut header = header(EntryType::Directory, 0, 0o755);
            tar.append_data(&mut header, name, io::empty()).map_err(failed)
        }
        Node::Symlink { target } => {
            let mut header = header(EntryType::Symlink, 0, 0o777);
            tar.append_link(&mut header, name, target).map_err(failed)
        }
        Node::File { digest, size, executable } => {
            let source = sources.get(digest).map_or(Path::new(path.as_str()), PathBuf::as_path);
            let mut file = Hashing::new(File::open(source).map_err(ToolchainError::io(source))?);
            let mode = if *executable { 0o755 } else { 0o644 };
            let mut header = header(EntryType::Regular, *size, mode);
            tar.append_data(&mut header, name, (&mut file).take(*size)).map_err(failed)?;
            if file.digest() == *digest {
                Ok(())
            } else {
                Err(ToolchainError::Changed(source.to_owned()))
            }
        }
    }
}

fn header(kind: EntryType, size: u64, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// Reads `archive` and puts each file's content into `folder` under its digest. Blocking.
///
/// # Errors
/// [`ToolchainError::Archive`] for a path that is not clean, for anything but files, links and
/// directories, for two entries of one path; [`ToolchainError::TooLarge`]; or reading and writing.
pub fn import(
    archive: &Path,
    folder: &Path,
    settings: &Settings,
) -> Result<Imported, ToolchainError> {
    let file = File::open(archive).map_err(ToolchainError::io(archive))?;
    let decoder = zstd::Decoder::new(file).map_err(ToolchainError::io(archive))?;
    let budget = Rc::new(Cell::new(HEADER_BYTES_MAX));
    let metered = Metered { inner: BufReader::new(decoder), budget: Rc::clone(&budget) };
    let mut tar = tar::Archive::new(metered);
    let mut reading = Reading {
        archive,
        folder,
        settings,
        members: 0,
        bytes: 0,
        manifest: None,
        tree: Tree::default(),
        sources: BTreeMap::new(),
    };
    for entry in tar.entries().map_err(ToolchainError::io(archive))? {
        let mut entry = entry.map_err(ToolchainError::io(archive))?;
        budget.set(entry.size().saturating_add(HEADER_BYTES_MAX));
        reading.entry(&mut entry)?;
        io::copy(&mut entry, &mut io::sink()).map_err(ToolchainError::io(archive))?;
        budget.set(HEADER_BYTES_MAX);
    }
    reading.tree.check()?;
    let (path, references) =
        reading.manifest.map_or_else(Default::default, |m| (m.path, m.references));
    let toolchain = Toolchain { tree: reading.tree, references };
    Ok(Imported { toolchain, path, sources: reading.sources })
}

/// An archive that is being read.
struct Reading<'a> {
    archive: &'a Path,
    folder: &'a Path,
    settings: &'a Settings,
    members: u64,
    bytes: u64,
    manifest: Option<Manifest>,
    tree: Tree,
    sources: BTreeMap<Digest, PathBuf>,
}

impl Reading<'_> {
    fn entry<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> Result<(), ToolchainError> {
        self.members += 1;
        let members_max = self.settings.toolchain_entries_max as u64 + 1;
        check_limit("entries", self.members, members_max)?;
        let name = entry.path_bytes().into_owned();
        let name = String::from_utf8(name).map_err(|_| self.bad("a path is not UTF-8"))?;
        let name = name.strip_prefix("./").unwrap_or(&name).trim_end_matches('/');
        if name.is_empty() || name == "." {
            return Ok(());
        }
        if name == MANIFEST {
            return self.read_manifest(entry);
        }
        let path = TreePath::try_from(format!("/{name}"))?;
        let executable = entry.header().mode().is_ok_and(|mode| mode & 0o111 != 0);
        let node = match entry.header().entry_type() {
            EntryType::Directory => Node::Directory,
            EntryType::Symlink => Node::Symlink { target: self.target(entry)? },
            EntryType::Regular => {
                let (digest, size) = self.keep(entry)?;
                Node::File { digest, size, executable }
            }
            other => return Err(self.bad(&format!("`{path}` is of kind {other:?}"))),
        };
        if self.tree.get(&path).is_some_and(|there| *there != Node::Directory || node != *there) {
            return Err(self.bad(&format!("`{path}` comes twice")));
        }
        self.tree.insert(path, node);
        Ok(())
    }

    fn read_manifest<R: Read>(&mut self, entry: &mut R) -> Result<(), ToolchainError> {
        if self.manifest.is_some() {
            return Err(self.bad("its manifest comes twice"));
        }
        let reader = entry.take(MANIFEST_BYTES_MAX);
        let manifest: Manifest = serde_json::from_reader(reader)
            .map_err(|error| self.bad(&format!("its manifest cannot be read: {error}")))?;
        if manifest.version != MANIFEST_VERSION {
            let found = manifest.version;
            return Err(self.bad(&format!("version {found}, wanted {MANIFEST_VERSION}")));
        }
        self.manifest = Some(manifest);
        Ok(())
    }

    fn target<R: Read>(&self, entry: &tar::Entry<'_, R>) -> Result<String, ToolchainError> {
        let target = entry.link_name_bytes().map(|bytes| String::from_utf8(bytes.into_owned()));
        match target {
            Some(Ok(target)) if !target.is_empty() => Ok(target),
            _ => Err(self.bad("a link has no target that is UTF-8")),
        }
    }

    /// Copies one file into the folder, counting what really comes out of the archive.
    fn keep(&mut self, content: &mut impl Read) -> Result<(Digest, u64), ToolchainError> {
        let failed = || ToolchainError::io(self.folder);
        let limit = self.settings.toolchain_bytes_max;
        let mut file = tempfile::NamedTempFile::new_in(self.folder).map_err(failed())?;
        let mut content = Hashing::new(content.take((limit - self.bytes).saturating_add(1)));
        let size = io::copy(&mut content, &mut file).map_err(failed())?;
        check_limit("bytes", self.bytes + size, limit)?;
        let digest = content.digest();
        let path = self.folder.join(digest.to_string());
        file.persist(&path).map_err(|error| error.error).map_err(failed())?;
        self.bytes += size;
        self.sources.insert(digest, path);
        Ok((digest, size))
    }

    fn bad(&self, what: &str) -> ToolchainError {
        ToolchainError::Archive { path: self.archive.to_owned(), what: what.to_owned() }
    }
}

/// A reader that gives no more than its budget. Long names and sparse maps are kept in memory before
/// anybody sees their member, and a few bytes of zstd can be terabytes of a name.
struct Metered<R> {
    inner: R,
    budget: Rc<Cell<u64>>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let left = self.budget.get().checked_sub(count as u64);
        let left = left.ok_or_else(|| io::Error::other("a header or long name has no end"))?;
        self.budget.set(left);
        Ok(count)
    }
}

/// A reader that hashes what passes through.
struct Hashing<R> {
    inner: R,
    hasher: Sha256,
}

impl<R> Hashing<R> {
    fn new(inner: R) -> Self {
        Self { inner, hasher: Sha256::new() }
    }

    fn digest(self) -> Digest {
        Digest::from_bytes(self.hasher.finalize().into())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
