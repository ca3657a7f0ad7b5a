//! An output that other compiles wait for reaches its client as soon as the compiler says that it is
//! written, while the compile goes on: rustc announces a crate's metadata long before its objects.

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::exec::Listener;
use crate::job::wire::{BlobClass, EarlyOutput, JobMessage, Progress};
use crate::job::{Content, Output};
use crate::store::Compressed;

use super::fetch::{Source, Tell, Word};
use super::outputs::read_open;
use super::prepare::{Prepared, blocking};

/// Most bytes of standard error that go with an output, and of what the compiler read: a message has
/// to hold them.
const WORDS_BYTES_MAX: usize = 256 << 10;
/// The kind of the file in which the compiler says what it read.
const DEP_INFO: &str = "dep-info";

/// What rustc says, one in a line, where it was told `--json=artifacts`.
#[derive(Deserialize)]
struct Announcement {
    artifact: String,
    emit: String,
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

    /// Tells of the output when the compiler has announced it; `sent` is what the store has then.
    pub(super) async fn announce(
        mut self,
        prepared: &Arc<Prepared>,
        source: &Source,
        tell: Tell<'_>,
        sent: &mut Option<Content>,
    ) {
        let Some(wanted) = &self.job.submit.announced else { return };
        let (mut words, mut read, mut told) = (Vec::new(), 0, None);
        while let Some(more) = self.heard.recv().await {
            words.extend(more);
            while let Some(end) = words[read..].iter().position(|byte| *byte == b'\n') {
                let line = read..read + end;
                read += end + 1;
                if read > WORDS_BYTES_MAX {
                    return;
                }
                match announced(&words[line]) {
                    Some(said) if said.artifact == *wanted => {
                        words.truncate(read);
                        let stored = self.store(said.artifact, prepared, source).await;
                        let Some(output) = stored else { return };
                        *sent = Some(output.content.clone());
                        return self.send(output, (words, told), prepared, tell).await;
                    }
                    Some(said) if said.emit == DEP_INFO => told = Some(said.artifact),
                    Some(_) | None => {}
                }
            }
        }
    }

    /// Brings the output at `path` into the store. Whatever goes wrong is told by the result.
    async fn store(
        &self,
        path: String,
        prepared: &Arc<Prepared>,
        source: &Source,
    ) -> Option<Output> {
        let (mode, bytes) = read_target(prepared, path.clone()).await?;
        let part = Compressed::of(bytes.clone()).await;
        if let Err(error) = source.blobs.put_compressed(BlobClass::Output, &part).await {
            tracing::debug!(job = %self.job.submit.job, %error, "early output was not stored");
            return None;
        }
        let Compressed { digest, size, .. } = part;
        let cache = source.caches.of(BlobClass::Output).clone();
        // Whoever wants it here and does not find it fetches it.
        let _ = blocking(move || Ok(cache.keep(digest, &bytes).ok())).await;
        Some(Output { path, mode, content: Content::Blob { digest, size } })
    }

    async fn send(
        &self,
        output: Output,
        (words, told): (Vec<u8>, Option<String>),
        prepared: &Arc<Prepared>,
        tell: Tell<'_>,
    ) {
        let told = match told {
            Some(told) => read_target(prepared, told).await.map(|(_, told)| told),
            None => None,
        };
        let told = told.unwrap_or_default();
        if told.len() > WORDS_BYTES_MAX {
            return;
        }
        let (proof, stderr) = (self.job.proof.clone(), words.into());
        let early = EarlyOutput { proof, output, stderr, told };
        tell(Word::Progress(Progress::Early(Box::new(early))));
    }
}

/// Mode and bytes of the output at `path`, if it is one and is there.
async fn read_target(prepared: &Arc<Prepared>, path: String) -> Option<(u32, Bytes)> {
    let prepared = prepared.clone();
    let found = blocking(move || {
        let target = prepared.layout.targets.iter().find(|it| it.wanted.path == path);
        Ok(target.and_then(|target| read_open(&prepared, target).ok().flatten()))
    });
    found.await.ok().flatten()
}

fn announced(line: &[u8]) -> Option<Announcement> {
    line.starts_with(b"{").then(|| serde_json::from_slice(line).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_names_the_output() {
        let line = br#"{"$message_type":"artifact","artifact":"/w/liba.rmeta","emit":"metadata"}"#;
        let said = announced(line).unwrap();
        assert_eq!((&*said.artifact, &*said.emit), ("/w/liba.rmeta", "metadata"));
        assert!(announced(b"warning: /w/liba.rmeta").is_none());
        assert!(announced(b"{\"message\":\"unused\"}").is_none());
    }
}
