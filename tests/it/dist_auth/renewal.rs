//! How a login lives on: renewed before its token ends, by one at a time, until the provider says no.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use jetcc::client::login::LoginError;
use rustix::process::Signal;

use super::{Home, claims};
use crate::harness::oidc::{CLIENT_ID, Provider};
use crate::harness::wait::until;

/// Unix time of an end that was, and of one that comes in the last minute of a long life.
fn ended(login: &mut serde_json::Value) {
    login["expires"] = 1_000_000_000.into();
}

fn ends_soon(login: &mut serde_json::Value) {
    let soon = login["given"].as_u64().unwrap() + 30;
    login["expires"] = soon.into();
    login["given"] = (soon - 3_600).into();
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends() {
    let (home, provider) = (Home::new(), Provider::start_with(&[("TOKEN_SECONDS", "2")]).await);
    let settings = home.logged_in(&provider, "alice", "").await;
    let bearer = home.bearer(&settings);
    let mut shown = HashSet::new();
    until("the token was renewed twice", async || {
        let token = bearer.current().await.unwrap().reveal().to_owned();
        let ends = claims(&token)["exp"].as_u64().unwrap();
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        assert!(now <= ends, "a token that ended at {ends} was shown at {now}");
        shown.insert(token);
        (shown.len() > 2).then_some(())
    })
    .await;
    assert_eq!(home.login()["who"], "alice");
}

/// The provider takes each refresh token once: a second renewal with it would end the login.
#[tokio::test]
async fn many_daemons_renew_a_login_once() {
    let (home, provider) = (Home::new(), Provider::start().await);
    let settings = home.logged_in(&provider, "alice", "").await;
    home.change_login(ended);
    let before = provider.answered("POST /token/");
    let daemons = (0..8).map(|_| {
        let bearer = home.bearer(&settings);
        tokio::spawn(async move { bearer.current().await.unwrap().reveal().to_owned() })
    });
    let mut tokens = HashSet::new();
    for daemon in daemons.collect::<Vec<_>>() {
        tokens.insert(daemon.await.unwrap());
    }
    assert_eq!((tokens.len(), provider.answered("POST /token/") - before), (1, 1));
}

#[tokio::test]
async fn logins_at_several_providers_stand_side_by_side() {
    let home = Home::new();
    let providers = [Provider::start().await, Provider::start().await];
    let mut bearers = Vec::new();
    for (provider, user) in providers.iter().zip(["alice", "bob"]) {
        let settings = home.logged_in(provider, user, "").await;
        bearers.push(home.bearer(&settings));
    }
    assert_eq!(home.logins().len(), 2);
    for ((provider, bearer), user) in providers.iter().zip(&bearers).zip(["alice", "bob"]) {
        let said = claims(bearer.current().await.unwrap().reveal());
        assert_eq!((&said["iss"], &said["sub"]), (&provider.issuer().into(), &user.into()));
    }
}

#[tokio::test]
async fn a_revoked_login_ends_with_its_token() {
    let (home, provider) = (Home::new(), Provider::start().await);
    let settings = home.logged_in(&provider, "alice", "").await;
    provider.revoke(home.login()["refresh"].as_str().unwrap()).await;
    let bearer = home.bearer(&settings);

    home.change_login(ends_soon);
    let old = home.login()["bearer"].as_str().unwrap().to_owned();
    assert_eq!(bearer.current().await.unwrap().reveal(), old);

    home.change_login(ended);
    let error = bearer.current().await.unwrap_err();
    assert!(
        matches!(&error, LoginError::Ended { why, .. } if why.contains("invalid_grant")),
        "{error}"
    );
    assert!(error.to_string().ends_with("hint: run `jetcc --dist-auth`"), "{error}");

    // Logging in again helps at once.
    home.logged_in(&provider, "bob", "").await;
    assert_eq!(claims(bearer.current().await.unwrap().reveal())["sub"], "bob");
}

#[tokio::test]
async fn while_the_provider_is_away_a_token_is_good_until_its_end() {
    let (home, mut provider) = (Home::new(), Provider::start().await);
    let settings = home.logged_in(&provider, "alice", "").await;
    home.change_login(ends_soon);
    provider.stop().await;
    let old = home.login()["bearer"].as_str().unwrap().to_owned();
    assert_eq!(home.bearer(&settings).current().await.unwrap().reveal(), old);

    home.change_login(ended);
    let error = home.bearer(&settings).current().await.unwrap_err();
    assert!(matches!(error, LoginError::Unreachable { .. }), "{error}");

    provider.restart_with(&[]).await;
    let fresh = home.bearer(&settings).current().await.unwrap();
    assert_ne!(fresh.reveal(), old);
}

/// A provider that hangs: nobody waits for it while the token is good, and not long when it has ended.
#[tokio::test]
async fn a_provider_that_hangs_holds_up_nobody() {
    let (home, provider) = (Home::new(), Provider::start().await);
    let settings = home.logged_in(&provider, "alice", "").await;
    let old = home.login()["bearer"].as_str().unwrap().to_owned();
    provider.signal(Signal::STOP);
    home.change_login(ends_soon);
    let bearer = home.bearer(&settings);
    assert_eq!(bearer.current().await.unwrap().reveal(), old);

    home.change_login(ended);
    let error = bearer.current().await.unwrap_err().to_string();
    assert!(error.contains("no answer in time"), "{error}");
    provider.signal(Signal::CONT);
    until("the login is renewed", async || {
        bearer.current().await.ok().filter(|fresh| fresh.reveal() != old)
    })
    .await;
}

/// The provider's tokens say who, and a revoked one is refused: what the tests here rely on.
#[tokio::test]
async fn the_provider_rotates_keys_and_revokes() {
    let mut provider = Provider::start().await;
    let tokens = provider.log_in("alice").await;
    let said = claims(tokens["access_token"].as_str().unwrap());
    assert_eq!(
        (&said["iss"], &said["groups"][0]),
        (&provider.issuer().into(), &"compilers".into())
    );
    provider.rotate_key().await;
    let refresh_token = tokens["refresh_token"].as_str().unwrap();
    provider.revoke(refresh_token).await;
    let form = [
        ("client_id", CLIENT_ID),
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh_token),
    ];
    let (status, answer) = provider.post("/token/", &form).await;
    assert_eq!((status, &answer["error"]), (400, &"invalid_grant".into()));
}

#[tokio::test]
async fn a_file_that_others_can_read_is_not_used() {
    let (home, provider) = (Home::new(), Provider::start().await);
    let settings = home.logged_in(&provider, "alice", "").await;
    let [file] = home.logins().try_into().unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let error = home.bearer(&settings).current().await.unwrap_err().to_string();
    assert!(error.contains("others can read it (mode 640, wanted 600)"), "{error}");

    fs::rename(&file, home.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(home.path("elsewhere"), &file).unwrap();
    home.bearer(&settings).current().await.unwrap_err();
    fs::remove_file(&file).unwrap();
    let error = home.bearer(&settings).current().await.unwrap_err();
    assert!(matches!(error, LoginError::NotLoggedIn { .. }), "{error}");
}
