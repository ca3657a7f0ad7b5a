//! Which variables of the user's environment travel with a compile.
//!
//! Names from the manuals "Environment Variables Affecting GCC" and "Controlling Language-Specific
//! Output", and from clang's driver sources (`Driver.cpp`, `driver.cpp`, `CompilerInstance.cpp`).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use crate::job::LocalReason;

/// Variables that change an output or a message. An empty search path counts as absent for both
/// compilers, and an empty part of one means the working directory, so values travel unchanged.
const TRAVEL: [&str; 20] = [
    "COMPILER_PATH",
    "CPATH",
    "CPLUS_INCLUDE_PATH",
    "C_INCLUDE_PATH",
    "GCC_COLORS",
    "GCC_EXEC_PREFIX",
    "GCC_EXTRA_DIAGNOSTIC_OUTPUT",
    "GCC_URLS",
    "GNUTARGET",
    "IPHONEOS_DEPLOYMENT_TARGET",
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "LC_CTYPE",
    "LC_MESSAGES",
    "MACOSX_DEPLOYMENT_TARGET",
    "OBJCPLUS_INCLUDE_PATH",
    "OBJC_INCLUDE_PATH",
    "SOURCE_DATE_EPOCH",
    "TERM_URLS",
];

/// Variables that change messages for a terminal and nothing else: gcc's (`diagnostic-color.cc`,
/// `diagnostic.cc`) and clang's (`Process.inc`), and agreements that no compiler has joined so far.
const TERMINAL: [&str; 6] =
    ["CLICOLOR", "CLICOLOR_FORCE", "COLORTERM", "COLUMNS", "NO_COLOR", "TERM"];
/// Where clang's library finds what a terminal can; its value then is the description itself.
pub const TERMINFO: &str = "TERMINFO";
/// How a value begins that is a description and not a folder.
pub const TERMINFO_INSIDE: [&str; 2] = ["hex:", "b64:"];

/// Variables that make the compiler write elsewhere, read elsewhere or run another command.
const STAY: [&str; 17] = [
    "CCC_ADD_ARGS",
    "CCC_OVERRIDE_OPTIONS",
    "CC_LOG_DIAGNOSTICS",
    "CC_LOG_DIAGNOSTICS_FILE",
    "CLANG_MODULE_CACHE_PATH",
    "CLANG_NO_DEFAULT_CONFIG",
    "COLLECT_GCC_OPTIONS",
    "DEPENDENCIES_OUTPUT",
    "EXPERIMENTAL_SARIF_SOCKET",
    "FORCE_CLANG_DIAGNOSTICS_CRASH",
    "GCC_COMPARE_DEBUG",
    "OFFLOAD_TARGET_NAMES",
    "QA_OVERRIDE_GCC3_OPTIONS",
    "RC_DEBUG_OPTIONS",
    "RC_DEBUG_PREFIX_MAP",
    "SDKROOT",
    "SUNPRO_DEPENDENCIES",
];

/// Families of names that make clang print or write its own records.
const STAY_PREFIXES: [&str; 3] = ["CCC_PRINT_", "CC_PRINT_", "CLANG_CONFIG_"];

/// Whether a variable of this name may be in a remote compiler's environment.
pub(super) fn travels(name: &str) -> bool {
    TRAVEL.contains(&name)
}

/// Whether a variable of this name and value may be there when messages are for a terminal.
pub(super) fn travels_for_terminal(name: &str, value: &str) -> bool {
    TERMINAL.contains(&name)
        || (name == TERMINFO && TERMINFO_INSIDE.iter().any(|start| value.starts_with(start)))
}

/// What travels besides [`remote_environment`] when messages are for a terminal; `None` when that is
/// no text. [`TERMINFO`] is not in it.
pub fn terminal_environment(
    environment: &BTreeMap<OsString, OsString>,
) -> Option<BTreeMap<String, String>> {
    let set = |name: &str| Some((name.to_owned(), environment.get(OsStr::new(name))?));
    let pairs = TERMINAL.iter().filter_map(|name| set(name));
    pairs.map(|(name, value)| Some((name, value.to_str()?.to_owned()))).collect()
}

/// What the remote compiler sees of `environment`; the caller adds `PATH` and `PWD`.
///
/// # Errors
/// [`LocalReason::Environment`] naming a variable, set even if empty, that only works here.
pub fn remote_environment(
    environment: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, LocalReason> {
    let stays = |name: &str| {
        STAY.contains(&name) || STAY_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    };
    if let Some(name) = environment.keys().find(|name| stays(name)) {
        return Err(LocalReason::Environment(name.clone()));
    }
    Ok(environment
        .iter()
        .filter(|(name, _)| travels(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn only_what_changes_the_compile_travels() {
        let full = [
            ("CPATH", ":/x"),
            ("LC_ALL", ""),
            ("HOME", "/h"),
            ("LD_PRELOAD", "x.so"),
            ("PATH", "/b"),
        ];
        let travels = remote_environment(&environment(&full)).unwrap();
        assert_eq!(travels, environment(&[("CPATH", ":/x"), ("LC_ALL", "")]));
    }

    #[test]
    fn what_redirects_outputs_stays() {
        for name in ["DEPENDENCIES_OUTPUT", "CC_PRINT_HEADERS", "CCC_OVERRIDE_OPTIONS"] {
            let reason = remote_environment(&environment(&[("LANG", "C"), (name, "")]));
            assert_eq!(reason, Err(LocalReason::Environment(name.into())));
        }
    }
}
