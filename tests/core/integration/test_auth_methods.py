"""What every auth method promises, against a real server that speaks TLS with a private CA."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hvac
import hvac.exceptions
import pytest

from app.core.errors import LoginRefused, PathMissing, VaultTLSFailed
from app.core.settings.vault import REQUIRED_BY_METHOD, VaultSettings
from app.vault import close_sessions, get_session, read_paths
from infrastructure.dev_vault import start_embedded
from infrastructure.faulty_proxy import FaultyProxy
from tests.core.integration.arrangements import ARRANGEMENTS, Arrangement, arranged
from tests.pki import Authority
from tests.support import SECRETS, Vault, enable_kv, free_port, unique

LISTENERS = """
listener "tcp" {{
  address = "127.0.0.1:{tls_port}"
  tls_cert_file = "{certificate}"
  tls_key_file = "{key}"
}}
listener "tcp" {{
  address = "127.0.0.1:{mutual_port}"
  tls_cert_file = "{certificate}"
  tls_key_file = "{key}"
  tls_client_ca_file = "{ca}"
  tls_require_and_verify_client_cert = "true"
}}
"""


@dataclass
class TLSVault:
    """A server with a plain listener for the tests, one with TLS, and one that wants a client certificate too."""

    vault: Vault
    authority: Authority
    tls: dict[str, Any]  # settings for the TLS listener
    mutual_tls: dict[str, Any]  # and for the one with mutual TLS


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TLSVault]:
    """Start the server."""
    directory = tmp_path_factory.mktemp("tls")
    authority = Authority(directory / "ca")
    certificate, key = authority.issue("vault")
    client_cert, client_key = authority.issue("some-client")
    tls_port, mutual_port = free_port(), free_port()
    listeners = LISTENERS.format(
        tls_port=tls_port, mutual_port=mutual_port, certificate=certificate, key=key, ca=authority.file
    )
    embedded = start_embedded(free_port(), directory / "vault", "root-of-this-test", listeners)
    vault = Vault(embedded.url, "root-of-this-test", embedded.audit_log)
    tls = {"enabled": True, "url": f"https://127.0.0.1:{tls_port}", "cacert": authority.file}
    pair = {"client_cert": client_cert, "client_key": client_key}
    yield TLSVault(vault, authority, tls, {**tls, "url": f"https://127.0.0.1:{mutual_port}", **pair})
    vault.client.adapter.close()
    embedded.stop()


@pytest.fixture
def path(server: TLSVault) -> str:
    """Return the path of a secret of this test's own."""
    server.vault.write(path := unique("app"), SECRETS)
    return path


@pytest.fixture(params=[method for method in ARRANGEMENTS if method != "token"])
def mounted(request: pytest.FixtureRequest, server: TLSVault, path: str, tmp_path: Path) -> Iterator[Arrangement]:
    """Prepare each auth method that has a mount point and roles in turn: all but `token`."""
    with arranged(request.param, server.vault.client, tmp_path, path, server.authority) as arrangement:
        yield arrangement


@pytest.fixture(params=ARRANGEMENTS)
def arrangement(request: pytest.FixtureRequest, server: TLSVault, path: str, tmp_path: Path) -> Iterator[Arrangement]:
    """Prepare each auth method in turn."""
    with arranged(request.param, server.vault.client, tmp_path, path, server.authority) as arrangement:
        yield arrangement


def settings_of(server: TLSVault, arrangement: Arrangement, path: str, **more: Any) -> VaultSettings:
    """Return settings for the TLS listener and this method."""
    return VaultSettings.model_validate({**server.tls, **arrangement.settings, "secret_path": path, **more})


def read(settings: VaultSettings) -> Any:
    """Read the one configured secret."""
    (secret,) = read_paths(settings, settings.secret_path)
    return secret.data


def refused(settings: VaultSettings) -> str:
    """Return what a refused login says."""
    with pytest.raises(LoginRefused) as caught:
        read(settings)
    assert "canary" not in str(caught.value)
    assert caught.value.remedy
    return str(caught.value)


def test_every_supported_method_is_tested() -> None:
    """A new method cannot be added without its arrangement; `none` needs a Proxy (`test_auto_auth.py`)."""
    assert set(ARRANGEMENTS) == set(REQUIRED_BY_METHOD) - {"none"}


def test_it_logs_in(server: TLSVault, arrangement: Arrangement, path: str) -> None:
    """Over TLS with a private CA, at a mount point of its own choice, and once for two reads."""
    settings = settings_of(server, arrangement, path)
    with server.vault.audited() as calls:
        assert read(settings) == SECRETS
        assert read(settings) == SECRETS
    logins = [where for _, where in calls if f"{arrangement.mount}/login" in where]
    assert len(logins) == (0 if arrangement.method == "token" else 1)
    assert len(calls) == len(logins) + 2


