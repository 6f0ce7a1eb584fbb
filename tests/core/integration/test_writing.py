"""Writing to a real server: nothing is lost, nobody is overtaken unseen, and what is not allowed is not sent."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi import Request
from fastapi.testclient import TestClient

from app.core.errors import (
    AccessRefused,
    BadRequest,
    LostRace,
    MountMissing,
    PathMissing,
    PermissionDenied,
    VersionDeleted,
    WrongKVVersion,
)
from app.core.settings.vault import VaultSettings
from app.core.vault.kv_writer import VaultKVWriter
from app.vault import (
    delete_secret,
    destroy,
    get_session,
    list_secrets,
    patch_secret,
    read_secret,
    secret_metadata,
    undelete,
    write_secret,
)
from tests.declared import create_app, fingerprint_of
from tests.support import SECRETS, Vault, enable_kv, unique, until

EVERYTHING = """
path "secret/data/{path}" {{ capabilities = ["create", "read", "update", "delete"{more}] }}
path "secret/+/{path}" {{ capabilities = ["create", "read", "update", "delete", "list"] }}
path "sys/capabilities-self" {{ capabilities = ["update"] }}
path "auth/token/lookup-self" {{ capabilities = ["read"] }}
"""


def writer_of(vault: Vault, **more: Any) -> VaultKVWriter:
    """Return a writer with the root token."""
    raw = {"enabled": True, "url": vault.url, "token": vault.root_token, "access_mode": "read_and_write", **more}
    return VaultKVWriter(get_session(VaultSettings.model_validate(raw)))


@pytest.fixture
def writer(vault: Vault) -> VaultKVWriter:
    """Return a writer that may do everything."""
    return writer_of(vault)


def test_what_is_written_can_be_read(writer: VaultKVWriter) -> None:
    """With the version that the write returned."""
    path = unique("written")
    assert writer.write(path, {"a": 1, "b": "x"}) == 1
    assert writer.write(path, {"a": 2}) == 2
    assert (writer.read(path).data, writer.read(path).version) == ({"a": 2}, 2)
    assert writer.read(path, 1).data == {"a": 1, "b": "x"}


def test_check_and_set_protects_against_a_lost_update(writer: VaultKVWriter) -> None:
    """The error has the current version."""
    path = unique("cas")
    assert writer.write(path, {"a": 1}, cas=0) == 1
    with pytest.raises(LostRace, match="version 0 is not the current one any more, 1 is"):
        writer.write(path, {"a": 2}, cas=0)
    assert writer.write(path, {"a": 2}, cas=1) == 2


@pytest.mark.parametrize("more", ["", ', "patch"'], ids=["by reading and writing", "by Vault"])
def test_a_patch_keeps_the_siblings(vault: Vault, more: str) -> None:
    """Whoever merges: Vault, where the token may patch, or we, with check-and-set."""
    path = unique("patched")
    vault.write(path, {"a": 1, "b": 2, "gone": 3})
    raw = vault.app_role(path, policy=EVERYTHING.replace("{more}", more))
    writer = VaultKVWriter(get_session(VaultSettings.model_validate({**raw, "access_mode": "read_and_write"})))
    with vault.audited() as calls:
        assert writer.patch(path, {"b": "new", "c": True, "gone": None}) == 2
    assert writer.read(path).data == {"a": 1, "b": "new", "c": True}
    assert ("patch" in {operation for operation, _ in calls}) or not more


@pytest.mark.parametrize("more", ["", ', "patch"'], ids=["by reading and writing", "by Vault"])
@pytest.mark.parametrize(
    ("changes", "result"),
    [
        ({"db": {"password": "new"}}, {"db": {"user": "app", "password": "new"}, "null": None, "n": 1}),
        (
            {"db": {"user": None, "x": {"y": None, "z": 2}}},
            {"db": {"password": "old", "x": {"z": 2}}, "null": None, "n": 1},
        ),
        ({"db": None, "null": None}, {"n": 1}),
        ({"db": "flat", "n": {"a": [1, {"b": 2}]}}, {"db": "flat", "null": None, "n": {"a": [1, {"b": 2}]}}),
    ],
    ids=["a nested key", "a nested null", "a null", "another type"],
)
def test_a_patch_merges_objects_whoever_merges(
    vault: Vault, more: str, changes: dict[str, Any], result: dict[str, Any]
) -> None:
    """Both ways leave the same: what lies deeper is kept, and so are siblings that are null."""
    path = unique("nested")
    vault.write(path, {"db": {"user": "app", "password": "old"}, "null": None, "n": 1})
    raw = vault.app_role(path, policy=EVERYTHING.replace("{more}", more))
    writer = VaultKVWriter(get_session(VaultSettings.model_validate({**raw, "access_mode": "read_and_write"})))
    with vault.audited() as calls:
        writer.patch(path, changes)
    assert writer.read(path).data == result
    assert (("update", f"secret/data/{path}") in calls) != bool(more)


def test_where_check_and_set_is_required_the_error_says_so(vault: Vault) -> None:
    """It is no lost race, which one could repeat for ever; and a patch brings its own check-and-set."""
    mount_point = enable_kv(vault.client, unique("cas"))
    vault.client.secrets.kv.v2.configure(cas_required=True, mount_point=mount_point)
    writer = writer_of(vault, mount_point=mount_point)
    with pytest.raises(BadRequest, match=r"/x: here nothing is written without check-and-set.*Write with cas="):
        writer.write("x", {"a": 1})
    assert writer.write("x", {"a": 1, "b": 2}, cas=0) == 1
    assert writer.patch("x", {"a": 2}) == 2
    assert writer.read("x").data == {"a": 2, "b": 2}
    with pytest.raises(LostRace, match="version 1 is not the current one any more, 2 is"):
        writer.write("x", {"a": 1}, cas=1)


def test_patches_at_the_same_time_lose_nothing(vault: Vault) -> None:
    """Each changes its own key; whoever was overtaken reads and merges again."""
    path = unique("contended")
    vault.write(path, {"start": 0})
    raw = vault.app_role(path, policy=EVERYTHING.replace("{more}", ""))
    writer = VaultKVWriter(get_session(VaultSettings.model_validate({**raw, "access_mode": "read_and_write"})))

    def add(n: int) -> bool:
        try:
            writer.patch(path, {f"key{n}": n})
        except LostRace:
            return False
        return True

    with ThreadPoolExecutor(3) as pool:
        added = list(pool.map(add, range(9)))
    assert writer.read(path).data == {"start": 0} | {f"key{n}": n for n, done in enumerate(added) if done}


def test_a_version_can_be_deleted_brought_back_and_destroyed(writer: VaultKVWriter) -> None:
    """And the metadata tells."""
    path = unique("deleted")
    writer.write(path, {"a": 1})
    writer.delete(path)
    with pytest.raises(VersionDeleted):
        writer.read(path)
    writer.undelete(path, [1])
    assert writer.read(path).data == {"a": 1}
    writer.destroy(path, [1])
    with pytest.raises(VersionDeleted, match="destroyed"):
        writer.read(path)
    assert writer.metadata(path)["versions"]["1"]["destroyed"]


def test_names_are_listed(writer: VaultKVWriter) -> None:
    """Folders with a slash; a folder that is not there is empty."""
    folder = unique("folder")
    writer.write(f"{folder}/b c", {"a": 1})
    writer.write(f"{folder}/sub/a", {"a": 1})
    assert writer.list(folder) == ["b c", "sub/"]
    assert writer.list(unique("nowhere")) == []


def test_no_names_are_not_the_same_as_no_mount(vault: Vault) -> None:
    """A wrong mount point is an error, not an empty list."""
    with pytest.raises(MountMissing, match="nothing is mounted there"):
        writer_of(vault, mount_point=unique("nowhere")).list("x")


@pytest.mark.parametrize("path", ["../../sys/policy/x", "x/../y", ".", "a\nb"])
def test_a_path_cannot_leave_the_mount_point(vault: Vault, writer: VaultKVWriter, path: str) -> None:
    """Neither for writing nor for anything else; nothing is sent."""
    with vault.audited() as calls:
        for forbidden in (
            lambda: writer.write(path, {"a": 1}),
            lambda: writer.patch(path, {"a": 1}),
            lambda: writer.delete(path),
            lambda: writer.undelete(path, [1]),
            lambda: writer.destroy(path, [1]),
            lambda: writer.list(path),
            lambda: writer.metadata(path),
            lambda: writer.read(path),
        ):
            with pytest.raises(ValueError, match="must not contain"):
                forbidden()
    assert calls == []


@pytest.mark.parametrize("act", ["write", "patch", "delete", "undelete", "destroy"])
def test_only_listing_works_without_a_path(vault: Vault, writer: VaultKVWriter, act: str) -> None:
    """The mount point itself is no secret."""
    with vault.audited() as calls, pytest.raises(ValueError, match="is empty"):
        getattr(writer, act)("", *([] if act == "delete" else [{}]))
    assert calls == []


def test_a_path_that_nobody_means_is_refused(vault: Vault, writer: VaultKVWriter) -> None:
    """A megabyte of it; Vault would not even answer."""
    with vault.audited() as calls, pytest.raises(ValueError, match="longer than 2048 characters"):
        writer.write("x" * 1_000_000, {"a": 1})
    assert calls == []


def test_unusual_keys_and_values_are_kept_as_they_are(writer: VaultKVWriter) -> None:
    """Names that mean something elsewhere, invisible characters, a large value."""
    path = unique("unusual")
    names = ["constructor", "__proto__", "key", "description", "", "a\x00b", "\u202e", "x" * 10_000]
    data = {name: f"value of {name}" for name in names} | {
        "large": "ü" * 500_000,
        "n": 1.5,
        "t": True,
        "o": {"a": [None]},
    }
    writer.write(path, data)
    assert writer.read(path).data == data


@pytest.mark.parametrize(
    ("value", "said"),
    [(float("nan"), "cannot be written as JSON"), ("x" * 40_000_000, "larger than Vault takes")],
    ids=["NaN", "40 MB"],
)
def test_what_vault_cannot_take_is_said(writer: VaultKVWriter, value: Any, said: str) -> None:
    """And nothing is written."""
    path = unique("refused")
    with pytest.raises(BadRequest, match=said):
        writer.write(path, {"a": value})
    with pytest.raises(PathMissing):
        writer.read(path)


@pytest.mark.parametrize("kv_version", ["2", "auto"])
def test_what_the_access_mode_forbids_is_not_sent(vault: Vault, kv_version: str) -> None:
    """Neither a write in read_only, which is the default, nor a read in write_only, of a value or of names."""
    path = unique("guarded")
    reader = writer_of(vault, access_mode="read_only", kv_version=kv_version)
    blind = writer_of(vault, access_mode="write_only", kv_version=kv_version)
    assert VaultSettings().access_mode == "read_only"
    with vault.audited() as calls:
        for forbidden in (
            lambda: reader.write(path, {}),
            lambda: reader.patch(path, {}),
            lambda: reader.delete(path),
            lambda: reader.undelete(path, [1]),
            lambda: reader.destroy(path, [1]),
            lambda: reader.write_custom_metadata(path, {}),
            lambda: reader.delete_metadata(path),
            lambda: blind.read(path),
            lambda: blind.list(path),
            blind.list,
            lambda: blind.metadata(path),
        ):
            with pytest.raises(AccessRefused, match="VAULT_ACCESS_MODE"):
                forbidden()
    assert calls == []
    assert blind.write(path, {"a": 1}) == 1
    assert blind.patch(path, {"b": 2}) == 2
    with pytest.raises(LostRace, match="version 1 is not the current one any more, 2 is"):
        blind.write(path, {"a": 1}, cas=1)


def test_a_denied_write_names_the_missing_capability(vault: Vault) -> None:
    """And the line that the policy lacks."""
    path = unique("readable")
    raw = {**vault.app_role(path), "access_mode": "read_and_write"}
    writer = VaultKVWriter(get_session(VaultSettings.model_validate(raw)))
    with pytest.raises(PermissionDenied, match=r"lacks the capability update \(it has: read\)"):
        writer.write(path, {"a": 1})


@pytest.mark.parametrize(("held", "missing"), [("update", "create"), ("create", "update"), ("read", "update")])
@pytest.mark.parametrize("version", ["1", "2"])
def test_the_capability_that_is_named_is_the_missing_one(vault: Vault, version: str, held: str, missing: str) -> None:
    """What is not there yet must be created, what is there is updated."""
    mount_point = enable_kv(vault.client, unique("kv"), version)
    mounted = {"mount_point": mount_point, "kv_version": version, "access_mode": "read_and_write"}
    if missing == "update":
        writer_of(vault, **mounted).write("x", {"a": 0})
    policy = f'path "{mount_point}/*" {{{{ capabilities = ["{held}"] }}}}\n' + EVERYTHING.replace("{more}", "")
    writer = VaultKVWriter(get_session(VaultSettings.model_validate({**vault.app_role("x", policy=policy), **mounted})))
    with pytest.raises(PermissionDenied, match=rf"lacks the capability {missing} \(it has: {held}\)") as caught:
        writer.write("x", {"a": 1})
    assert f'capabilities = ["{missing}"]' in caught.value.remedy


def test_version_1_does_what_it_can_and_says_what_it_cannot(vault: Vault) -> None:
    """Whole secrets, listing, deleting; no versions."""
    mount_point = enable_kv(vault.client, unique("kv1"), "1")
    writer = writer_of(vault, mount_point=mount_point, kv_version="1")
    assert writer.write("x", {"a": 1}) is None
    assert writer.read("x").data == {"a": 1}
    assert writer.list() == ["x"]
    for impossible in (
        lambda: writer.write("x", {}, cas=1),
        lambda: writer.patch("x", {"b": 1}),
        lambda: writer.undelete("x", [1]),
        lambda: writer.destroy("x", [1]),
        lambda: writer.metadata("x"),
    ):
        with pytest.raises(WrongKVVersion, match="KV version 1 keeps no versions"):
            impossible()
    writer.delete("x")
    with pytest.raises(PathMissing):
        writer.read("x")


def test_a_lost_race_is_told_also_where_the_current_version_may_not_be_known(vault: Vault) -> None:
    """Without the right to read the metadata."""
    raw = vault.app_role(
        path := unique("raced"), policy=EVERYTHING.replace("secret/+", "secret/none").replace("{more}", "")
    )
    writer = VaultKVWriter(get_session(VaultSettings.model_validate({**raw, "access_mode": "read_and_write"})))
    writer.write(path, {"a": 1})
    with pytest.raises(LostRace, match=r"version 0 is not the current one any more\. Read it"):
        writer.write(path, {"a": 2}, cas=0)


@pytest.fixture
def _in_environment(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"URL": vault.url, "TOKEN": vault.root_token, "ACCESS_MODE": "READ_AND_WRITE"}.items():
        monkeypatch.setenv(f"VAULT_{name}", value)


@pytest.mark.usefixtures("_in_environment")
def test_the_functions_of_the_index_take_their_settings_from_the_environment() -> None:
    """Each of them, with the names that the documentation gives them."""
    path = unique("named")
    assert write_secret(path, {"a": 1}, cas=0) == 1
    assert patch_secret(path, {"b": 2}) == 2
    assert read_secret(path) == {"a": 1, "b": 2}
    delete_secret(path)
    with pytest.raises(VersionDeleted):
        read_secret(path)
    undelete(path, [2])
    destroy(path, [1])
    metadata = secret_metadata(path)
    assert (metadata["current_version"], metadata["versions"]["1"]["destroyed"]) == (2, True)
    assert path in list_secrets()


@pytest.mark.usefixtures("_in_environment")
def test_a_write_is_visible_to_this_process_at_once(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """To a running service, though its next refresh is far away; objects that were built from it follow."""
    vault.write(path := unique("visible"), SECRETS)
    for name, value in {"VAULT_ENABLED": "true", "VAULT_SECRET_PATH": path, "VAULT_REFRESH_INTERVAL": "86400"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("VAULT_MAX_STALENESS", "0")
    app = create_app()

    @app.post("/turn")
    def turn(request: Request) -> str:
        patch_secret(path, {"api_key": "turned-key", "jwt_secret": "j" * 32})
        found: str = request.app.state.vault_secrets["api_key"]
        return found

    with TestClient(app) as client:
        assert client.post("/turn").json() == "turned-key"
        answer = client.post("/caller", headers={"X-API-Key": "turned-key"})
        assert answer.status_code == 200
        until(lambda: client.get("/fingerprint").json() == fingerprint_of("j" * 32), "the object to follow")
