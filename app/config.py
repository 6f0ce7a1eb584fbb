"""Which variables steer this service, and where do its secrets come from? Add settings of your own to `Settings`."""

from app import DESCRIPTION, NAME, TITLE, VERSION
from app.core.settings.app import AppSettings, Service
from app.core.store.provider import Providers
from app.core.vault.provider import VaultProvider
from app.extras.conjur.provider import ConjurProvider  # extra: conjur
from app.extras.conjur.settings import ConjurGroup, ConjurSettings  # extra: conjur


class Settings(AppSettings):
    """The settings of every service, of the extras, and yours: a field `worker_count` is set by `WORKER_COUNT`."""

    service = Service(NAME, TITLE, VERSION, DESCRIPTION)

    conjur: ConjurGroup = ConjurSettings()  # extra: conjur
    status_page: bool | None = None  # None: in development only  # extra: status


# Each kind of source has one, and each source a session of its own: one that is down neither delays nor breaks the
# others. What a later one brings wins.
PROVIDERS = Providers(
    VaultProvider(),
    ConjurProvider(),  # extra: conjur
)


def get_settings() -> Settings:
    """Return the settings of this process, read once; raise one `BadSettings` that lists every problem."""
    return Settings.of_environment()
