//! The daemon's link to the farm: connected when first needed, given a rest when it fails, so that
//! a farm that is away costs a build one attempt and not one a file.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Mutex as AsyncMutex;

use super::login::Bearer;
use super::settings::Dist;
use crate::job::wire::HelloReply;
use crate::job::{ClientId, LocalReason};
use crate::queue::blobs::NatsBlobs;
use crate::queue::submit::Farm;
use crate::queue::traffic::Traffic;
use crate::queue::{Connection, Login, Password, Patience, QueueError, Secret, subjects};
use crate::store::Blobs;

/// First rest after a failure.
const REST_MIN: Duration = Duration::from_secs(1);
/// Longest rest; it doubles with each failure in a row.
const REST_MAX: Duration = Duration::from_secs(15);

/// How long a connection may be away before the farm is. The server ends a connection with its
/// token, and it is back at once with a fresh one.
const BLINK: Duration = Duration::from_millis(250);

/// The farm, as long as the link stands.
#[derive(Clone)]
pub struct Reach {
    /// The queue.
    pub farm: Farm,
    /// Its space in the blob store.
    pub blobs: Blobs,
}

/// A reach, and the token that opened it.
struct Standing {
    reach: Reach,
    token: Secret,
}

/// Why and until when nothing is tried.
#[derive(Debug)]
struct Rest {
    reason: LocalReason,
    until: Instant,
    length: Duration,
}

/// The link to the farm.
pub struct Link {
    dist: Dist,
    id: ClientId,
    bearer: Bearer,
    reach: AsyncMutex<Option<Standing>>,
    rest: Mutex<Option<Rest>>,
    counted: Mutex<Counted>,
}

/// What the connections so far carried.
#[derive(Default)]
struct Counted {
    before: Traffic,
    latest: Option<Farm>,
}

impl Counted {
    fn sum(&self) -> Traffic {
        self.before + self.latest.as_ref().map(Farm::traffic).unwrap_or_default()
    }
}

impl Link {
    /// A link that is not connected yet, of a client that shows `bearer`.
    pub fn new(dist: Dist, id: ClientId, bearer: Bearer) -> Self {
        Self {
            dist,
            id,
            bearer,
            reach: AsyncMutex::default(),
            rest: Mutex::default(),
            counted: Mutex::default(),
        }
    }

    /// What went to the farm and came from it so far, over all connections.
    pub fn traffic(&self) -> Traffic {
        self.lock_counted().sum()
    }

    /// Whether trying makes sense now; cheap, to be asked before any work is done for the farm.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self) -> Result<(), LocalReason> {
        if self.dist.scheduler_url.is_none() {
            return Err(LocalReason::Disabled);
        }
        match &*self.lock_rest() {
            Some(rest) if Instant::now() < rest.until => Err(rest.reason.clone()),
            _ => Ok(()),
        }
    }

    /// The farm; connects when there is no connection yet.
    ///
    /// # Errors
    /// [`LocalReason::NotLoggedIn`], [`LocalReason::NoServer`], [`LocalReason::NoScheduler`] or
    /// [`LocalReason::Refused`]; the link rests then.
    pub async fn reach(&self) -> Result<Reach, LocalReason> {
        self.check()?;
        let mut reach = self.reach.lock().await;
        // Whoever held the lock may just have failed.
        self.check()?;
        let token = self.token().await.map_err(|reason| self.pause(reason))?;
        match &*reach {
            Some(standing) if !standing.reach.farm.is_up_within(BLINK).await => {
                // Compiles under way keep theirs and wait for it; the next attempt starts afresh,
                // with a farm that may have other addresses or secrets.
                *reach = None;
                return Err(self.pause(LocalReason::NoServer("connection is lost".into())));
            }
            Some(standing) if standing.token == token => return Ok(standing.reach.clone()),
            // A connection ends with its token: a fresh one takes over before that.
            Some(_) | None => {}
        }
        match self.connect().await {
            Ok(fresh) => {
                let mut counted = self.lock_counted();
                *counted = Counted { before: counted.sum(), latest: Some(fresh.farm.clone()) };
                drop(counted);
                *reach = Some(Standing { reach: fresh.clone(), token });
                Ok(fresh)
            }
            Err(reason) => Err(self.pause(reason)),
        }
    }

    /// Gives the farm a rest because of `reason`, longer each time in a row.
    pub fn pause(&self, reason: LocalReason) -> LocalReason {
        let mut rest = self.lock_rest();
        let now = Instant::now();
        let length = match &*rest {
            // Compiles that were under way together fail together: that is one failure.
            Some(rest) if now < rest.until => rest.length,
            Some(rest) => (rest.length * 2).min(REST_MAX),
            None => REST_MIN,
        };
        tracing::info!(%reason, seconds = length.as_secs(), "compiling locally for a while");
        *rest = Some(Rest { reason: reason.clone(), until: now + length, length });
        reason
    }

    /// The farm did what it should: the next failure starts with a short rest again.
    pub fn worked(&self) {
        *self.lock_rest() = None;
    }

    async fn token(&self) -> Result<Secret, LocalReason> {
        let token = self.bearer.current().await;
        token.map_err(|error| LocalReason::NotLoggedIn(error.on_one_line()))
    }

    async fn connect(&self) -> Result<Reach, LocalReason> {
        let trouble = |error: &dyn std::fmt::Display| LocalReason::NoServer(error.to_string());
        let login = self.login()?;
        let connection = Connection::open(&login, "client", Patience::None).await.map_err(
            |error| match error {
                QueueError::NoScheduler(_) => LocalReason::NoScheduler,
                QueueError::TurnedAway { .. } => LocalReason::Refused(error.to_string()),
                _ => trouble(&error),
            },
        )?;
        let nats = NatsBlobs::shared(connection.clone());
        let blobs = Blobs::open(&self.dist.store, nats)
            .map_err(|error| LocalReason::Store(error.to_string()))?;
        let farm =
            Farm::join(connection, self.id.clone()).await.map_err(|error| trouble(&error))?;
        let space = match farm.hello().await {
            Ok(HelloReply::Welcome { space, .. }) => space,
            Ok(HelloReply::Refused(words)) => return Err(LocalReason::Refused(words)),
            Err(QueueError::NoResponders(_) | QueueError::TimedOut(_)) => {
                return Err(LocalReason::NoScheduler);
            }
            Err(error) => return Err(trouble(&error)),
        };
        Ok(Reach { farm, blobs: blobs.of(&space) })
    }

    fn login(&self) -> Result<Login, LocalReason> {
        let url = self.dist.scheduler_url.clone().ok_or(LocalReason::Disabled)?;
        let bearer = self.bearer.clone();
        let password = Password::asked(move || {
            let bearer = bearer.clone();
            async move { bearer.current().await.map_err(|error| error.on_one_line()) }
        });
        let user = self.id.as_str().to_owned();
        let tls = self.dist.tls.clone();
        Ok(Login { url, tls, inbox: subjects::inbox(&user), user, password })
    }

    fn lock_counted(&self) -> std::sync::MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_rest(&self) -> std::sync::MutexGuard<'_, Option<Rest>> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
