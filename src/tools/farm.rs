//! `jetcc auth init` and `generate-certificate`: what a new farm's parties talk over, and as whom.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, bail, ensure};

use crate::cli::{CertificateRole, GenerateCertificate, Init};
use crate::job::WorkerId;
use crate::queue::server_config::Place;
use crate::queue::tls::{self, worker_name};
use crate::setup::certificates::{Authority, Purpose, valid_for};
use crate::setup::{self, Shown, Tls, Transport};

/// Writes a new farm; says what was done.
pub(super) fn init(wish: &Init) -> anyhow::Result<String> {
    let out = &wish.out;
    if out.join("secrets.toml").exists() {
        return Ok(format!("`{}` holds a farm already: nothing was changed", out.display()));
    }
    let transport = transport(wish)?;
    setup::write(out, &place(&wish.nats_url, &transport)?, &wish.nats_url, &transport)?;
    if let Some(owner) = &wish.owner {
        let (uid, gid) = owner.split_once(':').context("`--owner` wants UID:GID")?;
        setup::give_to(out, uid.parse()?, gid.parse()?)?;
    }
    let certificates = match transport {
        Transport::Tls(_) => ", and certificates; `ca.key` signs more of them: keep it here",
        Transport::Plain | Transport::PlaintextOverNetwork => "",
    };
    Ok(format!(
        "a new farm is in `{}`: nats-server.conf for the server, scheduler.toml, worker.toml and \
         client.toml for the roles{certificates}",
        out.display()
    ))
}

/// Signs a certificate; says where it is.
pub(super) fn certificate(wish: &GenerateCertificate) -> anyhow::Result<String> {
    let (purpose, names) = match (wish.role, wish.name.as_slice()) {
        (CertificateRole::Server, []) => bail!("name the server's hosts: `--name HOST`"),
        (CertificateRole::Server, hosts) => (Purpose::Serve, hosts.to_vec()),
        (CertificateRole::Worker, [id]) => {
            if id != "*" {
                id.parse::<WorkerId>()?;
            }
            (Purpose::Connect, vec![worker_name(id)])
        }
        (CertificateRole::Worker, _) => bail!("name one worker: `--name ID`"),
        (CertificateRole::Scheduler, []) => (Purpose::Connect, vec!["scheduler.jetcc".into()]),
        (CertificateRole::Client, []) => (Purpose::Connect, vec!["client.jetcc".into()]),
        (_, names) => bail!("`--name {}`: only servers and workers are named", names[0]),
    };
    let valid = valid_for(u64::from(wish.days) * 24 * 3_600);
    let pair = Authority::open(&wish.farm)?.sign(purpose, &names, &valid)?;
    setup::put_pair(&wish.out, &pair)?;
    let out = wish.out.display();
    Ok(format!("a certificate for {} is in `{out}.pem`, its key in `{out}.key`", names.join(", ")))
}

