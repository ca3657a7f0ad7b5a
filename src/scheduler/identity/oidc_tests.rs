//! Tokens of every kind, signed with keys that the tests make: who is let in, who is not.

use std::sync::LazyLock;

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{EncodingKey, Header};
use p256::pkcs8::EncodePrivateKey as _;
use rsa::pkcs1::EncodeRsaPrivateKey as _;
use serde_json::{Value, json};
use sha2::Sha256;

use super::super::jwks::{Algorithm, Keys};
use super::*;

const ISSUER: &str = "https://id.example/";
/// What every private key on this curve begins with in PKCS #8.
const ED25519_PREFIX: [u8; 16] =
    [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// A private key of the issuer.
struct Signer {
    algorithm: Algorithm,
    key: EncodingKey,
}

/// Making an RSA key takes long enough to do it once.
static SIGNERS: LazyLock<[Signer; 3]> = LazyLock::new(|| {
    let rsa = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap();
    let rsa = EncodingKey::from_rsa_der(rsa.to_pkcs1_der().unwrap().as_bytes());
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).unwrap();
    let ec = p256::SecretKey::from_slice(&seed).unwrap().to_pkcs8_der().unwrap();
    let ec = EncodingKey::from_ec_der(ec.as_bytes());
    getrandom::fill(&mut seed).unwrap();
    let ed = EncodingKey::from_ed_der(&[&ED25519_PREFIX[..], &seed].concat());
    [(Algorithm::Rs256, rsa), (Algorithm::Es256, ec), (Algorithm::EdDsa, ed)]
        .map(|(algorithm, key)| Signer { algorithm, key })
});

impl Signer {
    /// The public key as the issuer publishes it, named like its algorithm.
    fn public(&self) -> Value {
        let jwk = Jwk::from_encoding_key(&self.key, self.algorithm.of_library()).unwrap();
        let mut jwk = serde_json::to_value(jwk).unwrap();
        jwk["kid"] = self.algorithm.as_str().into();
        jwk
    }

    fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm.of_library());
        header.kid = Some(self.algorithm.as_str().into());
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }
}

