//! What names a compile's result: its action, and for a terminal another one, with their keys.
//!
//! A compile without messages is the same wherever they would have gone, so the plain action is asked
//! first and shared by everybody. If it has messages and they go to a terminal, the action that has
//! this terminal is asked instead.

use std::path::PathBuf;
use std::sync::Arc;

use super::cache::{Kept, Keys, Results};
use super::inputs::Inputs;
use super::ipc::Diagnostics;
use super::ready_toolchain::ReadyToolchain;
use crate::job::{Action, LocalReason, Tree};

/// An action, and the keys of its result.
pub(super) struct Asked {
    pub(super) action: Action,
    pub(super) keys: Keys,
}

impl Asked {
    /// `action`, which reads `inputs`; `base_dirs` are the user's checkouts.
    pub(super) fn of(action: Action, inputs: &Inputs, base_dirs: &[PathBuf]) -> Self {
        Self { keys: Keys::of(&action, inputs, base_dirs), action }
    }
}

/// What names a compile's result.
pub(super) struct Named {
    /// What is asked now.
    pub(super) asked: Asked,
    /// What is asked instead if that has messages.
    pub(super) shown: Option<Asked>,
    /// Where messages go.
    pub(super) diagnostics: Diagnostics,
    pub(super) inputs: Arc<Inputs>,
    pub(super) toolchain: Arc<ReadyToolchain>,
    /// The inputs' tree, if it is decoded: it stays so as long as it is worked with.
    pub(super) _tree: Option<Arc<Tree>>,
}

impl Named {
    /// The result that is kept here.
    pub(super) fn find(&mut self, results: &Results) -> Option<Kept> {
        match self.asked.keys.find(results) {
            Some(kept) if self.gives_way(&kept.stderr) => self.asked.keys.find(results),
            Some(kept) => Some(kept),
            None => {
                let kept = self.shown.as_ref()?.keys.find(results)?;
                self.asked = self.shown.take()?;
                Some(kept)
            }
        }
    }

    /// Whether, as there are these messages, another action is asked from now on.
    pub(super) fn gives_way(&mut self, stderr: &[u8]) -> bool {
        let shown = if stderr.is_empty() { None } else { self.shown.take() };
        shown.map(|shown| self.asked = shown).is_some()
    }

    /// Messages for a terminal that nobody else can have are the local compiler's.
    ///
    /// # Errors
    /// [`LocalReason::Terminal`].
    pub(super) fn check_terminal(&self, stderr: &[u8]) -> Result<(), LocalReason> {
        let is_for_it = self.asked.action.terminal.is_some() || stderr.is_empty();
        match self.diagnostics {
            Diagnostics::Terminal(_) if !is_for_it => Err(LocalReason::Terminal),
            Diagnostics::Terminal(_) | Diagnostics::Stream => Ok(()),
        }
    }
}
