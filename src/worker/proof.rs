//! Shows that a toolchain works here: compiles its references and compares the objects.

use std::sync::Arc;

use crate::exec::Ended;
use crate::job::toolchain::Reference;
use crate::job::wire::{self, BlobClass, Trouble};
use crate::job::{Digest, JobId, Node, Tree, TreePath, WantedOutput};

use super::check;
use super::fetch::Patience;
use super::outputs::gather;
use super::prepare::{Request, Runner, blocking, io_trouble};

/// Largest encoded list of references, in bytes.
const REFERENCES_BYTES_MAX: u64 = 1 << 20;
/// Most references of one toolchain.
const REFERENCES_MAX: usize = 8;
/// So much of a compiler's words is passed on, in characters.
const WORDS_MAX: usize = 500;

/// Why a toolchain is not used.
pub(super) enum Unproved {
    /// It does not do here what it did at the client's: will not change. What differed.
    Failed(String),
    /// Something else went wrong: may be tried again.
    Trouble(Trouble),
}

impl From<Trouble> for Unproved {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

/// Compiles every reference of the blob `references` with `toolchain`, in the sandbox of all jobs.
pub(super) async fn prove(
    runner: &Runner,
    job: JobId,
    toolchain: &Arc<Tree>,
    references: Digest,
    patience: &mut Patience<'_>,
) -> Result<(), Unproved> {
    let blob = (BlobClass::Toolchain, references);
    let bytes = runner.source.bytes(blob, REFERENCES_BYTES_MAX, patience).await?;
    let references: Vec<Reference> =
        wire::decode(&bytes).map_err(|error| Unproved::Failed(format!("references: {error}")))?;
    if !(1..=REFERENCES_MAX).contains(&references.len()) {
        let text = format!("{} references, wanted 1 to {REFERENCES_MAX}", references.len());
        return Err(Unproved::Failed(text));
    }
    for reference in references {
        compile(runner, job, toolchain, reference, patience).await?;
    }
    Ok(())
}

async fn compile(
    runner: &Runner,
    job: JobId,
    toolchain: &Arc<Tree>,
    reference: Reference,
    patience: &mut Patience<'_>,
) -> Result<(), Unproved> {
    let Reference { command, source_path, source, object_path, object } = reference;
    let inputs = source_tree(&source_path, &source).map_err(Unproved::Failed)?;
    let kind = check::command(&command, toolchain)?;
    check::code(&command, &inputs, toolchain)?;
    let cache = runner.source.caches.inputs.clone();
    blocking(move || {
        let kept = cache.insert(source.as_bytes());
        kept.map(drop).map_err(|error| Trouble::Sandbox(error.to_string()))
    })
    .await?;
    let request = Request {
        job,
        kind,
        toolchain: toolchain.clone(),
        inputs: Arc::new(inputs),
        command: command.clone(),
        outputs: vec![WantedOutput { path: object_path, required: true }],
    };
    let prepared = runner.prepare(request, patience).await?;
    let done = runner.run(&prepared, &command, None, None).await?;
    if done.status != Ended::Code(0) {
        let words =
            String::from_utf8_lossy(&done.stderr).chars().take(WORDS_MAX).collect::<String>();
        let text = format!("reference `{source_path}` ended with {:?}: {words}", done.status);
        return Err(Unproved::Failed(text));
    }
    let limit = runner.sandbox.output_bytes_max();
    let found = blocking(move || {
        let found = gather(&prepared, limit)?.files.into_iter().find_map(|file| file.found);
        let digest = found.map(|(_, body)| body.digest()).transpose();
        digest.map_err(|error| io_trouble(&error))
    });
    match found.await? {
        Some(found) if found == object => Ok(()),
        Some(found) => Err(Unproved::Failed(format!(
            "reference `{source_path}` gives object `{}`, wanted `{}`",
            found.short(),
            object.short()
        ))),
        None => Err(Unproved::Failed(format!("reference `{source_path}` gives no object"))),
    }
}

fn source_tree(path: &str, source: &str) -> Result<Tree, String> {
    let path = TreePath::try_from(path).map_err(|error| error.to_string())?;
    let (digest, size) = (Digest::of(source.as_bytes()), source.len() as u64);
    let mut tree = Tree::default();
    tree.insert(path, Node::File { digest, size, executable: false });
    Ok(tree)
}
