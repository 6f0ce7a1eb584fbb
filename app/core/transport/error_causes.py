"""What do Vault's and OpenSSL's words mean, and what fixes it?

Their own words are not passed on: they may repeat what was sent, and they seldom say what to do.
"""

import re

from app.core.settings.tool_names import is_given

STALE_WRITE = "a newer version was written meanwhile"
CAS_REQUIRED = "here nothing is written without check-and-set (cas_required)"
WRONG_PAIR = "the role id or the secret id is wrong, expired or used up"
NOT_MOUNTED = "nothing is mounted there"
NO_NAMESPACE = "there is no such namespace"
HUNG_UP = "the server hangs up"

# what Vault says at a login whether the role, the cluster or our address is to blame, or nothing is mounted there
DENIED = "permission denied"
NO_REVIEW = (
    "the cluster does not accept the JWT, or Vault could not ask the cluster (its TokenReview is down or forbidden)"
)
NOT_FROM_HERE = "the role is not for this machine's address (token_bound_cidrs)"
CHECK_CIDRS = "Check token_bound_cidrs of the role."
ASK_THE_CLUSTER = (
    "Vault's log says which (`login unauthorized`): check VAULT_JWT, whether Vault reaches the cluster (`vault read "
    "auth/MOUNT/config`), whether its reviewer may create tokenreviews (the cluster role system:auth-delegator), and "
    "token_bound_cidrs of the role."
)

