//! From a URL and options to the backend that holds the blobs.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, RetryConfig};
use serde::Deserialize;
use url::Url;

use super::https::{CaFileError, authorities, client_options};

/// Where the blobs are: a URL and what the backend needs to know besides.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSettings {
    /// `nats:`, `file:///folder`, `s3://bucket/prefix`, `gs://bucket/prefix` or
    /// `az://container/prefix`.
    pub url: String,
    /// Options by the names that `object_store` gives them, for example `endpoint`, `region`,
    /// `access_key_id`, `secret_access_key`, `allow_http`, `virtual_hosted_style_request`.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// PEM file of authorities that may vouch for an object store, besides the system's.
    pub ca_file: Option<PathBuf>,
}

impl Default for StoreSettings {
    /// The blobs are in the NATS server that is there anyway.
    fn default() -> Self {
        Self { url: "nats:".into(), options: BTreeMap::new(), ca_file: None }
    }
}

impl StoreSettings {
    /// Whether the blobs are in the NATS server.
    pub fn is_nats(&self) -> bool {
        self.url.starts_with("nats:")
    }

    /// The URL for people: without a user and password in it.
    pub fn place(&self) -> String {
        without_user(&self.url)
    }

    /// The settings as seen from `folder`, in which the settings file is; the authorities were read.
    ///
    /// # Errors
    /// [`CaFileError`] when their file is missing or holds something else.
    pub fn seen_from(mut self, folder: &std::path::Path) -> Result<Self, CaFileError> {
        self.ca_file = self.ca_file.map(|file| folder.join(file));
        self.ca_file.as_deref().map(authorities).transpose()?;
        Ok(self)
    }
}

impl fmt::Debug for StoreSettings {
    /// Shows which options are set, never their values: half of them are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreSettings")
            .field("url", &self.place())
            .field("options", &self.options.keys())
            .field("ca_file", &self.ca_file)
            .finish()
    }
}

/// Why a backend could not be opened: always something to correct in the settings.
#[derive(Debug, thiserror::Error)]
pub enum StoreSettingsError {
    /// No such backend.
    #[error(
        "`{0}` is no blob store\nhint: use `nats:`, `file:///folder`, `s3://bucket/prefix`, \
         `gs://bucket/prefix` or `az://container/prefix`"
    )]
    Url(String),
    /// `nats:` where there is no connection to one.
    #[error("`nats:` needs a connection to a NATS server, and there is none")]
    NoNats,
    /// An option that the backend does not know.
    #[error("`{name}` means nothing to a `{scheme}:` blob store")]
    Option {
        /// The option, or another key.
        name: String,
        /// Scheme of the URL.
        scheme: String,
    },
    /// The folder of a `file:` store cannot be made.
    #[error("folder `{}` of the blob store cannot be made: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The authorities of an object store cannot be read.
    #[error(transparent)]
    CaFile(#[from] CaFileError),
    /// The backend refuses URL and options together.
    #[error("blob store `{url}` cannot be opened: {source}")]
    Backend {
        /// The URL.
        url: String,
        /// The backend's answer.
        source: object_store::Error,
    },
}

/// Opens the backend that `settings` name; `nats` is the one for `nats:`, if there is one.
///
/// Nothing is sent yet. The HTTP backends do not retry: [`super::Blobs`] does, for all alike.
///
/// # Errors
/// [`StoreSettingsError`], whose texts are for whoever wrote the settings.
pub fn open_backend(
    settings: &StoreSettings,
    nats: Option<Arc<dyn ObjectStore>>,
) -> Result<Arc<dyn ObjectStore>, StoreSettingsError> {
    let unknown = || StoreSettingsError::Url(without_user(&settings.url));
    let url = Url::parse(&settings.url).map_err(|_| unknown())?;
    let refused = |source| StoreSettingsError::Backend { url: without_user(&settings.url), source };
    let ca_file = settings.ca_file.as_deref();
    match url.scheme() {
        "nats" => {
            no_options(settings, "nats")?;
            nats.ok_or(StoreSettingsError::NoNats)
        }
        "file" => {
            no_options(settings, "file")?;
            let path = url.to_file_path().map_err(|()| unknown())?;
            std::fs::create_dir_all(&path)
                .map_err(|source| StoreSettingsError::Folder { path, source })?;
            below(LocalFileSystem::new(), &url).map_err(refused)
        }
        "s3" => {
            choose_cryptography();
            let mut builder = AmazonS3Builder::new()
                .with_url(settings.url.as_str())
                .with_retry(no_retries())
                .with_client_options(client_options(ca_file)?);
            for (name, value) in &settings.options {
                builder = builder.with_config(option::<AmazonS3ConfigKey>(name, "s3")?, value);
            }
            below(builder.build().map_err(refused)?, &url).map_err(refused)
        }
        "gs" => {
            choose_cryptography();
            let mut builder = GoogleCloudStorageBuilder::new()
                .with_url(settings.url.as_str())
                .with_retry(no_retries())
                .with_client_options(client_options(ca_file)?);
            for (name, value) in &settings.options {
                builder = builder.with_config(option::<GoogleConfigKey>(name, "gs")?, value);
            }
            below(builder.build().map_err(refused)?, &url).map_err(refused)
        }
        "az" => {
            choose_cryptography();
            let mut builder = MicrosoftAzureBuilder::new()
                .with_url(settings.url.as_str())
                .with_retry(no_retries())
                .with_client_options(client_options(ca_file)?);
            for (name, value) in &settings.options {
                builder = builder.with_config(option::<AzureConfigKey>(name, "az")?, value);
            }
            below(builder.build().map_err(refused)?, &url).map_err(refused)
        }
        _ => Err(unknown()),
    }
}

