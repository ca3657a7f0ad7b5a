//! The story of an audit: some jobs run again on another worker, and what they give is compared.
//!
//! 1. When a job is queued, the schedulers' key decides whether it is one of the sample, so that all
//!    schedulers agree and nobody else can foretell it. A copy of the job is kept.
//! 2. When its result was recorded, the job is queued for another worker, for that one alone.
//! 3. Two equal results: passed. Two different ones: a third worker decides.
//! 4. Who is alone against two with a success is quarantined: denied, and what was recorded of its
//!    results in the last hour is withdrawn. Three different results, or no third worker: the result
//!    is withdrawn, and nobody is quarantined.
//!
//! An audit runs when no client's job waits, and its loss does no harm.

use std::time::{Duration, Instant, SystemTime};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::door::reserved_client;
use super::reception::{Office, unix_ms};
use super::settings::Rate;
use crate::job::audit::{Audit, Run, Verdict, verdict};
use crate::job::wire::{CacheUse, JobEnd, JobMessage, JobResult};
use crate::job::{
    ActionKey, Content, Denial, DeniedBy, Digest, JobId, Outcome, Party, Proof, RustTool, WorkerId,
};
use crate::queue::QueueError;
use crate::store::{BLOB_BYTES_MAX, content};

/// How long an audited job may wait for its worker, in ms.
const PATIENCE_MS: u64 = 10 * 60 * 1_000;
/// Results of a quarantined worker that are withdrawn are at most this old.
const WITHDRAWN_AGE: Duration = Duration::from_secs(3_600);
/// Another scheduler may record a result before it hears of the quarantine.
const HEARSAY: Duration = Duration::from_secs(1);
/// Most suspicions that are shown.
const SUSPECTED_MAX: usize = 32;

/// Whether `job` is one of the sample.
fn is_chosen(key: &[u8; 32], job: JobId, rate: Rate) -> bool {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return false };
    mac.update(b"jetcc audit");
    mac.update(job.to_string().as_bytes());
    let drawn = mac.finalize().into_bytes();
    let drawn = u32::from_be_bytes([drawn[0], drawn[1], drawn[2], drawn[3]]);
    f64::from(drawn) < rate.get() * (f64::from(u32::MAX) + 1.0)
}

/// Keeps a copy of a job of the sample; to be called when it is queued.
pub async fn keep(office: &Office, job: &JobMessage) {
    let id = job.submit.job;
    if job.submit.cache == CacheUse::Off
        || !is_chosen(&office.rules.proof_key, id, office.rules.sample_rate)
    {
        return;
    }
    if candidates(office, job, &[]).len() < 2 {
        return;
    }
    let audit = Audit { job: job.clone(), asked: None, runs: Vec::new() };
    if let Err(error) = office.audits.keep(id, &audit).await {
        tracing::debug!(job = %id, %error, "job is not audited");
    }
}

/// Begins the audit of a result that was just recorded, if it is one of the sample.
pub async fn begin(office: &Office, worker: &WorkerId, result: &JobResult, outcome: &Outcome) {
    if !is_chosen(&office.rules.proof_key, result.job, office.rules.sample_rate) {
        return;
    }
    let Some(mut audit) = known(office, result.job).await else { return };
    if audit.asked.is_some() || !audit.runs.is_empty() {
        return;
    }
    audit.runs.push(run_of(worker, outcome));
    let slots = office.registry().slots(&audit.job.submit.action.pool, Instant::now());
    if office.load().total() > slots {
        drop_audit(office, result, "clients' jobs wait");
    } else {
        match ask_another(office, audit).await {
            Ok(Asked::Yes) => {}
            Ok(Asked::Nobody) => drop_audit(office, result, "there is no other worker"),
            Err(error) => drop_audit(office, result, &error.to_string()),
        }
    }
    office.audits.forget(result.job).await;
}

/// Goes on with an audit: `worker` has run the job again.
pub async fn settle(office: &Office, worker: &WorkerId, result: &JobResult) {
    let Some(mut audit) = known(office, result.job).await else { return };
    if audit.asked.as_ref() != Some(worker) || !office.proves(result) {
        return tracing::warn!(job = %result.job, %worker, "answer to another's audit dropped");
    }
    match &result.end {
        JobEnd::Done(outcome) => {
            audit.runs.push(run_of(worker, outcome));
            decide(office, audit, result).await;
        }
        JobEnd::Undone(trouble) => undone(office, audit, result, &trouble.to_string()).await,
    }
    office.audits.forget(result.job).await;
}

