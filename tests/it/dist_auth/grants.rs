//! Both ways to log in, and who is turned away on them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use jetcc::exec::Ended;
use url::Url;

use super::{BROWSER, DEVICE, Home, claims, mode};
use crate::harness::oidc::{AUDIENCE, CLIENT_ID, Provider, visited};
use crate::harness::wait::until;

#[tokio::test]
async fn a_browser_here_logs_in() {
    let (home, provider) = (Home::new(), Provider::start().await);
    let settings = home.settings(&provider, BROWSER, "");
    let done = home.log_in(&settings, "", Some(&provider.browser("alice"))).await;
    assert_eq!(done.status, Ended::Code(0), "{}", home.said());
    let sentence = format!("you are `alice` at `{}` until 2", provider.issuer());
    assert!(home.said().contains(&sentence), "{}", home.said());

    let [file] = home.logins().try_into().unwrap();
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    let login = home.login();
    let bearer = login["bearer"].as_str().unwrap();
    let said = claims(bearer);
    assert_eq!((&said["sub"], &said["aud"]), (&"alice".into(), &AUDIENCE.into()));
    for secret in [bearer, login["refresh"].as_str().unwrap()] {
        assert!(!home.said().contains(secret), "{}", home.said());
    }
    assert_eq!(home.bearer(&settings).current().await.unwrap().reveal(), bearer);
}

#[tokio::test]
async fn a_browser_anywhere_logs_in() {
    let (home, provider) = (Home::new(), Provider::start().await);
    let settings = home.settings(&provider, DEVICE, "");
    let login = home.log_in(&settings, "", None);
    let accepted = async {
        let asked = async || (provider.answered("POST /token/ 400") > 0).then_some(());
        until("it was asked in vain whether the code is accepted", asked).await;
        accept(&home, &provider, "bob").await;
    };
    tokio::join!(accepted, async {
        assert_eq!(login.await.status, Ended::Code(0), "{}", home.said());
    });
    assert!(home.said().contains("you are `bob` at"), "{}", home.said());
}

/// The settings speak of a browser here; there is none, or the user says that it is elsewhere.
#[tokio::test]
async fn without_a_browser_or_by_wish_a_code_is_shown() {
    let (home, provider) = (Home::new(), Provider::start().await);
    let settings = home.settings(&provider, BROWSER, "");
    for (arguments, browser) in [("", None), ("=device", Some(provider.browser("alice")))] {
        let login = home.log_in(&settings, arguments, browser.as_deref());
        tokio::join!(accept(&home, &provider, "alice"), async {
            assert_eq!(login.await.status, Ended::Code(0), "{}", home.said());
        });
        fs::remove_file(home.path("said")).unwrap();
    }
}

/// Opens the page with the code that the login shows, as `user`.
async fn accept(home: &Home, provider: &Provider, user: &str) {
    let page = until("a page with a code is shown", async || {
        let said = home.said();
        let (_, page) = said.split_once("or open\n  ")?;
        page.split_once('\n').map(|(page, _)| page.to_owned())
    })
    .await;
    provider.browse(user, &page).await;
}

/// Over TLS, with the certificates of the system or those that `SSL_CERT_FILE` names.
#[tokio::test]
async fn the_providers_certificate_is_checked() {
    let (mut home, provider) = (Home::new(), Provider::start_with(&[("TLS", "1")]).await);
    let settings = home.settings(&provider, BROWSER, "");
    let browser = provider.browser("alice");
    let done = home.log_in(&settings, "", Some(&browser)).await;
    assert_eq!(done.status, Ended::Code(1), "{}", home.said());
    assert!(home.said().contains("invalid peer certificate"), "{}", home.said());

    home.certificate = Some(provider.certificate());
    let done = home.log_in(&settings, "", Some(&browser)).await;
    assert_eq!(done.status, Ended::Code(0), "{}", home.said());
}

#[tokio::test]
async fn the_farm_can_be_shown_the_id_token() {
    let (home, provider) = (Home::new(), Provider::start().await);
    home.logged_in(&provider, "alice", "bearer = 'id_token'").await;
    let said = claims(home.login()["bearer"].as_str().unwrap());
    assert_eq!((&said["sub"], &said["aud"]), (&"alice".into(), &CLIENT_ID.into()));
}

/// Addresses in the settings, for providers without discovery; what they ask for goes over ours.
#[tokio::test]
async fn addresses_can_be_given_without_an_issuer() {
    let (home, provider) = (Home::new(), Provider::start().await);
    let issuer = provider.issuer();
    let settings = home.path("client.toml");
    let text = format!(
        "[dist.auth]\ntype = '{BROWSER}'\nclient_id = '{CLIENT_ID}'\n\
         auth_url = '{issuer}/authorize/?scope=openid%20groups'\ntoken_url = '{issuer}/token/'\n"
    );
    fs::write(&settings, text).unwrap();
    let done = home.log_in(&settings, "", Some(&provider.browser("alice"))).await;
    assert_eq!(done.status, Ended::Code(0), "{}", home.said());
    assert_eq!(claims(home.login()["bearer"].as_str().unwrap())["scope"], "openid groups");
}

