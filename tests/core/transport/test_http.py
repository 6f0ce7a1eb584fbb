"""Each way in which Vault or the network fails becomes one error with its remedy, and never repeats what was said."""

import ssl

import hvac.exceptions
import pytest
import requests
from urllib3.exceptions import MaxRetryError, ProtocolError
from urllib3.exceptions import SSLError as PoolSSLError

from app.core import errors
from app.core.settings.vault import VaultSettings
from app.core.transport.http import open_http, vault_client
from app.core.vault.errors import vault_errors
from infrastructure.faulty_proxy import Fault, FaultyProxy


def vault_says(status: int, *said: str) -> Exception:
    """Return what hvac raises for an answer of this status."""
    error: Exception = hvac.exceptions.VaultError.from_status(
        status, "canary", errors=list(said), text="canary", json={"errors": said}
    )
    return error


FAILURES = [
    pytest.param(vault_says(403, "permission denied"), errors.PermissionDenied, id="403"),
    pytest.param(vault_says(404), errors.PathMissing, id="404"),
    pytest.param(vault_says(400, "canary"), errors.BadRequest, id="400"),
    pytest.param(hvac.exceptions.InvalidPath("<html>canary"), errors.UnexpectedAnswer, id="404 that is not Vault's"),
    pytest.param(hvac.exceptions.Forbidden("<html>canary"), errors.UnexpectedAnswer, id="403 that is not Vault's"),
    pytest.param(vault_says(429), errors.VaultRateLimited, id="429"),
    pytest.param(vault_says(501), errors.VaultSealed, id="501"),
    pytest.param(vault_says(503, "Vault is sealed"), errors.VaultSealed, id="sealed"),
    pytest.param(vault_says(503), errors.BackendError, id="503"),
    pytest.param(vault_says(500, "canary"), errors.BackendError, id="500"),
    pytest.param(vault_says(502), errors.BackendError, id="502"),
    pytest.param(vault_says(418), errors.UnexpectedAnswer, id="418"),
    pytest.param(requests.ConnectTimeout("x"), errors.VaultUnreachable, id="connect time-out"),
    pytest.param(requests.ReadTimeout("x"), errors.VaultUnreachable, id="read time-out"),
    pytest.param(
        requests.ConnectionError(ProtocolError("x", ConnectionResetError())), errors.VaultUnreachable, id="reset"
    ),
    pytest.param(requests.exceptions.ChunkedEncodingError(), errors.VaultUnreachable, id="cut in the middle"),
    pytest.param(requests.TooManyRedirects("canary"), errors.UnexpectedAnswer, id="redirects in a circle"),
    pytest.param(requests.exceptions.SSLError("x"), errors.VaultTLSFailed, id="TLS"),
]


@pytest.mark.parametrize(("raised", "expected"), FAILURES)
def test_each_failure_has_its_error(raised: Exception, expected: type[errors.BackendError]) -> None:
    """Of exactly this class, about the path or the address, and with a remedy."""
    with pytest.raises(errors.BackendError) as caught, vault_errors("http://vault:8200", "secret/app"):
        raise raised
    assert type(caught.value) is expected
    assert caught.value.subject in {"http://vault:8200", "secret/app"}
    assert caught.value.remedy
    assert caught.value.status == 503
    assert "canary" not in str(caught.value)
    chained = caught.value.__cause__
    assert "canary" not in str(chained), "a traceback would show it"


def test_the_reason_of_a_failed_handshake_is_openssls_own() -> None:
    """Found below the layers that urllib3 and requests wrap around it."""
    reason = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed")
    reason.verify_message = "certificate has expired"
    wrapped = requests.exceptions.SSLError(MaxRetryError(None, "/", PoolSSLError(reason)))  # type: ignore[arg-type]
    with pytest.raises(errors.VaultTLSFailed, match="certificate has expired"), vault_errors("https://vault", "x"):
        raise wrapped


def test_the_environment_that_hvac_reads_does_not_leak_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither `VAULT_TOKEN` nor `~/.netrc`: credentials are explicit."""
    monkeypatch.setenv("VAULT_TOKEN", "canary")
    http = open_http(VaultSettings())
    client = vault_client(VaultSettings(), http)
    assert client.token == ""
    assert "canary" not in str(http.prepare_request(requests.Request("GET", "http://127.0.0.1/")).headers)


def test_all_connections_share_one_tls_context() -> None:
    """Building one costs more than everything else about a connection."""
    http = open_http(VaultSettings(url="https://127.0.0.1:8200"))
    adapter = http.get_adapter("https://127.0.0.1:8200")
    pools = [
        adapter.get_connection_with_tls_context(requests.Request("GET", url).prepare(), verify=True)  # type: ignore[attr-defined]
        for url in ("https://127.0.0.1:8200/a", "https://127.0.0.1:8201/b")
    ]
    assert len({id(pool.conn_kw["ssl_context"]) for pool in pools}) == 1


def test_no_cookies_are_kept_and_closed_connections_are_opened_again() -> None:
    """As by Vault's own tools: what a load balancer sets goes back to nobody."""
    server = FaultyProxy("http://127.0.0.1:9", lambda *_: Fault(200, (("Set-Cookie", "stick=here"),), b"{}"))
    with server.running() as url, open_http(VaultSettings(url=url)) as http:
        for _ in range(2):
            assert http.get(f"{url}/v1/x", timeout=5).ok
            assert http.get(f"{url}/v1/x", timeout=5).ok
            http.close()
    assert len(server.headers) == 4
    assert not any("Cookie" in each for each in server.headers)
