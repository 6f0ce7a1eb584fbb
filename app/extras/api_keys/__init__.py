"""Adds API keys that the service issues, stores and revokes."""

from fastapi import FastAPI

from app.core.errors import BadSettings
from app.extras.api_keys import routes
from app.extras.api_keys.key_storage import index_refreshers, open_api_keys


def install(app: FastAPI) -> None:
    """Add `/api-keys`, and let issued keys count wherever the administrator's does; where it has none, add nothing."""
    settings, providers = app.state.settings, app.state.providers
    if app.state.admin_key is None:
        return
    try:
        keys = open_api_keys(settings, providers)
    except BadSettings as error:
        raise SystemExit(str(error)) from None
    app.state.api_keys = keys
    if keys is not None:
        app.state.callers.append(keys)
    for each in index_refreshers(settings, providers, keys):
        app.state.refresher.add(each)
    app.state.tags["api keys"] = "Keys for those who call the service: issue, list, rotate and revoke them."
    app.state.routes.include_router(routes.router)
