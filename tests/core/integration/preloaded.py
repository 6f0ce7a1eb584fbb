"""A service that reads a secret while it is imported: with gunicorn's `--preload`, before it forks its workers."""

from typing import Any

from app.vault import get_vault_client, read_secret
from tests.declared import create_app

AT_IMPORT = read_secret("preloaded", "value")

app = create_app()


@app.get("/read/{path}")
def read(path: str) -> dict[str, Any]:
    """Tell what this worker reads, and by which token."""
    accessor = get_vault_client().auth.token.lookup_self()["data"]["accessor"]
    return {"value": read_secret(path, "value"), "accessor": accessor}
