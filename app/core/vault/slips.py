"""Which well-known slips lead to a path or a mount point that is not there? Asked only after a failure."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from app.core.errors import PathMissing, PermissionDenied

IN_THE_API = "data", "metadata"  # what stands between the mount point and the path, in the API of KV version 2
MOST_NAMES, LONGEST_NAME = 10, 64  # of what is listed


def path_slip(mount_point: str, path: str) -> str:
    """Return what to do about a path that begins with what belongs to the API or to the mount point, if it does."""
    rest = path.removeprefix("v1/") if path.startswith(f"v1/{mount_point}/") else path
    rest = rest.removeprefix(f"{mount_point}/")
    first, _, behind = rest.partition("/")
    in_the_api = first in IN_THE_API and bool(behind)
    rest = behind if in_the_api else rest
    out = path[: len(path) - len(rest)]
    if not out:
        return ""
    if out == f"{first}/" and in_the_api:
        return f"Leave out {out}: it belongs to the API, not to the path. Set VAULT_SECRET_PATH without it."
    api = f", and {first}/ belongs to the API" if in_the_api else ""
    return f"VAULT_SECRET_PATH counts from the mount point{api}: leave out {out}."


def mount_slip(mount_point: str, there: str = "") -> str:
    """Return what to do about a mount point that has more in it; `there` is the one of its parts that is mounted.

    Without it, nobody knows what is mounted: then only what looks like the API counts.
    """
    if there:
        versioned, behind = False, mount_point.removeprefix(there).strip("/")
    else:
        versioned, rest = mount_point.startswith("v1/"), mount_point.removeprefix("v1/")
        there = re.split(r"/(?:data|metadata)(?:/|$)", rest, maxsplit=1)[0]
        behind = rest.removeprefix(there).strip("/")
    if there == mount_point:
        return ""
    first, _, folder = behind.partition("/")
    in_the_api = first in IN_THE_API
    left_out = [*(["v1"] if versioned else []), *([first] if in_the_api else [])]
    folder = folder if in_the_api else behind
    out = f": leave out {' and '.join(left_out)}, which the API has, but no mount point" if left_out else ""
    paths = f" Paths count from there: put {folder}/ in front of VAULT_SECRET_PATH." if folder else ""
    return f"Set VAULT_MOUNT_POINT={there}{out}.{paths}"


def missing(where: str, mount_point: str, path: str, names_in: Callable[[str], Sequence[str]]) -> PathMissing:
    """Say what helps where there is no secret: the path may be misspelt, or that of a folder."""
    cause, remedy = "there is no secret at this path", path_slip(mount_point, path)
    if not remedy and (names := names_in(path)):
        name = next((each for each in names if not each.endswith("/")), names[0])
        remedy = f"Set VAULT_SECRET_PATH to one of them, like {path}/{name}."
        return PathMissing(where, f"{cause}: it is a folder; it holds: {listed(names)}", remedy)
    write_it = f"Write it (`vault kv put -mount={mount_point} {path} …`), or check VAULT_SECRET_PATH."
    return PathMissing(where, cause, remedy or write_it)


def looks_like_version_2(answer: Mapping[str, Any]) -> bool:
    """Tell whether this is how KV version 2 answers, where data/ or metadata/ is in the path."""
    match answer:
        case {"metadata": {"version": int(), "created_time": str()}}:
            return "data" in answer
        case {"current_version": int(), "versions": dict()}:
            return True
        case _:
            return False


def listed(names: Sequence[str]) -> str:
    """Return the first few names of a folder, for people."""
    shown = [name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…" for name in names[:MOST_NAMES]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def conditional(where: str, api_path: str, capability: str) -> PermissionDenied:
    """Say what else may be wanted of a request where the capability is there."""
    cause = f"permission denied, although the token has the capability {capability}: the policy sets a condition"
    kinds = (
        "response wrapping (min_wrapping_ttl, max_wrapping_ttl), or parameters (required_, allowed_, denied_parameters)"
    )
    remedy = f'Leave it out at path "{api_path}": this service asks for no wrapped answers, and sends what KV takes.'
    return PermissionDenied(where, f"{cause}, {kinds}", remedy)