def test_it_logs_in_with_mutual_tls(server: TLSVault, arrangement: Arrangement, path: str) -> None:
    """Where the listener wants a client certificate, whatever the method."""
    more = {"url": server.mutual_tls["url"]}
    if arrangement.method != "cert":
        with pytest.raises(VaultTLSFailed):
            read(settings_of(server, arrangement, path, **more))
        more = server.mutual_tls
    assert read(settings_of(server, arrangement, path, **more)) == SECRETS


def test_it_logs_in_anew_with_a_rotated_credential(server: TLSVault, arrangement: Arrangement, path: str) -> None:
    """The file's new content counts, the old token is revoked if it was ours."""
    settings = settings_of(server, arrangement, path)
    assert read(settings) == SECRETS
    session = get_session(settings)
    old = session.current()
    assert old is not None
    arrangement.rotate()
    session.replace(old)
    assert read(settings) == SECRETS
    new = session.current()
    assert new is not None
    assert new.auth.client_token != old.auth.client_token
    with pytest.raises(hvac.exceptions.Forbidden):
        server.vault.client.auth.token.lookup(old.auth.client_token)


def test_a_revoked_token_is_replaced_on_the_fly(server: TLSVault, arrangement: Arrangement, path: str) -> None:
    """The read that meets the dead token succeeds."""
    settings = settings_of(server, arrangement, path)
    assert read(settings) == SECRETS
    if arrangement.method == "token":
        arrangement.rotate()
    else:
        server.vault.client.auth.token.revoke(get_session(settings).client().token)
    assert read(settings) == SECRETS


def test_a_wrong_credential_is_refused(server: TLSVault, arrangement: Arrangement, path: str) -> None:
    """With method and mount point, and without the credential."""
    arrangement.spoil()
    message = refused(settings_of(server, arrangement, path))
    if arrangement.method == "token":
        assert "Vault does not accept the token" in message
    else:
        assert f"auth method {arrangement.method} at auth/{arrangement.mount}: " in message


def test_an_expired_client_certificate_is_recognised(server: TLSVault, path: str, tmp_path: Path) -> None:
    """Vault answers it with a 500, like a fault of its own."""
    with arranged("cert", server.vault.client, tmp_path, path, server.authority) as arrangement:
        expired = server.authority.issue("app-0", dt.timedelta(hours=-1))
        changed = {"client_cert": expired[0], "client_key": expired[1]}
        assert "the client certificate has expired" in refused(settings_of(server, arrangement, path, **changed))


def test_a_role_that_does_not_exist_is_refused(server: TLSVault, mounted: Arrangement, path: str) -> None:
    """Likewise."""
    message = refused(settings_of(server, mounted, path, **mounted.wrong_role))
    assert f"auth method {mounted.method} at auth/{mounted.mount}: " in message


def test_a_wrong_mount_point_is_named(server: TLSVault, mounted: Arrangement, path: str) -> None:
    """The message has the mount point that was tried."""
    message = refused(settings_of(server, mounted, path, auth_mount_point="nowhere"))
    assert "at auth/nowhere: " in message
    assert "VAULT_AUTH_MOUNT_POINT" in message


def test_a_wrong_namespace_is_named(server: TLSVault, arrangement: Arrangement, path: str) -> None:
    """The message has the namespace that was tried."""
    settings = settings_of(server, arrangement, path, login_namespace="nowhere", namespace="nowhere")
    if arrangement.method == "token":
        with pytest.raises(PathMissing, match="there is no such namespace"):
            read(settings)
        return
    assert "in namespace nowhere: " in refused(settings)


