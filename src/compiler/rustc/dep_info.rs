//! What rustc says that it read: a make rule for each output and, in comments, the variables that the
//! crate asked for (`write_out_deps` in `rustc_interface`).

use std::collections::{BTreeMap, BTreeSet};

/// Most bytes that are read.
pub const BYTES_MAX: usize = 16 << 20;
/// Most files that one crate may name.
const FILES_MAX: usize = 50_000;
const VARIABLE: &str = "# env-dep:";

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DepInfo {
    /// Files as the compiler spells them.
    pub files: BTreeSet<String>,
    /// Variables, and what the crate was told; `None` where they were not set.
    pub variables: BTreeMap<String, Option<String>>,
}

/// Reads a file of dependencies; `None` when it is none.
pub fn parse(bytes: &[u8]) -> Option<DepInfo> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= BYTES_MAX)?;
    let mut found = DepInfo::default();
    for line in text.lines() {
        if let Some(setting) = line.strip_prefix(VARIABLE) {
            let (name, value) =
                setting.split_once('=').map_or((setting, None), |(n, v)| (n, Some(v)));
            let value = match value {
                Some(value) => Some(unescaped(value)?),
                None => None,
            };
            found.variables.insert(unescaped(name)?, value);
        } else if !line.starts_with('#')
            && let Some((_, files)) = line.split_once(": ")
        {
            found.files.extend(names(files));
        }
        if found.files.len() > FILES_MAX {
            return None;
        }
    }
    Some(found)
}

/// The files of a rule: a space in a name has a backslash before it, and nothing else has.
fn names(rule: &str) -> Vec<String> {
    let (mut names, mut name, mut letters) = (Vec::new(), String::new(), rule.chars().peekable());
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if letters.peek() == Some(&' ') => {
                name.push(' ');
                letters.next();
            }
            ' ' => names.push(std::mem::take(&mut name)),
            other => name.push(other),
        }
    }
    names.push(name);
    names.retain(|name| !name.is_empty());
    names
}

/// Backslashes stand before line ends and themselves.
fn unescaped(text: &str) -> Option<String> {
    let (mut plain, mut letters) = (String::with_capacity(text.len()), text.chars());
    while let Some(letter) = letters.next() {
        plain.push(match letter {
            '\\' => match letters.next()? {
                'n' => '\n',
                'r' => '\r',
                '\\' => '\\',
                _ => return None,
            },
            other => other,
        });
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_and_variables_are_read() {
        let text = "/t/liba.rmeta: src/lib.rs /x/with\\ space.rs\n\n/t/a.d: src/lib.rs /x/with\\ space.rs\n\n\
            src/lib.rs:\n/x/with\\ space.rs:\n\n# env-dep:A=1\\n2\\\\\n# env-dep:B\n# checksum:x y\n";
        let found = parse(text.as_bytes()).unwrap();
        assert!(found.files.iter().eq(["/x/with space.rs", "src/lib.rs"]));
        let wanted = [("A".to_owned(), Some("1\n2\\".to_owned())), ("B".to_owned(), None)];
        assert_eq!(found.variables, BTreeMap::from(wanted));
        assert_eq!(parse(b"\xff"), None);
        assert_eq!(parse(b"# env-dep:A=\\x"), None);
    }
}
