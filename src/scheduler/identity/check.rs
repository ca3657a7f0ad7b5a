//! Settings that read well and would still let nobody in, or too many.

use super::claims::may_be_named;
use super::settings::{CACHE_SECONDS_MAX, ClientAuth, LEEWAY_SECONDS_MAX, ServerAuth};
use super::shown::Shown;
use crate::job::Tenant;
use crate::queue::Secret;
use crate::queue::tls::is_loopback_only;
use crate::scheduler::Settings;

/// Most ways for clients to show who they are.
const WAYS_MAX: usize = 8;

/// # Errors
/// What is wrong, and what to do.
pub(super) async fn check(settings: &Settings) -> Result<(), String> {
    let ways = &settings.client_auth;
    if !(1..=WAYS_MAX).contains(&ways.len()) {
        return Err(format!("`client_auth` has {} tables, wanted 1 to {WAYS_MAX}", ways.len()));
    }
    for way in ways {
        check_way(way).map_err(|why| format!("`client_auth` {}: {why}", kind(way)))?;
    }
    let naming = ways.iter().filter(|way| tenant(way) != (None, None)).count();
    if naming != 0 && naming != ways.len() {
        // Otherwise a client without a tenant could call itself like one.
        return Err(
            "`client_auth`: some ways name a tenant and some do not\nhint: give each way a `tenant` or `tenant_claim`, or none"
                .into(),
        );
    }
    if let ServerAuth::Token { token, .. } = &settings.server_auth {
        check_shared(token).map_err(|why| format!("`server_auth` token: {why}"))?;
        let is_same =
            |way: &ClientAuth| matches!(way, ClientAuth::Token(way) if way.token == *token);
        if ways.iter().any(is_same) {
            return Err("`server_auth.token` is a client's too: every client would be a worker\nhint: make another with `jetcc auth generate-shared-token`".into());
        }
    }
    check_insecure(settings).await
}

async fn check_insecure(settings: &Settings) -> Result<(), String> {
    let everybody =
        |way: &&ClientAuth| matches!(way, ClientAuth::InsecureEverybodyOnThisMachine(_));
    let insecure = match settings.client_auth.iter().find(everybody) {
        Some(_) => "client_auth",
        None => match settings.server_auth {
            ServerAuth::InsecureEverybodyOnThisMachine { .. } => "server_auth",
            _ => return Ok(()),
        },
    };
    // A name that is unknown is no name of the loopback.
    if is_loopback_only(&settings.nats_url).await.unwrap_or(false) {
        return Ok(());
    }
    Err(format!(
        "`{insecure}` is `insecure_everybody_on_this_machine`, and `nats_url` is `{}`: wanted an address of the loopback, such as `nats://127.0.0.1:4222`\nhint: let clients and workers show who they are, for example with `type = \"token\"`",
        settings.nats_url
    ))
}

fn check_way(way: &ClientAuth) -> Result<(), String> {
    let (leeway, cache) = match way {
        ClientAuth::Token(way) => {
            check_shared(&way.token)?;
            (0, 0)
        }
        ClientAuth::JwtHs256(way) => (way.leeway_seconds, 0),
        ClientAuth::Oidc(way) if way.audience.is_empty() => {
            return Err("`audience` is empty: tokens for anybody would be taken".into());
        }
        ClientAuth::Oidc(way) if way.algorithms.is_empty() => {
            return Err("`algorithms` is empty: no token would be taken".into());
        }
        ClientAuth::Oidc(way) => (way.leeway_seconds, 0),
        ClientAuth::Mozilla(way) if way.required_groups.is_empty() => {
            return Err("`required_groups` is empty: everybody with an account would get in".into());
        }
        ClientAuth::Mozilla(way) => (0, way.cache_secs),
        ClientAuth::ProxyToken(way) => (0, way.cache_secs),
        ClientAuth::InsecureEverybodyOnThisMachine(_) => (0, 0),
    };
    if leeway > LEEWAY_SECONDS_MAX {
        return Err(format!("`leeway_seconds` is {leeway}, wanted at most {LEEWAY_SECONDS_MAX}"));
    }
    if cache > CACHE_SECONDS_MAX {
        return Err(format!("`cache_secs` is {cache}, wanted at most {CACHE_SECONDS_MAX}"));
    }
    match tenant(way) {
        (Some(_), Some(_)) => Err("`tenant` and `tenant_claim` are both set: wanted one".into()),
        (Some(tenant), None) => may_be_named(tenant),
        (None, _) => Ok(()),
    }
}

