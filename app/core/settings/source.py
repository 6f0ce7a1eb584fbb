"""What do the settings of every source have in common, whichever kind it is?"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict

from app.core.not_serializable import NotSerializable


class SourceSettings(NotSerializable, BaseModel):
    """The group of variables of one source.

    The name of its field in `Settings` is its name in references, and the beginning of its variables.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    # two names for one setting: a value, and the file that holds it; if one place sets both, the second counts
    value_or_file: ClassVar[Mapping[str, str]] = {}
    # names of which only one counts, in their order; a place may set more than one
    one_of: ClassVar[tuple[tuple[str, ...], ...]] = ()
    credentials: ClassVar[tuple[str, ...]] = ()  # the settings that are secrets themselves
    credential_files: ClassVar[tuple[str, ...]] = ()  # further files that hold one
    # what may be missing where nobody logs in, and what stands in for it
    stand_ins: ClassVar[Mapping[str, Any]] = {}

    enabled: bool = False

    def used_credentials(self) -> tuple[str, ...]:
        """Return the settings of `value_or_file` that the way of logging in takes."""
        return ()

    @classmethod
    def within(cls, settings: BaseModel) -> Self:
        """Return the group of this kind that `settings` has."""
        return next(value for _, value in settings if isinstance(value, cls))
