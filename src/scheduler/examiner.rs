//! Looks at blobs whose bytes are said to be wrong. A scheduler believes nobody: it reads the blob
//! itself and deletes only what has not the digest of its name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex as AsyncMutex, Semaphore};

use super::reception::Office;
use crate::job::outcome::{Content, Outcome};
use crate::job::wire::{BlobClass, Examined, WrongBlob};
use crate::job::{ActionKey, Digest, Space};
use crate::queue::reports::Reports;
use crate::store::{BLOB_BYTES_MAX, Blobs, content};

/// Reports that may wait; more are not looked at, and are made again by the next reader.
const WAITING_MAX: usize = 64;
/// How long a blob that was found to be sound is not read again: a blob is never overwritten.
const SOUND_FOR: Duration = Duration::from_secs(60);
/// Most sound blobs that are remembered; then the table starts anew.
const SOUND_MAX: usize = 10_000;

/// Which blob.
type Name = (Space, BlobClass, Digest);

/// Reads blobs, one at a time: a flood of false reports costs one reader.
pub struct Examiner {
    blobs: Blobs,
    waiting: Semaphore,
    one: AsyncMutex<()>,
    sound: Mutex<HashMap<Name, Instant>>,
}

impl Examiner {
    /// An examiner of `blobs`.
    pub fn new(blobs: Blobs) -> Self {
        let waiting = Semaphore::new(WAITING_MAX);
        Self { blobs, waiting, one: AsyncMutex::default(), sound: Mutex::default() }
    }

    async fn look(&self, name: Name) -> Examined {
        let Ok(_place) = self.waiting.try_acquire() else { return Examined::NotExamined };
        let _turn = self.one.lock().await;
        if self.is_sound(&name) {
            return Examined::Sound;
        }
        match self.blobs.of(&name.0).examine(name.1, name.2).await {
            Ok(finding) => {
                if finding == Examined::Sound {
                    self.note_sound(name);
                }
                finding
            }
            Err(error) => {
                tracing::warn!(blob = %name.2, %error, "blob was not examined");
                Examined::NotExamined
            }
        }
    }

    fn is_sound(&self, name: &Name) -> bool {
        let sound = self.sound.lock().unwrap_or_else(PoisonError::into_inner);
        sound.get(name).is_some_and(|since| since.elapsed() < SOUND_FOR)
    }

    fn note_sound(&self, name: Name) {
        let mut sound = self.sound.lock().unwrap_or_else(PoisonError::into_inner);
        if sound.len() >= SOUND_MAX {
            sound.clear();
        }
        sound.insert(name, Instant::now());
    }
}

/// Looks at what workers report until the connection is closed.
pub async fn hear_workers(office: Arc<Office>, mut reports: Reports) {
    while let Some((worker, report)) = reports.next().await {
        let office = office.clone();
        tokio::spawn(async move { examine(&office, worker.as_str(), &report).await });
    }
}

/// Looks at what `by` reports, and counts it if it is true.
pub async fn examine(office: &Office, by: &str, report: &WrongBlob) -> Examined {
    let WrongBlob { space, class, digest, action } = report;
    let finding = office.examiner.look((space.clone(), *class, *digest)).await;
    if finding == Examined::Discarded {
        office.findings().corrupt_blobs += 1;
        tracing::warn!(blob = %digest, ?class, by, "blob with wrong bytes deleted");
    } else {
        tracing::info!(blob = %digest, ?class, by, ?finding, "blob examined");
    }
    if let Some(action) = action {
        withdraw_if_broken(office, report, action).await;
    }
    finding
}

/// Takes a known result back when the output that the report is of cannot be had.
async fn withdraw_if_broken(office: &Office, report: &WrongBlob, action: &ActionKey) {
    let WrongBlob { space, digest, .. } = report;
    let record = match office.desk.record(space, action).await {
        Ok(Some(record)) => record,
        Ok(None) => return,
        Err(error) => return tracing::warn!(%action, %error, "known result was not examined"),
    };
    if !is_broken(&office.examiner.blobs.of(space), &record.outcome, *digest).await {
        return;
    }
    match office.desk.withdraw(space, action).await {
        Ok(()) => {
            office.findings().withdrawn += 1;
            tracing::warn!(%action, worker = %record.worker, "known result withdrawn");
        }
        Err(error) => tracing::warn!(%action, %error, "known result was not withdrawn"),
    }
}

async fn is_broken(blobs: &Blobs, outcome: &Outcome, digest: Digest) -> bool {
    let Some(named) = outcome.contents().find(|content| content.digest() == digest) else {
        return false;
    };
    match named {
        Content::Inline { .. } => content::open_inline(named, BLOB_BYTES_MAX).is_err(),
        Content::Blob { .. } => blobs.has(BlobClass::Output, digest).await == Ok(false),
    }
}
