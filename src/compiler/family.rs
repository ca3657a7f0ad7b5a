//! Which names are compilers: `gcc`, `clang++-14`, `x86_64-linux-gnu-g++-12`, and which only look so.

use crate::job::Family;

/// Programs that call a compiler and change what it does, though their name ends like one.
const WRAPPERS: [&str; 2] = ["afl-", "hfuzz-"];
/// What Debian puts behind the version of its MinGW compilers.
const THREAD_MODELS: [&str; 2] = ["-posix", "-win32"];

/// The family that a program's file name speaks of.
///
/// `cc` and `c++` give `None`: they are whatever the system's links say, so the caller asks again
/// with the name of the file that the link leads to.
pub fn family_of_name(file_name: &str) -> Option<Family> {
    if WRAPPERS.iter().any(|wrapper| file_name.starts_with(wrapper)) {
        return None;
    }
    let bare = without_version(file_name);
    let (prefix, word) = bare.rsplit_once('-').map_or(("", bare), |(prefix, word)| (prefix, word));
    let family = match word {
        "gcc" | "g++" => Family::Gcc,
        "clang" | "clang++" => Family::Clang,
        _ => return None,
    };
    let is_triple = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (bare == word || (!prefix.is_empty() && prefix.bytes().all(is_triple))).then_some(family)
}

/// Whether a program of this name compiles `.c` files as C++.
pub(super) fn means_cxx(program: &str) -> bool {
    let file_name = program.rsplit('/').next().unwrap_or(program);
    without_version(file_name).ends_with("++")
}

/// `gcc-12.2-posix` is `gcc`.
fn without_version(file_name: &str) -> &str {
    let name =
        THREAD_MODELS.iter().find_map(|model| file_name.strip_suffix(model)).unwrap_or(file_name);
    match name.rsplit_once('-') {
        Some((rest, version))
            if version.starts_with(|first: char| first.is_ascii_digit())
                && version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') =>
        {
            rest
        }
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compilers_are_known_by_name() {
        for name in [
            "gcc",
            "g++",
            "gcc-12",
            "g++-4.9.2",
            "x86_64-linux-gnu-g++-12",
            "arm-none-eabi-gcc",
            "x86_64-w64-mingw32-gcc-posix",
            "i686-w64-mingw32-g++-12-win32",
            "musl-gcc",
        ] {
            assert_eq!(family_of_name(name), Some(Family::Gcc), "{name}");
        }
        for name in ["clang", "clang++", "clang-14", "clang++-14", "aarch64-linux-android21-clang"]
        {
            assert_eq!(family_of_name(name), Some(Family::Clang), "{name}");
        }
        for name in [
            "cc",
            "c++",
            "gcc-ar",
            "gcc-nm-12",
            "gcc-ranlib",
            "gccgo",
            "gcc-go",
            "clang-cl",
            "clang-format",
            "clang-tidy-14",
            "clang-cpp",
            "clang-scan-deps",
            "afl-gcc",
            "g",
            "",
            "-",
            "-gcc",
            "gcov",
            "cpp-12",
            "colorgcc",
            "12",
            "clang++-libc++",
        ] {
            assert_eq!(family_of_name(name), None, "{name}");
        }
        assert!(means_cxx("/usr/bin/x86_64-linux-gnu-g++-12") && means_cxx("c++"));
        assert!(!means_cxx("/opt/c++/gcc-12"));
    }
}
