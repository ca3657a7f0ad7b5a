//! What comes through a farm is what the local compiler gives, wherever two local runs agree: every
//! file with its mode and its links, both streams, every exit code. The cases are scripts in
//! `tests/data/identity`.

use crate::harness::cases;
use crate::harness::farm::Farm;

const FILES: [&str; 6] = ["flags", "outputs", "names", "inputs", "messages", "exits"];

#[tokio::test]
async fn gcc_gives_what_it_gives_locally() {
    all("gcc").await;
}

#[tokio::test]
async fn clang_gives_what_it_gives_locally() {
    all("clang").await;
}

async fn all(compiler: &str) {
    let farm = Farm::builder().start().await;
    let mut wrong = String::new();
    for file in FILES {
        wrong += &cases::run(&farm, file, compiler).await;
    }
    assert!(wrong.is_empty(), "{wrong}");
    farm.finish().await;
}
