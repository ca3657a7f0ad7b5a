"""What tokens say: the user's name and groups, and an access token that is a JWT (RFC 9068)."""

import json
import time
import uuid

from jwcrypto import jwt
from oauth2_provider.oauth2_validators import OAuth2Validator
from oauth2_provider.settings import oauth2_settings

# Whom access tokens are for.
AUDIENCE = "jetcc-farm"


def about(user):
    return {
        "sub": user.username,
        "preferred_username": user.username,
        "groups": [group.name for group in user.groups.all()],
    }


class Validator(OAuth2Validator):
    # Claims come whatever the scopes are.
    oidc_claim_scope = None

    def get_additional_claims(self, request):
        return about(request.user)


def access_token(request, refresh_token=False):
    now = int(time.time())
    claims = {
        "iss": oauth2_settings.OIDC_ISS_ENDPOINT,
        "aud": AUDIENCE,
        "iat": now,
        "exp": now + oauth2_settings.ACCESS_TOKEN_EXPIRE_SECONDS,
        "jti": str(uuid.uuid4()),
        "client_id": request.client.client_id,
        "scope": " ".join(request.scopes or []),
        **about(request.user),
    }
    key = request.client.jwk_key
    header = {"typ": "at+jwt", "alg": "RS256", "kid": key.thumbprint()}
    token = jwt.JWT(header=json.dumps(header), claims=json.dumps(claims))
    token.make_signed_token(key)
    return token.serialize()
