//! An action: a command over two trees. Its key is the one definition of "the same compile".

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Digest, Pool, bounded};

/// Version of the key's definition; raised whenever equal keys could mean different bytes.
const KEY_VERSION: u32 = 2;
/// Most arguments of one command.
const ARGUMENTS_MAX: usize = 65_536;
/// Most variables that travel; ours are about twenty.
const VARIABLES_MAX: usize = 1_024;
/// Most files that one compile may be wanted to write.
const OUTPUTS_MAX: usize = 1_024;

/// What to start, exactly as the client would.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Absolute path of the compiler in the toolchain tree.
    pub executable: String,
    /// The whole argument vector, `argv[0]` included as the user wrote it.
    #[serde(deserialize_with = "bounded::list::<_, _, ARGUMENTS_MAX>")]
    pub arguments: Vec<String>,
    /// The only variables that the compiler sees.
    #[serde(deserialize_with = "bounded::table::<_, _, _, VARIABLES_MAX>")]
    pub environment: BTreeMap<String, String>,
    /// Working directory, absolute; may pass through symbolic links of the input tree.
    pub directory: String,
}

/// A file that the command may write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedOutput {
    /// Path as the compiler will write it: absolute, or relative to the command's directory.
    pub path: String,
    /// Whether a successful compile without it is wrong.
    pub required: bool,
}

/// A terminal that messages are for, as far as a compiler can see it; variables tell the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// Columns of the window that standard error is; 0 when nobody knows.
    pub columns: u16,
    /// Those of standard input, if it is a terminal too: it is what gcc measures.
    pub input: Option<u16>,
}

/// Everything that decides what a compile writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// Workers that can run it.
    pub pool: Pool,
    /// Digest of the toolchain's tree.
    pub toolchain: Digest,
    /// What to start.
    pub command: Command,
    /// Digest of the input tree.
    pub inputs: Digest,
    /// Files to bring back.
    #[serde(deserialize_with = "bounded::list::<_, _, OUTPUTS_MAX>")]
    pub outputs: Vec<WantedOutput>,
    /// The terminal that messages are for; without it they go to a file or pipe.
    #[serde(default)]
    pub terminal: Option<Terminal>,
}

impl Action {
    /// Key under which the result is known: covers every field.
    pub fn key(&self) -> ActionKey {
        ActionKey::of(&self.command_key(), &self.inputs)
    }

    /// Names everything but the inputs.
    #[expect(clippy::missing_panics_doc, reason = "encoding plain data into memory cannot fail")]
    #[expect(clippy::expect_used, reason = "encoding plain data into memory cannot fail")]
    pub fn command_key(&self) -> Digest {
        let Self { pool, toolchain, command, inputs: _, outputs, terminal } = self;
        let fields = ("command", KEY_VERSION, pool, toolchain, command, outputs);
        let encoded = match terminal {
            None => rmp_serde::to_vec(&fields),
            Some(terminal) => rmp_serde::to_vec(&(fields, terminal)),
        };
        Digest::of(&encoded.expect("an action is plain data"))
    }
}

/// Digest of an action.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ActionKey(Digest);

impl ActionKey {
    /// Key of the action with this [`Action::command_key`] over the tree `inputs`. Who knows both
    /// proves with them which command an action's key stands for.
    pub fn of(command: &Digest, inputs: &Digest) -> Self {
        let parts = [&KEY_VERSION.to_be_bytes()[..], command.as_bytes(), inputs.as_bytes()];
        Self(Digest::of(&parts.concat()))
    }

    /// The digest itself.
    pub const fn digest(&self) -> &Digest {
        &self.0
    }
}

impl From<Digest> for ActionKey {
    fn from(digest: Digest) -> Self {
        Self(digest)
    }
}

impl fmt::Display for ActionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ActionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action() -> Action {
        Action {
            pool: Pool::of_this_machine(),
            toolchain: Digest::of(b"t"),
            command: Command {
                executable: "/usr/bin/gcc".into(),
                arguments: vec!["gcc".into(), "-c".into(), "a.c".into()],
                environment: BTreeMap::from([("LANG".into(), "C".into())]),
                directory: "/w".into(),
            },
            inputs: Digest::of(b"i"),
            outputs: vec![WantedOutput { path: "a.o".into(), required: true }],
            terminal: Some(Terminal { columns: 80, input: Some(80) }),
        }
    }

    #[test]
    fn every_field_changes_the_key() {
        let base = action();
        let changes: [fn(&mut Action); 12] = [
            |a| a.pool = "other".parse().unwrap_or_else(|_| unreachable!()),
            |a| a.toolchain = Digest::of(b"u"),
            |a| a.command.executable.push('x'),
            |a| a.command.arguments.push("-g".into()),
            |a| a.command.environment.clear(),
            |a| a.command.directory.push('x'),
            |a| a.inputs = Digest::of(b"j"),
            |a| a.outputs[0].path.push('x'),
            |a| a.outputs[0].required = false,
            |a| a.terminal = None,
            |a| a.terminal = Some(Terminal { columns: 81, input: Some(80) }),
            |a| a.terminal = Some(Terminal { columns: 80, input: None }),
        ];
        for change in changes {
            let mut other = base.clone();
            change(&mut other);
            assert_ne!(base.key(), other.key());
        }
        assert_eq!(base.key(), action().key());
    }

    #[test]
    fn the_command_is_everything_but_the_inputs() {
        let (base, other) = (action(), Action { inputs: Digest::of(b"j"), ..action() });
        assert_eq!(base.command_key(), other.command_key());
        assert_eq!(other.key(), ActionKey::of(&base.command_key(), &Digest::of(b"j")));
    }
}
