//! After a worker failed on a crate: did this machine compile it, and what did it read?

use std::path::Path;
use std::sync::Arc;

use super::learned::Learned;
use super::{CrateReader, read_list};
use crate::client::inputs::Inputs;
use crate::store::stamps::{Stamp, now_ns};

/// A local compile under way of a crate on which a worker failed.
pub struct Study {
    reader: CrateReader,
    inputs: Arc<Inputs>,
    /// Unix time in ns.
    began_ns: i64,
}

impl Study {
    /// The compile begins now; the worker had `inputs`.
    pub fn new(reader: CrateReader, inputs: Arc<Inputs>) -> Self {
        Self { reader, inputs, began_ns: now_ns() }
    }

    /// The compile has ended: what there is to learn goes to `learned`. Blocking.
    pub fn conclude(self, learned: &Learned) {
        let plan = &self.reader.plan;
        let is_written = |path: &String| {
            let found = std::fs::symlink_metadata(self.reader.absolute(path));
            found.is_ok_and(|found| !Stamp::of(&found).is_settled(self.began_ns))
        };
        let mut required = plan.outputs.iter().filter(|output| output.required);
        if !required.all(|output| is_written(&output.path)) {
            // It fails here too.
            return;
        }
        let told = self.reader.krate.dep_info.as_ref();
        let told = told.and_then(|path| read_list(Path::new(&self.reader.absolute(path))));
        let there = self.inputs.tree.open().unwrap_or_default();
        if !told.is_some_and(|told| learned.learn_from_local(&self.reader, &told, &there)) {
            learned.note_strange(&self.reader);
        }
    }
}
