//! The directories that a compiler looks for headers in, from what `-v` writes to stderr.

use serde::{Deserialize, Serialize};

/// Where `#include` looks. Directories are as the compiler prints them: absolute or relative to
/// its working directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Search {
    /// Only for `#include "…"`.
    pub quote: Vec<String>,
    /// For both forms, after `quote`.
    pub angle: Vec<String>,
    /// macOS framework directories among them, without the remark behind the name.
    pub frameworks: Vec<String>,
    /// Directories that were asked for and are not among them: nothing is there, or it is one that
    /// is among them already.
    pub ignored: Vec<String>,
    /// Whether the list was seen from head to end and every name is UTF-8. The headings are
    /// translated: run the compiler with `LC_ALL=C`.
    pub complete: bool,
}

const QUOTE_HEAD: &[u8] = b"#include \"...\" search starts here:";
const ANGLE_HEAD: &[u8] = b"#include <...> search starts here:";
const END: &[u8] = b"End of search list.";
const IGNORED: [&[u8]; 2] =
    [b"ignoring nonexistent directory \"", b"ignoring duplicate directory \""];
const FRAMEWORK_REMARK: &str = " (framework directory)";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Outside,
    Quote,
    Angle,
}

/// Reads the search list; of several lists, all directories in order.
pub fn parse_search_dirs(stderr: &[u8]) -> Search {
    let mut search = Search::default();
    let mut part = Part::Outside;
    let mut ended = false;
    let mut utf8 = true;
    for line in stderr.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match line {
            QUOTE_HEAD => part = Part::Quote,
            ANGLE_HEAD => part = Part::Angle,
            END => {
                ended |= part == Part::Angle;
                part = Part::Outside;
            }
            [b' ', name @ ..] if part != Part::Outside => match std::str::from_utf8(name) {
                Ok(name) => search.add(part, name),
                Err(_) => utf8 = false,
            },
            _ => {
                let ignored = IGNORED.iter().find_map(|head| line.strip_prefix(*head));
                match ignored.map(|name| str::from_utf8(name.strip_suffix(b"\"").unwrap_or(name))) {
                    Some(Ok(name)) => search.ignored.push(name.to_owned()),
                    Some(Err(_)) => utf8 = false,
                    None => {}
                }
            }
        }
    }
    search.complete = ended && utf8 && part == Part::Outside;
    search
}

impl Search {
    fn add(&mut self, part: Part, name: &str) {
        let list = match (name.strip_suffix(FRAMEWORK_REMARK), part) {
            (Some(_), _) => &mut self.frameworks,
            (None, Part::Quote) => &mut self.quote,
            (None, _) => &mut self.angle,
        };
        let name = name.strip_suffix(FRAMEWORK_REMARK).unwrap_or(name);
        if !list.iter().any(|known| known == name) {
            list.push(name.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_to_their_end() {
        let text = b"ignoring nonexistent directory \"/nope\"\n\
            ignoring duplicate directory \"q dir/\"\n  as it is a non-system directory\n\
            #include \"...\" search starts here:\n q dir\n\
            #include <...> search starts here:\n /usr/include\n /S/F (framework directory)\n\
            End of search list.\n other\n";
        let search = parse_search_dirs(text);
        assert_eq!(search.quote, ["q dir"]);
        assert_eq!(search.angle, ["/usr/include"]);
        assert_eq!(search.frameworks, ["/S/F"]);
        assert_eq!(search.ignored, ["/nope", "q dir/"]);
        assert!(search.complete);
    }

    #[test]
    fn half_a_list_is_not_complete() {
        assert!(!parse_search_dirs(b"").complete);
        assert!(!parse_search_dirs(b"#include <...> search starts here:\n /a\n").complete);
        let strange = b"#include <...> search starts here:\n /\xff\nEnd of search list.\n";
        assert!(!parse_search_dirs(strange).complete);
    }
}