/// The tenant that a way names for all its clients, and the claim that names each one's.
fn tenant(way: &ClientAuth) -> (Option<&Tenant>, Option<&str>) {
    match way {
        ClientAuth::Token(way) => (way.tenant.as_ref(), None),
        ClientAuth::JwtHs256(way) => (way.tenant.as_ref(), way.tenant_claim.as_deref()),
        ClientAuth::Oidc(way) => (way.tenant.as_ref(), way.tenant_claim.as_deref()),
        ClientAuth::Mozilla(way) => (way.tenant.as_ref(), None),
        ClientAuth::ProxyToken(way) => (way.tenant.as_ref(), None),
        ClientAuth::InsecureEverybodyOnThisMachine(way) => (way.tenant.as_ref(), None),
    }
}

fn check_shared(token: &Secret) -> Result<(), String> {
    match Shown::read(token)?.jwt {
        None => Ok(()),
        Some(_) => Err("it is a JWT, which is never compared\nhint: make one with `jetcc auth generate-shared-token`".into()),
    }
}

fn kind(way: &ClientAuth) -> &'static str {
    match way {
        ClientAuth::Token(_) => "token",
        ClientAuth::JwtHs256(_) => "jwt_hs256",
        ClientAuth::Oidc(_) => "oidc",
        ClientAuth::Mozilla(_) => "mozilla",
        ClientAuth::ProxyToken(_) => "proxy_token",
        ClientAuth::InsecureEverybodyOnThisMachine(_) => "insecure_everybody_on_this_machine",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKERS: &str = "[server_auth]\ntype = 'token'\ntoken = 'of workers'\n";
    const INSECURE: &str = "type = 'insecure_everybody_on_this_machine'\n";

    async fn checked(url: &str, rest: &str) -> Result<(), String> {
        let text = format!("nats_url = '{url}'\nsecrets_file = 's'\n{rest}");
        check(&toml::from_str(&text).unwrap()).await
    }

    async fn ways(tables: &[&str]) -> Result<(), String> {
        let tables: String =
            tables.iter().map(|table| format!("[[client_auth]]\n{table}\n")).collect();
        checked("nats://n:4222", &format!("{tables}{WORKERS}")).await
    }

    #[tokio::test]
    async fn without_checks_the_farm_is_on_this_machine_alone() {
        for farm in [
            format!("[client_auth]\n{INSECURE}{WORKERS}"),
            format!("[client_auth]\ntype = 'token'\ntoken = 't'\n[server_auth]\n{INSECURE}"),
        ] {
            assert_eq!(checked("nats://127.0.0.1:4222", &farm).await, Ok(()));
            for url in
                ["nats://10.0.0.1:4222", "nats://127.0.0.1,nats://10.0.0.1", "nats://0.0.0.0", ""]
            {
                let why = checked(url, &farm).await.unwrap_err();
                assert!(why.contains("wanted an address of the loopback"), "{why}");
            }
        }
    }

    #[tokio::test]
    async fn either_all_ways_name_a_tenant_or_none() {
        let (one, other) = ("type = 'token'\ntoken = 't'", "type = 'token'\ntoken = 'u'");
        let named = "type = 'token'\ntoken = 'v'\ntenant = 'a'";
        let claimed = "type = 'oidc'\nissuer = 'https://i'\naudience = 'a'\ntenant_claim = 'org'";
        assert!(ways(&[one, other]).await.is_ok() && ways(&[named, claimed]).await.is_ok());
        assert!(ways(&[one, named]).await.unwrap_err().contains("hint: give each way"));
        assert!(ways(&[&format!("{claimed}\ntenant = 'a'")]).await.unwrap_err().contains("both"));
        assert!(ways(&["type = 'token'\ntoken = 'v'\ntenant = 'shared'"]).await.is_err());
    }

    #[tokio::test]
    async fn settings_that_let_in_too_many_are_none() {
        for (bad, why) in [
            ("type = 'token'\ntoken = ''", "no token"),
            ("type = 'token'\ntoken = 'of workers'", "would be a worker"),
            ("type = 'token'\ntoken = 'eyJhbGciOiJIUzI1NiJ9.e30.x'", "is a JWT"),
            ("type = 'mozilla'\nrequired_groups = []", "everybody"),
            ("type = 'oidc'\nissuer = 'https://i'\naudience = ''", "for anybody"),
            ("type = 'oidc'\nissuer = 'https://i'\naudience = 'a'\nalgorithms = []", "no token"),
            ("type = 'oidc'\nissuer = 'https://i'\naudience = 'a'\nleeway_seconds = 301", "300"),
            ("type = 'proxy_token'\nurl = 'https://p'\ncache_secs = 3601", "3600"),
        ] {
            let found = ways(&[bad]).await.unwrap_err();
            assert!(found.contains(why), "{found}");
        }
        let many: Vec<String> = (0..9).map(|n| format!("type = 'token'\ntoken = 't{n}'")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(ways(&many).await.is_err() && ways(&many[..8]).await.is_ok());
    }
}
