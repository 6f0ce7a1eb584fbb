"""What is raised where several things failed at once? All of it."""

from collections.abc import Sequence

from app.core.errors import BlueprintError, SeveralFailed


def raise_together(errors: Sequence[BlueprintError]) -> None:
    """Raise the error if there is one, and one that lists them all if there are more."""
    single = [each for error in errors for each in (error.errors if isinstance(error, SeveralFailed) else [error])]
    if len(single) > 1:
        raise SeveralFailed(single)
    if single:
        raise single[0]
