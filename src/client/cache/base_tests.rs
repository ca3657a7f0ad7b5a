//! Which compiles are the same in another checkout.

use std::collections::BTreeMap;

use super::*;
use crate::client::outputs::{Body, Product};
use crate::job::{Command, Pool, Terminal, TreePath, WantedOutput};

fn action(base: &str, arguments: &[&str]) -> Action {
    let command = Command {
        executable: "/usr/bin/gcc".into(),
        arguments: arguments.iter().map(|text| text.replace('@', base)).collect(),
        environment: BTreeMap::from([("PATH".into(), "/usr/bin".into())]),
        directory: format!("{base}/build"),
    };
    let wanted = WantedOutput { path: "a.o".into(), required: true };
    Action {
        pool: Pool::of_this_machine(),
        toolchain: Digest::of(b"t"),
        command,
        inputs: Digest::of(base.as_bytes()),
        outputs: vec![wanted],
        terminal: None,
    }
}

fn tree(base: &str) -> Tree {
    let mut tree = Tree::default();
    let node = Node::File { digest: Digest::of(b"source"), size: 6, executable: false };
    tree.insert(TreePath::try_from(format!("{base}/a.c")).unwrap(), node);
    tree
}

fn key(base: &str, arguments: &[&str]) -> Option<ActionKey> {
    Base(base.into()).key(&action(base, arguments), &tree(base))
}

#[test]
fn compiles_that_do_not_know_where_they_are_have_one_key() {
    let same: [&[&str]; 5] = [
        &["gcc", "-c", "../a.c"],
        &["gcc", "-g", "-fdebug-prefix-map=@=.", "-c", "../a.c"],
        &["gcc", "-ffile-prefix-map=@=.", "-I@/include", "-c", "@/a.c", "-o", "@/build/a.o"],
        &["gcc", "-fmacro-prefix-map=@/=", "-isystem", "@/include", "-c", "@/a.c"],
        &["gcc", "-ffile-prefix-map=@=/src", "-include", "@/x.h", "-c", "../a.c"],
    ];
    for arguments in same {
        let one = key("/home/a/p", arguments);
        assert!(one.is_some(), "{arguments:?}");
        assert_eq!(one, key("/home/other/place", arguments), "{arguments:?}");
    }
}

#[test]
fn windows_of_two_widths_have_two_keys() {
    let base = "/home/a/p";
    let key = |terminal| {
        let action = Action { terminal, ..action(base, &["gcc", "-c", "../a.c"]) };
        Base(base.into()).key(&action, &tree(base)).unwrap()
    };
    let wide = |columns| Some(Terminal { columns, input: None });
    let keys = [key(None), key(wide(80)), key(wide(90))];
    assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2]);
}

#[test]
fn compiles_that_could_see_the_difference_have_none() {
    let different: [&[&str]; 11] = [
        &["gcc", "-c", "@/a.c"],
        &["gcc", "-I@/include", "-c", "../a.c"],
        // Only debug information is mapped; `__FILE__` is not.
        &["gcc", "-fdebug-prefix-map=@=.", "-c", "@/a.c"],
        &["gcc", "-ffile-prefix-map=@=.", "-DROOT=\"@\"", "-c", "../a.c"],
        &["gcc", "-ffile-prefix-map=@=.", "-D", "@/x", "-c", "../a.c"],
        &["gcc", "-ffile-prefix-map=@=@", "-c", "../a.c"],
        &["gcc", "-ffile-prefix-map=/home=/h", "-ffile-prefix-map=@=.", "-c", "@/a.c"],
        &["gcc", "-ffile-prefix-map=@=.", "-Wp,-MD,@/a.d", "-c", "../a.c"],
        &["gcc", "-isystem", "../include", "-c", "../a.c"],
        &["gcc", "-ffile-prefix-map=@=.", "-c", "@/../a.c"],
        &["gcc", "-ffile-prefix-map=@=.", "-I@/x:@/y", "-c", "../a.c"],
    ];
    for arguments in different {
        assert_eq!(key("/home/a/p", arguments), None, "{arguments:?}");
    }
    let base = Base("/home/a/p".into());
    let mut elsewhere = action("/home/a/p", &["gcc", "-c", "../a.c"]);
    elsewhere.command.environment.insert("CPATH".into(), "/home/a/p/include".into());
    assert_eq!(base.key(&elsewhere, &tree("/home/a/p")), None);
}

#[test]
fn other_files_are_another_compile() {
    let arguments = ["gcc", "-c", "../a.c"];
    let base = Base("/home/a/p".into());
    let action = action("/home/a/p", &arguments);
    let plain = base.key(&action, &tree("/home/a/p"));
    let mut more = tree("/home/a/p");
    more.insert(TreePath::try_from("/home/a/x.h".to_owned()).unwrap(), Node::Directory);
    assert_ne!(base.key(&action, &more), plain);
    let link = Node::Symlink { target: "/home/a/p/x".into() };
    more.insert(TreePath::try_from("/home/a/p/y".to_owned()).unwrap(), link);
    assert_eq!(base.key(&action, &more), None);
}

#[test]
fn the_innermost_base_counts() {
    let bases = ["/home/a", "/home/a/p/", "/home/a/p q", "/", "relative"];
    let of = |directory| Base::of(bases.into_iter(), directory).map(|base| base.0);
    assert_eq!(of("/home/a/p/build").as_deref(), Some("/home/a/p"));
    assert_eq!(of("/home/a/pq").as_deref(), Some("/home/a"));
    assert_eq!(of("/home/ab"), None);
}

fn kept(bytes: &[u8]) -> Kept {
    let body = Body::Bytes(bytes.to_vec().into());
    let outputs = vec![Product { path: "a.o".into(), mode: 0o666, digest: None, body }];
    let (stdout, stderr) = (bytes::Bytes::new(), bytes::Bytes::new());
    Kept { stdout, stderr, outputs, worker: "w".into() }
}

/// An object as gcc makes it.
fn object(flags: &[&str], folder: &std::path::Path) -> Vec<u8> {
    std::fs::write(folder.join("a.c"), "int f(int x) { return x; }\n").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let arguments = ["-c", "a.c", "-o", "a.o"].iter().chain(flags).map(Into::into).collect();
    let done = runtime.block_on(crate::exec::run(crate::exec::Spec {
        arguments,
        environment: BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into())]),
        directory: folder.into(),
        ..crate::exec::Spec::of(std::path::Path::new("/usr/bin/gcc"))
    }));
    assert_eq!(done.unwrap().status, crate::exec::Ended::Code(0));
    std::fs::read(folder.join("a.o")).unwrap()
}

#[test]
fn what_names_the_base_or_cannot_be_searched_is_not_shared() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    let base = Base(path.to_str().unwrap().into());
    let free = |bytes: &[u8]| base.is_absent_from(&kept(bytes));
    let map = format!("-fdebug-prefix-map={}=.", path.display());
    assert!(free(&object(&["-O1"], &path)));
    assert!(free(&object(&["-g", &map, "-gz=none"], &path)));
    assert!(!free(&object(&["-g", "-gz=none"], &path)));
    // Compressed sections and another compiler's code hide what they hold.
    assert!(!free(&object(&["-g3", "-gz=zlib", &map], &path)));
    assert!(!free(&object(&["-flto"], &path)));
    assert!(free(b"a.o: a.c\n"));
    assert!(!free(format!("a.o: {}/a.c\n", base.0).as_bytes()));
    assert!(!free(format!("x{}_a_c", base.0.replace(['/', '.', '-', '+'], "_")).as_bytes()));
    assert!(!free(b"gcno\0binary"));
}
