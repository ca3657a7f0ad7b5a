//! What a compile gave. A failed compile is an outcome like any other.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Digest, TreePath, bounded};

/// Most files that one compile may have written, wanted or not.
const OUTPUTS_MAX: usize = 1_024;

/// How the compiler ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// It exited with this code, 0 to 255.
    Code(u8),
    /// A signal of this number ended it.
    Signal(u8),
}

impl Exit {
    /// Exit code 0.
    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }
}

/// Bytes, either here or in the blob store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// zstd-compressed bytes; `digest` and `size` are of the uncompressed ones.
    Inline {
        /// Digest of the uncompressed bytes.
        digest: Digest,
        /// Uncompressed size in bytes.
        size: u64,
        /// zstd frame.
        zstd: Bytes,
    },
    /// A blob among the outputs of the store.
    Blob {
        /// Digest of the uncompressed bytes.
        digest: Digest,
        /// Uncompressed size in bytes.
        size: u64,
    },
}

impl Content {
    /// Digest of the uncompressed bytes.
    pub fn digest(&self) -> Digest {
        match self {
            Self::Inline { digest, .. } | Self::Blob { digest, .. } => *digest,
        }
    }

    /// Uncompressed size in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Inline { size, .. } | Self::Blob { size, .. } => *size,
        }
    }
}

/// A file that the compile wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The path as it was wanted, [`super::WantedOutput::path`].
    pub path: String,
    /// Permission bits that the compiler gave it, under umask 0.
    pub mode: u32,
    /// Its bytes.
    pub content: Content,
}

/// Suffixes of compiled crates of Rust: metadata alone, metadata and objects, and what can be loaded.
pub const ARTIFACTS: [&str; 3] = [".rmeta", ".rlib", ".so"];

/// Whether an output of this path is one that other compiles read: a compiled crate of Rust.
pub fn is_artifact(path: &str) -> bool {
    ARTIFACTS.iter().any(|suffix| path.ends_with(suffix))
}

/// Everything a local run of the command would have shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// How the compiler ended.
    pub exit: Exit,
    /// Its standard output.
    pub stdout: Content,
    /// Its standard error.
    pub stderr: Content,
    /// The wanted files that exist afterwards.
    #[serde(deserialize_with = "bounded::list::<_, _, OUTPUTS_MAX>")]
    pub outputs: Vec<Output>,
    /// Files it wrote beside the wanted ones; if there are any the client compiles locally.
    #[serde(deserialize_with = "bounded::list::<_, _, OUTPUTS_MAX>")]
    pub unexpected: Vec<TreePath>,
}

impl Outcome {
    /// Everything that the compile gave: outputs, then both streams.
    pub fn contents(&self) -> impl Iterator<Item = &Content> {
        let outputs = self.outputs.iter().map(|output| &output.content);
        outputs.chain([&self.stdout, &self.stderr])
    }

    /// Names what the compile gave, wherever its bytes travel: equal for runs that agree.
    pub fn fingerprint(&self) -> Digest {
        let exit = match self.exit {
            Exit::Code(code) => [0, code],
            Exit::Signal(signal) => [1, signal],
        };
        let mut text = exit.to_vec();
        for content in self.contents() {
            text.extend(content.digest().as_bytes());
        }
        // Names have any length: each has its own in front.
        let outputs = self.outputs.iter().map(|output| (output.path.clone(), output.mode));
        let unexpected = self.unexpected.iter().map(|path| (path.to_string(), u32::MAX));
        for (path, mode) in outputs.chain(unexpected) {
            text.extend((path.len() as u64).to_be_bytes());
            text.extend(path.as_bytes());
            text.extend(mode.to_be_bytes());
        }
        Digest::of(&text)
    }
}

/// Milliseconds (fractional) that each step of a job took on the worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepTimes {
    /// From publishing until a worker took it.
    #[serde(deserialize_with = "bounded::milliseconds")]
    pub queue_ms: f64,
    /// Fetching what the worker's disk lacked.
    #[serde(deserialize_with = "bounded::milliseconds")]
    pub fetch_ms: f64,
    /// Laying out the trees.
    #[serde(deserialize_with = "bounded::milliseconds")]
    pub layout_ms: f64,
    /// Sandbox and compiler together.
    #[serde(deserialize_with = "bounded::milliseconds")]
    pub run_ms: f64,
    /// Reading, compressing and storing outputs.
    #[serde(deserialize_with = "bounded::milliseconds")]
    pub store_ms: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome() -> Outcome {
        let blob = |text: &[u8]| Content::Blob { digest: Digest::of(text), size: 1 };
        Outcome {
            exit: Exit::Code(0),
            stdout: blob(b"out"),
            stderr: blob(b"err"),
            outputs: vec![Output { path: "a.o".into(), mode: 0o666, content: blob(b"object") }],
            unexpected: Vec::new(),
        }
    }

    #[test]
    fn a_fingerprint_tells_results_apart_and_not_the_way_they_travel() {
        let base = outcome();
        let changes: [fn(&mut Outcome); 6] = [
            |o| o.exit = Exit::Signal(0),
            |o| std::mem::swap(&mut o.stdout, &mut o.stderr),
            |o| o.outputs[0].path.push('x'),
            |o| o.outputs[0].mode = 0o777,
            |o| o.outputs[0].content = o.stdout.clone(),
            |o| o.outputs.clear(),
        ];
        for change in changes {
            let mut other = base.clone();
            change(&mut other);
            assert_ne!(base.fingerprint(), other.fingerprint());
        }
        let mut inside = base.clone();
        let (digest, size) = (base.stdout.digest(), base.stdout.size());
        inside.stdout = Content::Inline { digest, size, zstd: Bytes::from_static(b"frame") };
        assert_eq!(base.fingerprint(), inside.fingerprint());
    }
}
