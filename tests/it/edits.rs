//! What a compile sends after an edit: the edited file, what differs in its tree, and its command.

use std::fs;
use std::path::{Path, PathBuf};

use jetcc::job::Tree;

use crate::harness::farm::Farm;
use crate::harness::project::Project;
use crate::harness::wait::until;

const COMMAND: &str = "gcc -O1 -Iinc -c a.c -o a.o";
/// Headers of the project.
const HEADERS: u64 = 400;
/// Bytes besides the edited file that a compile may send.
const OVERHEAD_MAX: u64 = 4_096;

/// One small source that reads all headers but one.
fn project() -> Project {
    let header = |number| {
        format!(
            "#ifndef H{number}\n#define H{number} {number}\n\
             static inline int h{number}(int x) {{ return x * {number}; }}\n#endif\n"
        )
    };
    let names = 0..HEADERS - 2;
    let mut files: Vec<(String, String)> =
        names.clone().map(|number| (format!("inc/h{number}.h"), header(number))).collect();
    let all: String = names.map(|number| format!("#include <h{number}.h>\n")).collect();
    files.push(("inc/all.h".into(), format!("{all}#if 0\n#include <never.h>\n#endif\n")));
    files.push(("inc/never.h".into(), "int never;\n".into()));
    files.push(("a.c".into(), "#include <all.h>\nint a(void) { return h7(1); }\n".into()));
    Project::new(&files)
}

/// A farm whose store is a folder.
async fn farm(store: &Path) -> Farm {
    Farm::builder().store(&format!("file://{}", store.display())).start().await
}

/// The blobs of a class, by file.
fn blobs(store: &Path, class: &str) -> Vec<PathBuf> {
    let folder = fs::read_dir(store.join("shared").join(class)).unwrap();
    let is_whole = |path: &PathBuf| path.file_name().is_some_and(|name| name.len() == 64);
    folder.flatten().map(|entry| entry.path()).filter(is_whole).collect()
}

/// The input trees in the store.
fn trees(store: &Path) -> Vec<PathBuf> {
    let is_tree = |path: &PathBuf| {
        let bytes = zstd::decode_all(fs::File::open(path).unwrap()).unwrap();
        Tree::decode(&bytes).is_ok_and(|tree| tree.len() > 100)
    };
    blobs(store, "in").into_iter().filter(is_tree).collect()
}

/// Compiles for the first time, and waits until the tree is in the store.
async fn compiled_once(farm: &Farm, project: &Project, store: &Path) {
    assert_eq!(project.same(farm, &[COMMAND]).await, 1);
    until("the tree is uploaded, and that is counted", async || {
        let stored = (blobs(store, "in").len() + blobs(store, "tc").len()) as u64;
        let counted = farm.stats().await.count("uploaded_blobs");
        (trees(store).len() == 1 && counted == stored).then_some(())
    })
    .await;
}

/// Compiles on a worker as locally; gives how many bytes that sent.
async fn sent(farm: &Farm, project: &Project) -> u64 {
    let before = farm.stats().await.count("sent_bytes");
    assert_eq!(project.same(farm, &[COMMAND]).await, 1, "{:?}", farm.stats().await.local());
    let sent = farm.stats().await.count("sent_bytes") - before;
    let explained = farm.explain("a.c").await;
    let latest = explained.lines().last().unwrap();
    assert!(latest.ends_with(&format!(", {sent} bytes sent)")), "{sent}: {latest}");
    sent
}

#[tokio::test]
async fn after_an_edit_the_edited_file_goes_up_and_little_else() {
    let store = tempfile::tempdir().unwrap();
    let farm = farm(store.path()).await;
    let mut project = project();
    compiled_once(&farm, &project, store.path()).await;
    let uploaded = farm.stats().await.count("uploaded_blobs");
    for (name, text) in [
        ("a.c", "#include <all.h>\nint a(void) { return h7(2); }\n"),
        ("inc/h7.h", "static inline int h7(int x) { return x * 77; }\n"),
        ("a.c", "#include <all.h>\nint a(void) { return h7(3) + h8(4); }\n"),
    ] {
        project.write(name, text.as_bytes());
        let sent = sent(&farm, &project).await;
        eprintln!("an edit of `{name}` sent {sent} bytes");
        let limit = text.len() as u64 + OVERHEAD_MAX;
        assert!(sent <= limit, "an edit of `{name}` sent {sent} bytes, wanted at most {limit}");
    }
    // The edited header went to one worker alone; the next compile that needs it puts it into the store.
    let again = farm.stats().await.count("uploaded_blobs") - uploaded;
    assert_eq!((again, trees(store.path()).len()), (1, 1));
    farm.finish().await;
}

#[tokio::test]
async fn a_tree_that_the_store_has_lost_is_uploaded_again() {
    let store = tempfile::tempdir().unwrap();
    let farm = farm(store.path()).await;
    let mut project = project();
    compiled_once(&farm, &project, store.path()).await;
    let [tree] = trees(store.path()).try_into().unwrap();
    fs::remove_file(&tree).unwrap();
    project.write("a.c", b"#include <all.h>\nint a(void) { return h7(2); }\n");
    let whole = sent(&farm, &project).await;
    eprintln!("with its tree whole it sent {whole} bytes");
    assert!(whole > 8 << 10, "the whole tree was sent: {whole} bytes");
    let [newer] = trees(store.path()).try_into().unwrap();
    assert_ne!(newer, tree);

    // That one is known to be there now.
    project.write("a.c", b"#include <all.h>\nint a(void) { return h7(3); }\n");
    let little = sent(&farm, &project).await;
    assert!(little <= OVERHEAD_MAX, "{little} bytes");
    farm.finish().await;
}
