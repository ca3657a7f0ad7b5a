//! Who a caller is: what it shows becomes a name with rights, or a refusal with its reason.
//!
//! Called by the scheduler's [`run`](super::run) for each connection that the server asks about.
//! Promises: what a caller shows is given to those alone who it may be for; ways that ask nobody
//! come before those that ask over the network; a service that hangs holds up nobody but its own
//! users; a token is never kept, logged, or part of a refusal.
//!
//! Reading order: [`settings`] and its [`check`], this file, [`shown`], [`workers`], [`token`], [`hs256`], then
//! [`oidc`] with [`issuer`] and [`jwks`], [`bearer`] with [`remembered`], [`claims`], [`web`].

pub mod bearer;
mod check;
mod claims;
mod hs256;
pub mod issuer;
pub mod jwks;
pub mod oidc;
mod remembered;
pub mod settings;
mod shown;
mod token;
mod web;
mod workers;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bearer::{Proxy, Userinfo};
use hs256::ClientJwt;
use oidc::Oidc;
use settings::{ClientAuth, TokenAuth};
use shown::Shown;
use workers::{Workers, on_this_machine};

use super::Settings;
use crate::job::{ClientId, Principal, Space, Tenant, User, WorkerId};
use crate::lifecycle::Lifecycle;
use crate::queue::Secret;
use crate::queue::callout::{Admission, Caller};
use crate::queue::permissions::{self, CLIENT_ACCOUNT, Uploads, WORKER_ACCOUNT};

pub use hs256::{KeyError, client_token, key_bytes, worker_token};
pub use shown::TOKEN_BYTES_MAX;

/// Longest time for a decision. A caller waits 2 s for the server, and the server 4 s for us.
const DECISION_MAX: Duration = Duration::from_millis(1_500);

/// Settings that let nobody in, or too many.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// A key that is none.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Something else: what, and what to do.
    #[error("{0}")]
    Rule(String),
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What was found out about a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// Its name; its own id when the token names nobody.
    pub user: Option<User>,
    /// Its tenant, where the farm names tenants.
    pub tenant: Option<Tenant>,
    /// When its connection has to end, Unix time in seconds.
    pub expires: Option<u64>,
}

/// The farm's ways to know clients and workers.
pub struct Identity {
    workers: Workers,
    ways: Vec<Way>,
    sharing: Sharing,
}

/// What named tenants have with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sharing {
    Nothing,
    Everything,
}

/// One way to know clients.
enum Way {
    Token(TokenAuth),
    JwtHs256(ClientJwt),
    Everybody(Option<Tenant>),
    Oidc(Oidc),
    Mozilla(Userinfo),
    Proxy(Proxy),
}

impl Identity {
    /// Reads the settings.
    ///
    /// # Errors
    /// [`Unusable`].
    pub async fn new(settings: &Settings) -> Result<Self, Unusable> {
        check::check(settings).await.map_err(Unusable::Rule)?;
        let mut ways: Vec<Way> =
            settings.client_auth.iter().map(Way::new).collect::<Result<_, _>>()?;
        // A shared token is not sent to a page that would not know it.
        ways.sort_by_key(Way::distance);
        let sharing = match settings.tenants_share_results {
            true => Sharing::Everything,
            false => Sharing::Nothing,
        };
        Ok(Self { workers: Workers::new(&settings.server_auth)?, ways, sharing })
    }

    /// Starts to fetch the keys of issuers.
    pub fn keep(&self, lifecycle: &Lifecycle) {
        for way in &self.ways {
            if let Way::Oidc(oidc) = way {
                lifecycle.spawn_until_stop(oidc.issuer.clone().keep());
            }
        }
    }

    /// Decides about a caller, in time.
    ///
    /// # Errors
    /// Why it is not let in, for the operator.
    pub async fn admit(&self, caller: &Caller) -> Result<Admission, String> {
        let decision = tokio::time::timeout(DECISION_MAX, self.decide(caller)).await;
        decision.unwrap_or_else(|_| {
            Err(format!("nobody could say in {} ms who it is", DECISION_MAX.as_millis()))
        })
    }

    async fn decide(&self, caller: &Caller) -> Result<Admission, String> {
        let shown = Shown::read(&caller.secret)?;
        if self.workers.fits(&shown) {
            let id: WorkerId = caller.user.parse().map_err(|error| format!("{error}"))?;
            let entitled = self.workers.check(&id, &caller.host, &shown);
            let entitled = entitled.map_err(|why| format!("worker's token: {why}"))?;
            return Ok(Admission {
                name: id.to_string(),
                account: WORKER_ACCOUNT,
                permissions: permissions::worker(&id, &entitled.pools),
                expires: entitled.expires,
                by: "server_auth".into(),
            });
        }
        let id: ClientId = caller.user.parse().map_err(|error| format!("{error}"))?;
        // A token that one of us checks is not shown to a page of somebody else.
        let known = self.ways.iter().any(|way| way.knows(&shown));
        let mut refusals = Vec::new();
        for way in self.ways.iter().filter(|way| !(known && matches!(way, Way::Proxy(_)))) {
            match way.check(caller, &shown).await {
                Some(Ok(claimed)) => return Ok(self.admit_client(&id, claimed, way)),
                Some(Err(why)) => refusals.push(format!("{}: {why}", way.name())),
                None => {}
            }
        }
        match refusals.is_empty() {
            true => Err(format!("nothing in `client_auth` takes {}", shown.kind())),
            false => Err(refusals.join("; ")),
        }
    }

