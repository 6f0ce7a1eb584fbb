"""What do Vault's and OpenSSL's words mean, and what mends it?

Their own words are not passed on: they may repeat what was sent, and they seldom say what to do.
"""

STALE_WRITE = "a newer version was written meanwhile"
CAS_REQUIRED = "here nothing is written without check-and-set (cas_required)"
WRONG_PAIR = "the role id or the secret id is wrong, expired or used up"
NOT_MOUNTED = "nothing is mounted there"
NO_NAMESPACE = "there is no such namespace"
HUNG_UP = "the server hangs up"

_ROLE = "Check VAULT_ROLE, or add the role in Vault."
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
    "missing secret_id": ("the role wants a secret id, and there is none", "Set VAULT_SECRET_ID."),
    "cidr": ("it may not be used from this machine's address", "Put one into VAULT_SECRET_ID whose cidr_list has it."),
    "invalid role or secret id": (WRONG_PAIR, ""),
    "invalid secret id": ("the secret id is wrong, expired or used up", "Put a new one into VAULT_SECRET_ID."),
    "invalid role id": ("the role id is wrong", "Check VAULT_ROLE_ID."),
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
    "no known key": ("no key that Vault knows has signed the JWT", "Check VAULT_JWT, and the auth method's keys."),
    "service account name not authorized": ("the role is not for this service account", _ROLE),
    "namespace not authorized": ("the role is not for this Kubernetes namespace", _ROLE),
    "audience": ("the JWT is meant for another audience", "Compare VAULT_JWT with bound_audiences of the role."),
    "issuer": ("the JWT comes from another issuer", "Compare VAULT_JWT with bound_issuer of the auth method."),
    "token not yet valid": ("the JWT is not valid yet", "Check the clocks of both machines, and VAULT_JWT."),
    "token is expired": ("the JWT has expired", "Put a new one into VAULT_JWT."),
    "expired": ("the credential has expired", "Provide a new one."),
}

_UNKNOWN_CA = (
    "the server's certificate is signed by a CA that is not trusted",
    "Set {ca} to the file with this CA (PEM).",
)
# a part of OpenSSL's verdict on the server's certificate, or of the server's alert about the client's
_TLS_CAUSES = {
    "certificate has expired": (
        "the server's certificate has expired",
        "Renew the certificate of {server}'s listener.",
    ),
    "not yet valid": ("the server's certificate is not valid yet", "Check the clocks of both machines."),
    "mismatch, certificate is not valid for": (
        "the server's certificate is for another host",
        "Set {url} to a name that it is for, or have one issued that is for this host.",
    ),
    "self-signed certificate": _UNKNOWN_CA,
    "local issuer certificate": _UNKNOWN_CA,
    # the alert that would tell why is often lost when the server does so while a request is under way
    HUNG_UP: (HUNG_UP, "Check whether it wants another client certificate: {certificate}."),
    "redirected": ("redirected from https to http", "Mend the address that {server} tells of itself."),
    "WRONG_VERSION_NUMBER": ("the port does not speak TLS", "Set {url} to http://, or to the port that speaks TLS."),
    "ALERT_CERTIFICATE_REQUIRED": ("the server wants a client certificate", "Set {certificate} and its key."),
    "ALERT_CERTIFICATE_EXPIRED": ("the client certificate has expired", "Renew {certificate}."),
    "ALERT_UNKNOWN_CA": (
        "the server does not trust the CA of the client certificate",
        "Set {certificate} to a certificate of a CA that {server}'s listener trusts (tls_client_ca_file).",
    ),
    "ALERT_BAD_CERTIFICATE": ("the server wants another client certificate, or one at all", "Check {certificate}."),
}
_VARIABLES = {
    "VAULT_URL": ("VAULT_CACERT", "VAULT_CLIENT_CERT"),
    "CONJUR_APPLIANCE_URL": ("CONJUR_CERT_FILE", "CONJUR_CLIENT_CERT"),
}


def tls_cause(reason: str, server: str, variable: str) -> tuple[str, str]:
    """Return what OpenSSL's reason means and what mends it; `variable` is the one that names the server's address."""
    unknown = reason, "Check the CA, the host name in {url}, and whether the port speaks TLS at all."
    cause, remedy = next((known for phrase, known in _TLS_CAUSES.items() if phrase in reason), unknown)
    ca, certificate = _VARIABLES[variable]
    return cause, remedy.format(url=variable, ca=ca, certificate=certificate, server=server)