/// The part of `store` below the URL's path.
fn below(store: impl ObjectStore, url: &Url) -> object_store::Result<Arc<dyn ObjectStore>> {
    let prefix = Path::from_url_path(url.path())?;
    Ok(Arc::new(PrefixStore::new(store, prefix)))
}

fn option<K: std::str::FromStr>(name: &str, scheme: &str) -> Result<K, StoreSettingsError> {
    name.to_ascii_lowercase()
        .parse()
        .map_err(|_| StoreSettingsError::Option { name: name.into(), scheme: scheme.into() })
}

fn no_options(settings: &StoreSettings, scheme: &str) -> Result<(), StoreSettingsError> {
    let ca_file = settings.ca_file.as_ref().map(|_| "ca_file");
    match settings.options.keys().map(String::as_str).next().or(ca_file) {
        None => Ok(()),
        Some(name) => Err(StoreSettingsError::Option { name: name.into(), scheme: scheme.into() }),
    }
}

fn no_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

/// TLS by ring, as for NATS; without a choice the HTTP client refuses to start.
fn choose_cryptography() {
    // Somebody else's choice is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The URL as it may be shown.
fn without_user(url: &str) -> String {
    match url.split_once('@') {
        None => url.to_owned(),
        Some((before, rest)) => {
            let scheme = before.split_once("//").map_or("", |(scheme, _)| scheme);
            format!("{scheme}//…@{rest}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str, options: &[(&str, &str)]) -> StoreSettings {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        StoreSettings { url: url.into(), options, ca_file: None }
    }

    #[test]
    fn every_scheme_opens() {
        let folder = tempfile::tempdir().unwrap();
        let file = format!("file://{}/made", folder.path().display());
        open_backend(&settings(&file, &[]), None).unwrap();
        assert!(folder.path().join("made").is_dir());
        for (url, options) in [
            ("s3://bucket/some/prefix", vec![("endpoint", "http://[::1]:9"), ("region", "r")]),
            ("gs://bucket", vec![("skip_signature", "true")]),
            ("az://container/prefix", vec![("account_name", "a")]),
        ] {
            open_backend(&settings(url, &options), None).unwrap();
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (url, options, wanted) in [
            ("ftp://host/x", vec![], "`ftp://host/x` is no blob store"),
            ("ftp://me:secret@host/x", vec![], "`ftp://…@host/x` is no blob store"),
            ("bucket", vec![], "`bucket` is no blob store"),
            ("nats:", vec![], "there is none"),
            ("s3://bucket", vec![("endpiont", "x")], "`endpiont` means nothing to a `s3:`"),
            ("nats:", vec![("region", "x")], "`region` means nothing to a `nats:`"),
            ("file:///proc/nowhere", vec![], "`/proc/nowhere`"),
        ] {
            let error = open_backend(&settings(url, &options), None).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
        for (url, wanted) in [
            ("nats:", "`ca_file` means nothing to a `nats:`"),
            ("file:///tmp/x", "`ca_file` means nothing to a `file:`"),
            ("s3://bucket", "`ca_file = \"/absent.pem\"`"),
            ("gs://bucket", "`ca_file = \"/absent.pem\"`"),
            ("az://container", "`ca_file = \"/absent.pem\"`"),
        ] {
            let settings =
                StoreSettings { ca_file: Some("/absent.pem".into()), ..settings(url, &[]) };
            let error = open_backend(&settings, None).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!(
            "{:?}",
            settings("s3://me:hush@bucket", &[("secret_access_key", "hush"), ("region", "r")])
        );
        assert!(shown.contains("secret_access_key") && !shown.contains("hush"), "{shown}");
    }
}