    fn admit_client(&self, id: &ClientId, claimed: Claimed, way: &Way) -> Admission {
        let (tenant, space) = tenant_and_space(id, claimed.tenant, self.sharing);
        let user = claimed.user.unwrap_or_else(|| User::new(id.as_str()));
        let principal = Principal { tenant, space, client: id.clone(), user };
        Admission {
            name: principal.to_string(),
            account: CLIENT_ACCOUNT,
            permissions: permissions::client(id, &principal.space, Uploads::Allowed),
            expires: claimed.expires,
            by: way.name(),
        }
    }
}

/// Whose share a client's jobs count against, and with whom it shares: its tenant's; where the farm
/// names none, its own share, and everything with everybody. Settings that would let a client take
/// a tenant's name are refused, see [`check`].
fn tenant_and_space(id: &ClientId, named: Option<Tenant>, sharing: Sharing) -> (Tenant, Space) {
    match (named, sharing) {
        (Some(tenant), Sharing::Nothing) => {
            let space = Space::of(&tenant);
            (tenant, space)
        }
        (Some(tenant), Sharing::Everything) => (tenant, Space::shared()),
        (None, _) => (Tenant::of(id), Space::shared()),
    }
}

impl Way {
    fn new(rules: &ClientAuth) -> Result<Self, Unusable> {
        Ok(match rules {
            ClientAuth::Token(rules) => Self::Token(rules.clone()),
            ClientAuth::JwtHs256(rules) => Self::JwtHs256(ClientJwt::new(rules)?),
            ClientAuth::Oidc(rules) => Self::Oidc(Oidc::new(rules).map_err(Unusable::Rule)?),
            ClientAuth::Mozilla(rules) => {
                Self::Mozilla(Userinfo::new(rules).map_err(Unusable::Rule)?)
            }
            ClientAuth::ProxyToken(rules) => {
                Self::Proxy(Proxy::new(rules).map_err(Unusable::Rule)?)
            }
            ClientAuth::InsecureEverybodyOnThisMachine(rules) => {
                Self::Everybody(rules.tenant.clone())
            }
        })
    }

    /// How far the token travels: nowhere, to whom it names itself, to somebody else.
    fn distance(&self) -> u8 {
        match self {
            Self::Token(_) | Self::JwtHs256(_) | Self::Everybody(_) => 0,
            Self::Oidc(_) | Self::Mozilla(_) => 1,
            Self::Proxy(_) => 2,
        }
    }

    /// What logs call it.
    fn name(&self) -> String {
        match self {
            Self::Token(rules) => match &rules.name {
                Some(name) => format!("token `{name}`"),
                None => "token".into(),
            },
            Self::JwtHs256(_) => "jwt_hs256".into(),
            Self::Oidc(oidc) => format!("oidc `{}`", oidc.rules.issuer.as_str()),
            Self::Mozilla(_) => "mozilla".into(),
            Self::Proxy(_) => "proxy_token".into(),
            Self::Everybody(_) => "insecure_everybody_on_this_machine".into(),
        }
    }

    /// Whether the token says that it is for this way.
    fn knows(&self, shown: &Shown<'_>) -> bool {
        let fit = match self {
            Self::JwtHs256(way) => way.fits(shown),
            Self::Oidc(way) => way.fits(shown),
            Self::Mozilla(way) => way.fits(shown),
            Self::Token(_) | Self::Everybody(_) | Self::Proxy(_) => None,
        };
        fit.is_some()
    }

    /// Who the caller is; `None` when what it shows is plainly for somebody else.
    async fn check(&self, caller: &Caller, shown: &Shown<'_>) -> Option<Result<Claimed, String>> {
        let (secret, text) = (shown.secret, shown.secret.reveal());
        let plain = shown.jwt.is_none();
        match self {
            Self::Token(rules) => plain.then(|| check_shared(rules, secret)),
            Self::JwtHs256(way) => way.fits(shown).map(|jwt| way.check(text, jwt)),
            Self::Everybody(tenant) => {
                Some(on_this_machine(&caller.host).map(|()| Claimed::nameless(tenant.as_ref())))
            }
            Self::Oidc(way) => match way.fits(shown) {
                Some(jwt) => Some(way.check(text, jwt).await),
                None => None,
            },
            Self::Mozilla(way) if way.fits(shown).is_some() => Some(way.check(secret).await),
            Self::Mozilla(_) => None,
            Self::Proxy(way) => Some(way.check(secret).await),
        }
    }
}

fn check_shared(rules: &TokenAuth, secret: &Secret) -> Result<Claimed, String> {
    match token::same(&rules.token, secret) {
        true => Ok(Claimed::nameless(rules.tenant.as_ref())),
        false => Err("it is another".into()),
    }
}
