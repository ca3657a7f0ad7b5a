//! Under which keys the result of one compile is looked for and kept: that of the action, and the one
//! that it shares with other checkouts.

use std::path::{Path, PathBuf};

use super::base::Base;
use super::{Kept, Results};
use crate::client::inputs::Inputs;
use crate::job::{Action, ActionKey, Digest};

/// The keys of one compile.
#[derive(Debug)]
pub struct Keys {
    /// Names everything but the inputs.
    pub command: Digest,
    /// The action's own.
    pub action: ActionKey,
    shared: Option<(Base, ActionKey)>,
}

impl Keys {
    /// The keys of `action`, which reads `inputs`; `base_dirs` are the user's checkouts.
    pub fn of(action: &Action, inputs: &Inputs, base_dirs: &[PathBuf]) -> Self {
        let names = base_dirs.iter().filter_map(|base| base.to_str());
        let shared = Base::of(names, &action.command.directory)
            // Where links lead to the checkout, it has more names than one.
            .filter(|base| {
                std::fs::canonicalize(base.path()).is_ok_and(|p| p == Path::new(base.path()))
            })
            .and_then(|base| {
                let key = base.key(action, &*inputs.tree.open()?)?;
                Some((base, key))
            });
        let command = action.command_key();
        Self { command, action: ActionKey::of(&command, &action.inputs), shared }
    }

    /// The result, from this checkout or another one.
    pub fn find(&self, results: &Results) -> Option<Kept> {
        results.find(&self.action).or_else(|| {
            let (base, key) = self.shared.as_ref()?;
            let mut kept = results.find(key)?;
            for product in &mut kept.outputs {
                product.path = base.enter(&product.path);
            }
            Some(kept)
        })
    }

    /// Keeps the result for this checkout, and for others if it is theirs too.
    pub fn keep(&self, results: &Results, kept: &Kept) {
        results.keep(&self.action, kept, str::to_owned);
        let Some((base, key)) = &self.shared else { return };
        if base.is_absent_from(kept) {
            results.keep(key, kept, |path| base.leave(path));
        }
    }
}
