//! What a worker's answer says of a crate's inputs: something was missing, or something is in the
//! store now.

use super::CrateReader;
use crate::client::daemon::Daemon;
use crate::client::inputs::Inputs;
use crate::client::link::Reach;
use crate::client::outputs::{self, Body, Product};
use crate::client::upload::Name;
use crate::job::outcome::is_artifact;
use crate::job::wire::BlobClass;
use crate::job::{Content, Outcome, Output};

/// Whether a worker's compile of a crate lacked a file that is here, or a variable; what it was is
/// known from now on.
pub(in crate::client) async fn lacked(
    daemon: &Daemon,
    reach: &Reach,
    reader: &CrateReader,
    inputs: &Inputs,
    (outcome, outputs): (&Outcome, &[Product]),
) -> bool {
    let learned = &daemon.crates.learned;
    if !outcome.exit.is_success() {
        let Ok((_, words)) = outputs::streams(&reach.blobs, outcome).await else { return false };
        let there = inputs.tree.open().unwrap_or_default();
        return tokio::task::block_in_place(|| learned.learn_from_words(reader, &words, &there));
    }
    let told = reader.plan.krate.as_ref().and_then(|krate| krate.dep_info.as_ref());
    let told = outputs.iter().find(|product| Some(&product.path) == told);
    match told.map(|product| &product.body) {
        Some(Body::Bytes(told)) => learned.learn_variables(reader, told),
        Some(Body::File(_)) | None => false,
    }
}

/// What a worker has put into the store for other compiles to read.
pub(in crate::client) fn made(outcome: &Outcome) -> Vec<Name> {
    let is_read = |output: &&Output| {
        is_artifact(&output.path) && matches!(output.content, Content::Blob { .. })
    };
    let outputs = outcome.outputs.iter().filter(is_read);
    outputs.map(|output| (BlobClass::Input, output.content.digest())).collect()
}
