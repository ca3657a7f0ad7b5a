//! Who is kept out, as the bucket tells. Pure: the clock is an argument.

use std::collections::HashMap;

use crate::job::{Denial, Party, Principal};
use crate::queue::permissions::{CLIENT_ACCOUNT, WORKER_ACCOUNT};

/// Those who are kept out.
#[derive(Debug, Default)]
pub struct DenyList(HashMap<Party, Denial>);

impl DenyList {
    /// A list of `entries`.
    pub fn of(entries: Vec<(Party, Denial)>) -> Self {
        Self(entries.into_iter().collect())
    }

    /// Keeps `party` out.
    pub fn deny(&mut self, party: Party, denial: Denial) {
        self.0.insert(party, denial);
    }

    /// Lets `party` in again.
    pub fn allow(&mut self, party: &Party) {
        self.0.remove(party);
    }

    /// Whether nobody is on it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Why `party` is kept out at `now_unix_ms`, if it is.
    pub fn denial(&self, party: &Party, now_unix_ms: u64) -> Option<&Denial> {
        self.0.get(party).filter(|denial| denial.holds(now_unix_ms))
    }

    /// The same for a connection to `account` that was admitted under `name`.
    pub fn denial_of(
        &self,
        account: &str,
        name: &str,
        now_unix_ms: u64,
    ) -> Option<(Party, &Denial)> {
        parties(account, name).into_iter().find_map(|party| {
            let denial = self.denial(&party, now_unix_ms)?;
            Some((party, denial))
        })
    }

    /// How many are kept out at `now_unix_ms`.
    pub fn count(&self, now_unix_ms: u64) -> u32 {
        let count = self.0.values().filter(|denial| denial.holds(now_unix_ms)).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Entries that no longer count.
    pub fn ended(&self, now_unix_ms: u64) -> Vec<Party> {
        let ended = self.0.iter().filter(|(_, denial)| !denial.holds(now_unix_ms));
        ended.map(|(party, _)| party.clone()).collect()
    }
}

/// Everything that a connection to `account` is, which was admitted under `name`.
fn parties(account: &str, name: &str) -> Vec<Party> {
    if account == CLIENT_ACCOUNT {
        name.parse::<Principal>().map(|found| Party::all_of(&found).into()).unwrap_or_default()
    } else if account == WORKER_ACCOUNT {
        name.parse().map(|worker| vec![Party::Worker(worker)]).unwrap_or_default()
    } else {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::DeniedBy;

    fn denial(until_unix_ms: Option<u64>) -> Denial {
        Denial { reason: "why".into(), since_unix_ms: 0, by: DeniedBy::Operator, until_unix_ms }
    }

    #[test]
    fn a_client_is_denied_by_each_of_its_names_and_a_worker_by_its_own() {
        let name = "team/shared/c-1/jane@example.com";
        for (kind, who) in [("client", "c-1"), ("user", "jane@example.com"), ("tenant", "team")] {
            let party = Party::read(kind, who).unwrap();
            let list = DenyList::of(vec![(party.clone(), denial(None))]);
            assert_eq!(list.denial_of(CLIENT_ACCOUNT, name, 1).map(|found| found.0), Some(party));
            assert!(list.denial_of(CLIENT_ACCOUNT, "t/shared/c-2/joe", 1).is_none());
        }
        let worker = Party::read("worker", "c-1").unwrap();
        let list = DenyList::of(vec![(worker, denial(None))]);
        assert!(list.denial_of(WORKER_ACCOUNT, "c-1", 1).is_some());
        assert!(list.denial_of(CLIENT_ACCOUNT, name, 1).is_none());
    }

    #[test]
    fn entries_end() {
        let party = Party::read("worker", "w").unwrap();
        let mut list = DenyList::of(vec![(party.clone(), denial(Some(10)))]);
        assert!(list.denial(&party, 9).is_some() && list.denial(&party, 10).is_none());
        assert_eq!((list.count(9), list.count(10)), (1, 0));
        assert_eq!((list.ended(9), list.ended(10)), (vec![], vec![party.clone()]));
        list.allow(&party);
        assert!(list.is_empty());
    }
}
