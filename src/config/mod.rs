//! The only reader of settings: files first, then `JETCC_…` variables over them.
//!
//! Called by `main` and the short commands. Promises: an unknown key is an error that names the
//! nearest known one, and every key has a variable.
//!
//! Reading order: [`environment`], [`file`], [`client`], [`scheduler`], [`worker`].

pub mod client;
pub mod environment;
pub mod file;
pub mod scheduler;
pub mod worker;

pub use client::client;
pub use environment::Environment;
pub use file::ConfigError;
pub use scheduler::scheduler;
pub use worker::{WorkerConfig, worker};

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::client::CLIENT;
    use super::scheduler::SCHEDULER;
    use super::worker::WORKER;
    use super::*;
    use crate::client::Settings as ClientSettings;
    use crate::worker::Settings as WorkerSettings;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment(variables.iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn variables_go_over_the_file() {
        let file = file("[dist]\nscheduler_url = \"nats://a\"\n");
        let environment = environment(&[
            ("JETCC_CONF", file.path().to_str().unwrap()),
            ("JETCC_DIST_SCHEDULER_URL", "nats://b"),
            ("JETCC_IDLE_TIMEOUT", "0"),
        ]);
        let settings = client(&environment).unwrap();
        assert_eq!(settings.dist.scheduler_url.as_deref(), Some("nats://b"));
        assert_eq!(settings.idle_timeout_seconds, Some(0));
    }

    #[test]
    fn a_slip_names_the_nearest_key() {
        let file = file("[dist]\nscheduler_ulr = \"x\"\n");
        let environment = environment(&[("JETCC_CONF", file.path().to_str().unwrap())]);
        let error = client(&environment).unwrap_err().to_string();
        assert!(error.contains("did you mean `scheduler_url`?"), "{error}");
    }

    #[test]
    fn errors_show_no_values() {
        for text in [
            "[dist.auth]\ntype = \"token\"\ntoken = \"h7secret\nx = 1\n",
            "[dist.auth]\ntype = \"token\"\ntoken = h7secret\n",
            "[dist]\nauth = \"h7secret\"\n",
            "dist = \"h7secret\"\n",
            "[dist.auth]\ntype = \"token\"\ntoken = [\"h7secret\"]\n",
            "[dist]\nqueue_wait_seconds_max = \"h7secret\"\n",
            "[dist]\nscheduler_url = \"nats://user:h7secret@host\"\n",
        ] {
            let file = file(text);
            let environment = environment(&[("JETCC_CONF", file.path().to_str().unwrap())]);
            let error = client(&environment).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("h7secret"), "{shown}");
        }
    }

    #[test]
    fn a_worker_has_the_seeds_sections() {
        let file = file(
            "nats_url = \"nats://a\"\nworker_id = \"w1\"\ncache_dir = \"/c\"\n\
             [scheduler_auth]\ntype = \"jwt_token\"\ntoken = \"t\"\n\
             [builder]\ntype = \"bubblewrap\"\nbuild_dir = \"/b\"\nbwrap_path = \"/bin/bwrap\"\n",
        );
        let config = worker(file.path(), &environment(&[("JETCC_SLOTS", "3")])).unwrap();
        assert_eq!(config.settings.build_dir(), PathBuf::from("/b"));
        assert_eq!(config.settings.slots, Some(3));
        assert_eq!(config.worker.as_str(), "w1");
        assert!(!format!("{config:?}").contains("\"t\""));
    }

    #[test]
    fn a_variable_for_one_table_does_not_fit_several() {
        let ways = "[[client_auth]]\ntype = 'token'\ntoken = 'a'\n";
        let file = file(&format!("nats_url = 'n'\nsecrets_file = 's'\n{ways}{ways}"));
        let environment = environment(&[("JETCC_CLIENT_AUTH_TOKEN", "hidden")]);
        let error = scheduler(file.path(), &environment).unwrap_err().to_string();
        assert!(error.contains("`client_auth.token`") && !error.contains("hidden"), "{error}");
    }

    /// The samples are the reference of all keys: they say every variable, and every default.
    #[test]
    fn the_samples_parse_and_name_every_variable() {
        let samples = [
            (CLIENT, include_str!("../../deploy/client.toml")),
            (SCHEDULER, include_str!("../../deploy/scheduler.toml")),
            (WORKER, include_str!("../../deploy/worker.toml")),
        ];
        for (overrides, sample) in samples {
            for (name, key, _) in overrides {
                let key = key.rsplit('.').next().unwrap();
                let explained =
                    sample.lines().any(|line| line.contains(key) && line.ends_with(name));
                assert!(explained, "`{key}` with `{name}` is not in the sample");
            }
        }
        let [client_file, scheduler_file, worker_file] = samples.map(|(_, sample)| file(sample));
        let with = |name, file: &tempfile::NamedTempFile| {
            environment(&[(name, file.path().to_str().unwrap())])
        };

        let settings = client(&with("JETCC_CONF", &client_file)).unwrap();
        assert_eq!(
            (settings.idle_timeout_seconds, settings.dist.queue_wait_seconds_max),
            (
                Some(ClientSettings::IDLE_TIMEOUT_SECONDS),
                Some(ClientSettings::QUEUE_WAIT_SECONDS_MAX)
            )
        );
        let secrets = file(
            "scheduler_password = \"a\"\nauth_password = \"b\"\nsystem_password = \"e\"\ncallout_seed = \"c\"\nproof_key = \"d\"\n",
        );
        scheduler(scheduler_file.path(), &with("JETCC_SECRETS_FILE", &secrets)).unwrap();
        let settings = worker(worker_file.path(), &Environment::default()).unwrap().settings;
        assert_eq!(settings, WorkerSettings::default());
    }

    #[test]
    fn certificates_are_seen_from_the_settings_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("worker.toml");
        let text = |tls: &str| {
            format!(
                "nats_url = \"tls://a\"\nworker_id = \"w\"\n\
                 [scheduler_auth]\ntype = \"jwt_token\"\ntoken = \"t\"\n[tls]\n{tls}\n"
            )
        };
        let signed = rcgen::generate_simple_self_signed(["nats.example".to_owned()]).unwrap();
        std::fs::write(folder.path().join("ca.pem"), signed.cert.pem()).unwrap();
        std::fs::write(&path, text("ca_file = \"ca.pem\"")).unwrap();
        let config = worker(&path, &Environment::default()).unwrap();
        assert_eq!(config.tls.ca_file, Some(folder.path().join("ca.pem")));
        for (slip, told) in [
            ("ca_file = \"missing.pem\"", "missing.pem"),
            ("ca_file = \"worker.toml\"", "certificates"),
            ("cert_file = \"ca.pem\"", "wanted both or neither"),
            ("ca_files = \"ca.pem\"", "did you mean `ca_file`?"),
            ("[store]\nurl = \"s3://b\"\nca_file = \"missing.pem\"", "missing.pem"),
            ("[store]\nurl = \"s3://b\"\nca_file = \"worker.toml\"", "certificates"),
        ] {
            std::fs::write(&path, text(slip)).unwrap();
            let error = worker(&path, &Environment::default()).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
        std::fs::write(&path, text("[store]\nurl = \"s3://b\"\nca_file = \"ca.pem\"")).unwrap();
        let config = worker(&path, &Environment::default()).unwrap();
        assert_eq!(config.store.ca_file, Some(folder.path().join("ca.pem")));
    }
}
