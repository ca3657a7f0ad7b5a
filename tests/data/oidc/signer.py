"""An OpenID issuer for tests that signs by ES256 and EdDSA, with jwcrypto. It has no users: it writes
tokens for alice.

    signer.py FOLDER

Publishes a key for each of the two on a port of the loopback. FOLDER gets a token signed by each, such as
`ES256.jwt`, and one by a key of the same name that is not published, such as `ES256.other.jwt`. Prints
`listening at URL` when all is there; URL is the issuer.
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from jwcrypto import jwk, jwt

KINDS = {"ES256": {"kty": "EC", "crv": "P-256"}, "EdDSA": {"kty": "OKP", "crv": "Ed25519"}}


class Handler(BaseHTTPRequestHandler):
    pages = {}

    def do_GET(self):
        page = self.pages.get(self.path)
        self.send_response(200 if page else 404)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(page).encode())


def token(key, algorithm, issuer):
    now = int(time.time())
    claims = {"iss": issuer, "aud": "jetcc-farm", "sub": "alice", "groups": ["compilers"]}
    claims |= {"iat": now, "nbf": now, "exp": now + 300}
    signed = jwt.JWT(header={"alg": algorithm, "kid": key["kid"]}, claims=claims)
    signed.make_signed_token(key)
    return signed.serialize()


def main(folder):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer = f"http://127.0.0.1:{server.server_port}"
    published = []
    for algorithm, kind in KINDS.items():
        own, other = (jwk.JWK.generate(kid=f"by {algorithm}", **kind) for _ in range(2))
        published.append(own.export_public(as_dict=True))
        for name, key in ((algorithm, own), (f"{algorithm}.other", other)):
            (Path(folder) / f"{name}.jwt").write_text(token(key, algorithm, issuer))
    Handler.pages = {
        "/.well-known/openid-configuration": {"issuer": issuer, "jwks_uri": f"{issuer}/keys"},
        "/keys": {"keys": published},
    }
    print(f"listening at {issuer}", flush=True)
    server.serve_forever()


main(*sys.argv[1:])
