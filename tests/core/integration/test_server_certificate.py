"""`serve --certificate`: a certificate that a real Vault issues, replaced while requests come in."""

import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from cryptography import x509

from infrastructure.processes import surroundings
from tests.support import READ_POLICY, Vault, environment, free_port, unique, until


@pytest.fixture
def authority(vault: Vault, tmp_path: Path) -> tuple[str, Path]:
    """Return the path at which a CA of this test's own issues certificates, and the CA's."""
    mount = unique("pki")
    vault.client.sys.enable_secrets_engine("pki", path=mount)
    ca = vault.client.write_data(
        f"{mount}/root/generate/internal", data={"common_name": "CA of the test", "ttl": "1h", "key_type": "ec"}
    )
    vault.client.write_data(
        f"{mount}/roles/shop", data={"allow_any_name": True, "allow_ip_sans": True, "key_type": "ec"}
    )
    (file := tmp_path / "ca.pem").write_text(ca["data"]["certificate"])
    return f"{mount}/issue/shop", file


def serial_of(port: int) -> int:
    """Return the serial number of the certificate that a new connection sees."""
    return x509.load_pem_x509_certificate(ssl.get_server_certificate(("127.0.0.1", port)).encode()).serial_number


@pytest.mark.slow
def test_it_is_replaced_under_load_without_a_failed_request(
    vault: Vault, authority: tuple[str, Path], tmp_path: Path
) -> None:
    """Five times; the client verifies the chain, and opens a connection for each request."""
    (issuing, ca), path, port = authority, unique("tls"), free_port()
    grant = f'path "{issuing}" {{{{ capabilities = ["update"] }}}}'
    vault.write(path, {"database_url": "postgresql://a@b/c", "api_key": "k" * 16, "jwt_secret": "j" * 32})
    variables = environment(vault.app_role(path, policy=READ_POLICY + grant))
    variables["VAULT_DYNAMIC__TLS"] = f"{issuing}?common_name=shop.internal&ip_sans=127.0.0.1&ttl=9s"
    url, log = f"https://127.0.0.1:{port}/health/live", tmp_path / "serve.log"
    command = [sys.executable, "-m", "app", "serve", "--port", str(port), "--certificate", "tls"]
    with log.open("wb") as output:
        service = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=surroundings(variables),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: _answers(url, ca), "the service to present its certificate")
        seen: set[int] = set()
        count = 0

        def rotated() -> bool:
            nonlocal count
            count += 1
            assert requests.get(url, verify=str(ca), timeout=10).status_code == 200
            seen.add(serial_of(port))
            return len(seen) > 5

        until(rotated, "five rotations")
        assert count > 5
    finally:
        service.terminate()
        service.wait(timeout=20)
    assert "PRIVATE KEY" not in log.read_text()


def _answers(url: str, ca: Path) -> bool:
    try:
        return requests.get(url, verify=str(ca), timeout=10).ok
    except requests.ConnectionError:
        return False


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    """With those that there are."""
    done = subprocess.run(
        [sys.executable, "-m", "app", "serve", "--certificate", "other"],
        cwd=tmp_path,
        env=surroundings({}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "there is no dynamic secret of this name; there is: none" in done.stderr