@pytest.mark.parametrize("method", ARRANGEMENTS)
@pytest.mark.parametrize("login_there", [False, True], ids=["login elsewhere", "login there"])
def test_namespaces_count_for_login_and_for_reads(
    server: TLSVault, method: str, tmp_path: Path, *, login_there: bool
) -> None:
    """The secret lives in a child namespace; the login takes place there or in its parent."""
    outer, inner = unique("outer"), "inner"
    root = server.vault.client
    root.adapter.post(f"/v1/sys/namespaces/{outer}", json={})
    parent = hvac.Client(url=server.vault.url, token=server.vault.root_token, namespace=outer)
    parent.adapter.post(f"/v1/sys/namespaces/{inner}", json={})
    child = hvac.Client(url=server.vault.url, token=server.vault.root_token, namespace=f"{outer}/{inner}")
    enable_kv(child, "secret")
    child.secrets.kv.v2.create_or_update_secret("app", SECRETS)
    login_client = child if login_there else parent
    with arranged(method, login_client, tmp_path, "app", server.authority) as arrangement:
        if not login_there:  # a policy of the parent names the child's paths from where it stands itself
            policy = f'path "{inner}/secret/data/app" {{ capabilities = ["read"] }}'
            parent.sys.create_or_update_policy(arrangement.policy, policy)
        namespaces = {"namespace": f"{outer}/{inner}"}
        if not login_there:
            namespaces["login_namespace"] = outer
        assert read(settings_of(server, arrangement, "app", **namespaces)) == SECRETS
    for client in (parent, child):
        client.adapter.close()