_ROLE = "Check VAULT_ROLE, or add the role in Vault."
_CLAIM = "Compare VAULT_JWT with {0} of the role."
_KEYS = (
    "Vault cannot get the keys of the identity provider",
    "Check whether Vault reaches it, and its address: `vault read auth/MOUNT/config`.",
)
_WRONG_PROOF = "the secret id is wrong, expired or used up"
_WRONG_ROLE_ID = "the role id is wrong"
_WRONG_USER = "the user name or the password is wrong"
_NO_JWT = "what was sent is not a JWT", "Check VAULT_JWT."
_OTHER_KEY = "no key that Vault knows has signed the JWT", "Check VAULT_JWT, and the auth method's keys."
_CLAIM_LACKS = "a claim of the JWT is not what the role needs"
_CLIENT_CERT = "Check VAULT_CLIENT_CERT, VAULT_ROLE, and which certificates and names the role accepts."
# a part of what Vault says: the cause, and the remedy ("": the one that the kind of refusal suggests)
KNOWN_CAUSES = {
    "request body too large": ("it is larger than Vault takes (max_request_size of its listener)", ""),
    "check-and-set parameter required": (
        CAS_REQUIRED,
        "Write with cas=…, the current version (0: there is none), or with patch_secret.",
    ),
    "check-and-set parameter": (STALE_WRITE, ""),
    "no handler for route": (NOT_MOUNTED, ""),
    "from non-versioned to versioned": ("the KV engine is still being upgraded to version 2", "Try again in a moment."),
    "namespace not found": (NO_NAMESPACE, "Check VAULT_NAMESPACE and VAULT_LOGIN_NAMESPACE."),
    # first, since these repeat the name of a claim, which may be anything
    "error validating claims": ("a claim of the JWT does not match the role", _CLAIM.format("bound_claims")),
    "groups claim": (_CLAIM_LACKS, _CLAIM.format("groups_claim")),
    "failed to fetch groups": (_CLAIM_LACKS, _CLAIM.format("groups_claim")),
    "not found in token": (_CLAIM_LACKS, _CLAIM.format("user_claim")),
    "could not be converted to string": (_CLAIM_LACKS, _CLAIM.format("user_claim")),
    "missing role_id": ("no role id was sent", "Set VAULT_ROLE_ID."),
    "missing secret_id": ("the role wants a secret id, and there is none", "Set VAULT_SECRET_ID."),
    "cidr": ("it may not be used from this machine's address", "Put one into VAULT_SECRET_ID whose cidr_list has it."),
    "invalid role or secret id": (WRONG_PAIR, ""),
    "invalid username or password": (
        _WRONG_USER,
        "Check VAULT_USERNAME and VAULT_PASSWORD; too many wrong passwords lock the user out for a while.",
    ),
    "invalid secret id": (_WRONG_PROOF, "Put a new one into VAULT_SECRET_ID."),
    "invalid role id": (_WRONG_ROLE_ID, "Check VAULT_ROLE_ID."),
    # a cluster's answers, and the way to it, before what their texts may repeat (expired, audience)
    "tokenreview": (NO_REVIEW, ASK_THE_CLUSTER),
    "service account unauthorized": (NO_REVIEW, ASK_THE_CLUSTER),
    "lookup failed": (NO_REVIEW, ASK_THE_CLUSTER),
    "decoding failed due to": ("the JWT is not that of a service account", "Check VAULT_JWT."),
    "fetching keys": _KEYS,
    "get keys failed": _KEYS,
    "error checking jwks": _KEYS,
    "error checking oidc": _KEYS,
    "invalid role name": ("there is no such role", _ROLE),
    "could not be found": ("there is no such role", _ROLE),
    "no client certificate found": (
        "Vault saw no client certificate",
        "Set VAULT_URL to https://, and VAULT_CLIENT_CERT; a proxy in between must not end TLS.",
    ),
    "invalid certificate or no client": ("Vault does not trust the client certificate", _CLIENT_CERT),
    "no chain matching all constraints": ("the role does not accept this client certificate", _CLIENT_CERT),
    "certificate has expired": ("the client certificate has expired", "Renew VAULT_CLIENT_CERT."),
    "failed to verify client's certificate": ("Vault does not trust the client certificate", _CLIENT_CERT),
    "no known key": _OTHER_KEY,
    "service account name not authorized": (
        "the role is not for this service account",
        "Check VAULT_ROLE, and bound_service_account_names of the role.",
    ),
    "namespace not authorized": (
        "the role is not for this Kubernetes namespace",
        "Check VAULT_ROLE, and bound_service_account_namespaces of the role.",
    ),
    "failed to verify id token signature": _OTHER_KEY,
    "cannot unmarshal": ("a claim of the JWT has another type than it must have", "Check who issues VAULT_JWT."),
    "compact jws format": _NO_JWT,
    "illegal base64 data": _NO_JWT,
    "oidc role_type is not allowed": (
        "the role is for people, who log in with a browser",
        "Set role_type=jwt in the role, or VAULT_ROLE to another one.",
    ),
    "could not load configuration": (
        "the auth method is not configured",
        "Write its keys or its identity provider: `vault write auth/MOUNT/config …`.",
    ),
    "missing role": ("no role was named, and the mount has no default_role", "Set VAULT_ROLE."),
    "no audiences bound to the role": (
        "the JWT is meant for somebody, and the role does not say for whom",
        "Set bound_audiences of the role.",
    ),
    "audience": (
        "the JWT is meant for another audience",
        "Compare VAULT_JWT with bound_audiences of the role (for Kubernetes: audience).",
    ),
    "issuer": ("the JWT comes from another issuer", "Compare VAULT_JWT with bound_issuer of the auth method."),
    "invalid subject": ("the JWT is of another subject", _CLAIM.format("bound_subject")),
    "token not yet valid": ("the JWT is not valid yet", "Check the clocks of both machines, and VAULT_JWT."),
    "issued in the future": (
        "the JWT is not valid yet: it was issued in the future",
        "Check the clocks of both machines, and VAULT_JWT.",
    ),
    "or expiration time (exp) claims": ("the JWT does not say when it is valid (iat, nbf, exp)", "Check VAULT_JWT."),
    "token is expired": ("the JWT has expired", "Put a new one into VAULT_JWT."),
    "expired": ("the credential has expired", "Provide a new one."),
}
# where the credential may be wrong, so that it matters what it looks like
CREDENTIALS_WRONG = {DENIED, WRONG_PAIR, _WRONG_PROOF, _WRONG_ROLE_ID, _WRONG_USER, _NO_JWT[0], _OTHER_KEY[0]}


def cause_of(said: str) -> tuple[str, str]:
    """Return the cause and the remedy behind what Vault says; both are empty if they are not known."""
    lower = said.lower()
    cause, remedy = next((known for phrase, known in KNOWN_CAUSES.items() if phrase in lower), ("", ""))
    claim = re.search(r'claim "([\w/.:-]{1,80})"|"([\w/.:-]{1,80})" claim', said)  # its name comes from the role
    if "claim of the JWT" in cause and claim is not None:
        cause += f": {claim[1] or claim[2]}"
    return cause, remedy


