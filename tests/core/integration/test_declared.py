"""Secrets as they are declared, from a real Vault to a handler: aliases, nested models, a rotation that breaks them."""

from typing import Annotated, Any

from fastapi import Depends
from fastapi.testclient import TestClient
from pydantic import BaseModel, ConfigDict, Field

from app.config import Settings
from app.core.web.dependencies import Secrets, get_declared
from tests.declared import create_app
from tests.support import Vault, unique


class Smtp(BaseModel):
    """A nested secret."""

    host: str
    port: int


class Declared(BaseModel):
    """What the service of these tests needs."""

    model_config = ConfigDict(hide_input_in_errors=True)

    api_key: str
    jwt_secret: str
    db_port: int = Field(5432, alias="db-port")
    smtp: Smtp


SECRETS: dict[str, Any] = {
    "api_key": "key-of-this-test",
    "jwt_secret": "jwt-secret-of-this-test",
    "db-port": "6543",
    "smtp": {"host": "mail.example.com", "port": 587},
}


def test_handlers_get_what_pydantic_makes_of_the_secrets(vault: Vault) -> None:
    """By name and as a model; a rotation that breaks a nested field is refused, and its place is named."""
    vault.write(path := unique("app"), SECRETS)
    role = vault.app_role(path) | {"enabled": True, "secret_path": path}
    settings = Settings.model_validate({"vault": role, "secrets": {"db_port": "7000"}})
    app = create_app(settings, declared=Declared)

    @app.get("/typed")
    async def typed(declared: Annotated[Declared, Depends(get_declared)], secrets: Secrets) -> dict[str, Any]:
        assert "mail" not in repr(declared)
        return {"port": declared.db_port, "host": secrets["smtp"].host, "smtp": declared.smtp.port, "names": [*secrets]}

    @app.get("/leak")
    async def leak(declared: Annotated[Declared, Depends(get_declared)]) -> Any:
        return declared

    with TestClient(app, raise_server_exceptions=False) as client:
        found = client.get("/typed").json()
        assert (found["port"], found["host"], found["smtp"]) == (7000, "mail.example.com", 587)
        assert sorted(found["names"]) == ["api_key", "db_port", "jwt_secret", "smtp"]
        leaked = client.get("/leak")
        assert (leaked.status_code, "mail.example.com" in leaked.text) == (500, False)

        vault.write(path, {**SECRETS, "smtp": {"host": "new.example.com", "port": "none"}})
        faults = client.post("/status/refresh").json()["faults"]
        assert "smtp: port: Input should be a valid integer" in faults["vault"]
        assert client.get("/typed").json()["host"] == "mail.example.com"

        vault.write(path, {**SECRETS, "smtp": {"host": "new.example.com", "port": "25"}})
        client.post("/status/refresh")
        assert client.get("/typed").json()["smtp"] == 25


def test_what_is_declared_answers_503_until_it_is_there(vault: Vault) -> None:
    """As each secret does."""
    vault.write(path := unique("app"), {**SECRETS, "smtp": {"host": "h"}})
    settings = Settings.model_validate({"vault": vault.app_role(path) | {"enabled": True, "secret_path": path}})
    app = create_app(settings, declared=Declared)

    @app.get("/typed")
    async def typed(declared: Annotated[Declared, Depends(get_declared)]) -> int:
        return declared.db_port

    with TestClient(app) as client:
        assert client.get("/typed").status_code == 503
        assert "smtp: port: missing" in client.get("/health/ready").json()["detail"]