def test_what_hvac_picks_up_by_itself_never_leaks_in(
    server: TLSVault, arrangement: Arrangement, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the token in the environment nor the one in the home directory is sent with a login."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("VAULT_TOKEN", "junk-from-the-environment")
    monkeypatch.setenv("VAULT_NAMESPACE", "nowhere")
    (tmp_path / ".vault-token").write_text("junk-from-the-home-directory")
    proxy = FaultyProxy(server.vault.url)
    with proxy.running() as url:
        settings = settings_of(server, arrangement, path, url=url)
        if arrangement.method == "cert":  # cannot work without TLS; what matters is what is sent
            refused(settings)
        else:
            assert read(settings) == SECRETS
    assert proxy.headers
    for headers in proxy.headers:
        assert "junk" not in str(headers)
        assert "nowhere" not in str(headers)


def test_an_unknown_ca_is_named(server: TLSVault, arrangement: Arrangement, path: str) -> None:
    """With OpenSSL's own reason."""
    with pytest.raises(VaultTLSFailed, match="certificate"):
        read(settings_of(server, arrangement, path, cacert=None))


@pytest.mark.parametrize(
    "broken", [{"cacert": "nowhere.pem"}, {"client_cert": "nowhere.pem", "client_key": "nowhere.pem"}], ids=str
)
def test_tls_files_that_cannot_be_loaded_are_named(
    server: TLSVault, arrangement: Arrangement, path: str, broken: dict[str, str]
) -> None:
    """With the variable."""
    variable = f"VAULT_{next(iter(broken)).upper()}=nowhere.pem"
    with pytest.raises(VaultTLSFailed, match=variable):
        read(settings_of(server, arrangement, path, **broken))


def test_a_jwt_needs_no_role_where_the_mount_has_a_default_role(server: TLSVault, path: str, tmp_path: Path) -> None:
    """Vault takes that one; where there is none, the message says what is missing."""
    with arranged("jwt", server.vault.client, tmp_path, path, server.authority) as arrangement:
        settings = settings_of(server, arrangement, path, role=None)
        assert "no role was named, and the mount has no default_role. Set VAULT_ROLE" in refused(settings)
        close_sessions()
        config = f"auth/{arrangement.mount}/config"
        key = server.vault.client.read(config)["data"]["jwt_validation_pubkeys"]
        arrangement.write(config, {"jwt_validation_pubkeys": key, "default_role": "app"})
        assert read(settings) == SECRETS


@pytest.mark.parametrize("username", ["no such user", "%2e%2e", "a%2fb", "ä"])
def test_a_user_name_that_cannot_be_is_named(server: TLSVault, path: str, tmp_path: Path, username: str) -> None:
    """It is one segment of the path, whatever it holds, so that the password goes nowhere else."""
    with arranged("userpass", server.vault.client, tmp_path, path, server.authority) as arrangement:
        with server.vault.audited() as calls:
            message = refused(settings_of(server, arrangement, path, username=username))
        assert "VAULT_USERNAME" in message
        assert [where for _, where in calls if not where.startswith(f"auth/{arrangement.mount}/login/")] == []


def test_a_password_may_come_from_the_environment(server: TLSVault, path: str, tmp_path: Path) -> None:
    """As the file does, but it is not read again."""
    with arranged("userpass", server.vault.client, tmp_path, path, server.authority) as arrangement:
        password = arrangement.settings["password_file"].read_text("utf-8")
        assert read(settings_of(server, arrangement, path, password_file=None, password=password)) == SECRETS


def test_a_user_who_is_locked_out_is_told_so(server: TLSVault, path: str, tmp_path: Path) -> None:
    """After five wrong passwords Vault answers "permission denied", also to the right one."""
    with arranged("userpass", server.vault.client, tmp_path, path, server.authority) as arrangement:
        for _ in range(5):
            with pytest.raises(hvac.exceptions.InvalidRequest):
                arrangement.write(f"auth/{arrangement.mount}/login/app.one-shop", {"password": "canary"})
        assert "permission denied" in refused(settings_of(server, arrangement, path))


def folder_of_cas(authority: Authority, directory: Path) -> Path:
    """Return a folder with this CA and another one, under names that mean nothing."""
    folder = directory / "cas"
    folder.mkdir()
    (folder / "another.pem").write_bytes(Authority(directory / "another", "Another CA").file.read_bytes())
    (folder / "ours.crt").write_bytes(authority.file.read_bytes())
    (folder / ".hidden").write_text("no certificate")
    return folder


@pytest.mark.parametrize("how", ["bytes", "bytes on one line", "folder"])
def test_a_ca_may_be_given_as_text_or_in_a_folder(server: TLSVault, path: str, tmp_path: Path, how: str) -> None:
    """As Vault's own tools take it; the first of the three kinds counts."""
    pem = server.authority.file.read_text()
    wrong = Authority(tmp_path / "wrong", "A wrong CA").file
    cas: dict[str, Any] = {"cacert": wrong, "cacert_bytes": pem}
    if how == "bytes on one line":
        cas["cacert_bytes"] = pem.replace("\n", "\\n")
    if how == "folder":
        cas = {"cacert": None, "capath": folder_of_cas(server.authority, tmp_path)}
    with arranged("token", server.vault.client, tmp_path, path, server.authority) as arrangement:
        assert read(settings_of(server, arrangement, path, **cas)) == SECRETS


@pytest.mark.parametrize(
    ("cas", "named"),
    [
        ({"cacert_bytes": "canary"}, "VAULT_CACERT_BYTES: cannot be loaded"),
        ({"capath": "nowhere"}, "VAULT_CAPATH=nowhere: cannot be loaded (No such file or directory)"),
        ({"capath": "."}, "VAULT_CAPATH=no-certificate: cannot be loaded"),
        ({"capath": "empty"}, "VAULT_CAPATH=empty: cannot be loaded (there is no file in it)"),
    ],
)
def test_cas_that_cannot_be_loaded_are_named(
    server: TLSVault, path: str, tmp_path: Path, cas: dict[str, str], named: str
) -> None:
    """With the variable, and the file in the folder; the public CAs are not trusted instead."""
    (tmp_path / "no-certificate").write_text("canary")
    (tmp_path / "empty").mkdir()
    settings = VaultSettings.model_validate({**server.tls, "token": "x", "secret_path": path, "cacert": None, **cas})
    with pytest.raises(VaultTLSFailed) as caught:
        read(settings)
    assert str(caught.value).startswith(named)
    assert "canary" not in str(caught.value)


def test_the_name_in_the_certificate_may_be_another_than_the_host(server: TLSVault, path: str, tmp_path: Path) -> None:
    """`VAULT_TLS_SERVER_NAME` is asked for and checked, where the address has a name that no certificate is for."""
    with arranged("token", server.vault.client, tmp_path, path, server.authority) as arrangement:
        named = {"url": server.tls["url"], "tls_server_name": "localhost"}
        assert read(settings_of(server, arrangement, path, **named)) == SECRETS
        with pytest.raises(VaultTLSFailed, match="is for another host"):
            read(settings_of(server, arrangement, path, tls_server_name="vault.elsewhere.example"))


def test_the_login_may_take_place_in_the_root_namespace(server: TLSVault, tmp_path: Path) -> None:
    """While the secrets are in another one: `VAULT_LOGIN_NAMESPACE=root`, or `/`."""
    team, root = unique("team"), server.vault.client
    root.adapter.post(f"/v1/sys/namespaces/{team}", json={})
    child = hvac.Client(url=server.vault.url, token=server.vault.root_token, namespace=team)
    enable_kv(child, "secret")
    child.secrets.kv.v2.create_or_update_secret("app", SECRETS)
    child.adapter.close()
    with arranged("approle", root, tmp_path, "app", server.authority) as arrangement:
        policy = f'path "{team}/secret/data/app" {{ capabilities = ["read"] }}'
        root.sys.create_or_update_policy(arrangement.policy, policy)
        for written in ("root", "/"):
            close_sessions()
            namespaces = {"namespace": team, "login_namespace": written}
            assert read(settings_of(server, arrangement, "app", **namespaces)) == SECRETS
        assert "there is no such namespace" in refused(
            settings_of(server, arrangement, "app", namespace="nowhere", login_namespace=None)
        )
