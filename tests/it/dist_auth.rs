//! Logging in at a real OpenID provider.

use data_encoding::BASE64URL_NOPAD;
use serde_json::Value;

use crate::harness::oidc::{AUDIENCE, CLIENT_ID, Provider};

#[tokio::test]
async fn the_providers_tokens_say_who_and_end_when_they_are_revoked() {
    let mut provider = Provider::start().await;
    let tokens = provider.log_in("alice").await;
    let claims = claims(&tokens["access_token"]);
    assert_eq!(claims["iss"], provider.issuer());
    assert_eq!((&claims["sub"], &claims["aud"]), (&"alice".into(), &AUDIENCE.into()));
    assert_eq!(claims["groups"][0], "compilers");

    provider.stop().await;
    provider.rotate_key().await;
    let refresh_token = tokens["refresh_token"].as_str().unwrap();
    provider.revoke(refresh_token).await;
    let form = [
        ("client_id", CLIENT_ID),
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh_token),
    ];
    let (status, answer) = provider.post("/token/", &form).await;
    assert_eq!((status, &answer["error"]), (400, &"invalid_grant".into()));
    assert_eq!(provider.answered("POST /token/ 400"), 1);
}

/// What a JWT says.
fn claims(token: &Value) -> Value {
    let payload = token.as_str().unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64URL_NOPAD.decode(payload.as_bytes()).unwrap()).unwrap()
}
