//! Which variables of the user's environment travel with a crate.
//!
//! Any variable may be read by `env!`. Cargo's own travel, less those that hold or may hold secrets;
//! of the others the compiler says afterwards which ones it was asked for ([`super::dep_info`]).

use std::collections::{BTreeMap, BTreeSet};

use crate::job::LocalReason;

/// Variables of cargo that speak of the crate. From "Environment variables Cargo sets for crates".
const CARGO: [&str; 10] = [
    "CARGO",
    "CARGO_BIN_NAME",
    "CARGO_CRATE_NAME",
    // Without one of these cargo does not start, which macros may ask.
    "CARGO_HOME",
    "HOME",
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_LINKS",
    "CARGO_MANIFEST_PATH",
    "CARGO_PRIMARY_PACKAGE",
    "CARGO_TARGET_TMPDIR",
];
/// Families of such variables.
const CARGO_FAMILIES: [&str; 3] = ["CARGO_BIN_EXE_", "CARGO_CFG_", "CARGO_PKG_"];
/// Others that change what a crate becomes; for platforms of Apple, the oldest system that it is for.
const OTHERS: [&str; 12] = [
    "CLIPPY_ARGS",
    "CLIPPY_CONF_DIR",
    "CLIPPY_DISABLE_DOCS_LINKS",
    "IPHONEOS_DEPLOYMENT_TARGET",
    "MACOSX_DEPLOYMENT_TARGET",
    "OUT_DIR",
    "RUSTC_BOOTSTRAP",
    "RUSTC_FORCE_RUSTC_VERSION",
    "RUST_MIN_STACK",
    "TVOS_DEPLOYMENT_TARGET",
    "WATCHOS_DEPLOYMENT_TARGET",
    "XROS_DEPLOYMENT_TARGET",
];
/// Variables that make the compiler read or write elsewhere.
const STAY: [&str; 5] =
    ["RUSTC_LOG", "RUSTC_LOG_COLOR", "RUST_TARGET_PATH", "SYSROOT", "RUSTC_ICE"];
/// Variables that change what the linker of the system finds.
const STAY_LINKED: [&str; 7] = [
    "COLLECT_GCC_OPTIONS",
    "COMPILER_PATH",
    "GCC_EXEC_PREFIX",
    "LDEMULATION",
    "LD_RUN_PATH",
    "LIBRARY_PATH",
    "LINK_SELF_CONTAINED",
];
/// Parts of names whose values nobody but their owner should see.
const SECRETS: [&str; 6] = ["TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "PRIVATE_KEY"];
/// What build scripts say to have a variable set for their crate.
const SET: [&str; 2] = ["cargo:rustc-env=", "cargo::rustc-env="];

/// Whether a variable of this name may hold a secret.
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    SECRETS.iter().any(|part| name.contains(part))
}

/// Whether a variable of this name always travels.
pub fn travels(name: &str) -> bool {
    let is_known = CARGO.contains(&name)
        || OTHERS.contains(&name)
        || CARGO_FAMILIES.iter().any(|family| name.starts_with(family));
    is_known && !is_secret(name)
}

/// What the remote compiler sees of `environment`: besides what always travels, `named`.
///
/// # Errors
/// [`LocalReason::Environment`] naming a variable that only works here, or that is wanted and may
/// hold a secret.
pub fn remote_environment(
    environment: &BTreeMap<String, String>,
    named: &BTreeSet<String>,
    links: bool,
) -> Result<BTreeMap<String, String>, LocalReason> {
    let is_set = |name: &&&str| environment.contains_key(**name);
    let linked = STAY_LINKED.iter().filter(|_| links);
    if let Some(name) = STAY.iter().chain(linked).find(is_set) {
        return Err(LocalReason::Environment((*name).to_owned()));
    }
    if let Some(name) = named.iter().find(|name| environment.contains_key(*name) && is_secret(name))
    {
        return Err(LocalReason::Environment(name.clone()));
    }
    let goes = |(name, _): &(&String, &String)| travels(name) || named.contains(*name);
    Ok(environment.iter().filter(goes).map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// The variables that a build script has set for its crate, as its standard output says.
pub fn set_by_script(output: &str) -> BTreeSet<String> {
    let setting = |line: &str| {
        let setting = SET.iter().find_map(|start| line.strip_prefix(start))?;
        setting.split_once('=').map(|(name, _)| name.trim().to_owned())
    };
    output.lines().filter_map(setting).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_variables_travel_and_secrets_do_not() {
        let environment: BTreeMap<String, String> = [
            "CARGO_PKG_NAME",
            "CARGO_REGISTRY_TOKEN",
            "CARGO_REGISTRIES_X_TOKEN",
            "CARGO_MAKEFLAGS",
            "MACOSX_DEPLOYMENT_TARGET",
            "OUT_DIR",
            "SHELL",
            "WANTED",
        ]
        .map(|name| (name.to_owned(), "x".to_owned()))
        .into();
        let named = BTreeSet::from(["WANTED".to_owned(), "ABSENT".to_owned()]);
        let sent = remote_environment(&environment, &named, true).unwrap();
        let wanted = ["CARGO_PKG_NAME", "MACOSX_DEPLOYMENT_TARGET", "OUT_DIR", "WANTED"];
        assert!(sent.keys().eq(wanted));
        let named = BTreeSet::from(["CARGO_REGISTRY_TOKEN".to_owned()]);
        assert!(remote_environment(&environment, &named, false).is_err());
    }

    #[test]
    fn the_linkers_variables_matter_where_it_runs() {
        let environment = BTreeMap::from([("LIBRARY_PATH".to_owned(), String::new())]);
        let asked = |links| remote_environment(&environment, &BTreeSet::new(), links);
        assert!(asked(true).is_err() && asked(false).is_ok());
    }

    #[test]
    fn build_scripts_name_variables() {
        let output =
            "cargo:rustc-env=A=1\ncargo::rustc-env=B_2=x=y\ncargo:rerun-if-env-changed=C\n";
        assert!(set_by_script(output).iter().eq(["A", "B_2"]));
    }
}
