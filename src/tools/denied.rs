//! `jetcc auth deny`, `allow` and `denied`: who is kept out, with the scheduler's own secrets.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::cli::Who;
use crate::config::{self, Environment};
use crate::job::denial::REASON_BYTES_MAX;
use crate::job::{Denial, DeniedBy, Party};
use crate::queue::Connection;
use crate::queue::denied::Denied;
use crate::scheduler;
use crate::setup;

/// Seconds of an hour.
const HOUR: u64 = 3_600;

/// Keeps a party out; schedulers end its connections when they see the entry.
pub(super) fn deny(who: &Who, reason: &str, hours: Option<u32>) -> anyhow::Result<()> {
    if reason.is_empty() || reason.len() > REASON_BYTES_MAX {
        bail!("the reason has {} bytes, wanted 1 to {REASON_BYTES_MAX}", reason.len());
    }
    let party = Party::read(&who.kind, &who.name)?;
    let denial = Denial {
        reason: reason.to_owned(),
        since_unix_ms: unix_ms(0),
        by: DeniedBy::Operator,
        until_unix_ms: hours.map(|hours| unix_ms(u64::from(hours) * HOUR)),
    };
    with_list(&who.config, async |list| list.deny(&party, &denial).await.map_err(Into::into))?;
    println!("{party} is denied; schedulers end its connections within seconds");
    Ok(())
}

/// Lets a party in again.
pub(super) fn allow(who: &Who) -> anyhow::Result<()> {
    let party = Party::read(&who.kind, &who.name)?;
    with_list(&who.config, async |list| {
        if !list.all().await?.iter().any(|(denied, _)| *denied == party) {
            bail!("{party} is not denied");
        }
        Ok(list.allow(&party).await?)
    })?;
    println!("{party} is allowed again");
    Ok(())
}

/// Prints who is kept out, one a line.
pub(super) fn list(config: &Path) -> anyhow::Result<()> {
    let mut entries = with_list(config, async |list| Ok(list.all().await?))?;
    entries.sort_by_key(|(_, denial)| denial.since_unix_ms);
    let now = unix_ms(0);
    for (party, denial) in entries.iter().filter(|(_, denial)| denial.holds(now)) {
        let until = denial
            .until_unix_ms
            .map_or_else(|| "for ever".to_owned(), |until| format!("until {}", date(until)));
        let Denial { reason, by, since_unix_ms, .. } = denial;
        println!("{party}: by {by} since {}, {until}: {reason}", date(*since_unix_ms));
    }
    Ok(())
}

fn with_list<T>(
    config: &Path,
    work: impl AsyncFnOnce(Denied) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let (settings, secrets) = config::scheduler(config, &Environment::capture())?;
    tokio::runtime::Runtime::new()?.block_on(async {
        let connection: Connection = scheduler::run::visit(&settings, &secrets).await?;
        let list = Denied::open(&connection).await.context("no scheduler has made the list yet")?;
        let done = work(list).await;
        connection.close().await;
        done
    })
}

fn unix_ms(seconds_from_now: u64) -> u64 {
    setup::seconds_from_now(seconds_from_now) * 1_000
}

fn date(unix_ms: u64) -> String {
    let moment = i64::try_from(unix_ms).ok().and_then(chrono::DateTime::from_timestamp_millis);
    moment.map_or_else(|| unix_ms.to_string(), |moment| moment.format("%F %T UTC").to_string())
}
