//! What comes from identity providers over HTTP, and the tokens that they sign: discovery documents, key
//! sets, headers and claims, pages about a user. Nobody is let in without the issuer's signature.
//!
//! The first byte says what the rest is: a discovery document, a key set, a token (header, claims) that
//! the issuer signed, a token that nobody signed, or a token's claims and the page about its bearer.
#![no_main]

use std::sync::LazyLock;

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use jetcc::queue::Secret;
use jetcc::scheduler::identity::issuer::keys_address;
use jetcc::scheduler::identity::jwks::{Algorithm, KEYS_MAX, Keys};
use jetcc::scheduler::identity::settings::{MozillaAuth, OidcAuth, WebUrl};
use jetcc::scheduler::identity::{Claimed, bearer, oidc};
use libfuzzer_sys::fuzz_target;
use nkeys::{KeyPair, KeyPairType};
use serde_json::{Value, json};

const ISSUER: &str = "https://id.example/";
const AUDIENCE: &str = "farm";
const GROUP: &str = "compilers";
/// Unix time in seconds at which everything here happens; the library has a clock of its own besides.
const NOW: u64 = 1_800_000_000;
const LEEWAY_SECONDS: u64 = 30;
/// Longest name of a user and of a tenant, in bytes.
const NAME_BYTES_MAX: usize = 256;
/// Longest reason, in bytes: it goes into logs.
const REASON_BYTES_MAX: usize = 1_000;

/// What a server signs with is a key on the curve of EdDSA.
static SIGNER: LazyLock<KeyPair> =
    LazyLock::new(|| KeyPair::new_from_raw(KeyPairType::Server, [7; 32]).expect("a key"));
static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let public = BASE32_NOPAD.decode(SIGNER.public_key().as_bytes()).expect("base32");
    // Before the point is its kind, behind it a check sum.
    let x = BASE64URL_NOPAD.encode(&public[1..33]);
    let set = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": x}]});
    Keys::read(set.to_string().as_bytes()).expect("a key set")
});
static RULES: LazyLock<OidcAuth> = LazyLock::new(|| {
    serde_json::from_value(json!({
        "issuer": ISSUER, "audience": AUDIENCE, "required_groups": [GROUP],
        "tenant_claim": "org", "leeway_seconds": LEEWAY_SECONDS,
    }))
    .expect("rules")
});
static MOZILLA: LazyLock<MozillaAuth> = LazyLock::new(|| {
    serde_json::from_value(json!({"required_groups": [GROUP], "groups_claim": "groups"}))
        .expect("rules")
});

fuzz_target!(|data: &[u8]| {
    let Some((shape, rest)) = data.split_first() else { return };
    match shape % 5 {
        0 => discovery(rest),
        1 => key_set(rest),
        2 => signed(rest),
        3 => unsigned(rest),
        _ => page(rest),
    }
});

fn discovery(data: &[u8]) {
    let issuer = WebUrl::try_from(ISSUER.to_owned()).expect("an address");
    match keys_address(&issuer, data) {
        Ok(address) => {
            // What is in fields that nobody reads is not looked at, and may be anything.
            let Ok(document) = serde_json::from_slice::<Value>(data) else { return };
            assert_eq!(document["issuer"], ISSUER);
            assert_eq!(document["jwks_uri"], address.as_str());
            let scheme = address.as_str().trim_start().get(..6).expect("a scheme");
            assert!(scheme.eq_ignore_ascii_case("https:"));
        }
        Err(reason) => is_short(&reason),
    }
}

fn key_set(data: &[u8]) {
    let keys = match Keys::read(data) {
        Ok(keys) => keys,
        Err(reason) => return is_short(&reason),
    };
    assert!((1..=KEYS_MAX).contains(&keys.count()));
    for algorithm in Algorithm::ALL {
        // Nobody signed it, whatever the keys are.
        for header in
            [json!({"alg": algorithm.as_str()}), json!({"alg": algorithm.as_str(), "kid": "k"})]
        {
            let token = token(header.to_string().as_bytes(), claims().to_string().as_bytes());
            let token = Secret::new(&format!("{token}.{}", BASE64URL_NOPAD.encode(&[9; 64])));
            is_short(&oidc::check(&RULES, &keys, &token, NOW).expect_err("let in"));
        }
    }
}

fn signed(data: &[u8]) {
    let (header, claims) = cut(data);
    let input = token(header, claims);
    let signature = SIGNER.sign(input.as_bytes()).expect("a signature");
    let token = Secret::new(&format!("{input}.{}", BASE64URL_NOPAD.encode(&signature)));
    match oidc::check(&RULES, &KEYS, &token, NOW) {
        Ok(claimed) => {
            let Ok(header) = serde_json::from_slice::<Value>(header) else { return };
            let claims: Value = serde_json::from_slice(claims).expect("JSON claims");
            assert_eq!(header["alg"], "EdDSA");
            assert!(header["kid"] == "k" || header["kid"].is_null());
            assert!(header["crit"].is_null());
            assert_eq!(claims["iss"], ISSUER);
            assert!(holds(&claims["aud"], AUDIENCE) && holds(&claims["groups"], GROUP));
            assert_eq!(claims["org"], claimed.tenant.as_ref().expect("a tenant").as_str());
            assert!(claimed.expires.expect("an end") > NOW);
            assert!(claims["iat"].as_u64().is_none_or(|made| made <= NOW + LEEWAY_SECONDS));
            is_named(&claimed);
        }
        Err(reason) => is_short(&reason),
    }
}

fn unsigned(data: &[u8]) {
    let token = Secret::new(&String::from_utf8_lossy(data));
    is_short(&oidc::check(&RULES, &KEYS, &token, NOW).expect_err("let in"));
}

fn page(data: &[u8]) {
    let (claims, page) = cut(data);
    let token = Secret::new(&format!("{}.", token(br#"{"alg":"RS256"}"#, claims)));
    match bearer::judge(&MOZILLA, &token, page, NOW) {
        Ok(claimed) => {
            let claims: Value = serde_json::from_slice(claims).expect("JSON claims");
            let page: Value = serde_json::from_slice(page).expect("a JSON page");
            assert_eq!(claims["sub"], page["sub"]);
            assert!(holds(&page["groups"], GROUP));
            assert!(claimed.expires.expect("an end") > NOW);
            is_named(&claimed);
        }
        Err(reason) => is_short(&reason),
    }
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "groups": [GROUP], "org": "team-a",
        "exp": 4_000_000_000_u64,
    })
}

fn token(header: &[u8], claims: &[u8]) -> String {
    format!("{}.{}", BASE64URL_NOPAD.encode(header), BASE64URL_NOPAD.encode(claims))
}

/// What is before the first zero, and what is behind it.
fn cut(data: &[u8]) -> (&[u8], &[u8]) {
    let cut = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    (&data[..cut], data.get(cut + 1..).unwrap_or_default())
}

/// Whether a claim is the text, or has it in its list.
fn holds(claim: &Value, text: &str) -> bool {
    claim == text || claim.as_array().is_some_and(|list| list.iter().any(|item| item == text))
}

fn is_named(claimed: &Claimed) {
    let user = claimed.user.as_ref().expect("a user").as_str();
    assert!((1..=NAME_BYTES_MAX).contains(&user.len()) && !user.chars().any(char::is_control));
}

fn is_short(reason: &str) {
    assert!(!reason.is_empty() && reason.len() <= REASON_BYTES_MAX, "{} bytes", reason.len());
    assert!(!reason.chars().any(char::is_control), "{reason:?}");
}
