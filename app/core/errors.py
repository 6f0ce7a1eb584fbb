"""What can go wrong, one class a distinguishable failure.

    BlueprintError                   500
    ├── BadSettings                  500   also a ValueError
    ├── BadReference                 500   also a ValueError: a {vault://…} that cannot be understood
    ├── SecretUnavailable            503   also a KeyError: the service does not hold this secret (yet)
    ├── SecretsIncomplete            503   what was loaded lacks declared secrets, or they are malformed
    ├── RoundOverdue                 503   what a source holds should have been read long ago
    ├── NotStarted                   503   the lifespan of the application has not run, so nothing was read
    └── BackendError                   503
        ├── VaultUnreachable               nobody answers in time
        │   └── VaultTLSFailed             somebody answers, but the TLS handshake fails
        ├── VaultSealed                    sealed, or not initialised
        ├── VaultRateLimited               too many requests
        ├── NotCaughtUp                    a node does not have what was written before, and no leader can be asked
        ├── BadRequest                     Vault cannot make sense of what was asked
        ├── ServerFault                    it, or what is in front of it, has a fault (HTTP 5xx)
        ├── UnexpectedAnswer               an answer that is not Vault's
        ├── LoginRefused                   wrong or expired credentials
        │   └── WrappingTokenRefused       a wrapped secret id that was used, has expired or is not what it should be
        ├── PermissionDenied               the token is good, its policies do not allow this
        │   └── MountUnseen                the token may use nothing at this mount point, if there is one
        ├── WouldIssue                     Vault would have to issue credentials, and nobody has asked for that
        ├── AccessRefused            403   VAULT_ACCESS_MODE does not allow it; nothing was sent
        ├── LostRace                 409   somebody else has written a newer version meanwhile
        │   └── PolicyConflict       503   Conjur is busy with other policy loads
        ├── PathMissing                    no secret at this path
        │   ├── MountMissing               nothing is mounted there, or there is no such namespace
        │   ├── VersionMissing             there is a secret, but not this version of it
        │   └── VersionDeleted             there was one: deleted or destroyed
        ├── SeveralFailed                  more than one of the others; all are listed
        ├── WrongKVVersion                 the mount's KV version is not the configured one
        └── KeyMissing                     also a KeyError: the secret has no such key

A `BackendError` is about what secrets come from. Every error names its subject (a path, a variable, an address), the
cause and the remedy, never a value. `status` is the HTTP status for a handler's caller if it is not caught.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar


class BlueprintError(Exception):
    """An error that says what is wrong and what to do."""

    status: ClassVar[int] = 500
    as_given: ClassVar[Callable[[str], str]] = str  # puts the names by which variables are set; the settings know them

    def __init__(self, subject: str, cause: str, remedy: str) -> None:
        super().__init__(subject, cause, remedy)
        self.subject = subject
        self.cause = cause
        self.remedy = remedy

    def __str__(self) -> str:
        return BlueprintError.as_given(f"{self.subject}: {self.cause}. {self.remedy}")


class BadSettings(BlueprintError, ValueError):
    """The environment or `.env` holds wrong, or lacks needed, variables; all of them are listed."""

    def __init__(self, problems: list[str]) -> None:
        noun = "setting is" if len(problems) == 1 else "settings are"
        super().__init__(f"{len(problems)} {noun} invalid", "\n  ".join(["", *problems]), "")
        self.problems = problems

    def __str__(self) -> str:
        return f"{self.subject}:{self.cause}"


class BadReference(BlueprintError, ValueError):
    """A reference that cannot be understood; the text is shown, since it holds no value."""


class SecretUnavailable(BlueprintError, KeyError):
    """A handler asked for a secret that the service does not hold."""

    status = 503


class SecretsIncomplete(BlueprintError):
    """What was loaded breaks the declaration in `app/app_secrets.py`; all broken names are listed."""

    status = 503

    def __init__(self, problems: dict[str, str]) -> None:
        listed = "; ".join(f"{name}: {problem}" for name, problem in problems.items())
        super().__init__(
            "declared secrets", listed, "Add or fix them in Vault or Conjur; in development, set SECRET_<NAME>."
        )
        self.problems = problems


class RoundOverdue(BlueprintError):
    """A round of a source should have ended, or begun, long ago."""

    status = 503


class NotStarted(BlueprintError):
    """Requests arrive, but nobody has run the lifespan: nothing was read, and nothing is kept fresh."""

    status = 503


class BackendError(BlueprintError):
    """Vault, or what else secrets come from, did not do what was asked."""

    status = 503
    may_be_done = False  # a write of which nobody knows: it was sent, and the answer does not tell
    usable: Sequence[object] = ()  # what was loaded all the same, and can be taken in


VaultError = BackendError  # its former name


class VaultUnreachable(BackendError):
    """Nobody answers at the address within the time-out."""


class VaultTLSFailed(VaultUnreachable):
    """The server answers, but no TLS connection comes about."""


class VaultSealed(BackendError):
    """Vault is sealed, or was never initialised."""


class VaultRateLimited(BackendError):
    """Vault refuses for now: too many requests."""


class NotCaughtUp(BackendError):
    """A node of the cluster has not caught up with what was read or written before."""


class BadRequest(BackendError):
    """Vault cannot make sense of what was asked (its HTTP 400)."""


class ServerFault(BackendError):
    """The server has a fault of its own, or what is in front of it does not get through to it."""


class UnexpectedAnswer(BackendError):
    """What answers does not behave like Vault."""


class LoginRefused(BackendError):
    """Vault does not accept the credentials."""


class WrappingTokenRefused(LoginRefused):
    """The wrapping token does not hold a secret id for us; somebody else may have used it."""


class PermissionDenied(BackendError):
    """The token is good, but its policies do not allow this."""


class MountUnseen(PermissionDenied):
    """The token may use nothing at this mount point, if anything is mounted there: Vault does not tell."""


class WouldIssue(BackendError):
    """Vault would have to issue credentials, unasked."""


class AccessRefused(BackendError):
    """`VAULT_ACCESS_MODE` does not allow it; nothing was sent."""

    status = 403


class LostRace(BackendError):
    """Somebody else has written a newer version than the one that was to be changed."""

    status = 409


class PolicyConflict(LostRace):
    """Another policy load is in progress; Conjur says after how many seconds to come back."""

    status = 503

    def __init__(self, subject: str, cause: str, remedy: str, retry_after: float = 1.0) -> None:
        super().__init__(subject, cause, remedy)
        self.retry_after = retry_after


class PathMissing(BackendError):
    """There is no secret at this path."""


class MountMissing(PathMissing):
    """Nothing is mounted at this mount point, or there is no such namespace."""


class VersionMissing(PathMissing):
    """There is a secret at this path, but it has no such version, or none any more."""


class VersionDeleted(PathMissing):
    """The version asked for was deleted or destroyed."""


class WrongKVVersion(BackendError):
    """The mount does not have the configured KV version."""


class SeveralFailed(BackendError):
    """More than one thing failed at once; all of them are listed."""

    def __init__(self, errors: Sequence[BlueprintError]) -> None:
        super().__init__(f"{len(errors)} failures", "\n  ".join(["", *map(str, errors)]), "")
        self.errors = errors

    def __copy__(self) -> "SeveralFailed":
        return SeveralFailed(self.errors)

    def __str__(self) -> str:
        return f"{self.subject}:{self.cause}"


class KeyMissing(BackendError, KeyError):
    """The secret has no such key."""
