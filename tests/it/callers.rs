//! Who may connect: each way of `client_auth` and `server_auth`, with a real OpenID provider.

use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

use data_encoding::BASE64URL_NOPAD;
use jetcc::exec::{self, Ended, Spec};
use jetcc::setup;
use rustix::process::Signal;

use crate::harness::attacker::Attacker;
use crate::harness::farm::{Builder, Farm, JETCC};
use crate::harness::oidc::{AUDIENCE, Provider};
use crate::harness::project::{Project, many_sources};
use crate::harness::wait::until;

/// How often the provider was asked for its keys.
const KEYS: &str = "GET /.well-known/jwks.json 200";
/// How often it was asked whose a token is.
const USERINFO: &str = "GET /userinfo/ ";

/// A farm that knows those of the provider's users who are in the group, and whoever has the shared
/// token.
fn farm_of(provider: &Provider) -> Builder {
    let ways = format!("{}{}", oidc(provider), shared("of the farm"));
    let client = "dist.auth.token = 'of the farm'";
    Farm::builder().setting("scheduler", &ways).setting("client", client)
}

fn oidc(provider: &Provider) -> String {
    format!(
        "[[client_auth]]\ntype = 'oidc'\nissuer = '{}'\naudience = '{AUDIENCE}'\n\
         required_groups = ['compilers']\nleeway_seconds = 0\n",
        provider.issuer()
    )
}

fn shared(token: &str) -> String {
    format!("[[client_auth]]\ntype = 'token'\ntoken = '{token}'\n")
}

async fn token_of(provider: &Provider, user: &str) -> String {
    provider.log_in(user).await["access_token"].as_str().unwrap().to_owned()
}

async fn gets_in(farm: &Farm, token: &str) -> bool {
    !Attacker::is_turned_away(farm, "caller", token).await
}

