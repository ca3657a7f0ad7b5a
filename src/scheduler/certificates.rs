//! Mutual TLS: a worker that was let in by its token must also have shown the certificate of its name.

use super::settings::Settings;
use crate::queue::callout::{Admission, Caller};
use crate::queue::permissions::WORKER_ACCOUNT;
use crate::queue::tls::worker_name;

/// Lets `admission` pass unless it is a worker's and the settings want a certificate that is not
/// there; the text of a refusal is for the operator.
///
/// # Errors
/// What the caller should have shown.
pub fn check(
    admission: Admission,
    caller: &Caller,
    settings: &Settings,
) -> Result<Admission, String> {
    if !settings.require_worker_certificate || admission.account != WORKER_ACCOUNT {
        return Ok(admission);
    }
    let wanted = worker_name(&admission.name);
    match &caller.certificate {
        Some(certificate) if certificate.is_for(&wanted) => Ok(admission),
        Some(_) => Err(format!("its certificate is not for `{wanted}`")),
        None => Err(format!(
            "it showed no certificate: wanted one for `{wanted}`\nhint: nats-server asks for certificates with `verify: true` in its `tls` block"
        )),
    }
}
