"""Which Conjur do the settings name, and how is it read, changed and permitted?"""

from collections.abc import Mapping

from app.core.settings.app import AppSettings
from app.extras.conjur.index import ConjurFolders, ConjurSource, conjur_source, get_conjur_writer
from app.extras.conjur.policy import conjur_policy
from app.extras.conjur.settings import CONJUR, ConjurSettings


class ConjurProvider:
    """Conjur: `CONJUR_…`."""

    primary = CONJUR

    def names(self, settings: AppSettings) -> Mapping[str, bool]:
        """Return its one name, and whether it is enabled."""
        return {CONJUR: ConjurSettings.within(settings).enabled}

    def source(self, settings: AppSettings, name: str) -> ConjurSource:  # noqa: ARG002 - there is one
        """Return it."""
        return conjur_source(settings)

    def folders(self, settings: AppSettings, name: str) -> ConjurFolders:  # noqa: ARG002 - there is one
        """Return what changes variables."""
        return ConjurFolders(get_conjur_writer(settings))

    def policy(self, settings: AppSettings, name: str) -> str:  # noqa: ARG002 - there is one
        """Return the policy in the form that `conjur policy load -b root -f` takes."""
        return conjur_policy(settings)
