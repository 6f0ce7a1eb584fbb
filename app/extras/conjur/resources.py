"""What is known of variables beside their values? Annotations, versions, and which there are.

Rests on `GET /resources/<account>/variable` and `GET /resources/<account>/variable/<id>`.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from app.core.errors import BackendError, PathMissing
from app.extras.conjur.errors import not_conjur
from app.extras.conjur.variables import ConjurVariables

T = TypeVar("T")

PAGE = 1000  # resources in one answer, the most that Conjur gives


class ConjurResources(ConjurVariables):
    """The variables of one account, and what is known of them."""

    def annotations(self, path: str) -> dict[str, str]:
        """Return a variable's annotations; raise `PathMissing` if it is missing or cannot be seen."""
        self._readable(path)
        return self._resource(path, annotations_in)

    def versions(self, path: str) -> Sequence[int]:
        """Return which versions a variable has, of the last 20; raise as `annotations`."""
        self._readable(path)
        return self._resource(path, _versions)

    # extra: api_keys
    def known(self, path: str) -> tuple[dict[str, str], Sequence[int]]:
        """Return a variable's annotations and versions; raise as `annotations`."""
        self._readable(path)
        return self._resource(path, lambda resource: (annotations_in(resource), _versions(resource)))

    # /extra

    def _resource(self, path: str, part: Callable[[Any], T]) -> T:
        where, segments = self._where(path), ("resources", self._session.account, "variable", path)
        try:
            return part(self._session.call(where, "GET", *segments).json())
        except PathMissing:
            raise self._not_seen(where) from None
        except (ValueError, TypeError, KeyError):
            raise self._not_resources() from None

    def refuse_missing(self, path: str) -> None:
        """Raise as `annotations`, but also where nothing may be read: for a change that would do nothing."""
        self._resource(path, annotations_in)

    def list(self, prefix: str = "") -> list[tuple[str, dict[str, str]]]:
        """Return the variables below a path that this service may see, by id, with their annotations."""
        account, start = self._session.account, f"{self._session.account}:variable:"
        below = start + (f"{prefix}/" if prefix else "")
        self._refuse_to_read(self._where(prefix) if prefix else "variables")
        found: dict[str, dict[str, str]] = {}
        offset = 0
        while True:
            page = {"limit": str(PAGE), "offset": str(offset)}
            answer = self._session.call("variables", "GET", "resources", account, "variable", params=page)
            try:
                entries = answer.json()
                resources = [(str(each["id"]), annotations_in(each)) for each in entries]
            except (ValueError, TypeError, KeyError):
                raise self._not_resources() from None
            found |= {each.removeprefix(start): notes for each, notes in resources if each.startswith(below)}
            if len(resources) < PAGE:
                return sorted(found.items())
            offset += PAGE

    def _not_resources(self) -> BackendError:
        return not_conjur(self._session.address, "not the resources that were asked for")


def annotations_in(resource: Any) -> dict[str, str]:
    """Return the annotations of a resource, as Conjur answers it."""
    return {str(each["name"]): str(each["value"]) for each in resource["annotations"]}


def _versions(resource: Any) -> list[int]:
    return sorted(int(each["version"]) for each in resource["secrets"])
