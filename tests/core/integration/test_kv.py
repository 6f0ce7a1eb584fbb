"""Both versions of the KV engine, at any mount point, and what is said when the wrong one is assumed."""

from collections.abc import Callable
from typing import Any

import hvac.exceptions
import pytest

from app.config import Settings
from app.core.errors import BackendError, MountMissing, PathMissing, PermissionDenied, WrongKVVersion
from app.core.settings.references import parse_reference
from app.core.settings.vault import VaultSettings
from app.core.vault.kv import VaultKV
from app.core.vault.kv_writer import VaultKVWriter
from app.core.vault.session import VaultSession
from app.vault import get_session, read_paths, read_reference
from tests.support import SECRETS, Vault, enable_kv, load_all, unique


@pytest.fixture(params=["1", "2"])
def mounted(request: pytest.FixtureRequest, vault: Vault) -> tuple[str, str]:
    """Mount a KV engine at a nested mount point, with one secret `app/x`; return the version and where it is."""
    mount_point = enable_kv(vault.client, f"{unique('team')}/kv with space", request.param)
    if request.param == "1":
        vault.client.secrets.kv.v1.create_or_update_secret("app/x", SECRETS, mount_point=mount_point)
    else:
        vault.client.secrets.kv.v2.create_or_update_secret("app/x", SECRETS, mount_point=mount_point)
    return request.param, mount_point


@pytest.fixture
def path(vault: Vault) -> str:
    """Write a secret; return where."""
    vault.write(path := unique("app"), SECRETS)
    return path


def settings_of(vault: Vault, mount_point: str, version: str, **more: Any) -> VaultSettings:
    """Return settings with the root token."""
    fixed = {"enabled": True, "url": vault.url, "token": vault.root_token, "secret_path": "app/x"}
    return VaultSettings.model_validate({**fixed, "mount_point": mount_point, "kv_version": version, **more})


def read(settings: VaultSettings) -> Any:
    """Read the one configured secret."""
    (secret,) = read_paths(settings, settings.secret_path)
    return secret


def test_the_configured_version_costs_no_extra_call(vault: Vault, mounted: tuple[str, str]) -> None:
    """One read is one request; version 1 has no version numbers."""
    version, mount_point = mounted
    with vault.audited() as calls:
        secret = read(settings_of(vault, mount_point, version))
    assert secret.data == SECRETS
    assert secret.version == (1 if version == "2" else None)
    assert len(calls) == 1


def test_auto_finds_out_once(vault: Vault, mounted: tuple[str, str]) -> None:
    """One more request for the first read, none for the second."""
    _, mount_point = mounted
    settings = settings_of(vault, mount_point, "auto")
    with vault.audited() as calls:
        assert read(settings).data == read(settings).data == SECRETS
    assert [where for _, where in calls].count(f"sys/internal/ui/mounts/{mount_point}") == 1
    assert len(calls) == 3


def test_auto_without_the_right_to_look_says_what_to_set(vault: Vault) -> None:
    """The version can be set instead."""
    raw = {**vault.app_role("x"), "mount_point": unique("nowhere"), "kv_version": "auto"}
    with pytest.raises(PermissionDenied, match="set VAULT_KV_VERSION to 1 or 2"):
        read(VaultSettings.model_validate(raw))


def test_the_wrong_version_is_recognised(vault: Vault, mounted: tuple[str, str]) -> None:
    """And the right one named, whether the path exists or not."""
    version, mount_point = mounted
    wrong = {"1": "2", "2": "1"}[version]
    for path in ("app/x", "app/missing"):
        with pytest.raises(WrongKVVersion, match=f"Set VAULT_KV_VERSION={version}"):
            read(settings_of(vault, mount_point, wrong, secret_path=path))


def test_a_missing_path_is_missing_in_both_versions(vault: Vault, mounted: tuple[str, str]) -> None:
    """With the mount point in the message, and a hint where it stands in the path too."""
    version, mount_point = mounted
    with pytest.raises(PathMissing, match=f"{mount_point}/app/missing: there is no secret"):
        read(settings_of(vault, mount_point, version, secret_path="app/missing"))
    with pytest.raises(PathMissing, match=f"leave out {mount_point}/"):
        read(settings_of(vault, mount_point, version, secret_path=f"{mount_point}/app/x"))


