//! Response files: `@file` replaced by the words in it, as gcc and clang both would.
//!
//! libiberty and LLVM split words alike in all that build systems write. Where they, or two
//! releases of one of them, differ (a backslash before something unusual inside quotes, empty
//! words, a quote that never ends), the file is not understood.

use std::io;

use crate::job::LocalReason;

/// Most files inside files; more is a cycle.
const DEPTH_MAX: usize = 32;
/// Most bytes of all response files of one command: what fits into an `execve` with room to spare.
pub const BYTES_MAX: usize = 1 << 20;
/// Most response files of one command, the same one each time it is named.
const FILES_MAX: usize = 1_000;
/// Longest argument, in bytes; Linux refuses more than 128 KiB.
const WORD_BYTES_MAX: usize = 100 << 10;

struct Expansion<'a> {
    directory: &'a str,
    read_file: &'a dyn Fn(&str) -> io::Result<Vec<u8>>,
    files: usize,
    bytes: usize,
    words: Vec<String>,
}

/// `arguments` with every `@file` expanded; relative names are taken from `directory`.
///
/// # Errors
/// [`LocalReason::ResponseFile`] with the file's name.
pub(super) fn expand(
    arguments: &[String],
    directory: &str,
    read_file: &dyn Fn(&str) -> io::Result<Vec<u8>>,
) -> Result<Vec<String>, LocalReason> {
    let mut expansion = Expansion { directory, read_file, files: 0, bytes: 0, words: Vec::new() };
    expansion.add(arguments, 0)?;
    Ok(expansion.words)
}

impl Expansion<'_> {
    fn add(&mut self, arguments: &[String], depth: usize) -> Result<(), LocalReason> {
        for argument in arguments {
            match argument.strip_prefix('@') {
                Some(file) => self.add_file(file, depth)?,
                None => self.words.push(argument.clone()),
            }
        }
        Ok(())
    }

    fn add_file(&mut self, file: &str, depth: usize) -> Result<(), LocalReason> {
        let refuse = || LocalReason::ResponseFile(file.to_owned());
        self.files += 1;
        if depth >= DEPTH_MAX || self.files > FILES_MAX || file.is_empty() {
            return Err(refuse());
        }
        let bytes = (self.read_file)(&absolute(self.directory, file)).map_err(|_| refuse())?;
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > BYTES_MAX {
            return Err(refuse());
        }
        let text = String::from_utf8(bytes).map_err(|_| refuse())?;
        let words = split(&text).ok_or_else(refuse)?;
        self.add(&words, depth + 1)
    }
}

/// `path` seen from `directory`, without cleaning it.
pub(super) fn absolute(directory: &str, path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("{directory}/{path}") }
}

/// The words of a response file, or `None` where the compilers disagree about them.
pub(super) fn split(text: &str) -> Option<Vec<String>> {
    if text.starts_with('\u{feff}') || text.contains(['\0', '\u{b}', '\u{c}']) {
        return None;
    }
    let mut words = Vec::new();
    let mut characters = text.chars().peekable();
    loop {
        while characters.next_if(char::is_ascii_whitespace).is_some() {}
        if characters.peek().is_none() {
            return Some(words);
        }
        let word = one_word(&mut characters)?;
        if word.is_empty() || word.len() > WORD_BYTES_MAX {
            return None;
        }
        words.push(word);
    }
}

fn one_word(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<String> {
    let mut word = String::new();
    let mut quote = None;
    loop {
        let next = characters.next_if(|next| quote.is_some() || !next.is_ascii_whitespace());
        match (next, quote) {
            (None, None) => return Some(word),
            (None, Some(_)) => return None,
            (Some('\\'), Some('\'')) => return None,
            (Some('\\'), Some(_)) => match characters.next()? {
                escaped @ ('"' | '\\' | '$' | '`') => word.push(escaped),
                _ => return None,
            },
            (Some('\\'), None) => match characters.next()? {
                '\n' | '\r' => return None,
                escaped => word.push(escaped),
            },
            (Some(end), Some(open)) if end == open => quote = None,
            (Some(open @ ('\'' | '"')), None) => quote = Some(open),
            (Some(plain), _) => word.push(plain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Option<Vec<String>> {
        split(text)
    }

    #[test]
    fn words_are_split_as_by_the_compilers() {
        let text = "-DA=\\\"x\\\"  '-DB=a b'\n\"-DC=\\\"q\\\"\"\t-I/a\\ b x'y'\"z\"\n";
        assert_eq!(
            words(text).unwrap(),
            ["-DA=\"x\"", "-DB=a b", "-DC=\"q\"", "-I/a b", "xyz"].map(String::from)
        );
        assert_eq!(words(" \n").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn what_releases_disagree_about_is_not_understood() {
        for text in
            ["'a", "\"a", "a\\", "'a\\b'", "\"a\\b\"", "''", "a\\\nb", "\u{feff}a", "a\u{b}b"]
        {
            assert_eq!(words(text), None, "{text:?}");
        }
    }

    #[test]
    fn files_name_files_and_cycles_end() {
        let read = |path: &str| match path {
            "/w/a.rsp" => Ok(b"-c @sub/b.rsp".to_vec()),
            "/w/sub/b.rsp" => Ok(b"b.c".to_vec()),
            "/w/loop" => Ok(b"@loop".to_vec()),
            _ => Err(io::Error::from(io::ErrorKind::NotFound)),
        };
        let expand = |argument: &str| expand(&[argument.to_owned()], "/w", &read);
        assert_eq!(expand("@a.rsp").unwrap(), ["-c", "b.c"].map(String::from));
        assert_eq!(expand("@loop"), Err(LocalReason::ResponseFile("loop".into())));
        assert_eq!(expand("@gone"), Err(LocalReason::ResponseFile("gone".into())));
        // Each name costs a file that is read, however small it is.
        let many = |count: usize| super::expand(&vec!["@a.rsp".to_owned(); count], "/w", &read);
        assert!(many(FILES_MAX / 2).is_ok());
        assert_eq!(many(FILES_MAX), Err(LocalReason::ResponseFile("a.rsp".into())));
    }
}
