"""A service with an object that cannot be built from some secrets, and with a bug that others bring out."""

from collections.abc import Mapping
from typing import Any

from app.core.store.rotating import Rotating
from tests.declared import create_app

NO_GOOD, BUG = "no-good-", "brings-out-the-bug-"  # how the API key begins then; test_alerts.py has both, too


class WithABug(Rotating[str]):
    """Somebody's own kind of object."""

    async def follow(self, secrets: Mapping[str, Any], generation: int = 0) -> None:
        """Fail where no failure is expected."""
        if secrets.get("api_key", "").startswith(BUG):
            raise ZeroDivisionError
        await super().follow(secrets, generation)


async def build(secrets: Mapping[str, Any], _old: object) -> str:
    """Build from what is good."""
    if secrets["api_key"].startswith(NO_GOOD):
        raise ConnectionRefusedError
    return "object"


app = create_app()
app.state.rotating["fragile"] = WithABug("fragile", ("api_key",), build)