@pytest.mark.parametrize("configured", ["1", "auto"])
def test_version_1_has_no_former_versions(vault: Vault, configured: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So none may be asked for: the value of today must not pass for it, nor a default."""
    mount_point = enable_kv(vault.client, unique("kv"), "1")
    vault.client.secrets.kv.v1.create_or_update_secret("x", {"a": "now"}, mount_point=mount_point)
    settings = settings_of(vault, mount_point, configured, secret_path="x")
    monkeypatch.setenv("SECRET_A", "{vault://vault/x/a?default=d#1}")
    for reading in (
        lambda: VaultKV(get_session(settings)).read("x", 1),
        lambda: load_all(Settings(vault=settings)),
        lambda: read_reference(parse_reference("{vault://vault/x/a#1}"), Settings(vault=settings)),
    ):
        with pytest.raises(WrongKVVersion, match="KV version 1 keeps no versions, so there is no version 1"):
            reading()
    assert read(settings).data == {"a": "now"}


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_mount_point_where_nothing_is_mounted_is_named(vault: Vault, version: str) -> None:
    """With the variable."""
    with pytest.raises(BackendError, match=r"nothing is mounted there.*VAULT_MOUNT_POINT"):
        read(settings_of(vault, unique("nowhere"), version))


@pytest.mark.parametrize("version", ["1", "2", "auto"])
def test_another_engine_is_not_taken_for_kv(vault: Vault, version: str) -> None:
    """It is named."""
    vault.client.sys.enable_secrets_engine("transit", path=(mount_point := unique("transit")))
    with pytest.raises(WrongKVVersion, match="a transit engine is mounted there"):
        read(settings_of(vault, mount_point, version))


@pytest.mark.parametrize("name", ["with space", "ünïcode", "a%2Fb", "a?x#y", "a+b", "a;b,c"])
def test_version_1_takes_any_path_too(vault: Vault, name: str) -> None:
    """It is percent-encoded once, whatever is in it."""
    mount_point = enable_kv(vault.client, unique("kv"), "1")
    vault.client.secrets.kv.v1.create_or_update_secret(name, {"a": 1}, mount_point=mount_point)
    settings = settings_of(vault, mount_point, "1").model_copy(update={"secret_path": (name,)})
    assert read(settings).data == {"a": 1}


def test_the_missing_capability_is_named(vault: Vault) -> None:
    """And what the token has instead."""
    policy = 'path "secret/data/{path}" {{ capabilities = ["list", "create"] }}'
    policy += 'path "sys/capabilities-self" {{ capabilities = ["update"] }}'
    path = unique("app")
    with pytest.raises(PermissionDenied, match=r"lacks the capability read \(it has: create, list\)"):
        read(VaultSettings.model_validate(vault.app_role(path, policy=policy)))


@pytest.mark.parametrize("version", ["1", "2", "auto"])
@pytest.mark.parametrize("mount_point", ["secret/data", "/secret/metadata/", "v1/secret", "v1/secret/data"])
def test_the_api_in_the_mount_point_is_recognised(vault: Vault, path: str, mount_point: str, version: str) -> None:
    """Whatever the KV version, and before anything is written to a path that nobody meant."""
    settings = settings_of(vault, mount_point, version, secret_path=path, access_mode="read_and_write")
    for attempt in (lambda: read(settings), lambda: VaultKVWriter(get_session(settings)).write(path, {"a": "1"})):
        with pytest.raises(
            BackendError, match=r"Set VAULT_MOUNT_POINT=secret: leave out (v1|data|metadata|v1 and data),"
        ):
            attempt()
    with pytest.raises(hvac.exceptions.InvalidPath):
        vault.client.secrets.kv.v2.read_secret_metadata(f"data/{path}")


def test_a_mount_point_with_data_in_its_name_is_fine(vault: Vault) -> None:
    """It only looks like a slip."""
    mount_point = enable_kv(vault.client, f"{unique('team')}/data", "2")
    settings = settings_of(vault, mount_point, "2", access_mode="read_and_write")
    assert VaultKVWriter(get_session(settings)).write("app/x", {"a": "1"}) == 1
    assert read(settings).data == {"a": "1"}


def test_what_version_2_answers_is_no_secret_of_version_1(vault: Vault, path: str) -> None:
    """With data/ in the path it looks like one, whose keys are `data` and `metadata`."""
    with pytest.raises(WrongKVVersion, match="Set VAULT_KV_VERSION=2"):
        read(settings_of(vault, "secret", "1", secret_path=f"data/{path}"))
    mount_point = enable_kv(vault.client, unique("kv"), "1")
    alike = {"data": {"a": "1"}, "metadata": {"version": 1, "created_time": "2026-01-01T00:00:00Z"}}
    vault.client.secrets.kv.v1.create_or_update_secret("app/x", alike, mount_point=mount_point)
    assert read(settings_of(vault, mount_point, "1")).data == alike


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_folder_says_what_it_holds(vault: Vault, version: str) -> None:
    """The first few names, in both versions of the engine, also to a reference."""
    mount_point = enable_kv(vault.client, unique("kv"), version)
    kv = getattr(vault.client.secrets.kv, f"v{version}")
    for n in range(12):
        kv.create_or_update_secret(f"team/{'x' * 100 if n == 0 else 'app'}{n:02}", {"a": "1"}, mount_point=mount_point)
    settings = settings_of(vault, mount_point, version, secret_path="team")
    with pytest.raises(
        PathMissing, match=r"it is a folder; it holds: app01, app02, .* and 2 more. Set VAULT_SECRET_PATH"
    ):
        read(settings)
    everything = Settings.model_validate({"vault": settings})
    with pytest.raises(
        PathMissing, match=r"holds: app01, .*Set \{vault://vault/team/a\} to one of them, like team/app01"
    ):
        read_reference(parse_reference("{vault://vault/team/a}"), everything)
    assert read_reference(parse_reference("{vault://vault/team/a?default=x}"), everything) == ("x", None)


def test_a_folder_that_may_not_be_listed_is_a_missing_path(vault: Vault, path: str) -> None:
    """As before; and nothing is tried that the policy forbids."""
    vault.write(f"{path}-folder/a", {"a": "1"})
    settings = VaultSettings.model_validate(vault.app_role(f"{path}-folder"))
    with vault.audited() as calls, pytest.raises(PathMissing, match=r"there is no secret at this path\. Write it"):
        read(settings)
    assert [where for operation, where in calls if operation == "list"] == []


def test_a_named_vault_is_told_by_its_own_variables(vault: Vault, path: str) -> None:
    """`VAULT_MOUNT_POINT` is another one's."""
    own = {"url": vault.url, "token": vault.root_token, "mount_point": "secret/data"}
    settings = Settings.model_validate({"vaults": {"partner-one": own}})
    with pytest.raises(MountMissing, match="Set VAULTS__PARTNER_ONE__MOUNT_POINT=secret: leave out data"):
        read_reference(parse_reference(f"{{vault://partner-one/{path}/api_key}}"), settings)


KV_CALLS: dict[str, Callable[[VaultKVWriter], Any]] = {
    "write": lambda kv: kv.write("app", {"n": "new"}),
    "patch": lambda kv: kv.patch("app", {"n": "new"}),
    "delete": lambda kv: kv.delete("app"),
    "undelete": lambda kv: kv.undelete("app", [1]),
    "destroy": lambda kv: kv.destroy("app", [1]),
    "metadata": lambda kv: kv.metadata("app"),
    "write custom metadata": lambda kv: kv.write_custom_metadata("app", {"a": "b"}),
    "delete metadata": lambda kv: kv.delete_metadata("app"),
    "list": lambda kv: kv.list(),
    "read a version": lambda kv: kv.read("app", 1),
}
OF_VERSION_1 = {"write", "delete", "list"}


@pytest.mark.parametrize("call", KV_CALLS)
@pytest.mark.parametrize(("before", "after"), [("1", "2"), ("2", "1")])
def test_after_another_mount_every_call_goes_to_the_right_place(
    vault: Vault, before: str, after: str, call: str
) -> None:
    """With `auto`. What goes to the wrong place makes a stray secret, and nobody says so."""
    mount = enable_kv(vault.client, unique("kv"), before)
    settings = {"url": vault.url, "auth_method": "token", "token": vault.root_token, "mount_point": mount}
    more = {"kv_version": "auto", "access_mode": "read_and_write"}
    sessions = [VaultSession(VaultSettings.model_validate({**settings, **more})) for _ in range(2)]
    try:
        used, fresh = map(VaultKVWriter, sessions)
        used.write("app", {"n": "old"})
        vault.client.sys.disable_secrets_engine(mount)
        enable_kv(vault.client, mount, after)
        fresh.write("app", {"n": "other"})
        if after == "2" or call in OF_VERSION_1:
            KV_CALLS[call](used)
        else:
            with pytest.raises(WrongKVVersion):
                KV_CALLS[call](used)
        is_gone = (after, call) in {("2", "delete metadata"), ("1", "delete")}
        assert fresh.list() == ([] if is_gone else ["app"])
    finally:
        for session in sessions:
            session.close()


def test_a_condition_of_the_policy_is_named_where_the_capability_is_there(vault: Vault, path: str) -> None:
    """A secret that is there needs `update`, and no `create`: that is what a new one lacks."""
    kinds = {"data": "data", "undelete": "versions", "destroy": "versions", "metadata": "custom_metadata"}
    policy = ""
    for kind, what in kinds.items():
        conditional = f'capabilities = ["read", "update"] denied_parameters = {{{{ {what} = [] }}}}'
        policy += f'path "secret/{kind}/*" {{{{ {conditional} }}}}\n'
    policy += 'path "sys/capabilities-self" {{ capabilities = ["update"] }}\n'
    policy += 'path "auth/token/revoke-self" {{ capabilities = ["update"] }}\n'
    role = vault.app_role(path, policy=policy)
    session = VaultSession(VaultSettings.model_validate({**role, "access_mode": "read_and_write"}))
    kv = VaultKVWriter(session)
    try:
        changes: list[Callable[[], object]] = [
            lambda: kv.write(path, {}),
            lambda: kv.undelete(path, [1]),
            lambda: kv.destroy(path, [1]),
            lambda: kv.write_custom_metadata(path, {"a": "b"}),
        ]
        for change in changes:
            with pytest.raises(PermissionDenied, match="although the token has the capability update"):
                change()
        with pytest.raises(PermissionDenied, match="lacks the capability create"):
            kv.write(unique("app"), {})
    finally:
        session.close()
