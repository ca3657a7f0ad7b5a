//! What a caller shows: read once, without believing it, so that it is given only to whom it is for.

use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use serde_json::Value;

use crate::queue::Secret;

/// Longest token or password, in bytes. It travels in one line of NATS, whose limit is set to more
/// (`max_control_line`).
pub const TOKEN_BYTES_MAX: usize = 8 << 10;
/// Longest header of a JWT, in bytes.
const HEADER_BYTES_MAX: usize = 2 << 10;
/// Most characters of foreign text that a refusal repeats.
const QUOTED_CHARS_MAX: usize = 80;

/// A password, and what it says if it is a JWT.
pub(super) struct Shown<'a> {
    pub(super) secret: &'a Secret,
    pub(super) jwt: Option<Unchecked>,
}

/// What a JWT says before anything of it was checked: good for choosing who checks it.
pub(super) struct Unchecked {
    /// The signature's algorithm.
    pub(super) algorithm: String,
    /// Which key signed.
    pub(super) key_id: Option<String>,
    /// Who made it.
    pub(super) issuer: Option<String>,
    /// What its bearer wants to be.
    pub(super) role: Option<String>,
    /// Whether it wants something to be understood that we do not know.
    demands: bool,
}

/// Fields that name or bring keys (`jku`, `x5u`, `jwk`, `x5c`) are not even read.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

/// Others' claims of these names may be anything.
#[derive(Deserialize)]
struct Body {
    iss: Option<Value>,
    role: Option<Value>,
}

impl Unchecked {
    /// # Errors
    /// When the token may be taken only by who understands more than we do (RFC 7515, 4.1.11).
    pub(super) fn demands_nothing(&self) -> Result<(), String> {
        match self.demands {
            true => Err("it has `crit` in its header, which nothing here understands".into()),
            false => Ok(()),
        }
    }
}

impl<'a> Shown<'a> {
    /// Reads a password.
    ///
    /// # Errors
    /// When there is none, or it is too long to be looked at.
    pub(super) fn read(secret: &'a Secret) -> Result<Self, String> {
        match secret.reveal().len() {
            0 => Err("no token was shown".into()),
            1..=TOKEN_BYTES_MAX => Ok(Self { secret, jwt: read_jwt(secret.reveal()) }),
            long => Err(format!("token has {long} bytes, wanted at most {TOKEN_BYTES_MAX}")),
        }
    }

    /// The JWT, if it is one and says that it comes from `issuer`.
    pub(super) fn jwt_of(&self, issuer: &str) -> Option<&Unchecked> {
        self.jwt.as_ref().filter(|jwt| jwt.issuer.as_deref() == Some(issuer))
    }

    /// What kind of token it is, for refusals.
    pub(super) fn kind(&self) -> String {
        match &self.jwt {
            None => "a token that is no JWT".into(),
            Some(Unchecked { algorithm, issuer: None, .. }) => {
                format!("a JWT with {} and no issuer", quoted(algorithm))
            }
            Some(Unchecked { issuer: Some(issuer), .. }) => {
                format!("a JWT of the issuer {}", quoted(issuer))
            }
        }
    }
}

fn read_jwt(text: &str) -> Option<Unchecked> {
    let mut parts = text.split('.');
    let (header, body, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || header.len() > HEADER_BYTES_MAX {
        return None;
    }
    let text = |value: Option<Value>| value.as_ref().and_then(Value::as_str).map(str::to_owned);
    let decode = |part: &str| BASE64URL_NOPAD.decode(part.as_bytes()).ok();
    let header: Header = serde_json::from_slice(&decode(header)?).ok()?;
    let body: Body = serde_json::from_slice(&decode(body)?).ok()?;
    Some(Unchecked {
        algorithm: header.alg,
        key_id: header.kid,
        issuer: text(body.iss),
        role: text(body.role),
        demands: header.crit.is_some(),
    })
}

/// Foreign text as a log may hold it: short, in backticks, nothing that moves a cursor.
pub(super) fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(QUOTED_CHARS_MAX).collect();
    let more = if shown.len() < text.len() { "…" } else { "" };
    format!("`{}{more}`", shown.escape_debug().to_string().replace('`', "'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_three_parts_of_json_are_a_jwt() {
        let part = |json: &str| BASE64URL_NOPAD.encode(json.as_bytes());
        let (header, body) = (part(r#"{"alg":"RS256","kid":"1"}"#), part(r#"{"iss":"i"}"#));
        let jwt = read_jwt(&format!("{header}.{body}.")).unwrap();
        assert_eq!((jwt.algorithm.as_str(), jwt.issuer.as_deref()), ("RS256", Some("i")));
        let odd = read_jwt(&format!("{header}.{}.", part(r#"{"iss":["i"],"role":["worker"]}"#)));
        assert!(odd.is_some_and(|odd| odd.issuer.is_none() && odd.role.is_none()));
        let long = part(&format!(r#"{{"alg":"RS256","x":"{}"}}"#, "x".repeat(HEADER_BYTES_MAX)));
        for junk in [
            String::new(),
            "no.token.at-all".into(),
            format!("{header}.{body}"),
            format!("{header}.{body}.a.b"),
            format!("{header}.{}.", part("[]")),
            format!("{}.{body}.", part(r#"{"alg":1}"#)),
            format!("{}.{body}.", part(&"[".repeat(1_000))),
            format!("{long}.{body}."),
        ] {
            assert!(read_jwt(&junk).is_none(), "{junk}");
        }
    }

    #[test]
    fn a_token_has_a_size() {
        assert!(Shown::read(&Secret::new("")).is_err());
        assert!(Shown::read(&Secret::new(&"x".repeat(TOKEN_BYTES_MAX))).is_ok());
        assert!(Shown::read(&Secret::new(&"x".repeat(TOKEN_BYTES_MAX + 1))).is_err());
    }

    #[test]
    fn foreign_text_stays_on_its_line() {
        assert_eq!(quoted("a`b\n\u{1b}[31m"), "`a'b\\n\\u{1b}[31m`");
        assert_eq!(quoted(&"ä".repeat(200)), format!("`{}…`", "ä".repeat(80)));
    }
}