fn published() -> Keys {
    let keys: Vec<Value> = SIGNERS.iter().map(Signer::public).collect();
    Keys::read(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

fn rules(more: &str) -> OidcAuth {
    toml::from_str(&format!("issuer = '{ISSUER}'\naudience = 'farm'\n{more}")).unwrap()
}

fn claims() -> Value {
    let now = unix_seconds();
    json!({
        "iss": ISSUER, "aud": "farm", "sub": "alice", "groups": ["compilers", "people"],
        "iat": now, "nbf": now, "exp": now + 300,
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

/// The whole way of a token, but for the fetching of keys.
fn check(rules: &OidcAuth, token: &str) -> Result<Claimed, String> {
    super::check(rules, &published(), &Secret::new(token), unix_seconds())
}

fn part(json: &Value) -> String {
    BASE64URL_NOPAD.encode(json.to_string().as_bytes())
}

/// A token with any header, signed by HMAC with any bytes as its key.
fn forged(header: &Value, claims: &Value, key: &[u8]) -> String {
    let input = format!("{}.{}", part(header), part(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(input.as_bytes());
    format!("{input}.{}", BASE64URL_NOPAD.encode(&mac.finalize().into_bytes()))
}

#[test]
fn a_token_by_any_of_the_three_signatures_is_taken() {
    let rules = rules("required_groups = ['compilers']");
    for signer in SIGNERS.iter() {
        let claimed = check(&rules, &signer.sign(&claims())).unwrap();
        assert_eq!(claimed.user, Some(crate::job::User::new("alice")));
        let expires = claimed.expires.unwrap();
        assert!((unix_seconds() + 290..=unix_seconds() + 300).contains(&expires));
        let several = with("aud", json!(["other", "farm"]));
        assert!(check(&rules, &signer.sign(&several)).is_ok());
    }
}

#[test]
fn a_token_for_another_or_of_another_time_is_not() {
    let rules = rules("required_groups = ['compilers']\nleeway_seconds = 10");
    let now = unix_seconds();
    for (name, value, why) in [
        ("aud", json!("other"), "InvalidAudience"),
        ("aud", json!(["other"]), "InvalidAudience"),
        ("aud", json!([]), "InvalidAudience"),
        ("aud", json!(null), "aud"),
        ("iss", json!("https://evil.example/"), "not of this issuer"),
        ("iss", json!("https://id.example"), "not of this issuer"),
        ("iss", json!([ISSUER]), "not of this issuer"),
        ("exp", json!(now - 11), "ExpiredSignature"),
        ("exp", json!(null), "exp"),
        ("exp", json!("4000000000"), "exp"),
        ("nbf", json!(now + 60), "ImmatureSignature"),
        ("iat", json!(now + 60), "from now"),
        ("groups", json!(["people"]), "not in the group `compilers`"),
        ("groups", json!(null), "not in the group `compilers`"),
        ("sub", json!(null), "sub"),
    ] {
        for signer in SIGNERS.iter() {
            let found = check(&rules, &signer.sign(&with(name, value.clone()))).unwrap_err();
            assert!(found.contains(why), "{name} {value}: {found}");
        }
    }
    let within = SIGNERS[1].sign(&with("exp", json!(now - 5)));
    assert_eq!(check(&rules, &within).unwrap().expires, Some(now + 5));
}

#[test]
fn the_algorithm_is_ours_and_the_keys_never_the_tokens() {
    let rules = rules("");
    let claims = claims();
    for signer in SIGNERS.iter() {
        let public = signer.public();
        let name = signer.algorithm.as_str();
        // The public key, in each form in which somebody may have it, as the secret of an HMAC.
        let forms = ["n", "x"].iter().filter_map(|field| public[*field].as_str());
        for form in forms.map(str::to_owned).chain([public.to_string()]) {
            let raw = BASE64URL_NOPAD.decode(form.as_bytes()).unwrap_or_default();
            for key in [form.as_bytes(), &raw] {
                for alg in ["HS256", name] {
                    let token = forged(&json!({"alg": alg, "kid": name}), &claims, key);
                    assert!(check(&rules, &token).is_err(), "{alg} {name}");
                }
            }
        }
        // Nobody's signature, or one by another key.
        for alg in ["none", "None", "", "HS256", "RS512", "PS256", "ES384", "RS256", "ES256"] {
            let header = part(&json!({"alg": alg, "kid": name}));
            let token = format!("{header}.{}.", part(&claims));
            assert!(check(&rules, &token).is_err(), "{alg}");
        }
        for other in SIGNERS.iter().filter(|other| other.algorithm != signer.algorithm) {
            let (_, body) = signer
                .sign(&claims)
                .split_once('.')
                .map(|(a, b)| (a.to_owned(), b.to_owned()))
                .unwrap();
            let header = part(&json!({"alg": other.algorithm.as_str(), "kid": name}));
            let found = check(&rules, &format!("{header}.{body}")).unwrap_err();
            assert!(found.contains("is not for"), "{found}");
        }
    }
}

#[test]
fn a_token_that_brings_its_key_or_demands_more_is_not_taken() {
    let rules = rules("");
    let seed = [7; 32];
    let key = EncodingKey::from_ed_der(&[&ED25519_PREFIX[..], &seed].concat());
    let own = Signer { algorithm: Algorithm::EdDsa, key };
    let mut header = Header::new(jsonwebtoken::Algorithm::EdDSA);
    header.jwk = Some(Jwk::from_encoding_key(&own.key, header.alg).unwrap());
    header.jku = Some("https://evil.example/keys".into());
    header.x5u = Some("https://evil.example/chain".into());
    for kid in [Some("EdDSA"), None, Some("other"), Some("../../etc/passwd\u{0}")] {
        header.kid = kid.map(str::to_owned);
        let token = jsonwebtoken::encode(&header, &claims(), &own.key).unwrap();
        assert!(check(&rules, &token).is_err(), "{kid:?}");
    }
    // The issuer's own key, and a header with one more field that has to be understood.
    let header = json!({"alg": "EdDSA", "kid": "EdDSA", "crit": ["exp"]});
    let input = format!("{}.{}", part(&header), part(&claims()));
    let signature = jsonwebtoken::crypto::sign(
        input.as_bytes(),
        &SIGNERS[2].key,
        jsonwebtoken::Algorithm::EdDSA,
    );
    let found = check(&rules, &format!("{input}.{}", signature.unwrap())).unwrap_err();
    assert!(found.contains("crit"), "{found}");
}

#[test]
fn the_settings_say_which_signatures_are_taken() {
    let rules = rules("algorithms = ['ES256']");
    assert!(check(&rules, &SIGNERS[1].sign(&claims())).is_ok());
    let found = check(&rules, &SIGNERS[0].sign(&claims())).unwrap_err();
    assert!(found.contains("`RS256` are not taken"), "{found}");
}

#[test]
fn a_changed_token_is_not_taken() {
    let rules = rules("");
    for signer in SIGNERS.iter() {
        let token = signer.sign(&claims());
        let (header, rest) = token.split_once('.').unwrap();
        let (_, signature) = rest.split_once('.').unwrap();
        let other = part(&with("sub", json!("root")));
        assert!(check(&rules, &format!("{header}.{other}.{signature}")).is_err());
        assert!(check(&rules, &format!("{token}AA")).is_err());
        assert!(check(&rules, &token[..token.len() - 4]).is_err());
    }
}

#[test]
fn a_tenant_comes_from_the_claim_that_the_settings_name() {
    let rules = rules("tenant_claim = 'org'");
    let org = |value: Value| check(&rules, &SIGNERS[2].sign(&with("org", value)));
    assert_eq!(org(json!("team-a")).unwrap().tenant, Some("team-a".parse().unwrap()));
    for bad in [json!("Team A"), json!(null), json!(["team-a"]), json!("shared")] {
        assert!(org(bad.clone()).is_err(), "{bad}");
    }
}
