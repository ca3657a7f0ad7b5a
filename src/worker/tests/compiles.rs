//! Real compiles: the bytes are those of a local compile, wherever the output goes.

use std::path::Path;

use super::*;
use crate::job::wire::TreeDifference;
use crate::job::{Difference, Exit, Output};

pub(super) async fn c_job(source: &str) -> Recipe {
    let references = vec![gcc_reference().await];
    Recipe { references, ..Recipe::new(gcc().await, source) }
}

/// A folder of this machine with the files of a project, to compile in locally.
pub(super) fn project(files: &[(&str, &str)]) -> (tempfile::TempDir, Kit) {
    let folder = tempfile::tempdir().unwrap();
    let mut kit = Kit::default();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        kit = kit.file(path.to_str().unwrap(), text);
    }
    (folder, kit)
}

pub(super) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn a_compile_gives_the_bytes_of_a_local_one() {
    let files = [
        (
            "src/a.c",
            "#include \"a.h\"\n#warning once\nconst char *f(void) { return __FILE__ A; }\n",
        ),
        ("inc/a.h", "#define A \"h\"\n"),
    ];
    let (folder, inputs) = project(&files);
    let line = "gcc -g3 -O2 -MD -Iinc -c src/a.c -o src/a.o";
    let arguments: Vec<_> = line.split(' ').skip(1).collect();
    let here = local("/usr/bin/gcc", &arguments, text(folder.path())).await;
    let bench = Bench::with(|settings| settings.inline_bytes_max = 1_000).await;
    let job = c_job("").await.inputs(inputs).command(line, text(folder.path()));
    let job = job.outputs(&["src/a.o", &format!("{}/src/a.d", text(folder.path()))]);
    let outcome = bench.outcome(&job).await;
    assert_eq!(outcome.exit, Exit::Code(0));
    assert_eq!(bench.bytes(&outcome.stderr).await, here.stderr);
    for (output, name) in outcome.outputs.iter().zip(["src/a.o", "src/a.d"]) {
        let wanted = std::fs::read(folder.path().join(name)).unwrap();
        assert_eq!(bench.bytes(&output.content).await, wanted, "{name}");
        assert_eq!(output.mode, 0o666, "{name}");
    }
    assert!(matches!(outcome.outputs[0].content, Content::Blob { .. }));
    assert!(matches!(outcome.outputs[1].content, Content::Inline { .. }));
    assert_eq!(outcome.unexpected, []);
    bench.is_clean().await;
}

#[tokio::test]
async fn the_working_directory_keeps_the_name_that_the_client_gave_it() {
    let (folder, inputs) = project(&[("real/a.c", "int x;\n")]);
    let link = folder.path().join("link");
    std::os::unix::fs::symlink("real", &link).unwrap();
    let inputs = inputs.link(text(&link), "real");
    let line = "gcc -g -c a.c -o ../link/./a.o";
    let job = c_job("").await.inputs(inputs).command(line, text(&link)).outputs(&["../link/./a.o"]);
    let bench = Bench::open().await;
    let outcome = bench.outcome(&job).await;
    let object = bench.bytes(&outcome.outputs[0].content).await;
    assert!(memchr::memmem::find(&object, text(&link).as_bytes()).is_some());
    bench.is_clean().await;
}

#[tokio::test]
async fn a_failed_compile_is_an_outcome() {
    let bench = Bench::open().await;
    let outcome = bench.outcome(&c_job("int f( {\n").await).await;
    assert_eq!((outcome.exit, outcome.outputs.len()), (Exit::Code(1), 0));
    let words = String::from_utf8(bench.bytes(&outcome.stderr).await).unwrap();
    assert!(words.starts_with("a.c:1:"), "{words}");
    bench.is_clean().await;
}

