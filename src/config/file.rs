//! One file of settings: read it, put the variables over it, and say what is wrong with it.

use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::Environment;
use crate::queue::TlsSettings;
use crate::store::StoreSettings;

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("settings `{path}` cannot be read: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Not TOML.
    #[error("settings `{path}` are not TOML: {message}")]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        message: String,
    },
    /// A key is unknown, missing or of the wrong kind, or names a file that cannot be used.
    #[error("settings `{path}`: {message}")]
    Key {
        /// Which file.
        path: PathBuf,
        /// Which key and why.
        message: String,
    },
    /// A variable does not fit its key.
    #[error("`{name}` is `{value}`, wanted {wanted}")]
    Variable {
        /// Which variable.
        name: &'static str,
        /// What it holds.
        value: String,
        /// What it should hold.
        wanted: &'static str,
    },
    /// A variable for a key of something that is not one table in the file.
    #[error(
        "`{name}` is set, and the settings have no single table for its key `{key}`\nhint: a list is set in the file alone"
    )]
    List {
        /// Which variable.
        name: &'static str,
        /// Its dotted key.
        key: &'static str,
    },
}

/// Keys of servers' addresses.
const ADDRESSES: [&str; 2] = ["nats_url", "scheduler_url"];

/// What kind of value a variable holds.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Text,
    Number,
    Share,
    Switch,
    /// Several, separated by colons.
    Paths,
}

/// Variables over a file: name, dotted key, kind.
pub(super) type Overrides = &'static [(&'static str, &'static str, Kind)];

pub(super) fn read(path: &Path) -> Result<Table, ConfigError> {
    let text = fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.into(), source })?;
    text.parse().map_err(|error: toml::de::Error| ConfigError::Syntax {
        path: path.into(),
        message: place(&error, &text),
    })
}

/// Where and why, without the line itself: it may hold a secret.
fn place(error: &toml::de::Error, text: &str) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let message = error.message().replace('\n', ", ");
    match before {
        Some(before) => format!("line {}: {message}", before.matches('\n').count() + 1),
        None => message,
    }
}

/// Puts the variables that are set over the file's keys.
pub(super) fn overlay(
    mut table: Table,
    overrides: Overrides,
    environment: &Environment,
) -> Result<Table, ConfigError> {
    for (name, key, kind) in overrides {
        if let Some(text) = environment.text(name) {
            let value = value(name, &text, *kind)?;
            insert(&mut table, key, value).ok_or(ConfigError::List { name, key })?;
        }
    }
    Ok(table)
}

fn value(name: &'static str, text: &str, kind: Kind) -> Result<Value, ConfigError> {
    let wrong = |wanted| ConfigError::Variable { name, value: text.to_owned(), wanted };
    match kind {
        Kind::Text => Ok(Value::String(text.to_owned())),
        Kind::Paths => {
            let paths = text.split(':').filter(|path| !path.is_empty());
            Ok(Value::Array(paths.map(|path| Value::String(path.to_owned())).collect()))
        }
        Kind::Number => text.parse().map(Value::Integer).map_err(|_| wrong("a whole number")),
        Kind::Share => text.parse().map(Value::Float).map_err(|_| wrong("a number from 0 to 1")),
        Kind::Switch => match text {
            "1" | "true" => Ok(Value::Boolean(true)),
            "0" | "false" | "" => Ok(Value::Boolean(false)),
            _ => Err(wrong("`true` or `false`")),
        },
    }
}

/// `None` when something on the way to the key is no table.
fn insert(table: &mut Table, key: &str, value: Value) -> Option<()> {
    match key.split_once('.') {
        None => drop(table.insert(key.to_owned(), value)),
        Some((folder, rest)) => {
            let inner = table.entry(folder).or_insert_with(|| Value::Table(Table::new()));
            insert(inner.as_table_mut()?, rest, value)?;
        }
    }
    Some(())
}

pub(super) fn deserialize<T: DeserializeOwned>(
    table: Table,
    path: &Path,
) -> Result<T, ConfigError> {
    check_addresses(&table, path)?;
    T::deserialize(Value::Table(table)).map_err(|error| ConfigError::Key {
        path: path.into(),
        message: with_nearest(&without_value(error.to_string().trim())),
    })
}

/// Files of `[tls]`, seen from the folder of the settings that name them.
pub(super) fn tls(tls: TlsSettings, path: &Path) -> Result<TlsSettings, ConfigError> {
    tls.seen_from(path.parent().unwrap_or(Path::new(".")))
        .map_err(|error| ConfigError::Key { path: path.into(), message: error.to_string() })
}

/// The file of `[store]`, seen from the folder of the settings that name it.
pub(super) fn store(store: StoreSettings, path: &Path) -> Result<StoreSettings, ConfigError> {
    store
        .seen_from(path.parent().unwrap_or(Path::new(".")))
        .map_err(|error| ConfigError::Key { path: path.into(), message: error.to_string() })
}

/// Addresses of servers are shown in answers and logs, so there may be no password in them.
fn check_addresses(table: &Table, path: &Path) -> Result<(), ConfigError> {
    for (key, value) in table {
        match value {
            Value::Table(inner) => check_addresses(inner, path)?,
            Value::String(address)
                if ADDRESSES.contains(&key.as_str()) && address.contains('@') =>
            {
                let message = format!(
                    "`{key}` holds a user or a password, wanted `nats://host:port`\n\
                     hint: tokens have a key of their own, `token`"
                );
                return Err(ConfigError::Key { path: path.into(), message });
            }
            _ => {}
        }
    }
    Ok(())
}

/// serde shows a value of the wrong kind, which may be a secret in the wrong place: `invalid type:
/// string "x", expected …` becomes `invalid type: string, expected …`.
fn without_value(message: &str) -> String {
    let cut = || {
        let (what, rest) = message
            .split_once(": ")
            .filter(|(what, _)| matches!(*what, "invalid type" | "invalid value"))?;
        let (found, wanted) = rest.rsplit_once(", expected ")?;
        // Kinds are of one or two words: `string "x"`, `integer `1``, `floating point `1.0``.
        let kind = found.split(['"', '`']).next().unwrap_or_default().trim_end();
        Some(format!("{what}: {kind}, expected {wanted}"))
    };
    cut().unwrap_or_else(|| message.to_owned())
}

/// Adds the nearest known key to serde's message about an unknown one.
fn with_nearest(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let (true, Some(unknown)) = (message.starts_with("unknown field"), quoted.next()) else {
        return message.to_owned();
    };
    match quoted.min_by_key(|known| distance(unknown, known)) {
        Some(nearest) => format!("{message}\nhint: did you mean `{nearest}`?"),
        None => message.to_owned(),
    }
}

/// Levenshtein distance.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let change = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}
