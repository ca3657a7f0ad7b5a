//! Answers the server's question who a caller is: known, with the certificate that it needs, not
//! denied, and then with the rights of its tenant.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::identity::Identity;
use super::reception::Office;
use super::settings::Settings;
use super::told::Told;
use super::{certificates, meter};
use crate::lifecycle::Lifecycle;
use crate::queue::callout::{Admission, Caller, Callout};

/// Callers at once about whom a decision is made; more wait in the subscription.
const CALLERS_MAX: usize = 512;

/// Whoever knows who may connect.
pub struct Porter {
    identity: Identity,
    settings: Arc<Settings>,
    office: Arc<Office>,
    told: Mutex<Told>,
}

impl Porter {
    /// A porter for `office`.
    pub fn new(identity: Identity, settings: Arc<Settings>, office: Arc<Office>) -> Self {
        Self { identity, settings, office, told: Mutex::default() }
    }

    async fn decide(&self, caller: &Caller) -> Result<Admission, String> {
        let decision = self.identity.admit(caller).await;
        let decision = decision
            .and_then(|admission| certificates::check(admission, caller, &self.settings))
            .and_then(|admission| self.office.door.check(admission))
            .map(|admission| meter::restrict(&self.office, admission));
        match &decision {
            Ok(Admission { name, account, by, .. }) => {
                tracing::info!(name, account, by, host = caller.host, "let in");
            }
            Err(refusal) => {
                let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
                if told.is_new(format!("{}: {refusal}", caller.user)) {
                    tracing::warn!(user = caller.user, host = caller.host, refusal, "turned away");
                }
            }
        }
        decision
    }
}

/// Answers callers as they come. Each has a task of its own: one whose issuer is slow holds up
/// nobody else.
pub async fn answer_all(mut callout: Callout, porter: Porter, lifecycle: Lifecycle) {
    let porter = Arc::new(porter);
    let places = Arc::new(Semaphore::new(CALLERS_MAX));
    while let Some(caller) = callout.next().await {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let (answers, porter) = (callout.answers(), porter.clone());
        lifecycle.spawn(async move {
            let decision = porter.decide(&caller).await;
            answers.answer(&caller, decision).await;
            drop(place);
        });
    }
}
