//! What the farm sees of a login.

use std::fs;

use jetcc::exec::Ended;
use rustix::process::{Pid, Signal, kill_process};

use super::{BROWSER, Home};
use crate::harness::farm::Farm;
use crate::harness::oidc::{AUDIENCE, Provider};
use crate::harness::project::{Project, SLOW, many_sources};
use crate::harness::wait::until;

/// Length of the longest token that the farm takes.
const TOKEN_BYTES: usize = 8 << 10;
const COMPILE: [&str; 1] = ["gcc -c a.c"];

/// A farm for the users of `provider` who are in the group, and a client with the settings and logins
/// of `home`.
async fn farm_of(provider: &Provider, home: &Home) -> Farm {
    let ways = format!(
        "[[client_auth]]\ntype = 'oidc'\nissuer = '{}'\naudience = '{AUDIENCE}'\n\
         required_groups = ['compilers']\nleeway_seconds = 0\n\
         [[client_auth]]\ntype = 'token'\ntoken = 'of the farm'\n",
        provider.issuer()
    );
    let client = "dist.auth.token = 'of the farm'";
    let builder = Farm::builder().setting("scheduler", &ways).setting("client", client);
    let mut farm = builder.start().await;
    farm.set_variable("JETCC_CONF", home.settings(provider, BROWSER, ""));
    farm.set_variable("HOME", home.path(""));
    farm
}

#[tokio::test]
async fn who_has_logged_in_compiles_in_the_farm() {
    let (home, provider) = (Home::new(), Provider::start().await);
    let farm = farm_of(&provider, &home).await;
    let project = Project::new(&many_sources(3));
    assert_eq!(project.same(&farm, &["gcc -c f0.c"]).await, 0);
    assert_eq!(farm.stats().await.local_for("not-logged-in"), 1);

    // The daemon that was refused goes on, and looks again after its rest.
    home.logged_in(&provider, "alice", "").await;
    until("the daemon has seen the login", async || {
        let done = farm.jetcc(project.path(), &["gcc", "-c", "f1.c"]).await;
        assert_eq!(done.status, Ended::Code(0), "{done:?}");
        (farm.stats().await.remote() == 1).then_some(())
    })
    .await;
    assert!(farm.member("scheduler").said("alice\" account=\"CLIENTS\" by=\"oidc"));

    // Somebody else on the same machine, who is not in the group.
    home.logged_in(&provider, "bob", "").await;
    farm.jetcc(project.path(), &["gcc", "-c", "f2.c"]).await;
    assert_eq!(farm.stats().await.local_for("refused"), 1);
    assert!(farm.member("scheduler").said("`bob` is not in the group `compilers`"));
    farm.finish().await;
}

/// Token after token, on connection after connection: no compile stays at home.
#[tokio::test]
async fn a_build_outlives_its_tokens() {
    let (home, provider) = (Home::new(), Provider::start_with(&[("TOKEN_SECONDS", "10")]).await);
    home.logged_in(&provider, "alice", "").await;
    let farm = farm_of(&provider, &home).await;
    let mut project = Project::new::<&str, &str>(&[]);
    let renewals = || provider.answered("POST /token/ 200") - 1;
    let mut compiled = 0;
    while renewals() < 2 {
        project.write("a.c", format!("int a{compiled};\n").as_bytes());
        let run = project.through(&farm, &COMPILE).await.runs.remove(0);
        assert_eq!(run.status, Ended::Code(0), "{run:?}");
        compiled += 1;
    }
    let stats = farm.stats().await;
    assert_eq!((stats.local(), stats.remote()), ([].into(), compiled));
    farm.finish().await;
}

