//! Flags of gcc alone, and those whose meaning differs from clang's.

use super::Effect::*;
use super::Form::*;
use super::{Flag, flag};

/// Sorted by name.
pub(super) const FLAGS: &[Flag] = &[
    flag("--specs=", Joined, Specs),
    flag("-G", Either, Keep),
    flag("-aux-info=", Joined, Refuse),
    flag("-fada-", Joined, Refuse),
    flag("-fbranch-probabilities", Joined, Refuse),
    flag("-fcallgraph-info", Joined, Refuse),
    flag("-fcanon-prefix-map", Joined, Keep),
    flag("-fcompare-debug", Joined, Refuse),
    flag("-fcondition-coverage", Joined, Refuse),
    flag("-fdisable-", Joined, Refuse),
    flag("-fenable-", Joined, Refuse),
    flag("-fgnat", Joined, Refuse),
    flag("-fhelp", Joined, Refuse),
    flag("-finstrument-functions-exclude-file-list=", Joined, Keep),
    flag("-fintrinsic-modules-path", Joined, Refuse),
    flag("-fmem-", Joined, Refuse),
    flag("-fpath-coverage", Joined, Refuse),
    flag("-fprofile-note", Joined, Refuse),
    flag("-fprofile-prefix-map=", Joined, Keep),
    flag("-fprofile-prefix-path=", Joined, Keep),
    flag("-fprofile-update=", Joined, Keep),
    flag("-freport-bug", Joined, Refuse),
    flag("-fself-test", Joined, Refuse),
    flag("-fstats", Joined, Refuse),
    flag("-iplugindir", Joined, Refuse),
    flag("-specs=", Joined, Specs),
];
