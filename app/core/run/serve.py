"""How is the service served? By uvicorn, with the limits without which it neither ends nor stays up."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from app.core.errors import BadSettings
from app.core.logs.logging_config import configure_logging, get_logger
from app.core.run.server_certificate import OBJECT, following, server_context
from app.core.settings.app import AppSettings
from app.core.settings.web import SET_ENVIRONMENT, is_this_machine
from app.core.store.provider import Blueprint

# the seconds that requests get to end after SIGTERM, and how many connections there may be
LIMITS: dict[str, Any] = {"timeout_graceful_shutdown": 4, "limit_concurrency": 512}
LIMITS["http"] = "app.core.run.bounded_http:BoundedHTTP"  # no caller is waited for for ever

NOT_STARTED = 3  # the exit code, as uvicorn has it

log = get_logger(__name__)


def serve(blueprint: Blueprint, arguments: Sequence[str]) -> None:
    """Serve until a signal ends it; the exit code is 3 if the service does not start."""
    parser = argparse.ArgumentParser("python -m app serve", description="Serve the application with uvicorn.")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at (%(default)s)")
    parser.add_argument("--port", type=int, help="the port, instead of PORT")
    parser.add_argument("--proxies", default="", help="addresses of proxies whose X-Forwarded-… headers count")
    text = "the dynamic secret whose certificate to serve with: tls for VAULT_DYNAMIC__TLS=pki/issue/…"
    parser.add_argument("--certificate", metavar="NAME", help=text)
    given = parser.parse_args(arguments)
    try:
        settings = blueprint.settings.of_environment()
    except BadSettings as error:
        sys.exit(f"error: {error}")
    if "environment" not in settings.model_fields_set and not is_this_machine(given.host):
        configure_logging(settings.log_level, settings.log_format)
        log.warning("development_exposed", address=given.host, remedy=SET_ENVIRONMENT)

    import uvicorn  # noqa: PLC0415 - `exec` needs no server

    options: dict[str, Any] = {"proxy_headers": bool(given.proxies), "forwarded_allow_ips": given.proxies or None}
    quiet: dict[str, Any] = {"access_log": False, "server_header": False}  # the service logs requests itself
    place: dict[str, Any] = {"host": given.host, "port": given.port or settings.port}
    if not given.certificate:
        uvicorn.run("app.main:app", **place, **options, **quiet, **LIMITS)
        return
    _refuse_unknown(given.certificate, settings)
    config = uvicorn.Config("app.main:app", **place, **options, **quiet, **LIMITS)
    config.load()
    config.ssl = server_context()
    import_module("app.main").app.state.rotating[OBJECT] = following(config.ssl, given.certificate)
    server = uvicorn.Server(config)
    server.run()
    if not server.started:
        sys.exit(NOT_STARTED)


def _refuse_unknown(name: str, settings: AppSettings) -> None:
    known = [each.name for own in settings.every_vault.values() if own.enabled for each in own.dynamic]
    if name not in known:
        there = ", ".join(known) or "none"
        sys.exit(f"error: --certificate {name}: there is no dynamic secret of this name; there is: {there}")
