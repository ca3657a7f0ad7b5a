//! Which variables of the user's environment travel with a compile.
//!
//! Names from the manuals "Environment Variables Affecting GCC" and "Controlling Language-Specific
//! Output", and from clang's driver sources (`Driver.cpp`, `driver.cpp`, `CompilerInstance.cpp`).

use std::collections::BTreeMap;

use crate::job::LocalReason;

/// Variables that change an output or a message. An empty search path counts as absent for both
/// compilers, and an empty part of one means the working directory, so values travel unchanged.
const TRAVEL: [&str; 19] = [
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
];

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
