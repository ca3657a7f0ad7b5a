//! Names that users give to compilers, and what they turn out to mean.

use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

/// A folder in front of `PATH`.
struct Front(tempfile::TempDir);

impl Front {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn script(&self, name: &str, body: &str) {
        std::fs::write(self.path(name), format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(self.path(name), PermissionsExt::from_mode(0o755)).unwrap();
    }

    async fn resolve(&self, program: &str) -> Result<Resolved, ResolveError> {
        let path = format!("{}:/usr/bin:/bin", self.0.path().display());
        let environment = [("PATH".into(), path.into())].into();
        resolve(program, self.0.path(), &environment, &self.path("jetcc-itself")).await
    }
}

#[test]
fn names_tell_the_family() {
    for name in ["gcc", "g++-12", "x86_64-linux-gnu-gcc-12", "arm-none-eabi-g++-12.2.1"] {
        assert_eq!(family_by_name(name), Some(Family::Gcc), "{name}");
    }
    for name in ["clang", "clang-14", "clang++-14", "x86_64-pc-linux-gnu-clang++"] {
        assert_eq!(family_by_name(name), Some(Family::Clang), "{name}");
    }
    for name in ["cc", "c++", "clang-format", "clang-tidy-14", "gcc-ar", "gcc-ar-12", "gccgo"] {
        assert_eq!(family_by_name(name), None, "{name}");
    }
}

#[tokio::test]
async fn path_and_paths() {
    let front = Front::new();
    let gcc = front.resolve("gcc").await.unwrap();
    assert_eq!(gcc.executable, Path::new("/usr/bin/gcc"));
    assert_eq!((gcc.argv0.as_str(), gcc.kind), ("gcc", Kind::C(Family::Gcc)));
    assert_eq!(gcc.real, Path::new("/usr/bin/gcc").canonicalize().unwrap());
    assert_eq!(front.resolve("cc").await.unwrap().kind, Kind::C(Family::Gcc));
    assert_eq!(front.resolve("/usr/bin/clang++").await.unwrap().kind, Kind::C(Family::Clang));
    symlink("/usr/bin", front.path("bin")).unwrap();
    let relative = front.resolve("bin/../bin/./gcc").await.unwrap();
    assert_eq!(
        relative.executable,
        Path::new("/usr/bin/gcc").canonicalize().unwrap().with_file_name("gcc")
    );
    assert_eq!(relative.argv0, "bin/../bin/./gcc");
}

#[tokio::test]
async fn others_are_no_compilers() {
    let front = Front::new();
    assert!(matches!(front.resolve("no-such-gcc").await, Err(ResolveError::NotFound(_))));
    assert!(matches!(front.resolve("/usr/bin/nope").await, Err(ResolveError::NotFound(_))));
    assert!(matches!(front.resolve("cat").await, Err(ResolveError::NotACompiler(_))));
    assert!(matches!(front.resolve("gcc-ar").await, Err(ResolveError::NotACompiler(_))));
    std::fs::write(front.path("gcc"), "text").unwrap();
    std::fs::set_permissions(front.path("gcc"), PermissionsExt::from_mode(0o755)).unwrap();
    assert!(matches!(front.resolve("gcc").await, Err(ResolveError::NotACompiler(_))));
}

#[tokio::test]
async fn a_compiler_under_another_name_is_asked() {
    let front = Front::new();
    std::fs::copy(Path::new("/usr/bin/clang").canonicalize().unwrap(), front.path("mycc")).unwrap();
    assert_eq!(front.resolve("mycc").await.unwrap().kind, Kind::C(Family::Clang));
}

#[tokio::test]
async fn masquerades_are_passed() {
    let front = Front::new();
    std::fs::copy("/bin/true", front.path("jetcc-itself")).unwrap();
    symlink("jetcc-itself", front.path("gcc")).unwrap();
    std::fs::hard_link(front.path("jetcc-itself"), front.path("g++")).unwrap();
    std::fs::copy("/bin/true", front.path("ccache")).unwrap();
    symlink("ccache", front.path("clang")).unwrap();
    assert_eq!(front.resolve("gcc").await.unwrap().executable, Path::new("/usr/bin/gcc"));
    assert_eq!(front.resolve("g++").await.unwrap().executable, Path::new("/usr/bin/g++"));
    assert_eq!(front.resolve("clang").await.unwrap().executable, Path::new("/usr/bin/clang"));
    // Also when the link is named by its path.
    let named = front.resolve(front.path("clang").to_str().unwrap()).await.unwrap();
    assert_eq!((named.argv0.as_str(), named.kind), ("/usr/bin/clang", Kind::C(Family::Clang)));
}

#[tokio::test]
async fn a_script_that_only_calls_is_seen_through() {
    let front = Front::new();
    front.script("gcc", "exec /usr/bin/gcc \"$@\"");
    let gcc = front.resolve("gcc").await.unwrap();
    assert_eq!(
        (gcc.executable.to_str(), gcc.argv0.as_str()),
        (Some("/usr/bin/gcc"), "/usr/bin/gcc")
    );
    front.script("cxx", "exec g++ \"$@\"");
    let cxx = front.resolve("cxx").await.unwrap();
    assert_eq!((cxx.executable.to_str(), cxx.argv0.as_str()), (Some("/usr/bin/g++"), "g++"));
    front.script("mycc", "exec clang++ \"$@\"");
    let clang = front.resolve("mycc").await.unwrap();
    assert_eq!(
        (clang.executable.to_str(), clang.kind),
        (Some("/usr/bin/clang++"), Kind::C(Family::Clang))
    );
}

#[tokio::test]
async fn a_script_that_adds_something_is_refused() {
    let front = Front::new();
    for body in [
        "exec /usr/bin/gcc -m32 \"$@\"",
        "exec /usr/bin/gcc -DX \"$@\"",
        "exec /usr/bin/gcc -Wa,--noexecstack \"$@\"",
        "exec /usr/bin/clang -DX \"$@\"",
        "exec /usr/bin/clang -O3 \"$@\"",
        "CPATH=/opt exec /usr/bin/gcc \"$@\"",
        "exit 0",
        "exit 1",
    ] {
        front.script("gcc", body);
        let refused = front.resolve("gcc").await;
        assert!(matches!(refused, Err(ResolveError::CompilerScript(_))), "{body}: {refused:?}");
    }
}

#[tokio::test]
async fn answers_are_remembered_until_the_script_changes() {
    let front = Front::new();
    front.script("gcc", "echo run >> \"$LOG\"; exec /usr/bin/gcc \"$@\"");
    let resolver = Resolver::new("/nonexistent".into());
    let log = front.path("log");
    let environment = [
        ("PATH".into(), format!("{}:/usr/bin", front.0.path().display()).into()),
        ("LOG".into(), log.clone().into_os_string()),
    ]
    .into();
    let runs = || std::fs::read_to_string(&log).unwrap_or_default().lines().count();
    resolver.resolve("gcc", Path::new("/"), &environment).await.unwrap();
    let first = runs();
    resolver.resolve("gcc", Path::new("/"), &environment).await.unwrap();
    assert!(first > 0 && runs() == first);
    front.script("gcc", "exec /usr/bin/gcc -m32 \"$@\"");
    assert!(resolver.resolve("gcc", Path::new("/"), &environment).await.is_err());
}