/// The server ends the connection with the token; the client is back with the next one, and the
/// compile that was under way with it.
#[tokio::test]
async fn a_compile_outlives_the_token_that_it_began_with() {
    let (home, provider) = (Home::new(), Provider::start_with(&[("TOKEN_SECONDS", "6")]).await);
    home.logged_in(&provider, "alice", "").await;
    let farm = farm_of(&provider, &home).await;
    let project = Project::slow(7);
    let words: Vec<&str> = SLOW.split(' ').collect();
    let compile = tokio::spawn(farm.jetcc(project.path(), &words));
    let compiler = farm.compiles("worker-1", "slow.cc").await;
    let compiler = Pid::from_raw(compiler.id.cast_signed()).unwrap();
    kill_process(compiler, Signal::STOP).unwrap();
    until("the connection ended with its token and another stands", async || {
        let lost = farm.client_log().contains("connection to nats lost");
        (lost && provider.answered("POST /token/ 200") > 1).then_some(())
    })
    .await;
    kill_process(compiler, Signal::CONT).unwrap();
    let done = compile.await.unwrap();
    assert_eq!(done.status, Ended::Code(0), "{done:?}");
    let stats = farm.stats().await;
    assert_eq!((stats.local(), stats.remote()), ([].into(), 1));
    farm.finish().await;
}

/// Nobody logged in, then a login that has ended: the build goes on here, and says what to do.
#[tokio::test]
async fn without_a_login_compiles_are_local_with_a_reason() {
    let (home, mut provider) = (Home::new(), Provider::start().await);
    let mut farm = Farm::builder().start().await;
    let settings = home.settings(&provider, BROWSER, "");
    farm.set_variable("JETCC_CONF", &settings);
    farm.set_variable("HOME", home.path(""));
    let project = Project::new(&[("a.c", "int a;\n")]);
    assert_eq!(project.same(&farm, &COMPILE).await, 0);
    assert_eq!(farm.stats().await.local(), [("not-logged-in".to_owned(), 1)].into());
    let explained = farm.explain("a.c").await;
    assert!(
        explained.contains("nobody is logged in") && explained.contains("jetcc --dist-auth"),
        "{explained}"
    );
    farm.stop_daemon().await;

    home.logged_in(&provider, "alice", "").await;
    provider.revoke(home.login()["refresh"].as_str().unwrap()).await;
    home.change_login(|login| login["expires"] = 1_000_000_000.into());
    farm.set_variable("JETCC_LOG", "trace");
    assert_eq!(project.same(&farm, &COMPILE).await, 0);
    assert_eq!(farm.stats().await.local(), [("not-logged-in".to_owned(), 1)].into());
    let explained = farm.explain("a.c").await;
    assert!(explained.contains("has ended (invalid_grant"), "{explained}");
    let login = home.login();
    for secret in [&login["bearer"], &login["refresh"]] {
        assert!(!farm.client_log().contains(secret.as_str().unwrap()), "a token is in the log");
    }
    provider.stop().await;
    farm.finish().await;
}

/// A file that others keep fresh, read when it is needed: a wrong token is refused, the right one
/// lets in.
#[tokio::test]
async fn a_token_can_come_from_a_file() {
    let home = Home::new();
    let mut farm = Farm::builder().start().await;
    let right = farm.setting("client", "dist.auth.token");
    let (settings, token) = (home.path("client.toml"), home.path("token"));
    let text = format!("[dist.auth]\ntype = 'token_file'\ntoken_file = '{}'\n", token.display());
    fs::write(&settings, text).unwrap();
    farm.set_variable("JETCC_CONF", &settings);
    let project = Project::new(&[("a.c", "int a;\n")]);
    for (written, reason) in [(None, "not-logged-in"), (Some("guessed"), "refused")] {
        written.inspect(|written| fs::write(&token, written).unwrap());
        assert_eq!(project.same(&farm, &COMPILE).await, 0);
        assert_eq!(farm.stats().await.local_for(reason), 1);
        farm.stop_daemon().await;
    }
    fs::write(&token, format!("{right}\n")).unwrap();
    assert_eq!(project.same(&farm, &COMPILE).await, 1);
    farm.finish().await;
}

/// Providers write a user's groups into his token: it grows to many KiB.
#[tokio::test]
async fn a_long_token_fits() {
    let mut farm = Farm::builder().start().await;
    farm.stop("scheduler").await;
    let long = "t".repeat(TOKEN_BYTES);
    for (role, key) in [("scheduler", "client_auth"), ("client", "dist.auth")] {
        farm.set(role, &format!("{key}.token = '{long}'"));
    }
    farm.start_again("scheduler").await;
    let project = Project::new(&[("a.c", "int a;\n")]);
    assert_eq!(project.same(&farm, &COMPILE).await, 1);
    farm.finish().await;
}
