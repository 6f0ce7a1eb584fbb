"""In which variables may API keys be, and who has the claim to one? An annotation tells, which the last writes."""

from collections.abc import Callable, Mapping

from app.core.errors import BadSettings, LostRace, PathMissing
from app.core.settings.app import AppSettings
from app.extras.api_keys.errors import ApiKeyMissing
from app.extras.conjur.policy import policy_branch
from app.extras.conjur.writer import ConjurWriter

CLAIM = "sha256"  # the annotation that says whose key it is, also before that counts


def creation_prefix(settings: AppSettings) -> str:
    """Return below which path API keys are: `VAULT_WRITE_PREFIX`, by default the branch in which we may create."""
    prefix, branch = settings.vault.write_prefix, policy_branch(settings)
    if branch == "root" or f"{prefix}/".startswith(f"{branch}/"):
        return prefix
    if "write_prefix" not in settings.vault.model_fields_set:
        return branch
    problem = f"{prefix} does not lie in the policy branch {branch}, where alone API keys can be created"
    raise BadSettings([f"VAULT_WRITE_PREFIX: {problem}; leave it out, or set CONJUR_POLICY_BRANCH"])


def lost(path: str) -> LostRace:
    """Return the error for a change that another one has overtaken."""
    return LostRace(path, "somebody else has rotated it meanwhile", "Take the key that they got.")


class Claims:
    """The annotations of keys, read and changed with a look at who has the claim."""

    def __init__(self, writer: ConjurWriter) -> None:
        self._writer = writer

    def holder(self, path: str) -> str | None:
        """Return the hash of the key that is claimed to be there."""
        return self._writer.annotations(path).get(CLAIM)

    def refuse_if_not(self, path: str, claim: str | None) -> None:
        """Raise `LostRace` or `ApiKeyMissing` where the claim is not this one any more."""
        try:
            holder = self.holder(path)
        except PathMissing:
            raise ApiKeyMissing(path.rpartition("/")[2]) from None
        if holder != claim:
            raise lost(path)

    def note(self, path: str, notes: Mapping[str, str], still: Callable[[], None] = lambda: None) -> dict[str, str]:
        """Annotate a variable and return all its annotations; delete it again where the load has made it again.

        `still` looks, right before the load, whether it is to be. Raises `ApiKeyMissing` for what was revoked.
        """
        self._writer.annotate(path, notes, still)
        noted, versions = self._writer.known(path)
        if not versions:
            self._writer.delete(path)
            raise ApiKeyMissing(path.rpartition("/")[2])
        return noted
