//! Every kind of compile that rustc and cargo know, through a farm. The cases are scripts in
//! `tests/data/identity`, as those of C are.

use super::farm;
use crate::harness::cases;

#[tokio::test]
async fn every_kind_of_compile_gives_what_it_gives_locally() {
    let (mut farm, _) = farm().await;
    // What is asked for twice is known the second time.
    farm.set_variable("JETCC_CACHE_SIZE", "1G");
    let mut wrong = String::new();
    for file in ["rustc", "cargo"] {
        wrong += &cases::run(&farm, file, "rustc").await;
    }
    assert!(wrong.is_empty(), "{wrong}");
    farm.finish().await;
}