/// A token of the provider's, as far as it says itself.
fn forged(provider: &Provider, key: &str) -> String {
    let part = |text: String| BASE64URL_NOPAD.encode(text.as_bytes());
    let header = part(format!(r#"{{"alg":"RS256","kid":"{key}"}}"#));
    let body = part(format!(
        r#"{{"iss":"{}","aud":"{AUDIENCE}","sub":"mallory","groups":["compilers"],"exp":4000000000}}"#,
        provider.issuer()
    ));
    format!("{header}.{body}.{}", part("no signature".into()))
}

#[tokio::test]
async fn a_user_of_the_group_compiles_in_the_farm_and_another_at_home() {
    let provider = Provider::start().await;
    let farm = farm_of(&provider).start().await;
    let (alice, bob) = (token_of(&provider, "alice").await, token_of(&provider, "bob").await);
    let project = Project::new(&many_sources(2));

    farm.set("client", &format!("dist.auth.token = '{alice}'"));
    assert_eq!(project.same(&farm, &["gcc -c f0.c"]).await, 1);
    assert!(farm.member("scheduler").said("/alice\" account=\"CLIENTS\" by=\"oidc"));
    farm.stop_daemon().await;

    farm.set("client", &format!("dist.auth.token = '{bob}'"));
    assert_eq!(project.same(&farm, &["gcc -c f1.c"]).await, 0);
    assert_eq!(farm.stats().await.local(), BTreeMap::from([("refused".to_owned(), 1)]));
    assert!(farm.member("scheduler").said("`bob` is not in the group `compilers`"));

    for log in [farm.member("scheduler").log(), farm.member("nats-server").log(), farm.client_log()]
    {
        for token in [&alice, &bob] {
            let (_, signature) = token.rsplit_once('.').unwrap();
            assert!(!log.contains(signature), "a token is in a log");
        }
    }
    farm.finish().await;
}

#[tokio::test]
async fn a_connection_ends_with_its_token() {
    let provider = Provider::start_with(&[("TOKEN_SECONDS", "8")]).await;
    let farm = farm_of(&provider).workers(0).start().await;
    let token = token_of(&provider, "alice").await;
    let alice = Attacker::connect(&farm, "alice", &token).await;
    assert!(farm.member("scheduler").said("alice/shared/alice/alice"));
    // Her connection tries again by itself as soon as the server has ended it.
    until("she is not let in again", async || {
        farm.member("scheduler").said("ExpiredSignature").then_some(())
    })
    .await;
    drop(alice);
    farm.finish().await;
}

#[tokio::test]
async fn an_issuer_may_change_its_keys_and_be_away() {
    let mut provider = Provider::start().await;
    let mut farm = farm_of(&provider).workers(0).start().await;
    let old = token_of(&provider, "alice").await;
    assert!(gets_in(&farm, &old).await);

    provider.rotate_key().await;
    let new = token_of(&provider, "alice").await;
    until("the new key is known", async || gets_in(&farm, &new).await.then_some(())).await;
    assert!(!gets_in(&farm, &old).await, "a key that was withdrawn is still good");

    provider.stop().await;
    assert!(gets_in(&farm, &new).await, "keys are forgotten when the issuer is away");
    farm.stop("scheduler").await;
    farm.start_again("scheduler").await;
    assert!(!gets_in(&farm, &new).await);
    assert!(farm.member("scheduler").said("the issuer's keys are not known"));
    assert!(gets_in(&farm, "of the farm").await);
    provider.restart_with(&[]).await;
    until("the issuer is there again", async || gets_in(&farm, &new).await.then_some(())).await;
    farm.finish().await;
}

#[tokio::test]
async fn a_flood_of_strange_tokens_is_no_flood_at_the_issuer() {
    let provider = Provider::start().await;
    let farm = farm_of(&provider).workers(0).start().await;
    let begun = Instant::now();
    for number in 0..100 {
        assert!(!gets_in(&farm, &forged(&provider, &format!("key-{number}"))).await);
    }
    assert!(farm.member("scheduler").said("the issuer has no key `key-99`"));
    let (asked, seconds) = (provider.answered(KEYS), begun.elapsed().as_secs());
    // Once at the start, which may be long ago, and then every ten seconds.
    assert!(asked as u64 <= 2 + seconds / 10, "{asked} times in {seconds} s");
    assert!(gets_in(&farm, &token_of(&provider, "alice").await).await);
    farm.finish().await;
}

#[tokio::test]
async fn an_issuer_that_hangs_holds_up_nobody_else() {
    let provider = Provider::start().await;
    let mut farm = farm_of(&provider).workers(0).start().await;
    farm.stop("scheduler").await;
    provider.signal(Signal::STOP);
    farm.start_again("scheduler").await;
    // One after the other these would take longer than the server waits for us.
    let waiting: Vec<_> = (0..40)
        .map(|number| {
            let url = farm.nats_url().to_owned();
            let token = forged(&provider, "key");
            let user = format!("waiting-{number}");
            tokio::spawn(async move {
                let options = async_nats::ConnectOptions::with_user_and_password(user, token);
                options.connect(url).await.is_err()
            })
        })
        .collect();
    assert!(gets_in(&farm, "of the farm").await);
    for one in waiting {
        assert!(one.await.unwrap());
    }
    // Those who come while it is asked wait; those who come after it was given up do not.
    let said = |words| farm.member("scheduler").said(words);
    assert!(said("nobody could say in 1500 ms") || said("the issuer's keys are not known"));
    provider.signal(Signal::CONT);
    let alice = token_of(&provider, "alice").await;
    until("the issuer is there again", async || gets_in(&farm, &alice).await.then_some(())).await;
    farm.finish().await;
}

#[tokio::test]
async fn of_two_schedulers_either_knows_everybody() {
    let provider = Provider::start().await;
    let mut farm = farm_of(&provider).workers(0).start().await;
    farm.add("scheduler", "scheduler-2").await;
    let alice = token_of(&provider, "alice").await;
    until("both have let somebody in", async || {
        assert!(gets_in(&farm, &alice).await && gets_in(&farm, "of the farm").await);
        let said = |name| farm.member(name).said("by=\"oidc");
        (said("scheduler") && said("scheduler-2")).then_some(())
    })
    .await;
    for (gone, left) in [("scheduler", "scheduler-2"), ("scheduler-2", "scheduler")] {
        farm.kill(gone).await;
        // The server may have asked the one that died and notices it by silence.
        until("the other lets in", async || gets_in(&farm, &alice).await.then_some(())).await;
        for _ in 0..10 {
            assert!(gets_in(&farm, &alice).await && gets_in(&farm, "of the farm").await);
            assert!(!gets_in(&farm, "guessed").await, "{left} lets anybody in");
        }
        farm.start_again(gone).await;
    }
    farm.finish().await;
}

#[tokio::test]
async fn an_identity_service_is_asked_whose_a_token_is() {
    let provider = Provider::start().await;
    let issuer = provider.issuer();
    let mozilla = format!(
        "[[client_auth]]\ntype = 'mozilla'\nrequired_groups = ['compilers']\nissuer = '{issuer}'\n\
         userinfo_url = '{issuer}/userinfo/'\ngroups_claim = 'groups'\n"
    );
    let farm = Farm::builder().workers(0).setting("scheduler", &mozilla);
    let alice = token_of(&provider, "alice").await;
    let farm = farm.setting("client", &format!("dist.auth.token = '{alice}'")).start().await;
    assert!(farm.member("scheduler").said("/alice\" account=\"CLIENTS\" by=\"mozilla\""));
    assert!(gets_in(&farm, &alice).await);
    assert_eq!(provider.answered(USERINFO), 1, "the answer was not remembered");

    let bob = token_of(&provider, "bob").await;
    assert!(!gets_in(&farm, &bob).await);
    assert!(farm.member("scheduler").said("`bob` is not in the group `compilers`"));
    // A token that the service does not know is known by nothing that it says itself.
    assert!(!gets_in(&farm, &forged(&provider, "key")).await);
    assert!(!gets_in(&farm, &forged(&provider, "key")).await);
    assert_eq!(provider.answered(USERINFO), 3, "the refusal was not remembered");
    // Others' tokens are not shown to it.
    assert!(!gets_in(&farm, "guessed").await);
    assert_eq!(provider.answered(USERINFO), 3);
    farm.finish().await;
}

#[tokio::test]
async fn a_page_may_say_who_is_let_in() {
    let provider = Provider::start().await;
    let url = format!("{}/userinfo/", provider.issuer());
    let proxy =
        format!("[[client_auth]]\ntype = 'proxy_token'\nurl = '{url}'\ncache_secs = 3600\n");
    let ways = format!("{proxy}{}", shared("of the farm"));
    let farm = Farm::builder().workers(0).setting("scheduler", &ways);
    let mut farm = farm.setting("client", "dist.auth.token = 'of the farm'").start().await;
    assert_eq!(provider.answered(USERINFO), 0, "the shared token was shown to the page");
    let bob = token_of(&provider, "bob").await;
    assert!(gets_in(&farm, &bob).await);
    assert!(!gets_in(&farm, "guessed").await && !gets_in(&farm, "guessed").await);
    assert_eq!(provider.answered(USERINFO), 2);
    assert!(farm.member("scheduler").said("/userinfo/` answers 401"));

    // A token that another way knows and refuses is not shown to the page.
    farm.stop("scheduler").await;
    farm.set("scheduler", &format!("{ways}{}", oidc(&provider)));
    farm.start_again("scheduler").await;
    assert!(!gets_in(&farm, &bob).await);
    assert_eq!(provider.answered(USERINFO), 2);
    farm.finish().await;
}

#[tokio::test]
async fn a_client_may_have_a_token_of_its_own_with_its_tenant() {
    let key = BASE64URL_NOPAD.encode(&[7; 32]);
    let ways = format!(
        "[[client_auth]]\ntype = 'jwt_hs256'\nsecret_key = '{key}'\naudience = 'farm'\n\
         tenant_claim = 'tenant'\n\
         [[client_auth]]\ntype = 'token'\ntoken = 'of the farm'\ntenant = 'team-b'\n"
    );
    let farm = Farm::builder().workers(0).setting("scheduler", &ways);
    let farm = farm.setting("client", "dist.auth.token = 'of the farm'").start().await;
    assert!(farm.member("scheduler").said("name=\"team-b/team-b/"));
    let config = farm.path("farm/scheduler.toml").display().to_string();
    // Longer than a line of the server may be by default.
    let user = "x".repeat(5_000);
    let arguments = ["auth", "generate-jwt-hs256-client-token", "--config", &config];
    let made = farm.jetcc(&farm.path(""), &[&arguments[..], &["--user", &user]].concat()).await;
    assert_ne!(made.status, Ended::Code(0), "a token without the tenant that is wanted");
    let more = ["--user", &user, "--tenant", "team-a"];
    let made = farm.jetcc(&farm.path(""), &[&arguments[..], &more].concat()).await;
    let token = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    assert!(gets_in(&farm, &token).await, "{}", farm.member("scheduler").log());
    assert!(farm.member("scheduler").said("name=\"team-a/team-a/caller/xxx"));
    farm.finish().await;
}

#[tokio::test]
async fn workers_may_share_a_token() {
    let server = "[server_auth]\ntype = 'token'\ntoken = 'of workers'\n";
    let worker = "[scheduler_auth]\ntype = 'token'\ntoken = 'of workers'\n";
    let farm = Farm::builder().setting("scheduler", server).setting("worker", worker);
    let farm = farm.start().await;
    let project = Project::new(&many_sources(1));
    assert_eq!(project.same(&farm, &["gcc -c f0.c"]).await, 1);
    assert!(!gets_in(&farm, "of worker").await);
    farm.finish().await;
}

#[tokio::test]
async fn without_checks_a_farm_is_on_this_machine_alone() {
    let insecure = "type = 'insecure_everybody_on_this_machine'\n";
    let scheduler = format!("[client_auth]\n{insecure}[server_auth]\n{insecure}");
    let worker = format!("[scheduler_auth]\n{insecure}");
    let farm = Farm::builder().setting("scheduler", &scheduler).setting("worker", &worker);
    let mut farm = farm.setting("client", "dist.auth.token = 'anything'").start().await;
    let project = Project::new(&many_sources(1));
    assert_eq!(project.same(&farm, &["gcc -c f0.c"]).await, 1);

    let config = farm.path("farm/scheduler.toml").display().to_string();
    let url = farm.nats_url().to_owned();
    for elsewhere in ["nats://192.0.2.1:4222", "nats://127.0.0.1:4222,nats://192.0.2.1:4222"] {
        farm.set_variable("JETCC_NATS_URL", elsewhere);
        let done = farm.jetcc(&farm.path(""), &["scheduler", "--config", &config]).await;
        assert_eq!(done.status, Ended::Code(64), "{done:?}");
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(said.contains("wanted an address of the loopback"), "{said}");
    }
    farm.set_variable("JETCC_NATS_URL", url);
    farm.finish().await;
}

#[tokio::test]
async fn a_worker_token_says_what_it_was_made_for_and_keys_come_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let auth = async |arguments: &[&str]| {
        let spec = Spec {
            arguments: ["auth"].iter().chain(arguments).map(Into::into).collect(),
            directory: folder.path().into(),
            ..Spec::of(JETCC.as_ref())
        };
        exec::run(spec).await.unwrap()
    };
    let key = auth(&["generate-jwt-hs256-key"]).await.stdout;
    fs::write(folder.path().join("key"), &key).unwrap();
    let token = ["generate-jwt-hs256-server-token", "--secret-key-file", "key"];
    let more =
        ["--server", "w1", "--pool", "linux-riscv64", "--pool", "linux-x86_64", "--days", "2"];
    let made = auth(&[&token[..], &more].concat()).await;
    let text = String::from_utf8(made.stdout).unwrap();
    let claims = BASE64URL_NOPAD.decode(text.split('.').nth(1).unwrap().as_bytes()).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!((&claims["sub"], &claims["role"]), (&"w1".into(), &"worker".into()));
    assert_eq!(claims["pools"], serde_json::json!(["linux-riscv64", "linux-x86_64"]));
    let hours = (claims["exp"].as_u64().unwrap() - setup::seconds_from_now(0)) / 3_600;
    assert!((47..=48).contains(&hours), "{hours}");

    for bad in [["--days", "0"], ["--server", "W 1"], ["--pool", "a.b"]] {
        assert_ne!(auth(&[&token[..], &bad].concat()).await.status, Ended::Code(0), "{bad:?}");
    }
    fs::write(folder.path().join("key"), "my secret key").unwrap();
    let refused = auth(&token).await;
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("hint: make one with") && !said.contains("my secret key"), "{said}");
}
