"""What can be done from a terminal? `python -m app serve`, `exec`, and the commands of the extras."""

from app.app_secrets import AppSecrets
from app.config import PROVIDERS, Settings
from app.core.run.terminal import main
from app.core.store.provider import Blueprint

if __name__ == "__main__":
    main(Blueprint(AppSecrets, Settings, PROVIDERS))
