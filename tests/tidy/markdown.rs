//! Reads Markdown as far as links and the headings they may lead to.

use std::collections::BTreeSet;

/// Targets of inline links with their lines; code is left out.
pub(crate) fn links(markdown: &str) -> Vec<(usize, &str)> {
    let (mut found, mut fenced) = (Vec::new(), false);
    for (number, line) in markdown.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for prose in line.split('`').step_by(2) {
            let targets = prose.split("](").skip(1).filter_map(|after| after.split(')').next());
            found.extend(targets.map(|target| (number + 1, target)));
        }
    }
    found
}

/// The anchors that a renderer gives to headings: lower case, spaces to dashes, no punctuation.
pub(crate) fn anchors(markdown: &str) -> BTreeSet<String> {
    let headings = markdown.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept =
                title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_in_code_are_no_links() {
        let text = "[a](b.md) and `[c](d)`\n```\n[e](f)\n```\n![g](h.png)[i](j#k)";
        assert_eq!(links(text), [(1, "b.md"), (5, "h.png"), (5, "j#k")]);
    }

    #[test]
    fn anchors_are_spelled_as_renderers_do() {
        let found = anchors("# Two words\ntext\n## A `b-c`, d");
        assert_eq!(Vec::from_iter(found), ["a-b-c-d", "two-words"]);
    }
}
