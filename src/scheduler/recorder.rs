//! Records results in the action cache: only with a valid proof, and only when every blob exists.

use crate::job::outcome::{Content, Outcome};
use crate::job::wire::{self, ActionRecord, BlobClass, CacheUse, JobEnd, JobResult};
use crate::job::{ClientId, Exit};
use crate::queue::serve::{Inbox, Letter};
use crate::store::Blobs;

use super::reception::{Office, unix_ms};

/// Records results until the consumer breaks.
pub async fn record_all(office: &Office, blobs: &Blobs, inbox: &mut Inbox) {
    while let Some(letter) = inbox.next().await {
        read(office, blobs, &letter).await;
        letter.finish().await;
    }
}

async fn read(office: &Office, blobs: &Blobs, letter: &Letter) {
    let client = letter.result_client();
    let result = match wire::decode::<JobResult>(letter.payload()) {
        Ok(result) => result,
        Err(error) => return tracing::warn!(?client, %error, "unreadable result passed over"),
    };
    office.busy.notify_one();
    let JobEnd::Done(outcome) = &result.end else { return };
    office.learn(result.times.run_ms);
    match recordable(office, blobs, client.as_ref(), &result, outcome).await {
        Err(why) => {
            tracing::warn!(job = %result.job, worker = %result.worker, why, "result not recorded")
        }
        Ok(Verdict::Pass) => {}
        Ok(Verdict::Record) => {
            let record = ActionRecord {
                outcome: outcome.clone(),
                worker: result.worker.clone(),
                recorded_unix_ms: unix_ms(),
                run_ms: result.times.run_ms,
            };
            if let Err(error) =
                office.desk.write_record(&result.space, &result.action, &record).await
            {
                tracing::warn!(job = %result.job, %error, "result not recorded");
            }
        }
    }
}

enum Verdict {
    Record,
    Pass,
}

async fn recordable(
    office: &Office,
    blobs: &Blobs,
    client: Option<&ClientId>,
    result: &JobResult,
    outcome: &Outcome,
) -> Result<Verdict, &'static str> {
    if client.is_none() || !office.proves(result) {
        return Err("its proof does not hold");
    }
    let wanted = result.cache != CacheUse::Off
        && outcome.exit == Exit::Code(0)
        && outcome.unexpected.is_empty();
    if !wanted {
        return Ok(Verdict::Pass);
    }
    let blobs = blobs.of(&result.space);
    for content in outcome.contents() {
        if let Content::Blob { digest, .. } = content {
            match blobs.has(BlobClass::Output, *digest).await {
                Ok(true) => {}
                Ok(false) => return Err("a blob that it names does not exist"),
                Err(_) => return Err("the blob store does not answer"),
            }
        }
    }
    Ok(Verdict::Record)
}