/// Whoever knocks at the port without this login's `state` is turned away, and the login goes on.
#[tokio::test]
async fn a_wrong_state_is_turned_away() {
    let (home, provider) = (Home::new(), Provider::start().await);
    let settings = home.settings(&provider, BROWSER, "");
    let login = async {
        let done = home.log_in(&settings, "", Some(&idle_browser(&home))).await;
        assert_eq!(done.status, Ended::Code(0), "{}", home.said());
    };
    tokio::join!(login, async {
        let page = shown_page(&home).await;
        let (back, state) = (query(&page, "redirect_uri"), query(&page, "state"));
        let issuer = provider.issuer();
        for (visit, status) in [
            (format!("{back}?code=stolen&state=guessed"), 400),
            (format!("{back}?code=stolen"), 400),
            (format!("{back}?code=stolen&state={state}&iss=http://127.0.0.1:1"), 400),
            (format!("{back}?state={state}&iss={issuer}"), 400),
            (back.replace("/redirect", "/"), 404),
        ] {
            assert_eq!(visited(&visit).await, status, "{visit}");
        }
        assert_eq!(provider.answered("POST /token/"), 0);
        provider.browse("alice", page.as_str()).await;
    });
    assert!(home.said().contains("you are `alice`"), "{}", home.said());
}

/// A code of another login: the provider compares it with the challenge of this one.
#[tokio::test]
async fn a_foreign_code_is_refused() {
    let (home, provider) = (Home::new(), Provider::start().await);
    let settings = home.settings(&provider, BROWSER, "");
    let login = async {
        let done = home.log_in(&settings, "", Some(&idle_browser(&home))).await;
        assert_eq!(done.status, Ended::Code(1), "{}", home.said());
    };
    tokio::join!(login, async {
        let page = shown_page(&home).await;
        let (back, state) = (query(&page, "redirect_uri"), query(&page, "state"));
        assert_eq!(visited(&format!("{back}?code=stolen&state={state}")).await, 200);
    });
    assert!(home.said().contains("refused: invalid_grant"), "{}", home.said());
    assert!(home.logins().is_empty());
}

#[tokio::test]
async fn mistakes_in_the_settings_are_named() {
    let (home, provider) = (Home::new(), Provider::start().await);
    let issuer = provider.issuer();
    let client = format!("client_id = '{CLIENT_ID}'");
    for (auth, wanted) in [
        ("type = 'token'\ntoken = 't'".to_owned(), "there is nobody to log in to"),
        (format!("type = '{BROWSER}'\n{client}"), "`dist.auth.token_url` is missing"),
        (
            format!("type = '{BROWSER}'\n{client}\ntoken_url = '{issuer}/token/'"),
            "auth_url` is missing",
        ),
        (format!("type = '{BROWSER}'\n{client}\nissuer = '{issuer}/'"), "it is the issuer"),
        (
            format!("type = '{BROWSER}'\n{client}\nissuer = 'http://idp.example'"),
            "wanted an `https://` address",
        ),
        (
            format!("type = '{BROWSER}'\n{client}\nissuer = 'http://127.0.0.1:1'"),
            "is not reachable",
        ),
        (
            format!(
                "type = '{BROWSER}'\n{client}\nissuer = '{issuer}'\nredirect_uri = 'http://a.example/'"
            ),
            "cannot be listened on",
        ),
        (
            format!("type = '{BROWSER}'\n{client}\nissuer = '{issuer}'\nscopes = ''"),
            "did you mean `scope`",
        ),
    ] {
        let settings = home.path("client.toml");
        fs::write(&settings, format!("[dist.auth]\n{auth}\n")).unwrap();
        let done = home.log_in(&settings, "=browser", None).await;
        assert_ne!(done.status, Ended::Code(0), "{auth}");
        assert!(home.said().contains(wanted), "{auth}\n{}", home.said());
    }
}

/// A browser that notes the page and does nothing.
fn idle_browser(home: &Home) -> PathBuf {
    let (file, page) = (home.path("idle-browser"), home.path("page"));
    let text =
        format!("#!/bin/sh\necho \"$1\" >'{0}.part' && mv '{0}.part' '{0}'\n", page.display());
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    file
}

async fn shown_page(home: &Home) -> Url {
    let page =
        until("the browser is shown a page", async || fs::read_to_string(home.path("page")).ok())
            .await;
    page.trim().parse().unwrap()
}

fn query(page: &Url, wanted: &str) -> String {
    page.query_pairs().find(|(name, _)| name == wanted).unwrap().1.into_owned()
}