#[tokio::test]
async fn outputs_appear_in_every_kind_of_folder() {
    let bench = Bench::open().await;
    let base = c_job("int x;\n").await;
    for (directory, output, source) in [
        ("/w", "a.o", "/w/a.c"),
        ("/w", "o/a.o", "a.c"),
        ("/w/b", "deep/er/a.o", "../a.c"),
        ("/w/b", "../p/../a.o", "../a.c"),
        ("/tmp", "a.o", "/w/a.c"),
        ("/w", "/tmp/x/a.o", "/w/a.c"),
        ("/w", "via/a.o", "a.c"),
    ] {
        let inputs = Kit::default()
            .file("/w/a.c", "int x;\n")
            .file("/w/p/h.h", "")
            .link("/w/via", "/elsewhere/z");
        let job = base.clone().inputs(inputs);
        let job = job.command(&format!("gcc -c {source} -o {output}"), directory);
        let outcome = bench.outcome(&job.outputs(&[output])).await;
        let words = bench.bytes(&outcome.stderr).await;
        assert_eq!(outcome.exit, Exit::Code(0), "{output}: {}", String::from_utf8_lossy(&words));
        assert_eq!((outcome.outputs.len(), outcome.unexpected.len()), (1, 0), "{output}");
    }
    bench.is_clean().await;
}

#[tokio::test]
async fn what_other_compiles_read_stays_where_it_was_made() {
    let bench = Bench::with(|settings| settings.scratch_dir = Some(settings.build_dir())).await;
    let job = Recipe::script("echo crate > liba.rlib; echo object > $1").await;
    let outcome = bench.outcome(&job.outputs(&["a.o", "liba.rlib"])).await;
    let kept = bench.cache().join("inputs/blobs/shared");
    let is_kept = |output: &Output| kept.join(output.content.digest().to_string()).exists();
    let is_kept: Vec<_> = outcome.outputs.iter().map(is_kept).collect();
    assert_eq!(is_kept, [false, true]);
    bench.is_clean().await;
}

#[tokio::test]
async fn files_that_nobody_asked_for_are_named() {
    let bench = Bench::open().await;
    let script = "echo o > $1; echo t > /tmp/t; mkdir new; echo s > new/s; ln -s /etc l; \
        echo '#' >> a.c; rm gone.h";
    let inputs = Kit::default().file("/w/a.c", script).file("/w/gone.h", "").file("/w/i/h.h", "");
    let outcome = bench.outcome(&Recipe::script("").await.inputs(inputs)).await;
    let mut named: Vec<_> = outcome.unexpected.iter().map(|path| path.as_str()).collect();
    named.sort_unstable();
    assert_eq!(named, ["/w/(removed)", "/w/a.c", "/w/l", "/w/new", "/w/new/s"]);
    assert_eq!(outcome.outputs.len(), 1);
    bench.is_clean().await;
}

#[tokio::test]
async fn late_blobs_are_asked_for_and_awaited() {
    let bench = Bench::open().await;
    let job = Recipe::script("cat late.h > $1").await;
    let job = Recipe { inputs: job.inputs.clone().file("/w/late.h", "late"), ..job };
    let message = bench.message(&Recipe { inputs: Kit::default(), ..job.clone() }).await;
    let message = JobMessage { submit: job.message().submit, ..message };
    let slot = bench.capacity.take().unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let hear = move |word| tell.send(word).unwrap();
    let upload = async {
        let Some(Word::Progress(Progress::Missing(blobs))) = told.recv().await else {
            panic!("not told")
        };
        assert_eq!(blobs.len(), 2);
        bench.put_all(BlobClass::Input, &job.inputs).await;
        assert_eq!(told.recv().await, None, "told once");
    };
    let (done, ()) = tokio::join!(bench.executor.execute(&message, slot, hear), upload);
    let JobEnd::Done(outcome) = done.end else { panic!("{:?}", done.end) };
    assert_eq!(bench.bytes(&outcome.outputs[0].content).await, b"late");
    bench.is_clean().await;
}

#[tokio::test]
async fn blobs_that_never_come_are_named() {
    let bench = Bench::with(|settings| settings.upload_wait_seconds = 0).await;
    let job = Recipe::script("cat never.h > $1").await;
    let mut never = job.clone();
    never.inputs = never.inputs.file("/w/never.h", "never");
    let message = bench.message(&job).await;
    let message = JobMessage { submit: never.message().submit, ..message };
    let (end, _) = bench.execute(&message).await;
    assert_eq!(end, JobEnd::Undone(Trouble::MissingBlob(Digest::of(b"never"))));
    bench.is_clean().await;
}

