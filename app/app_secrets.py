"""Which secrets does this service need? The file to change when you make the template your own."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints


class AppSecrets(BaseModel):
    """Each field is a key of the secret in Vault; a field with a default is optional.

    Secrets that break this declaration are not taken in: at the start the service is not ready, later it keeps the last
    good ones. Give forms, not only types: a rotation to a malformed value is then refused instead of served.
    """

    model_config = ConfigDict(strict=True, extra="ignore", hide_input_in_errors=True)

    # a URL, such as postgresql://app:password@db.example.com/app
    database_url: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9+.-]*://\S+$")]
    # travels in a header: visible ASCII, no blanks; 16 characters drawn at random cannot be guessed
    api_key: Annotated[str, StringConstraints(pattern=r"^[!-~]+$", min_length=16)]
    # HS256 wants a key of at least 256 bits (RFC 7518, 3.2)
    jwt_secret: Annotated[str, StringConstraints(min_length=32)]


# What `make seed` writes into the dev Vault; a required text that is not named here gets a random value.
SEED: dict[str, Any] = {"database_url": "postgresql://app:change-me@localhost:5432/app"}
