"""`python -m app`, for a service that declares what the tests write: `python -m tests.command_line`."""

from app.config import PROVIDERS, Settings
from app.core.run import terminal
from app.core.store.provider import Blueprint
from tests.declared import DeclaredForTests

BLUEPRINT = Blueprint(DeclaredForTests, Settings, PROVIDERS)


def main() -> None:
    """Carry out what `sys.argv` asks for."""
    terminal.main(BLUEPRINT)


if __name__ == "__main__":
    main()
