//! Reads Rust as tokens and paths: enough to see what a file names, without being fooled by
//! comments and strings.

/// A word, `::`, `=>`, a string with its quotes, or one other character.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Token<'a> {
    pub(crate) text: &'a str,
    pub(crate) line: usize,
}

/// Splits Rust source; comments, character literals and lifetimes are left out.
pub(crate) fn tokens(source: &str) -> Vec<Token<'_>> {
    let (mut found, mut rest, mut line) = (Vec::new(), source, 1);
    while let Some(first) = rest.chars().next() {
        let (length, keep) = token_length(rest, first);
        let (text, after) = rest.split_at(length);
        if keep {
            found.push(Token { text, line });
        }
        line += text.matches('\n').count();
        rest = after;
    }
    found
}

/// Bytes of the token at the start of `rest`, and whether it is kept.
fn token_length(rest: &str, first: char) -> (usize, bool) {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    if let Some(length) = string_length(rest) {
        return (length, true);
    }
    match first {
        c if c.is_whitespace() => (c.len_utf8(), false),
        '/' if rest.starts_with("//") => (rest.find('\n').unwrap_or(rest.len()), false),
        '/' if rest.starts_with("/*") => (block_comment_length(rest), false),
        '\'' => (quote_length(rest), false),
        ':' if rest.starts_with("::") => (2, true),
        '=' if rest.starts_with("=>") => (2, true),
        c if word(c) => (rest.find(|c| !word(c)).unwrap_or(rest.len()), true),
        c => (c.len_utf8(), true),
    }
}

/// Bytes of the string literal at the start of `rest`, of whatever prefix.
fn string_length(rest: &str) -> Option<usize> {
    let prefix = ["br", "cr", "r", "b", "c", ""].into_iter().find(|prefix| {
        rest.strip_prefix(prefix).is_some_and(|after| {
            let raw = prefix.ends_with('r');
            (if raw { after.trim_start_matches('#') } else { after }).starts_with('"')
        })
    })?;
    let after = &rest[prefix.len()..];
    if prefix.ends_with('r') {
        let hashes = after.find('"')?;
        let close = format!("\"{}", "#".repeat(hashes));
        let body = &after[hashes + 1..];
        let end = body.find(&close).map_or(body.len(), |at| at + close.len());
        return Some(prefix.len() + hashes + 1 + end);
    }
    let mut escaped = false;
    let end = after[1..].find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    Some(end.map_or(rest.len(), |at| prefix.len() + at + 2))
}

/// Bytes of a `/* … */` comment; they nest.
fn block_comment_length(rest: &str) -> usize {
    let (mut at, mut depth) = (0, 0);
    while let Some(step) = rest[at..].find(['/', '*']) {
        at += step;
        match &rest[at..] {
            open if open.starts_with("/*") => (depth, at) = (depth + 1, at + 2),
            close if close.starts_with("*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// Bytes of a character literal, or of a lifetime with its quote.
fn quote_length(rest: &str) -> usize {
    let mut inside = rest[1..].chars();
    match inside.next() {
        Some('\\') => rest[3..].find('\'').map_or(rest.len(), |at| at + 4),
        Some(c) if inside.next() == Some('\'') => c.len_utf8() + 2,
        _ => {
            rest[1..].find(|c: char| !c.is_alphanumeric() && c != '_').map_or(rest.len(), |n| n + 1)
        }
    }
}

/// A path as it is written, groups expanded: `use a::{b, c::d}` gives `a::b` and `a::c::d`.
#[derive(Debug, PartialEq)]
pub(crate) struct Named<'a> {
    pub(crate) line: usize,
    pub(crate) segments: Vec<&'a str>,
    /// Modules of the same file around it.
    pub(crate) inside: Vec<&'a str>,
}

/// All paths of at least two segments.
pub(crate) fn paths<'a>(tokens: &[Token<'a>]) -> Vec<Named<'a>> {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let mut found = Vec::new();
    let mut braces: Vec<Option<&str>> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match text(at) {
            "{" => {
                let is_module = at >= 2 && text(at - 2) == "mod";
                braces.push(is_module.then(|| text(at - 1)));
            }
            "}" => drop(braces.pop()),
            _ if text(at + 1) == "::" && is_word(text(at)) => {
                let inside: Vec<&str> = braces.iter().flatten().copied().collect();
                at = expand(tokens, at, &[], &inside, &mut found);
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

fn is_word(text: &str) -> bool {
    text == "*" || text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Reads the path at `at`, adds it and what its groups hold; gives the place after it.
fn expand<'a>(
    tokens: &[Token<'a>],
    mut at: usize,
    prefix: &[&'a str],
    inside: &[&'a str],
    found: &mut Vec<Named<'a>>,
) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let line = tokens.get(at).map_or(0, |token| token.line);
    let mut segments = prefix.to_vec();
    while is_word(text(at)) {
        segments.push(text(at));
        at += 1;
        if text(at) != "::" {
            break;
        }
        at += 1;
    }
    if text(at) != "{" || text(at - 1) != "::" {
        found.push(Named { line, segments, inside: inside.to_vec() });
        return at;
    }
    at += 1;
    while at < tokens.len() && text(at) != "}" {
        at = if is_word(text(at)) && text(at) != "as" {
            expand(tokens, at, &segments, inside, found)
        } else {
            at + 1 + usize::from(text(at) == "as")
        };
    }
    at + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> Vec<&str> {
        tokens(source).iter().map(|token| token.text).collect()
    }

    fn named(source: &str) -> Vec<String> {
        paths(&tokens(source)).iter().map(|path| path.segments.join("::")).collect()
    }

    #[test]
    fn comments_characters_and_lifetimes_are_no_tokens() {
        assert_eq!(words("a /* b /* c */ d */ e // f\ng"), ["a", "e", "g"]);
        assert_eq!(
            words(r"x('\'', 'y', '\u{41}', b'z') &'a T"),
            ["x", "(", ",", ",", ",", "b", ")", "&", "T"]
        );
    }

    #[test]
    fn strings_are_one_token_whatever_their_prefix() {
        assert_eq!(words(r#"a "b \" crate::c" d"#), ["a", r#""b \" crate::c""#, "d"]);
        let raw = "r#\"crate::x \" y\"# z";
        assert_eq!(words(raw), ["r#\"crate::x \" y\"#", "z"]);
        assert_eq!(words("r#type"), ["r", "#", "type"]);
    }

    #[test]
    fn tokens_know_their_line() {
        let lines: Vec<usize> = tokens("a\n\"x\ny\"\nb").iter().map(|token| token.line).collect();
        assert_eq!(lines, [1, 2, 4]);
    }

    #[test]
    fn groups_are_expanded() {
        let source = "use crate::{exec, job::{Tree as T, wire::*}}; let x = std::env::var(y);";
        assert_eq!(
            named(source),
            ["crate::exec", "crate::job::Tree", "crate::job::wire::*", "std::env::var"]
        );
    }

    #[test]
    fn generics_end_a_path() {
        assert_eq!(named("Vec::<crate::job::Id>::new()"), ["Vec", "crate::job::Id"]);
    }

    #[test]
    fn paths_know_the_modules_around_them() {
        let source = "a::b; mod tests { fn f() { c::d } } e::f;";
        let found = paths(&tokens(source));
        let inside: Vec<_> = found.iter().map(|path| path.inside.join("::")).collect();
        assert_eq!(inside, ["", "tests", ""]);
    }
}
