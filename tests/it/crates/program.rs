//! A program of some ninety crates, as people build them.

use jetcc::config::Environment;

use super::{Workspace, farm};
use crate::harness::farm::{Farm, JETCC};
use crate::harness::project::{Files, differences};

/// Its package; `scripts/test` has cargo fetch what it uses.
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/program");

/// What a build makes, and says: nothing.
async fn built(farm: &Farm, program: &Workspace) -> Files {
    let words = ["build", "--offline", "--quiet", "--jobs", "8"];
    let done = farm.run(&program.path(), &program.cargo, &words).await;
    let said = [done.stdout, done.stderr].concat();
    assert_eq!(String::from_utf8_lossy(&said), "", "{}", farm.explain("").await);
    let mut files = program.take_away();
    // What build scripts say to cargo: `cc` names the compiler that it was told.
    files.retain(|name, _| !name.ends_with("/output") && !name.ends_with("/stderr"));
    files
}

#[tokio::test]
async fn a_program_of_many_crates_is_what_it_is_without_us() {
    let (mut farm, tools) = farm().await;
    let program = Workspace::of(PROGRAM, &tools);
    let environment = Environment::capture();
    let home = || Some(format!("{}/.cargo", environment.text("HOME")?));
    let crates = environment.text("CARGO_HOME").or_else(home);
    farm.set_variable("CARGO_HOME", crates.unwrap());
    farm.set_variable("CC", "gcc");
    let local = built(&farm, &program).await;
    farm.set_variable("RUSTC_WRAPPER", JETCC);
    farm.set_variable("CC", format!("{JETCC} gcc"));
    farm.set_variable("CC_KNOWN_WRAPPER_CUSTOM", "jetcc");
    let different = differences(&local, &built(&farm, &program).await);
    assert!(different.is_empty(), "{different:?} differ: {}", farm.explain("").await);
    let stats = farm.stats().await;
    let home = stats.local().into_keys().filter(|reason| reason != "configure-probe").count();
    assert_eq!(home, 0, "{}", farm.explain("").await);
    assert!(stats.remote() > 90, "{}", stats.remote());
    farm.finish().await;
}
