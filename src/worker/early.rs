//! An output that other compiles wait for reaches its client as soon as the compiler says that it is
//! written, while the compile goes on: rustc announces a crate's metadata long before its objects.

use std::sync::Arc;

use serde::Deserialize;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::exec::Listener;
use crate::job::wire::{BlobClass, EarlyOutput, JobMessage, Progress};
use crate::job::{Content, Output};
use crate::store::{Blobs, Compressed};

use super::fetch::{Tell, Word};
use super::outputs::read_open;
use super::prepare::{Prepared, blocking};

/// Most bytes of standard error that go with an output: a message has to hold them.
const WORDS_BYTES_MAX: usize = 256 << 10;

/// What rustc says, one in a line, where it was told `--json=artifacts`.
#[derive(Deserialize)]
struct Announcement {
    artifact: String,
}

/// The output that a job's client wants early, if it wants one.
pub(super) struct Early<'a> {
    job: &'a JobMessage,
    heard: UnboundedReceiver<Vec<u8>>,
}

impl<'a> Early<'a> {
    /// With it comes what has to hear the compiler; `None` when nobody wants anything early.
    pub(super) fn of(job: &'a JobMessage) -> Option<(Self, Listener)> {
        job.submit.announced.as_ref()?;
        let (listener, heard) = unbounded_channel();
        Some((Self { job, heard }, listener))
    }

    /// Tells of the output when the compiler has announced it.
    pub(super) async fn announce(
        mut self,
        prepared: &Arc<Prepared>,
        blobs: &Blobs,
        tell: Tell<'_>,
    ) {
        let Some(wanted) = &self.job.submit.announced else { return };
        let (mut words, mut read) = (Vec::new(), 0);
        while let Some(more) = self.heard.recv().await {
            words.extend(more);
            while let Some(end) = words[read..].iter().position(|byte| *byte == b'\n') {
                let line = read..read + end;
                read += end + 1;
                if read > WORDS_BYTES_MAX {
                    return;
                }
                if announces(&words[line], wanted) {
                    words.truncate(read);
                    return self.send(wanted, words, prepared, blobs, tell).await;
                }
            }
        }
    }

    /// Whatever goes wrong is told by the result.
    async fn send(
        &self,
        wanted: &str,
        words: Vec<u8>,
        prepared: &Arc<Prepared>,
        blobs: &Blobs,
        tell: Tell<'_>,
    ) {
        let (path, prepared) = (wanted.to_owned(), prepared.clone());
        let found = blocking(move || {
            let target = prepared.layout.targets.iter().find(|it| it.wanted.path == path);
            Ok(target.and_then(|target| read_open(&prepared, target).ok().flatten()))
        });
        let Ok(Some((mode, bytes))) = found.await else { return };
        let part = Compressed::of(bytes).await;
        if let Err(error) = blobs.put_compressed(BlobClass::Output, &part).await {
            return tracing::debug!(job = %self.job.submit.job, %error, "early output was not stored");
        }
        let content = Content::Blob { digest: part.digest, size: part.size };
        let output = Output { path: wanted.to_owned(), mode, content };
        let (proof, stderr) = (self.job.proof.clone(), words.into());
        tell(Word::Progress(Progress::Early(Box::new(EarlyOutput { proof, output, stderr }))));
    }
}

fn announces(line: &[u8], wanted: &str) -> bool {
    line.starts_with(b"{")
        && serde_json::from_slice::<Announcement>(line).is_ok_and(|said| said.artifact == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_names_the_output() {
        let line = br#"{"$message_type":"artifact","artifact":"/w/liba.rmeta","emit":"metadata"}"#;
        assert!(announces(line, "/w/liba.rmeta") && !announces(line, "/w/liba.rlib"));
        assert!(!announces(b"warning: /w/liba.rmeta", "/w/liba.rmeta"));
    }
}
