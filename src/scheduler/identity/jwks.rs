//! An issuer's public keys (RFC 7517): which are of use here, and which one signed a token. Pure.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use serde::Deserialize;
use serde_json::Value;

use super::shown::quoted;

/// Most keys of one issuer that are looked at.
pub const KEYS_MAX: usize = 64;
/// Bytes of an RSA key's modulus: 2048 to 4096 bits.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=512;

/// A signature that is taken. Which one checks a token is decided by the key, never by the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// ECDSA with P-256 and SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Rs256, Self::Es256, Self::EdDsa];

    /// The name of RFC 7518 and RFC 8037.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    pub(super) fn of_library(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A public key and the one signature it is good for.
#[derive(Clone, Debug)]
pub(super) struct Key {
    id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

/// The keys of an issuer.
#[derive(Clone, Debug, Default)]
pub struct Keys(Vec<Key>);

/// No key for a token.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoKey {
    /// The issuer may have got it since its keys were fetched.
    Unknown(String),
    /// It is not for this signature; newer keys would not help.
    Unfit(String),
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

impl Keys {
    /// Reads a key set; keys of kinds that are of no use here are left out.
    ///
    /// # Errors
    /// When it is no key set, or has no key for a signature that is taken.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let set: KeySet =
            serde_json::from_slice(bytes).map_err(|_| "it is no key set".to_owned())?;
        let keys: Vec<Key> = set.keys.into_iter().take(KEYS_MAX).filter_map(read_key).collect();
        match keys.is_empty() {
            true => Err("it has no key for RS256, ES256 or EdDSA".into()),
            false => Ok(Self(keys)),
        }
    }

    /// How many there are: 1 to [`KEYS_MAX`].
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The key that a token names. A token may leave the name out when there is one key only that
    /// fits.
    ///
    /// # Errors
    /// [`NoKey`].
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<&Key, NoKey> {
        let named = self.0.iter().filter(|key| id.is_none() || key.id.as_deref() == id);
        let mut fit = named.clone().filter(|key| key.algorithm == algorithm);
        match (fit.next(), fit.next(), id) {
            (Some(key), None, _) => Ok(key),
            (Some(_), Some(_), None) => Err(NoKey::Unfit(
                "it names no key, and the issuer has several that would fit".into(),
            )),
            (Some(_), Some(_), Some(id)) => {
                Err(NoKey::Unfit(format!("the issuer has several keys {}", quoted(id))))
            }
            (None, _, Some(id)) if named.count() > 0 => {
                Err(NoKey::Unfit(format!("the key {} is not for {algorithm}", quoted(id))))
            }
            (None, _, Some(id)) => {
                Err(NoKey::Unknown(format!("the issuer has no key {}", quoted(id))))
            }
            (None, _, None) => {
                Err(NoKey::Unknown(format!("the issuer has no key for {algorithm}")))
            }
        }
    }
}

fn read_key(value: Value) -> Option<Key> {
    let said = value.get("alg").and_then(Value::as_str).map(str::to_owned);
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(rsa) => {
            let modulus = BASE64URL_NOPAD.decode(rsa.n.as_bytes()).ok()?;
            let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
            MODULUS_BYTES.contains(&(modulus.len() - zeros)).then_some(Algorithm::Rs256)
        }
        AlgorithmParameters::EllipticCurve(ec) => {
            let whole = is_coordinate(&ec.x) && is_coordinate(&ec.y);
            (whole && ec.curve == EllipticCurve::P256).then_some(Algorithm::Es256)
        }
        AlgorithmParameters::OctetKeyPair(pair) => {
            let whole = is_coordinate(&pair.x);
            (whole && pair.curve == EllipticCurve::Ed25519).then_some(Algorithm::EdDsa)
        }
        // A shared secret is no public key, wherever it comes from.
        _ => None,
    }?;
    let for_signing = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
    let agrees = said.is_none_or(|said| said == algorithm.as_str());
    if !for_signing || !agrees {
        return None;
    }
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    Some(Key { id: jwk.common.key_id, algorithm, key })
}

/// Both curves have coordinates of 32 bytes. The library does not look before it cuts.
fn is_coordinate(text: &str) -> bool {
    BASE64URL_NOPAD.decode(text.as_bytes()).is_ok_and(|bytes| bytes.len() == 32)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(keys: Value) -> Result<Keys, String> {
        Keys::read(json!({ "keys": keys }).to_string().as_bytes())
    }

    fn rsa(bytes: usize) -> String {
        BASE64URL_NOPAD.encode(&vec![0xff; bytes])
    }

    fn point(bytes: usize) -> String {
        BASE64URL_NOPAD.encode(&vec![1; bytes])
    }

    #[test]
    fn a_key_is_good_for_its_own_signature_alone() {
        let keys = set(json!([
            {"kty": "RSA", "kid": "r", "n": rsa(256), "e": "AQAB"},
            {"kty": "OKP", "crv": "Ed25519", "kid": "e", "alg": "EdDSA", "use": "sig", "x": point(32)},
        ]))
        .unwrap();
        assert_eq!(keys.find(Some("r"), Algorithm::Rs256).unwrap().algorithm, Algorithm::Rs256);
        assert!(keys.find(None, Algorithm::EdDsa).is_ok());
        assert!(matches!(keys.find(Some("r"), Algorithm::EdDsa), Err(NoKey::Unfit(_))));
        assert!(matches!(keys.find(Some("x"), Algorithm::Rs256), Err(NoKey::Unknown(_))));
        assert!(matches!(keys.find(None, Algorithm::Es256), Err(NoKey::Unknown(_))));
    }

    #[test]
    fn keys_that_could_be_mistaken_are_left_out() {
        for key in [
            json!({"kty": "oct", "kid": "k", "k": "c2VjcmV0"}),
            json!({"kty": "oct", "kid": "k", "alg": "RS256", "k": "c2VjcmV0"}),
            json!({"kty": "RSA", "kid": "k", "n": rsa(128), "e": "AQAB"}),
            json!({"kty": "RSA", "kid": "k", "n": rsa(1_024), "e": "AQAB"}),
            json!({"kty": "RSA", "kid": "k", "n": rsa(256), "e": "AQAB", "use": "enc"}),
            json!({"kty": "RSA", "kid": "k", "n": rsa(256), "e": "AQAB", "alg": "HS256"}),
            json!({"kty": "RSA", "kid": "k", "n": rsa(256), "e": "AQAB", "alg": "ES256"}),
            json!({"kty": "EC", "crv": "P-384", "kid": "k", "x": point(48), "y": point(48)}),
            json!({"kty": "EC", "crv": "P-256", "kid": "k", "x": point(32), "y": point(31)}),
            json!({"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": point(31)}),
            json!({"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": ""}),
            json!({"kty": "OKP", "crv": "X25519", "kid": "k", "x": point(32)}),
            json!({"kty": "new", "kid": "k"}),
            json!("key"),
            json!(null),
        ] {
            assert!(set(json!([key])).is_err(), "{key}");
        }
        assert!(Keys::read(b"").is_err() && Keys::read(b"{}").is_err());
    }

    #[test]
    fn two_keys_of_one_name_are_none() {
        let key = json!({"kty": "RSA", "kid": "k", "n": rsa(256), "e": "AQAB"});
        let keys = set(json!([key, key])).unwrap();
        assert!(matches!(keys.find(Some("k"), Algorithm::Rs256), Err(NoKey::Unfit(_))));
        assert!(matches!(keys.find(None, Algorithm::Rs256), Err(NoKey::Unfit(_))));
    }
}
