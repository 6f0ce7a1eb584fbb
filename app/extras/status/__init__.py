"""Adds `/status`, a page for people, and the same as data."""

from fastapi import FastAPI

from app.extras.status import routes


def install(app: FastAPI) -> None:
    """Add the page and the data."""
    app.state.routes.include_router(routes.router)