/// An audited job that its worker did not finish.
pub async fn given_up(office: &Office, result: &JobResult) {
    if let Some(audit) = known(office, result.job).await {
        undone(office, audit, result, "its worker did not finish it").await;
        office.audits.forget(result.job).await;
    }
}

/// A worker that was asked gives no result: where two others differ already, nobody decides.
async fn undone(office: &Office, audit: Audit, result: &JobResult, why: &str) {
    match <[Run; 2]>::try_from(audit.runs) {
        Ok(pair) => suspect(office, result, pair.map(|run| run.worker)).await,
        Err(_) => drop_audit(office, result, why),
    }
}

async fn decide(office: &Office, audit: Audit, result: &JobResult) {
    let action = &result.action;
    let names = workers(&audit.runs);
    match verdict(&audit.runs) {
        Verdict::Passed => {
            office.findings().audits.passed += 1;
            tracing::info!(%action, workers = names, "audit passed");
        }
        Verdict::Unclear => {
            let pair = [audit.runs[0].worker.clone(), audit.runs[1].worker.clone()];
            match ask_another(office, audit).await {
                Ok(Asked::Yes) => tracing::warn!(%action, workers = names, "results differ"),
                Ok(Asked::Nobody) => suspect(office, result, pair).await,
                Err(error) => {
                    tracing::warn!(%action, %error, "third worker was not asked");
                    suspect(office, result, pair).await;
                }
            }
        }
        Verdict::Failed(worker) => {
            tracing::warn!(%action, %worker, "its compiler failed where two others succeeded");
            drop_audit(office, result, "its compiler failed");
        }
        Verdict::Unrepeatable => {
            office.findings().audits.unclear += 1;
            tracing::warn!(%action, workers = names, "three workers, three results: withdrawn");
            withdraw(office, result).await;
        }
        Verdict::Guilty(worker) if office.door.denies(&worker) => {
            tracing::info!(%action, %worker, "another lie of a worker that is denied already");
        }
        Verdict::Guilty(worker) if may_vary(&audit.job) => {
            let others = audit.runs.into_iter().map(|run| run.worker);
            let other = others.into_iter().find(|other| *other != worker);
            suspect(office, result, [worker.clone(), other.unwrap_or(worker)]).await;
        }
        Verdict::Guilty(worker) => {
            office.findings().audits.failed += 1;
            tracing::error!(%action, %worker, workers = names, "audit failed: quarantined");
            quarantine(office, &worker, action).await;
        }
    }
}

/// Whether a job runs code of its inputs: macros of Rust may give something else each time, and two of
/// three may agree by chance. Then nobody is put out.
fn may_vary(job: &JobMessage) -> bool {
    let executable = &job.submit.action.command.executable;
    executable.rsplit('/').next().is_some_and(|name| RustTool::of_name(name).is_some())
}

/// One of two lied, or the compile is not repeatable: an honest worker must not be put out by a
/// lying one.
async fn suspect(office: &Office, result: &JobResult, pair: [WorkerId; 2]) {
    let action = &result.action;
    let [one, other] = &pair;
    tracing::error!(%action, %one, %other, "results differ, and no third worker can decide");
    {
        let mut findings = office.findings();
        findings.audits.unclear += 1;
        if findings.suspected.len() < SUSPECTED_MAX && !findings.suspected.contains(&pair) {
            findings.suspected.push(pair);
        }
    }
    withdraw(office, result).await;
}

async fn withdraw(office: &Office, result: &JobResult) {
    let action = &result.action;
    match office.desk.withdraw(&result.space, action).await {
        Ok(()) => office.findings().withdrawn += 1,
        Err(error) => tracing::error!(%action, %error, "known result was not withdrawn"),
    }
}

async fn quarantine(office: &Office, worker: &WorkerId, action: &ActionKey) {
    let denial = Denial {
        reason: format!("audit of action `{action}`: two other workers agree on another result"),
        since_unix_ms: unix_ms(),
        by: DeniedBy::Quarantine,
        until_unix_ms: None,
    };
    if let Err(error) = office.door.deny(Party::Worker(worker.clone()), denial).await {
        tracing::error!(%worker, %error, "quarantined worker is not on the deny list");
    }
    let since = SystemTime::now().checked_sub(WITHDRAWN_AGE).unwrap_or(SystemTime::UNIX_EPOCH);
    for _round in 0..2 {
        match office.desk.withdraw_results_of(worker, since).await {
            Ok(0) => {}
            Ok(count) => {
                office.findings().withdrawn += count;
                tracing::warn!(%worker, count, "known results withdrawn");
            }
            Err(error) => tracing::error!(%worker, %error, "results were not withdrawn"),
        }
        tokio::time::sleep(HEARSAY).await;
    }
}

