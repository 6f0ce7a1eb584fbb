"""What can go wrong with API keys, beside what goes wrong with what stores them?"""

from app.core.errors import BlueprintError


class ApiKeyMissing(BlueprintError):
    """There is no issued key of this name."""

    status = 404

    def __init__(self, name: str) -> None:
        super().__init__(name, "there is no key of this name", "GET /api-keys lists those that there are.")


class ApiKeyExists(BlueprintError):
    """There is a key of this name already."""

    status = 409


class IdempotencyKeyReused(BlueprintError):
    """The same `Idempotency-Key` came with another request before."""

    status = 422

    def __init__(self, name: str) -> None:
        super().__init__(name, "the Idempotency-Key belongs to another request", "Send a new one with a new request.")
