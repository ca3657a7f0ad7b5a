//! The machine's own rustup: which compiler its names mean.

use std::os::unix::fs::symlink;

use super::super::{Resolved, Resolver};
use super::*;
use crate::job::Kind;

/// The toolchain whose cargo compiles these tests; rustup has it below its own folder.
fn own() -> PathBuf {
    Path::new(env!("CARGO")).parent().and_then(Path::parent).unwrap().to_owned()
}

fn cargo_home() -> PathBuf {
    option_env!("CARGO_HOME").map_or_else(|| Path::new(env!("HOME")).join(".cargo"), PathBuf::from)
}

/// A user's variables, as far as they matter: `front` comes first in `PATH`.
fn environment(front: &Path, chosen: Option<&str>) -> BTreeMap<OsString, OsString> {
    let path = format!("{}:{}/bin:/usr/bin", front.display(), cargo_home().display());
    let home = own().parent().and_then(Path::parent).unwrap().to_owned();
    let mut environment: BTreeMap<OsString, OsString> = [
        ("PATH", path.into()),
        ("HOME", env!("HOME").into()),
        ("CARGO_HOME", cargo_home().into_os_string()),
        ("RUSTUP_HOME", home.into_os_string()),
    ]
    .map(|(name, value)| (name.into(), value))
    .into();
    environment.extend(chosen.map(|chosen| (CHOSEN.into(), chosen.into())));
    environment
}

async fn resolve(
    program: &str,
    directory: &Path,
    chosen: Option<&str>,
) -> Result<Resolved, ResolveError> {
    let resolver = Resolver::new("/nonexistent".into());
    let environment = environment(directory, chosen);
    let first = resolver.resolve(program, directory, &environment).await?;
    // What is remembered is the same.
    assert_eq!(resolver.resolve(program, directory, &environment).await.unwrap(), first);
    Ok(first)
}

#[tokio::test]
async fn names_lead_through_rustup() {
    let folder = tempfile::tempdir().unwrap();
    let toolchains = own().parent().unwrap().to_owned();
    let name = own().file_name().unwrap().to_str().unwrap().to_owned();
    for tool in [RustTool::Rustc, RustTool::Clippy] {
        let chosen = resolve(tool.name(), folder.path(), Some(&name)).await.unwrap();
        assert_eq!(chosen.executable, own().join("bin").join(tool.name()));
        assert_eq!(Path::new(&chosen.argv0), chosen.executable);
        assert_eq!(chosen.kind, Kind::Rust(tool));
        // Which one is the default is for the user to say.
        let default = resolve(tool.name(), folder.path(), None).await.unwrap();
        assert!(default.executable.starts_with(&toolchains), "{default:?}");
        assert!(default.executable.ends_with(Path::new("bin").join(tool.name())), "{default:?}");
        assert_eq!(default.kind, Kind::Rust(tool));
        // By the path of the proxy too.
        let proxy = cargo_home().join("bin").join(tool.name());
        let by_path = resolve(proxy.to_str().unwrap(), folder.path(), Some(&name)).await.unwrap();
        assert_eq!(by_path, chosen);
    }
}

#[tokio::test]
async fn each_folder_may_have_a_compiler_of_its_own() {
    let toolchains = std::fs::read_dir(own().parent().unwrap()).unwrap();
    let mut count = 0;
    for toolchain in toolchains.map(|entry| entry.unwrap().path()) {
        let name = toolchain.file_name().unwrap().to_str().unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("rust-toolchain"), name).unwrap();
        let found = resolve("rustc", folder.path(), None).await.unwrap();
        assert_eq!(found.executable.canonicalize().unwrap(), real(&toolchain.join("bin/rustc")));
        count += 1;
    }
    assert!(count > 0);
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap()
}

#[tokio::test]
async fn what_rustup_has_not_is_not_found() {
    let folder = tempfile::tempdir().unwrap();
    let absent = resolve("rustc", folder.path(), Some("1.0.0-of-nobody")).await;
    assert!(matches!(absent, Err(ResolveError::NotFound(_))), "{absent:?}");
    for other in ["cargo", "rustdoc"] {
        let found = resolve(other, folder.path(), None).await;
        assert!(matches!(found, Err(ResolveError::NotACompiler(_))), "{found:?}");
    }
}

#[tokio::test]
async fn a_plain_rustc_is_itself() {
    let folder = tempfile::tempdir().unwrap();
    let plain = own().join("bin/rustc");
    assert!(!is_proxy(&plain));
    let by_path = resolve(plain.to_str().unwrap(), folder.path(), None).await.unwrap();
    assert_eq!(by_path.executable, plain);
    assert_eq!((by_path.real, by_path.kind), (real(&plain), Kind::Rust(RustTool::Rustc)));
    let link = folder.path().join("rustc");
    symlink(&plain, &link).unwrap();
    let linked = resolve("rustc", folder.path(), Some("of-nobody")).await.unwrap();
    assert_eq!((linked.executable, linked.argv0.as_str()), (link, "rustc"));
    assert_eq!(linked.real, real(&plain));
}

#[tokio::test]
async fn the_same_file_beside_rustup_is_rustup() {
    let folder = tempfile::tempdir().unwrap();
    let rustup = folder.path().join(RUSTUP);
    std::fs::copy(cargo_home().join("bin").join(RUSTUP), &rustup).unwrap();
    std::fs::hard_link(&rustup, folder.path().join("rustc")).unwrap();
    assert!(is_proxy(&folder.path().join("rustc")));
    let name = own().file_name().unwrap().to_str().unwrap().to_owned();
    let found = resolve("rustc", folder.path(), Some(&name)).await.unwrap();
    assert_eq!(found.executable, own().join("bin/rustc"));
}

#[test]
fn answers_are_remembered_under_all_that_decides() {
    let plain = environment(Path::new("/front"), None);
    assert_eq!(key(&plain), None);
    let mut chosen = environment(Path::new("/front"), Some("stable"));
    let first = key(&chosen).unwrap();
    chosen.insert("OTHER".into(), "x".into());
    assert_eq!(key(&chosen).as_ref(), Some(&first));
    for name in DECIDE {
        let mut changed = chosen.clone();
        changed.insert(name.into(), "/elsewhere".into());
        assert_ne!(key(&changed).as_ref(), Some(&first), "{name}");
    }
    chosen.insert(CHOSEN.into(), "".into());
    assert_eq!(key(&chosen), None);
}