enum Asked {
    Yes,
    /// No worker is left that has not run it.
    Nobody,
}

/// Queues the job for a worker that has not run it.
async fn ask_another(office: &Office, mut audit: Audit) -> Result<Asked, QueueError> {
    let chosen = choose(candidates(office, &audit.job, &audit.runs));
    let (Some(worker), Ok(id)) = (chosen, JobId::random()) else { return Ok(Asked::Nobody) };
    let mut job = audit.job.clone();
    job.client = reserved_client();
    job.submit.job = id;
    job.submit.cache = CacheUse::Off;
    job.submit.deadline_unix_ms = unix_ms() + PATIENCE_MS;
    job.published_unix_ms = unix_ms();
    job.proof = Proof::new(
        &office.rules.proof_key,
        id,
        &job.submit.action.key(),
        &job.space,
        job.submit.deadline_unix_ms,
    );
    audit.asked = Some(worker.clone());
    office.audits.keep(id, &audit).await?;
    office.audits.ask(&worker, &job).await?;
    Ok(Asked::Yes)
}

/// Live workers of the job's pool that have not run it.
fn candidates(office: &Office, job: &JobMessage, runs: &[Run]) -> Vec<WorkerId> {
    let registry = office.registry();
    let fits = registry.live(Instant::now()).into_iter().filter(|state| {
        state.pool == job.submit.action.pool
            && !state.draining
            && !runs.iter().any(|run| run.worker == state.worker)
            && !office.door.denies(&state.worker)
    });
    fits.map(|state| state.worker.clone()).collect()
}

/// One of them, by chance: nobody can foretell who will be compared with whom.
fn choose(mut workers: Vec<WorkerId>) -> Option<WorkerId> {
    let mut random = [0; 4];
    getrandom::fill(&mut random).ok()?;
    let index = u32::from_be_bytes(random) as usize;
    if workers.is_empty() { None } else { Some(workers.swap_remove(index % workers.len())) }
}

async fn known(office: &Office, job: JobId) -> Option<Audit> {
    match office.audits.of(job).await {
        Ok(audit) => audit,
        Err(error) => {
            tracing::warn!(%job, %error, "audit was not read");
            None
        }
    }
}

fn run_of(worker: &WorkerId, outcome: &Outcome) -> Run {
    Run { worker: worker.clone(), exit: outcome.exit, outcome: fingerprint(outcome) }
}

/// As the outcome says; one whose bytes are not what it says agrees with nobody.
fn fingerprint(outcome: &Outcome) -> Digest {
    let is_true = |content: &Content| match content {
        Content::Inline { .. } => content::open_inline(content, BLOB_BYTES_MAX).is_ok(),
        // Whoever reads the blob finds out.
        Content::Blob { .. } => true,
    };
    let named = outcome.fingerprint();
    if outcome.contents().all(is_true) { named } else { Digest::of(named.as_bytes()) }
}

fn drop_audit(office: &Office, result: &JobResult, why: &str) {
    office.findings().audits.dropped += 1;
    tracing::info!(job = %result.job, action = %result.action, why, "audit dropped");
}

fn workers(runs: &[Run]) -> String {
    let names: Vec<&str> = runs.iter().map(|run| run.worker.as_str()).collect();
    names.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_has_the_size_that_was_asked_for() {
        let rate = |rate: f64| Rate::try_from(rate).unwrap();
        let jobs: Vec<JobId> = (0..10_000).map(|_| JobId::random().unwrap()).collect();
        let chosen = |rate| jobs.iter().filter(|job| is_chosen(&[7; 32], **job, rate)).count();
        assert_eq!((chosen(rate(0.0)), chosen(rate(1.0))), (0, jobs.len()));
        let tenth = chosen(rate(0.1));
        assert!((800..1_200).contains(&tenth), "{tenth}");
        let job = jobs[0];
        assert_eq!(is_chosen(&[1; 32], job, rate(0.5)), is_chosen(&[1; 32], job, rate(0.5)));
    }
}