#[tokio::test]
async fn a_toolchain_that_fails_its_proof_is_not_used() {
    let bench = Bench::open().await;
    let good = Recipe::script("echo > $1").await;
    for (source, object, wanted) in [
        ("printf y > $1", "x", "gives object"),
        ("echo no >&2; exit 3", "x", "ended with Code(3): no"),
        ("true", "x", "gives no object"),
    ] {
        let bad = reference(source, object.as_bytes());
        let trouble = bench.trouble(&Recipe { references: vec![bad], ..good.clone() }).await;
        assert!(matches!(&trouble, Trouble::Toolchain(text) if text.contains(wanted)), "{trouble}");
    }
    let none = bench.trouble(&Recipe { references: Vec::new(), ..good.clone() }).await;
    assert!(matches!(none, Trouble::Toolchain(_)));
    assert_eq!(bench.outcome(&good).await.exit, Exit::Code(0));
    bench.is_clean().await;
}

#[tokio::test]
async fn a_toolchain_is_proved_once_for_all_who_wait() {
    let bench = Bench::open().await;
    let job = Recipe::script("echo > $1").await;
    let message = bench.message(&job).await;
    let runs: Vec<_> = (0..4).map(|_| bench.execute(&message)).collect();
    for (end, _) in futures_util::future::join_all(runs).await {
        assert!(matches!(end, JobEnd::Done(outcome) if outcome.exit == Exit::Code(0)));
    }
    // A proof is not asked for again: the references may be gone.
    let later = JobMessage {
        submit: Submit { references: Digest::of(b"gone"), ..message.submit.clone() },
        ..message
    };
    assert!(matches!(bench.execute(&later).await.0, JobEnd::Done(_)));
    bench.is_clean().await;
}

#[tokio::test]
async fn a_source_may_come_inside_the_job() {
    let bench = Bench::open().await;
    let job = Recipe::script("cat $0 > $1").await;
    bench.put_toolchain(&job).await;
    let message = job.message();
    let with_inside = |source: &[u8]| {
        let mut message = message.clone();
        message.submit.files_zstd = vec![Compressed::new(source).zstd];
        message
    };
    let (end, _) = bench.execute(&with_inside(b"cat $0 > $1")).await;
    assert!(matches!(end, JobEnd::Done(outcome) if outcome.exit == Exit::Code(0)));
    for strange in [with_inside(b"something else"), with_inside(&vec![0; (1 << 20) + 1])] {
        let (end, _) = bench.execute(&strange).await;
        assert!(matches!(end, JobEnd::Undone(Trouble::Refused(_))), "{end:?}");
    }
    bench.is_clean().await;
}

/// `message` with its tree as what differs from `base`; `change` makes something else of that.
fn differing(
    message: &JobMessage,
    (base, tree): (&Tree, &Tree),
    change: impl Fn(Vec<u8>) -> Vec<u8>,
) -> JobMessage {
    let difference = change(Difference::between(base, tree).unwrap().encode());
    let zstd = Compressed::new(&difference).zstd;
    let mut message = message.clone();
    message.submit.inputs_zstd = None;
    message.submit.inputs_difference = Some(TreeDifference { base: base.digest(), zstd });
    message
}

/// A job, the tree that it differs from, and the bench where all but that is in the store.
async fn differing_job() -> (Bench, Recipe, Tree, JobMessage) {
    let bench = Bench::with(|settings| settings.upload_wait_seconds = 0).await;
    let job = Recipe::script("cat $0 > $1").await;
    let base = job.inputs.clone().file("/w/before.h", "gone").tree;
    let message = bench.message(&job).await;
    (bench, job, base, message)
}

