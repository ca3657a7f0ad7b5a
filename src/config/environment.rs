//! What this process was started with: variables, and what follows from them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

/// Variables of this process, captured once.
#[derive(Clone, Debug, Default)]
pub struct Environment(pub(super) BTreeMap<OsString, OsString>);

impl Environment {
    /// What the process was started with.
    pub fn capture() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// The variable `name` as text, if it is set.
    pub fn text(&self, name: &str) -> Option<String> {
        self.0.get(std::ffi::OsStr::new(name)).map(|value| value.to_string_lossy().into_owned())
    }

    fn folder(&self, name: &str) -> Option<PathBuf> {
        let value = self.0.get(std::ffi::OsStr::new(name))?;
        Some(PathBuf::from(value)).filter(|path| path.is_absolute())
    }

    /// All variables.
    pub fn all(&self) -> &BTreeMap<OsString, OsString> {
        &self.0
    }

    /// The first program of this name in `PATH`.
    pub fn find_program(&self, name: &str) -> Option<PathBuf> {
        let path = self.0.get(std::ffi::OsStr::new("PATH"))?;
        std::env::split_paths(path).map(|folder| folder.join(name)).find(|file| {
            fs::metadata(file).is_ok_and(|found| {
                found.is_file()
                    && std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o111 != 0
            })
        })
    }

    /// `$XDG_CACHE_HOME`, else `~/.cache`; for users without a home a folder in `/tmp` that bears
    /// their number.
    pub fn cache_home(&self) -> PathBuf {
        self.folder("XDG_CACHE_HOME")
            .or_else(|| self.folder("HOME").map(|home| home.join(".cache")))
            .unwrap_or_else(|| format!("/tmp/jetcc-{}", rustix::process::geteuid().as_raw()).into())
    }

    /// `$XDG_STATE_HOME`, else `~/.local/state`; nothing for users without a home.
    pub fn state_home(&self) -> Option<PathBuf> {
        self.folder("XDG_STATE_HOME")
            .or_else(|| self.folder("HOME").map(|home| home.join(".local/state")))
    }

    /// How to open a page in this user's browser: `$BROWSER`, else `xdg-open` where there is a
    /// screen.
    pub fn browser(&self) -> Option<String> {
        let set = |name: &str| self.text(name).filter(|value| !value.is_empty());
        set("BROWSER").or_else(|| {
            set("DISPLAY").or_else(|| set("WAYLAND_DISPLAY"))?;
            self.find_program("xdg-open").map(|program| program.display().to_string())
        })
    }

    /// Log filter and log file: `JETCC_LOG`, `JETCC_ERROR_LOG`.
    pub fn log(&self, default: &str) -> (String, Option<PathBuf>) {
        let filter = self.text("JETCC_LOG").unwrap_or_else(|| default.to_owned());
        (filter, self.text("JETCC_ERROR_LOG").map(PathBuf::from))
    }

    /// Where the client's settings are: `JETCC_CONF`, else the usual place.
    pub(super) fn client_file(&self) -> Option<PathBuf> {
        self.text("JETCC_CONF").map(PathBuf::from).or_else(|| {
            let config = self
                .folder("XDG_CONFIG_HOME")
                .or_else(|| self.folder("HOME").map(|home| home.join(".config")))?;
            Some(config.join("jetcc/config.toml")).filter(|file| file.exists())
        })
    }
}

impl From<BTreeMap<OsString, OsString>> for Environment {
    fn from(variables: BTreeMap<OsString, OsString>) -> Self {
        Self(variables)
    }
}
