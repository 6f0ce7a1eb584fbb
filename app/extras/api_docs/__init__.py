"""Adds `/docs`, where people try the API, if the settings let them: by default not in production."""

from fastapi import FastAPI

from app.extras.api_docs import routes


def install(app: FastAPI) -> None:
    """Add the page and its files."""
    if app.state.settings.shows_api_docs:
        app.state.routes.include_router(routes.router)