#[tokio::test]
async fn a_tree_may_come_as_what_differs_from_one_in_the_store() {
    let (bench, job, base, message) = differing_job().await;
    let name = bench.put(BlobClass::Input, &base.encode()).await;
    let message = differing(&message, (&base, &job.inputs.tree), |bytes| bytes);
    let (end, _) = bench.execute(&message).await;
    assert!(matches!(&end, JobEnd::Done(outcome) if outcome.exit == Exit::Code(0)), "{end:?}");
    // The next one finds it on the worker's disk.
    assert!(bench.cache().join(format!("inputs/blobs/shared/{name}")).exists());
    bench.is_clean().await;
}

#[tokio::test]
async fn whoever_lacks_what_a_tree_differs_from_asks_for_the_whole_tree() {
    let (bench, job, base, message) = differing_job().await;
    let message = differing(&message, (&base, &job.inputs.tree), |bytes| bytes);
    let wanted = message.submit.action.inputs;
    let (end, _) = bench.execute(&message).await;
    assert_eq!(end, JobEnd::Undone(Trouble::MissingBlob(wanted)));
    let asked = Word::Progress(Progress::Missing(vec![(BlobClass::Input, wanted)]));
    assert_eq!(bench.heard.lock().unwrap().as_slice(), [asked]);

    bench.put(BlobClass::Input, &job.inputs.tree.encode()).await;
    let (end, _) = bench.execute(&message).await;
    assert!(matches!(&end, JobEnd::Done(outcome) if outcome.exit == Exit::Code(0)), "{end:?}");
    bench.is_clean().await;
}

#[tokio::test]
async fn a_difference_that_leads_elsewhere_is_refused() {
    let (bench, job, base, message) = differing_job().await;
    bench.put(BlobClass::Input, &base.encode()).await;
    let other = job.inputs.clone().file("/w/other.h", "other").tree;
    let header = job.inputs.clone().file("/w/a.c/below.h", "x").tree;
    let bomb = |_| vec![0; (1 << 20) + 1];
    let no_tree = Tree::decode(&[0x80]).unwrap();
    bench.put(BlobClass::Input, b"no tree").await;
    let mut no_base = differing(&message, (&no_tree, &job.inputs.tree), |bytes| bytes);
    no_base.submit.inputs_difference.as_mut().unwrap().base = Digest::of(b"no tree");
    for strange in [
        differing(&message, (&base, &other), |bytes| bytes),
        differing(&message, (&base, &header), |bytes| bytes),
        differing(&message, (&base, &job.inputs.tree), bomb),
        differing(&message, (&base, &job.inputs.tree), |bytes| bytes[1..].to_vec()),
        no_base,
    ] {
        let (end, _) = bench.execute(&strange).await;
        assert!(matches!(end, JobEnd::Undone(Trouble::Refused(_))), "{end:?}");
    }
    bench.is_clean().await;
}

#[tokio::test]
async fn an_evicted_file_is_fetched_again() {
    let bench = Bench::open().await;
    let job = Recipe::script("cat h.h > $1").await;
    let job = Recipe { inputs: job.inputs.clone().file("/w/h.h", "header"), ..job };
    bench.outcome(&job).await;
    for entry in std::fs::read_dir(bench.cache().join("inputs/blobs/shared")).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let outcome = bench.outcome(&job).await;
    assert_eq!(bench.bytes(&outcome.outputs[0].content).await, b"header");
    bench.is_clean().await;
}

#[tokio::test]
async fn names_that_lead_elsewhere_are_refused_where_bubblewrap_cannot_help() {
    let bench = Bench::open().await;
    let mut job = c_job("int x;\n").await;
    job.command.arguments[0] = "cc-of-the-client".into();
    let message = bench.message(&job).await;
    match bench.execute(&message).await.0 {
        JobEnd::Done(outcome) => assert_eq!(outcome.exit, Exit::Code(0)),
        JobEnd::Undone(Trouble::Refused(text)) => assert!(text.contains("/usr/bin/gcc"), "{text}"),
        JobEnd::Undone(trouble) => panic!("{trouble}"),
    }
    bench.is_clean().await;
}