/// How the farm talks, by the address and what was allowed.
fn transport(wish: &Init) -> anyhow::Result<Transport> {
    let servers = tls::addresses(&wish.nats_url)?;
    let encrypted = servers.iter().filter(|server| server.tls_required()).count();
    if encrypted > 0 {
        ensure!(
            encrypted == servers.len(),
            "`{}` has `tls://` and `nats://`: wanted one of them",
            wish.nats_url
        );
        ensure!(
            !wish.allow_plaintext_over_network,
            "`--allow-plaintext-over-network` with `tls://`: wanted one of them"
        );
        let mut hosts: Vec<String> = servers.iter().map(|s| s.host().to_owned()).collect();
        hosts.extend(wish.tls_host.iter().cloned());
        let shown = if wish.mutual_tls { Shown::ByAll } else { Shown::ByServer };
        let server_folder = match &wish.server_folder {
            Some(folder) => folder.clone(),
            None => std::path::absolute(&wish.out)?,
        };
        return Ok(Transport::Tls(Tls { hosts, shown, server_folder }));
    }
    ensure!(
        wish.tls_host.is_empty() && !wish.mutual_tls && wish.server_folder.is_none(),
        "certificates for `{}`: wanted `--nats-url tls://HOST:4222`",
        wish.nats_url
    );
    if wish.allow_plaintext_over_network {
        return Ok(Transport::PlaintextOverNetwork);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    // A name that is unknown here is another machine's.
    if runtime.block_on(tls::is_loopback_only(&wish.nats_url)).unwrap_or(false) {
        return Ok(Transport::Plain);
    }
    bail!(
        "`{}` leads to another machine without encryption: wanted `tls://`\nhint: \
         `--nats-url tls://HOST:4222` makes the certificates too; `--allow-plaintext-over-network` does without",
        wish.nats_url
    )
}

/// Where the server listens: on this machine alone unless others shall reach it.
fn place(nats_url: &str, transport: &Transport) -> anyhow::Result<Place> {
    let server = tls::addresses(nats_url)?.swap_remove(0);
    let address = match transport {
        Transport::Plain => server.host().parse().unwrap_or(Ipv4Addr::LOCALHOST.into()),
        Transport::PlaintextOverNetwork | Transport::Tls(_) => Ipv4Addr::UNSPECIFIED.into(),
    };
    Ok(Place::listening(&SocketAddr::new(address, server.port()).to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn wish(nats_url: &str, options: &[&str]) -> Init {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            init: Init,
        }
        let line = ["init", "--out", "/farm", "--nats-url", nats_url];
        let line: Line = clap::Parser::parse_from(line.iter().chain(options));
        line.init
    }

    #[test]
    fn a_farm_over_a_network_is_encrypted_or_that_is_named() {
        let here = wish("nats://127.0.0.1:4333", &[]);
        assert_eq!(transport(&here).unwrap(), Transport::Plain);
        assert_eq!(place(&here.nats_url, &Transport::Plain).unwrap().listen, "127.0.0.1:4333");

        let away = "nats://192.0.2.1:4222";
        let allowed = transport(&wish(away, &["--allow-plaintext-over-network"])).unwrap();
        assert_eq!(allowed, Transport::PlaintextOverNetwork);
        for (url, options) in [
            (away, &[][..]),
            (away, &["--mutual-tls"]),
            ("nats://127.0.0.1:4222", &["--tls-host", "a"]),
            ("tls://192.0.2.1:4222,nats://127.0.0.1:4222", &[]),
            ("tls://192.0.2.1:4222", &["--allow-plaintext-over-network"]),
        ] {
            assert!(transport(&wish(url, options)).is_err(), "{url} {options:?}");
        }

        let encrypted =
            wish("tls://nats.example:4333", &["--tls-host", "10.0.0.1", "--mutual-tls"]);
        let Transport::Tls(tls) = transport(&encrypted).unwrap() else { panic!("not encrypted") };
        assert_eq!(tls.hosts, ["nats.example", "10.0.0.1"]);
        assert_eq!((tls.shown, tls.server_folder.to_str()), (Shown::ByAll, Some("/farm")));
        let listen = place(&encrypted.nats_url, &Transport::Tls(tls)).unwrap().listen;
        assert_eq!(listen, "0.0.0.0:4333");
    }

    #[test]
    fn a_certificate_is_signed_for_one_worker() {
        let folder = tempfile::tempdir().unwrap();
        let (_, authority) = Authority::make().unwrap();
        fs::write(folder.path().join("ca.key"), authority.key.reveal()).unwrap();
        let mut wish = GenerateCertificate {
            farm: folder.path().into(),
            role: CertificateRole::Worker,
            name: vec!["worker-1".into()],
            days: 1,
            out: folder.path().join("w"),
        };
        certificate(&wish).unwrap();
        let written = fs::read_to_string(folder.path().join("w.pem")).unwrap();
        let written = tls::Certificate::from_pem(&written).unwrap();
        assert!(written.is_for(&worker_name("worker-1")) && !written.is_for(&worker_name("w2")));
        assert!(certificate(&wish).is_err(), "written over");
        wish.name = vec!["a.b".into()];
        assert!(certificate(&wish).is_err());
    }
}
