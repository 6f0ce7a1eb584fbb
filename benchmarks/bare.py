"""A bare FastAPI app with one handler, and a secret that never changes."""

from fastapi import FastAPI, Request

app = FastAPI()
app.state.vault_secrets = {"database_url": "postgresql://db/app"}


@app.get("/one")
async def one(request: Request) -> dict[str, int]:
    """Read one secret."""
    return {"length": len(request.app.state.vault_secrets["database_url"])}


@app.get("/health/live")
async def live() -> dict[str, str]:
    """Tell that it answers."""
    return {"status": "alive"}
