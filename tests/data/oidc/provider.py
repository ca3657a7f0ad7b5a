"""An OpenID provider for tests: django-oauth-toolkit on a port of the loopback.

    provider.py FOLDER [PORT]

Keeps its database and its signing key `key.pem` in FOLDER and makes what is missing, so that a start
without `key.pem` signs with a new key. Prints `listening at URL` when it serves; URL is the issuer.
Lifetimes in seconds come from the variables `TOKEN_SECONDS` and `REFRESH_SECONDS`. With `TLS` set it
speaks https and signs its own certificate, `certificate.pem`.
"""

import datetime
import ipaddress
import os
import ssl
import sys
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

USERS = {"alice": ["compilers"], "bob": []}
PASSWORD = "open sesame"
CLIENT = "jetcc"


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Handler(WSGIRequestHandler):
    """Logs a request without its query, which may hold a code."""

    def log_request(self, code="-", size="-"):
        print(self.command, self.path.partition("?")[0], code, file=sys.stderr, flush=True)


def signing_key(file):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    if not file.exists():
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        file.write_bytes(pem)
    return file.read_text()


def certify(folder):
    """A key and a certificate for the loopback; the file of both."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "provider of tests")])
    now = datetime.datetime.now(datetime.timezone.utc)
    day = datetime.timedelta(days=1)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file = folder / "certificate.pem"
    file.write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))
    return file


def configure(folder, issuer):
    from django.conf import settings

    settings.configure(
        SECRET_KEY="of a provider that lives as long as a test",
        ALLOWED_HOSTS=["127.0.0.1", "localhost"],
        ROOT_URLCONF="people.urls",
        USE_TZ=True,
        LOGGING={
            "version": 1,
            "handlers": {"stderr": {"class": "logging.StreamHandler"}},
            "loggers": {"django": {"handlers": ["stderr"], "level": "ERROR"}},
        },
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        # One hash a log-in is enough here; the default takes a second.
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        LOGIN_URL="/login/",
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "oauth2_provider",
            "people",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.common.CommonMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": ["django.template.context_processors.request"],
                },
            }
        ],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": folder / "provider.sqlite3",
                "OPTIONS": {"timeout": 30, "transaction_mode": "IMMEDIATE"},
            }
        },
        OAUTH2_PROVIDER_APPLICATION_MODEL="people.Application",
        OAUTH2_PROVIDER={
            "OIDC_ENABLED": True,
            "OIDC_RSA_PRIVATE_KEY": signing_key(folder / "key.pem"),
            "OAUTH2_VALIDATOR_CLASS": "people.tokens.Validator",
            "ACCESS_TOKEN_GENERATOR": "people.tokens.access_token",
            "REFRESH_TOKEN_GENERATOR": "oauthlib.oauth2.rfc6749.tokens.random_token_generator",
            "SCOPES": {"openid": "Who you are", "profile": "Your name", "groups": "Your groups"},
            "PKCE_REQUIRED": True,
            "COMPLIANT_BCP_RFC9700_AUTHZ_RESPONSE_ISS": True,
            "ALLOWED_REDIRECT_URI_SCHEMES": ["http"],
            "ACCESS_TOKEN_EXPIRE_SECONDS": int(os.environ.get("TOKEN_SECONDS", "300")),
            "ID_TOKEN_EXPIRE_SECONDS": int(os.environ.get("TOKEN_SECONDS", "300")),
            "REFRESH_TOKEN_EXPIRE_SECONDS": int(os.environ.get("REFRESH_SECONDS", "3600")),
            "OIDC_ISS_ENDPOINT": issuer,
            "OAUTH_DEVICE_VERIFICATION_URI": f"{issuer}/device/",
            "OAUTH_DEVICE_VERIFICATION_URI_COMPLETE": issuer + "/device/?user_code={user_code}",
            "DEVICE_FLOW_INTERVAL": 1,
        },
    )


def populate():
    from django.contrib.auth.models import Group, User
    from django.core.management import call_command
    from people.models import Application

    call_command("migrate", run_syncdb=True, verbosity=0)
    for name, groups in USERS.items():
        if not User.objects.filter(username=name).exists():
            user = User.objects.create_user(name, password=PASSWORD)
            user.groups.set([Group.objects.get_or_create(name=group)[0] for group in groups])
    Application.objects.get_or_create(
        client_id=CLIENT,
        defaults={
            "name": CLIENT,
            "client_type": Application.CLIENT_PUBLIC,
            "authorization_grant_type": Application.GRANT_AUTHORIZATION_CODE,
            "algorithm": Application.RS256_ALGORITHM,
            # RFC 8252: any port of the loopback fits.
            "redirect_uris": "http://127.0.0.1/redirect",
        },
    )


def main():
    folder = Path(sys.argv[1]).resolve()
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    sys.path.insert(0, str(Path(__file__).parent))
    # The port comes first: the issuer is named after it, and everything after the issuer.
    server = make_server("127.0.0.1", port, None, Server, Handler)
    scheme = "https" if "TLS" in os.environ else "http"
    issuer = f"{scheme}://127.0.0.1:{server.server_port}"
    if scheme == "https":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certify(folder))
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.base_environ["HTTPS"] = "on"
    configure(folder, issuer)

    import django
    from django.core.wsgi import get_wsgi_application

    django.setup()
    populate()
    server.set_app(get_wsgi_application())
    print(f"listening at {issuer}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
