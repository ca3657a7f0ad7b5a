//! Which release a compiler is, from what `-v` writes to stderr, where that decides something.

use crate::job::Family;

/// Whether the compiler takes `__DATE__` and `__TIME__` from `SOURCE_DATE_EPOCH`: gcc does since
/// release 7, clang since 16. `verbose` is what it wrote with `-v` and `LC_ALL=C`.
pub fn takes_epoch(family: Family, verbose: &[u8]) -> bool {
    let (label, since) = match family {
        Family::Gcc => ("gcc version ", 7),
        Family::Clang => ("clang version ", 16),
    };
    let release = verbose.split(|byte| *byte == b'\n').find_map(|line| {
        let line = str::from_utf8(line).ok()?;
        let (_vendor, version) = line.split_once(label)?;
        version.split(|end: char| !end.is_ascii_digit()).next()?.parse().ok()
    });
    release.is_some_and(|release: u32| release >= since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read() {
        let gcc = |text: &str| takes_epoch(Family::Gcc, text.as_bytes());
        assert!(gcc("Target: x\ngcc version 12.2.0 (Debian 12.2.0-14+deb12u1) \n"));
        assert!(!gcc("gcc version 4.8.5 20150623 (Red Hat 4.8.5-44) (GCC)\n") && !gcc(""));
        let clang = |text: &str| takes_epoch(Family::Clang, text.as_bytes());
        assert!(clang("Debian clang version 16.0.6 (27+b1)\n") && clang("clang version 21.1.0\n"));
        assert!(!clang("Debian clang version 14.0.6\nclang -cc1 version 99\n"));
    }
}
