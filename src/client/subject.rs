//! What a compile is of, where that makes a difference: a source of C or C++, or a crate.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::crates::CrateReader;
use super::outputs::Older;
use super::request::Shelf;
use crate::job::Family;

/// What is compiled.
pub(super) enum Subject {
    /// A source of C or C++, with the variables that travel.
    Unit(Family, BTreeMap<String, String>),
    /// A crate; what was learned of it decides which variables travel.
    Crate(Arc<CrateReader>),
}

impl Subject {
    pub(super) fn older(&self) -> Older {
        match self {
            Self::Unit(..) => Older::Mixed,
            Self::Crate(_) => Older::Replaced,
        }
    }

    /// Local results of crates are not kept: macros may read what nobody names.
    pub(super) fn shelf(&self, shelf: Shelf) -> Shelf {
        match self {
            Self::Unit(..) => shelf,
            Self::Crate(_) => shelf.min(Shelf::Searched),
        }
    }
}