_UNKNOWN_CA = (
    "the server's certificate is signed by a CA that is not trusted",
    "Put this CA into {ca} (PEM).",
)
_STRICT = (
    "the server's certificate, or that of its CA, breaks the rules ({reason}): Python 3.13 and newer are stricter",
    "The certificate must be issued again, with both Key Identifiers, and a CA's with basicConstraints and keyUsage.",
)
_WEAK = (
    "the server's certificate, or that of its CA, has a key or a signature that is too weak",
    "The certificate must be issued again, with at least RSA 2048 or an elliptic curve, and SHA-256.",
)
VERIFY_FAILED = "certificate verify failed: "
# a part of OpenSSL's verdict on the server's certificate, or of the server's alert about the client's
_TLS_CAUSES = {
    "certificate has expired": (
        "the server's certificate has expired, or that of its CA",
        "Renew the certificate of {server}'s listener, or the CA in {ca}.",
    ),
    "not yet valid": (
        "the server's certificate is not valid yet, or that of its CA",
        "Check the clocks of both machines.",
    ),
    "mismatch, certificate is not valid for": (
        "the server's certificate is for another host, or for none (it needs a subjectAltName)",
        "Set {host} to a name that it is for, or have one issued that is for this host.",
    ),
    "invalid CA certificate": (
        "what signed the server's certificate may not sign others",
        "The CA's certificate must be issued again, with basicConstraints CA:TRUE, keyUsage keyCertSign (Python 3.13).",
    ),
    "unsuitable certificate purpose": (
        "the server's certificate is not meant for servers",
        "The certificate must be issued again, with extendedKeyUsage serverAuth.",
    ),
    "authority and subject key identifier mismatch": _UNKNOWN_CA,
    "certificate signature failure": (
        "the server's certificate is signed by another CA of the same name",
        "Put this CA into {ca} (PEM).",
    ),
    "unable to verify the first certificate": _UNKNOWN_CA,
    "key too weak": _WEAK,
    "algorithm too weak": _WEAK,
    **dict.fromkeys(
        (
            "Key Identifier",
            "Basic Constraints of CA",
            "key usage extension",
            "Path length",
            "Key usage keyCertSign invalid",
            "Issuer name empty",
            "Subject name empty",
            "Subject empty",
            "Subject Alternative Name",
            "requires at least X509v3",
            "explicit ECC parameters",
        ),
        _STRICT,
    ),
    "self-signed certificate": _UNKNOWN_CA,
    "local issuer certificate": _UNKNOWN_CA,
    # the alert that would tell why is often lost when the server does so while a request is under way
    HUNG_UP: (HUNG_UP, "Check whether it wants another client certificate: {certificate}."),
    "WRONG_VERSION_NUMBER": ("the port does not speak TLS", "Set {url} to http://, or to the port that speaks TLS."),
    "ALERT_CERTIFICATE_REQUIRED": ("the server wants a client certificate", "Set {certificate} and its key."),
    "ALERT_CERTIFICATE_EXPIRED": ("the client certificate has expired", "Renew {certificate}."),
    "ALERT_UNKNOWN_CA": (
        "the server does not trust the CA of the client certificate",
        "Set {certificate} to a certificate of a CA that {server}'s listener trusts (tls_client_ca_file).",
    ),
    "ALERT_BAD_CERTIFICATE": ("the server wants another client certificate, or one at all", "Check {certificate}."),
}
# by the variable of the address: the first of those that is set, else the last, names the CA and the host
_VARIABLES: dict[str, tuple[tuple[str, ...], tuple[str, ...], str]] = {
    "VAULT_URL": (
        ("VAULT_CACERT", "VAULT_CACERT_BYTES", "VAULT_CAPATH", "VAULT_CACERT"),
        ("VAULT_TLS_SERVER_NAME", "VAULT_URL"),
        "VAULT_CLIENT_CERT",
    ),
    "CONJUR_APPLIANCE_URL": (
        ("CONJUR_CERT_FILE", "CONJUR_SSL_CERTIFICATE", "CONJUR_CERT_FILE"),
        ("CONJUR_APPLIANCE_URL",),
        "CONJUR_CLIENT_CERT",
    ),
}


def tls_cause(reason: str, server: str, variable: str) -> tuple[str, str]:
    """Return what OpenSSL's reason means and what fixes it; `variable` is the one that names the server's address."""
    unknown = "{reason}", "Check the CA, the host name in {url}, and whether the port speaks TLS at all."
    if reason.startswith(VERIFY_FAILED):  # it does speak TLS
        unknown = "the server's certificate is not accepted ({reason})", "Have it issued again, or check {ca}."
    cause, remedy = next((known for phrase, known in _TLS_CAUSES.items() if phrase in reason), unknown)
    cas, hosts, certificate = _VARIABLES[variable]
    ca, host = (next(filter(is_given, several), several[-1]) for several in (cas, hosts))
    words = {"url": variable, "host": host, "ca": ca, "certificate": certificate, "server": server}
    return cause.format(reason=reason.removeprefix(VERIFY_FAILED)), remedy.format(**words)
