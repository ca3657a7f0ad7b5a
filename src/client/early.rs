//! What a wrapper is told before its compile has ended: an output is written that others wait for, and
//! the compiler's own words say so.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::crates::{CrateReader, answered};
use super::daemon::Daemon;
use super::inputs::Inputs;
use super::outputs::{self, Body, Product};
use super::request::Request;
use crate::job::wire::EarlyOutput;
use crate::job::{Digest, Proof};
use crate::store::stamps::Stamp;
use crate::store::{Blobs, walk};

/// Permission bits of a list under umask 0.
const LIST_MODE: u32 = 0o666;

/// Reaches the wrapper of one compile.
#[derive(Debug)]
pub struct Voice {
    says: UnboundedSender<Vec<u8>>,
    /// All that it was told of standard error.
    said: Mutex<Vec<u8>>,
    /// What was written before the compile had ended.
    written: Mutex<Vec<Written>>,
}

/// An output as it was written early.
#[derive(Debug)]
struct Written {
    path: String,
    digest: Digest,
    /// What its file looked like then.
    stamp: Stamp,
}

impl Written {
    /// Whether it is `product`, and stands below `directory` as it was written.
    fn is(&self, product: &Product, directory: &Path) -> bool {
        self.path == product.path
            && Some(self.digest) == product.digest
            && directory
                .join(&self.path)
                .symlink_metadata()
                .is_ok_and(|found| Stamp::of(&found) == self.stamp)
    }
}

impl Voice {
    /// With it comes what is to be sent to the wrapper.
    pub fn new() -> (Self, UnboundedReceiver<Vec<u8>>) {
        let (says, heard) = unbounded_channel();
        (Self { says, said: Mutex::default(), written: Mutex::default() }, heard)
    }

    /// Says what the compiler has written to standard error so far.
    fn say(&self, words: &[u8]) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_empty() {
            said.extend_from_slice(words);
            // The wrapper may have gone away.
            let _ = self.says.send(words.to_vec());
        }
    }

    /// Notes that `products` were written below `directory`.
    fn note_written(&self, directory: &Path, products: &[Product]) {
        let noted = products.iter().filter_map(|Product { path, digest, .. }| {
            let found = directory.join(path).symlink_metadata().ok()?;
            Some(Written { path: path.clone(), digest: (*digest)?, stamp: Stamp::of(&found) })
        });
        let noted: Vec<Written> = noted.collect();
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) = noted;
    }

    /// Those of `products` that are still to be written below `directory`. Compiles that use the early
    /// ones are under way: they may not change, and to cargo they may not be newer than what is made of
    /// them.
    pub(super) fn unwritten<'p>(
        &self,
        directory: &Path,
        products: &'p mut [Product],
    ) -> impl Iterator<Item = &'p mut Product> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let is_there =
            move |product: &Product| written.iter().any(|early| early.is(product, directory));
        products.iter_mut().filter(move |product| !is_there(product))
    }

    /// What of the compiler's words is still to be said.
    pub fn unsaid(&self, stderr: Vec<u8>) -> Vec<u8> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        match stderr.strip_prefix(said.as_slice()) {
            Some(rest) => rest.to_vec(),
            // Another run had other words: better twice than never.
            None => stderr,
        }
    }
}

/// Whether `early` is the output at `path`, and comes from a worker that was given the job.
pub(super) fn is_wanted(early: &EarlyOutput, path: &str, proof: Option<&Proof>) -> bool {
    proof == Some(&early.proof) && early.output.path == path
}

/// Passes on what comes `early`. Whatever goes wrong with that costs nothing but time: the result brings
/// it again.
pub(super) async fn pass_all_on(
    mut early: UnboundedReceiver<EarlyOutput>,
    for_whom: (&Request, &CrateReader, &Inputs),
    from: (&Daemon, &Blobs),
    voice: &Voice,
) {
    while let Some(early) = early.recv().await {
        pass_on(early, for_whom, from, voice).await;
    }
}

