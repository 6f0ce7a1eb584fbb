"""What people do first to their clone turns nothing red that is not about it."""

import re
from collections.abc import Callable

import pytest

from tests.template.clone import Clone, one_at_a_time

pytestmark = pytest.mark.slow


def edit(clone: Clone, file: str, pattern: str, replacement: str) -> None:
    """Change one place of a file."""
    path = clone.directory / file
    text, count = re.subn(pattern, replacement, path.read_text(), flags=re.MULTILINE)
    assert count == 1, f"{file}: {pattern}"
    path.write_text(text)


def write(clone: Clone, file: str, text: str) -> None:
    """Write a new file, or another text into one."""
    path = clone.directory / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def remove(clone: Clone, *files: str) -> None:
    """Remove files."""
    for file in files:
        (clone.directory / file).unlink()


def add_secrets(clone: Clone) -> None:
    """Declare one more required text, and a nested model whose host must be a certain one: that is seeded."""
    edit(clone, "app/app_secrets.py", r"^(    model_config = .*\n)", r"\1\n    stripe_key: str\n    smtp: Smtp\n")
    smtp = '''class Smtp(BaseModel):
    """How to send mail."""

    host: Annotated[str, StringConstraints(pattern=r"^[a-z.]+$")]
    password: str


'''
    edit(clone, "app/app_secrets.py", r"^class AppSecrets", smtp + "class AppSecrets")
    edit(
        clone, "app/app_secrets.py", r'^SEED: (.*)\{"', r'SEED: \1{"smtp": {"host": "mail.example", "password": "x"}, "'
    )
    assert clone.make("format").returncode == 0


def add_models_services_and_a_route(clone: Clone) -> None:
    """In the places where people look for them; the service knows what is declared."""
    write(
        clone,
        "app/models.py",
        '''"""What is an order?"""

from pydantic import BaseModel


class Order(BaseModel):
    """What somebody wants."""

    number: int
    database: str
''',
    )
    write(clone, "app/services/__init__.py", '"""What the routes are about, without HTTP."""\n')
    write(
        clone,
        "app/services/orders.py",
        '''"""Where are the orders?"""

from app.app_secrets import AppSecrets
from app.models import Order


def find(secrets: AppSecrets, number: int) -> Order:
    """Return an order, from the database that the secrets name."""
    return Order(number=number, database=secrets.database_url.rpartition("@")[2])
''',
    )
    write(
        clone,
        "app/routes/orders.py",
        '''"""Which orders are there?"""

from fastapi import APIRouter

from app.models import Order
from app.routes import Declared
from app.services.orders import find

router = APIRouter(tags=["orders"])


@router.get("/orders/{number}")
async def order(number: int, declared: Declared) -> Order:
    """Return an order."""
    return find(declared, number)
''',
    )
    edit(clone, "app/main.py", r"import database, home, tokens$", "import database, home, orders, tokens")
    edit(clone, "app/main.py", r"in \(home, tokens\):", "in (home, orders, tokens):")


def remove_the_api_key(clone: Clone) -> None:
    """And with it the administrator; the sample's tests in `tests/app/` are yours."""
    edit(clone, "app/app_secrets.py", r"^.*travels in a header.*\n    api_key: .*\n", "")
    edit(clone, "app/main.py", r' admin_key="api_key",', "")
    remove(
        clone,
        "tests/app/test_routes.py",
        "tests/app/test_rotation.py",
        "tests/app/test_drill.py",
        "tests/app/test_database.py",
        "tests/app/test_database_drill.py",
        "tests/app/test_database_issued.py",
    )


def remove_the_jwt_secret(clone: Clone) -> None:
    """With the route that needs it."""
    edit(clone, "app/app_secrets.py", r"^.*RFC 7518.*\n    jwt_secret: .*\n", "")
    remove(clone, "app/routes/tokens.py", "app/routes/signing_keys.py", "tests/app/test_signing_keys.py")
    edit(clone, "app/main.py", r"import database, home, tokens$", "import database, home")
    edit(clone, "app/main.py", r"in \(home, tokens\):", "in (home,):")
    edit(clone, "app/main.py", r"^from app.routes.signing_keys .*\n", "")
    edit(clone, "app/main.py", r"^    history = (?:.*\n){3}", "")
    assert clone.make("format").returncode == 0  # imports that nothing needs any more


def build_what_cannot_be_built(clone: Clone) -> None:
    """Put an object whose building fails into `app.state.rotating`."""
    write(
        clone,
        "app/engine.py",
        '''"""How do we get at the database?"""

from collections.abc import Mapping
from typing import Any


async def build_engine(secrets: Mapping[str, Any], _old: object) -> object:
    """Connect to it."""
    raise ConnectionError(secrets["database_url"])
''',
    )
    engine = '    app.state.rotating["engine"] = Rotating("engine", ("database_url",), build_engine)\n'
    edit(clone, "app/main.py", r"^    return app\n", engine + "    return app\n")
    edit(
        clone, "app/main.py", r"^from app.extras import", "from app.engine import build_engine\nfrom app.extras import"
    )


def replace_the_readme(clone: Clone) -> None:
    """By one that says what theirs says."""
    write(clone, "README.md", "# The shop\n\nRun it with VAULT_OF_OURS set, or `make shop`; see [there](nowhere.md).\n")


def delete_a_sample_route(clone: Clone) -> None:
    """Drop the tokens; what tests them has gone with the API key."""
    remove(clone, "app/routes/tokens.py")
    edit(clone, "app/main.py", r"import database, home, tokens$", "import database, home")
    edit(clone, "app/main.py", r"in \(home, tokens\):", "in (home,):")


def rename(clone: Clone) -> None:
    """Give it its name."""
    assert clone.make("rename", "NAME=shop").returncode == 0


# those in one clone touch different places, and none removes a test that another one could turn red
CHANGES: list[tuple[Callable[[Clone], None], ...]] = [
    (rename, replace_the_readme, build_what_cannot_be_built, add_secrets, add_models_services_and_a_route),
    (remove_the_api_key, delete_a_sample_route),
    (remove_the_api_key, remove_the_jwt_secret),
]


@one_at_a_time
@pytest.mark.parametrize("changes", CHANGES, ids=lambda changes: ",".join(change.__name__ for change in changes))
def test_changes_of_yours_turn_nothing_red(clone: Clone, changes: tuple[Callable[[Clone], None], ...]) -> None:
    """Neither `make check` nor the tests without servers."""
    for change in changes:
        change(clone)
    clone.check()


def test_a_new_secret_needs_no_other_edit_for_the_service_to_be_ready(clone: Clone) -> None:
    """In a fresh dev Vault, and in one that was seeded before."""
    with clone.running():
        before = clone.secret
    add_secrets(clone)
    with clone.running():
        assert {**clone.secret, **before} == clone.secret
        assert len(clone.secret["stripe_key"]) >= 32
