"""What must the service be allowed to do in Vault? Exactly what its settings declare, and nothing more."""

import json
from collections.abc import Iterator

from app.core.errors import BlueprintError
from app.core.settings.app import AppSettings
from app.core.settings.vault import MAIN_VAULT, VaultSettings
from app.core.store.overrides import references_to

Grants = dict[str, tuple[str, ...]]

# what the service does with its own token, and what it asks so that a refusal can name the missing capability
SELF: Grants = {
    "auth/token/renew-self": ("update",),
    "auth/token/lookup-self": ("read",),
    "auth/token/revoke-self": ("update",),
    "sys/capabilities-self": ("update",),
}


def vault_policy(settings: AppSettings, vault: str = MAIN_VAULT) -> str:
    """Return the least-privilege policy for one of the Vaults, in the form that `vault policy write` takes."""
    own = settings.vault_settings(vault)
    _refuse_patterns(own.mount_point)
    if own.access_mode != "read_only":
        _refuse_patterns(own.write_prefix)
    home, below = _namespaces(own)
    own_token = _own_token(own)
    parts: list[tuple[str, Grants]] = [
        ("the secrets that the service reads", _seen_from_home(below, _reads(settings, vault, own))),
        ("the credentials that Vault issues for it, and their leases", _seen_from_home(below, issuing_grants(own))),
        (
            "the secrets that it writes, and the API keys that it issues",
            _seen_from_home(below, writing_grants(own)),
        ),
        # OpenBao looks for the token's own paths at home; a server that does not finds them below
        (
            "its own token, and which capability it lacks when Vault refuses something",
            own_token | _seen_from_home(below, own_token),
        ),
    ]
    where = f" of the namespace {home}" if home else ""
    head = f"# What the service may do in the Vault {vault}: a policy{where}.\n"
    return "\n".join([head, *(f"# {title}\n{hcl(grants)}" for title, grants in parts if grants)])


def granted_paths(settings: AppSettings, vault: str = MAIN_VAULT) -> Grants:
    """Return what that policy grants, by the paths as they are in the namespace of the secrets."""
    own = settings.vault_settings(vault)
    return _reads(settings, vault, own) | issuing_grants(own) | writing_grants(own) | _own_token(own)


def _own_token(own: VaultSettings) -> Grants:
    """Leave out what is not ours: a token that an Agent or Proxy adds is nobody's to revoke."""
    return {path: grants for path, grants in SELF.items() if own.auth_method != "none" or "revoke" not in path}


def _namespaces(own: VaultSettings) -> tuple[str, str]:
    """Return the namespace of the login, where the policy belongs, and the path from there to that of the secrets.

    Raises `BlueprintError` if there is none: a token can do nothing beside or above its own namespace.
    """
    home, there = own.home or "", own.place or ""
    if there == home:
        return home, ""
    if not there.startswith(f"{home}/" if home else ""):
        cause = f"a token of the namespace {home} can do nothing in {there or 'the root namespace'}"
        raise BlueprintError("VAULT_LOGIN_NAMESPACE", cause, "Log in in that of the secrets, or in one above it.")
    return home, there.removeprefix(f"{home}/") + "/"


def _seen_from_home(below: str, grants: Grants) -> Grants:
    return {f"{below}{path}": capabilities for path, capabilities in grants.items()}


def _reads(settings: AppSettings, vault: str, own: VaultSettings) -> Grants:
    if own.access_mode == "write_only":
        return {}
    referring = references_to(settings.secrets, own.answers_to(vault))
    referred = [each.resource for references in referring.values() for each in references if not each.is_dynamic]
    paths = dict.fromkeys([*own.paths, *referred])
    return {api_path: ("read",) for path in paths for api_path in _data_paths(own, path)}


def issuing_grants(own: VaultSettings) -> Grants:
    """Return what dynamic secrets take: to have them issued, and to renew and revoke their leases and no others."""
    grants: Grants = {}
    for each in own.dynamic:
        _refuse_patterns(each.path)
        grants[each.path] = ("update",) if each.parameters else ("read",)
        if each.has_lease:
            grants[f"sys/leases/renew/{each.path}/*"] = ("update",)
            grants[f"sys/leases/revoke/{each.path}/*"] = ("update",)
    return grants


def writing_grants(own: VaultSettings) -> Grants:
    """Return what writing below `VAULT_WRITE_PREFIX` takes, by the paths of Vault's API."""
    if own.access_mode == "read_only":
        return {}
    below, both = f"{own.write_prefix}/*", own.access_mode == "read_and_write"
    reads, lists = (("read",), ("list",)) if both else ((), ())
    grants: Grants = {}
    if own.kv_version != "1":
        grants = {  # the metadata are read by who only writes, too: a lost race names the current version
            f"{own.mount_point}/data/{below}": ("create", *reads, "update", "patch", "delete"),
            f"{own.mount_point}/metadata/{below}": ("create", "read", "update", "delete", *lists),
            f"{own.mount_point}/undelete/{below}": ("update",),
            f"{own.mount_point}/destroy/{below}": ("update",),
        }
    if own.kv_version != "2":
        grants[f"{own.mount_point}/{below}"] = ("create", *reads, "update", "delete", *lists)
    return grants


def _data_paths(own: VaultSettings, path: str) -> Iterator[str]:
    """Say where Vault's API has the secret at this path; with `VAULT_KV_VERSION=auto` it may be either place."""
    _refuse_patterns(path)
    if own.kv_version != "1":
        yield f"{own.mount_point}/data/{path}"
    if own.kv_version != "2":
        yield f"{own.mount_point}/{path}"


def _refuse_patterns(path: str) -> None:
    if path.endswith("*") or "+" in path.split("/") or "{{" in path or "${" in path:
        raise BlueprintError(path, "in a policy it would mean more than this path", "Give it another name.")


def hcl(grants: Grants) -> str:
    """Return grants in the form that `vault policy write` takes."""
    return "".join(
        f"path {json.dumps(path, ensure_ascii=False)} {{\n  capabilities = {json.dumps(capabilities)}\n}}\n"
        for path, capabilities in grants.items()
    )
