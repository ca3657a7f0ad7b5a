//! Wrong bytes under a digest: whoever reads them finds out, a scheduler sees for itself, the right
//! ones take their place, and nobody compiles with the wrong ones.

use async_nats::HeaderMap;
use bytes::Bytes;
use jetcc::job::wire::{self, BlobClass, Examined, WrongBlob};
use jetcc::job::{Digest, Space};
use jetcc::store::Compressed;

use crate::harness::attacker::Attacker;
use crate::harness::farm::{Farm, worker_token};
use crate::harness::project::Project;

const MALLORY: &str = "mallory";
/// Unix time at which tokens of these tests end.
const FAR: u64 = 4_000_000_000;

async fn a_client(farm: &Farm) -> Attacker {
    Attacker::connect(farm, MALLORY, &farm.setting("client", "dist.auth.token")).await
}

async fn a_worker(farm: &Farm) -> Attacker {
    let token = worker_token(&farm.setting("scheduler", "server_auth.secret_key"), FAR);
    Attacker::connect(farm, MALLORY, &token).await
}

/// Stores `bytes` under the name of other ones.
async fn plant(mallory: &mut Attacker, class: &str, name: Digest, bytes: &[u8]) {
    let frame = Compressed::new(bytes).zstd;
    let stored = mallory.answer(&format!("blobs.{class}.shared.{name}.0"), &frame).await;
    assert!(stored.contains("\"seq\""), "{stored}");
}

async fn corrupt_blobs(farm: &Farm) -> u64 {
    farm.finding("corrupt_blobs").await
}

#[tokio::test]
async fn wrong_headers_are_found_replaced_and_counted() {
    let headers = ["#define A 1\n", "#define B 2\n", "#define C 3\n"];
    let names = headers.map(|text| Digest::of(text.as_bytes()));
    let farm = Farm::builder().start().await;
    let mut mallory = a_client(&farm).await;
    plant(&mut mallory, "in", names[0], b"#define A 6\n").await;
    plant(&mut mallory, "in", names[1], "#define B 66\n".repeat(1_000).as_bytes()).await;
    // A head that leads nowhere.
    let mut head = HeaderMap::new();
    for (name, value) in [("Parts", "3"), ("Stored", "0123456789ab"), ("Size", "1000")] {
        head.insert(format!("Jetcc-{name}").as_str(), value);
    }
    mallory.answer_to(&format!("blobs.in.shared.{}.0", names[2]), head, b"").await;

    let project = Project::new(&[
        ("a.h", headers[0]),
        ("b.h", headers[1]),
        ("c.h", headers[2]),
        ("m.c", "#include \"a.h\"\n#include \"b.h\"\n#include \"c.h\"\nint all[] = { A, B, C };\n"),
    ]);
    assert_eq!(project.same(&farm, &["gcc -c m.c"]).await, 1);
    assert_eq!(corrupt_blobs(&farm).await, 3);
    let blobs = farm.blobs().await;
    for (name, text) in names.iter().zip(headers) {
        let read = blobs.get(BlobClass::Input, *name, 100).await;
        assert_eq!(read, Ok(Bytes::from_static(text.as_bytes())));
    }
    farm.finish().await;
}

#[tokio::test]
async fn a_wrong_compiler_is_found_replaced_and_never_runs() {
    let farm = Farm::builder().start().await;
    let program = farm.run(&farm.path(""), "gcc", &["-print-prog-name=cc1"]).await.stdout;
    let program = std::fs::read(String::from_utf8(program).unwrap().trim()).unwrap();
    let name = Digest::of(&program);
    plant(&mut a_client(&farm).await, "tc", name, b"#!/bin/sh\nexit 0\n").await;

    let project = Project::new(&[("a.c", "int a;\n")]);
    assert_eq!(project.same(&farm, &["gcc -c a.c"]).await, 1);
    assert_eq!(corrupt_blobs(&farm).await, 1);
    let size = program.len() as u64;
    let read = farm.blobs().await.get(BlobClass::Toolchain, name, size).await;
    assert!(read.is_ok_and(|bytes| bytes == program));
    farm.finish().await;
}

#[tokio::test]
async fn a_wrong_output_is_found_by_its_client_and_made_again() {
    let farm = Farm::builder().setting("worker", "inline_bytes_max = 0").start().await;
    let project = Project::new(&[("a.c", "int a = 1;\n")]);
    let local = project.locally(&farm, &["gcc -c a.c"]).await;
    let object = &local.files["a.o"].1;
    let name = Digest::of(object);
    plant(&mut a_worker(&farm).await, "out", name, b"an object of mallory's").await;

    assert_eq!(project.same(&farm, &["gcc -c a.c"]).await, 1);
    assert_eq!((corrupt_blobs(&farm).await, farm.stats().await.count("corrupt_blobs")), (1, 1));
    let read = farm.blobs().await.get(BlobClass::Output, name, object.len() as u64).await;
    assert_eq!(read, Ok(Bytes::from(object.clone())));
    assert_eq!(project.same(&farm, &["gcc -c a.c"]).await, 0);
    assert_eq!((farm.stats().await.hits(), corrupt_blobs(&farm).await), (1, 1));
    farm.finish().await;
}

#[tokio::test]
async fn a_false_report_deletes_nothing() {
    let farm = Farm::builder().start().await;
    let header = "#define A 1\n";
    let project = Project::new(&[("a.h", header), ("m.c", "#include \"a.h\"\nint a = A;\n")]);
    assert_eq!(project.same(&farm, &["gcc -c m.c"]).await, 1);
    farm.wait_until_queue_is_empty().await;
    let before =
        ["BLOBS_IN_shared", "BLOBS_TC_shared", "KV_actions"].map(|stream| farm.held(stream));
    let digest = Digest::of(header.as_bytes());
    let report = wire::encode(&WrongBlob {
        space: Space::shared(),
        class: BlobClass::Input,
        digest,
        action: Some(digest.into()),
    });

    let mut client = a_client(&farm).await;
    let answer = client.answer_to("farm.c.mallory.wrong", HeaderMap::new(), &report).await;
    assert_eq!(wire::decode::<Examined>(&answer).unwrap(), Examined::Sound);
    drop(client);
    let worker = a_worker(&farm).await;
    worker.ask("farm.w.mallory.wrong", "_INBOX.mallory.heard", &report).await;
    crate::harness::wait::until("the worker's report was looked at", async || {
        (farm.member("scheduler").count_said("blob examined") == 2).then_some(())
    })
    .await;
    let after =
        ["BLOBS_IN_shared", "BLOBS_TC_shared", "KV_actions"].map(|stream| farm.held(stream));
    assert_eq!((before, corrupt_blobs(&farm).await), (after, 0));
    farm.finish().await;
}
