//! The user's language: a worker has `C`, `C.UTF-8` and the locales that travel with the toolchain,
//! but no translations. What would read differently there is said by the local compiler.

use std::collections::BTreeMap;

use super::ready_toolchain::ReadyToolchain;
use crate::job::{LocalReason, Outcome, Tree};

/// Which locales a toolchain's tree has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locales {
    /// All that this machine has.
    All,
    /// `C.UTF-8` alone.
    Plain,
}

impl Locales {
    /// What `tree` has.
    pub fn of(tree: &Tree) -> Self {
        let archive = "/usr/lib/locale/locale-archive";
        match tree.iter().any(|(path, _)| path.as_str() == archive) {
            true => Self::All,
            false => Self::Plain,
        }
    }
}

/// Variables that make gcc take its programs from elsewhere: those are not in the toolchain.
///
/// # Errors
/// [`LocalReason::Environment`].
pub fn check_programs(environment: &BTreeMap<String, String>) -> Result<(), LocalReason> {
    let elsewhere = ["COMPILER_PATH", "GCC_EXEC_PREFIX"]
        .into_iter()
        .find(|name| environment.get(*name).is_some_and(|value| !value.is_empty()));
    elsewhere.map_or(Ok(()), |name| Err(LocalReason::Environment(name.to_owned())))
}

/// Messages in a language that a worker does not speak come from the local compiler.
///
/// # Errors
/// [`LocalReason::Environment`] naming the language.
pub fn check_messages(
    environment: &BTreeMap<String, String>,
    outcome: &Outcome,
    toolchain: &ReadyToolchain,
) -> Result<(), LocalReason> {
    if outcome.stderr.size() == 0 && outcome.stdout.size() == 0 {
        return Ok(());
    }
    match strange_language(environment, toolchain) {
        Some(strange) => Err(LocalReason::Environment(format!("messages in `{strange}`"))),
        None => Ok(()),
    }
}

/// The user's language, if a worker does not speak it.
pub fn strange_language<'a>(
    environment: &'a BTreeMap<String, String>,
    toolchain: &ReadyToolchain,
) -> Option<&'a str> {
    spoken(environment).into_iter().find(|name| !is_understood(name, toolchain.locales))
}

/// The locales of characters and messages, as `setlocale` finds them.
fn spoken(environment: &BTreeMap<String, String>) -> [&str; 2] {
    let set =
        |name: &str| environment.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let category = |name| set("LC_ALL").or(set(name)).or(set("LANG")).unwrap_or("C");
    [category("LC_CTYPE"), category("LC_MESSAGES")]
}

fn is_understood(name: &str, locales: Locales) -> bool {
    match name {
        "C" | "POSIX" | "C.UTF-8" | "C.utf8" => true,
        english => english.starts_with("en") && locales == Locales::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
        variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn the_strongest_variable_decides() {
        assert_eq!(spoken(&environment(&[])), ["C", "C"]);
        assert_eq!(spoken(&environment(&[("LANG", "de_DE"), ("LC_ALL", "")])), ["de_DE", "de_DE"]);
        let mixed = environment(&[("LANG", "de_DE.UTF-8"), ("LC_MESSAGES", "C")]);
        assert_eq!(spoken(&mixed), ["de_DE.UTF-8", "C"]);
        assert_eq!(spoken(&environment(&[("LANG", "x"), ("LC_ALL", "C.UTF-8")])), ["C.UTF-8"; 2]);
    }

    #[test]
    fn programs_from_elsewhere_stay() {
        assert!(check_programs(&environment(&[("COMPILER_PATH", "/x")])).is_err());
        assert!(check_programs(&environment(&[("COMPILER_PATH", "")])).is_ok());
    }
}