async fn pass_on(
    EarlyOutput { output, stderr, told, .. }: EarlyOutput,
    (request, reader, inputs): (&Request, &CrateReader, &Inputs),
    (daemon, blobs): (&Daemon, &Blobs),
    voice: &Voice,
) {
    // Who uses a crate that was told something else could not be linked with the right one.
    if !answered::was_told_the_same(reader, &told)
        || tokio::task::block_in_place(|| answered::quotes_more(reader, inputs, &stderr))
    {
        return;
    }
    let directory = Path::new(&request.directory);
    let from = (blobs, &*daemon.results);
    let Ok(mut products) = outputs::fetch(from, directory, &[output]).await else { return };
    if walk::changed(&inputs.seen).is_some() {
        return;
    }
    // Who uses the crate looks into the sources that its list names: the compiler writes it before.
    if let Some(path) = reader.krate.dep_info.clone().filter(|_| !told.is_empty()) {
        let digest = Some(Digest::of(&told));
        products.push(Product { path, mode: LIST_MODE, digest, body: Body::Bytes(told) });
    }
    // Kept first: as soon as a file has its name, others may change it.
    products.iter().for_each(|product| request.keep_content(daemon, product));
    let unwritten = voice.unwritten(directory, &mut products);
    if outputs::write(directory, unwritten, request.umask).is_ok() {
        voice.note_written(directory, &products);
        voice.say(&stderr);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{ActionKey, Content, JobId, Output, Space};

    #[test]
    fn only_who_was_given_the_job_announces_its_output() {
        let proof = |seed: u8| {
            let action = ActionKey::from(Digest::of(&[seed]));
            Proof::new(&[7; 32], JobId::random().unwrap(), &action, &Space::shared(), 1)
        };
        let (ours, forged) = (proof(1), proof(2));
        let content = Content::Blob { digest: Digest::of(b""), size: 0 };
        let output = Output { path: "liba.rmeta".into(), mode: 0o666, content };
        let early = |proof: &Proof| EarlyOutput {
            proof: proof.clone(),
            output: output.clone(),
            stderr: bytes::Bytes::new(),
            told: bytes::Bytes::new(),
        };
        assert!(is_wanted(&early(&ours), "liba.rmeta", Some(&ours)));
        assert!(!is_wanted(&early(&forged), "liba.rmeta", Some(&ours)));
        assert!(!is_wanted(&early(&ours), "libb.rmeta", Some(&ours)));
        // Before the job is queued nobody can have been given it.
        assert!(!is_wanted(&early(&ours), "liba.rmeta", None));
    }

    #[test]
    fn nothing_is_written_twice() {
        let folder = tempfile::tempdir().unwrap();
        let product = |path: &str, text: &'static [u8]| Product {
            path: path.into(),
            mode: 0o644,
            digest: Some(Digest::of(text)),
            body: Body::Bytes(text.into()),
        };
        let (voice, _heard) = Voice::new();
        let unwritten = |text| {
            let mut all = [product("a.rmeta", text), product("a.rlib", b"")];
            voice.unwritten(folder.path(), &mut all).count()
        };
        assert_eq!(unwritten(b"one"), 2);
        std::fs::write(folder.path().join("a.rmeta"), "one").unwrap();
        voice.note_written(folder.path(), &[product("a.rmeta", b"one")]);
        assert_eq!((unwritten(b"one"), unwritten(b"two")), (1, 2));
        std::fs::write(folder.path().join("a.rlib"), "").unwrap();
        voice.note_written(folder.path(), &[product("a.rmeta", b"one"), product("a.rlib", b"")]);
        assert_eq!((unwritten(b"one"), unwritten(b"two")), (0, 1));
        // Somebody else was there.
        std::fs::remove_file(folder.path().join("a.rmeta")).unwrap();
        assert_eq!(unwritten(b"one"), 1);
    }

    #[test]
    fn nothing_is_said_twice() {
        let (voice, mut heard) = Voice::new();
        voice.say(b"one\n");
        voice.say(b"one\n");
        assert_eq!(heard.try_recv().unwrap(), b"one\n");
        assert!(heard.try_recv().is_err());
        assert_eq!(voice.unsaid(b"one\ntwo\n".to_vec()), b"two\n");
        assert_eq!(voice.unsaid(b"other".to_vec()), b"other");
    }
}
