"""Does everything hold that must before production? Here what the settings and the files tell; no Vault is asked."""

from collections.abc import Callable, Container, Iterator
from functools import partial
from pathlib import Path

from app.core.settings.app import AppSettings
from app.core.settings.production_guard import DEV_TOKEN
from app.core.settings.tool_names import as_given
from app.core.settings.types import is_loopback
from app.core.settings.vault import VaultSettings
from app.core.settings.web import EVERY
from app.core.transport.credential_files import read_credential_file
from app.extras.doctor.findings import Check, Finding, broken, ok, reminder, warning
from app.extras.doctor.settings import exposed_files, groups_with_prefix, in_environment, is_secret

DEV_FILES = Path(".dev")  # where the dev servers keep theirs
BY_FILE = "the environment of a process can be read by its user, and whatever it starts inherits it"


def what_settings_tell(settings: AppSettings, declared: Container[str]) -> dict[str, Check]:
    """Return the steps; each says what holds, too. `declared` are the names of the secrets of the service."""
    checks: dict[str, Callable[[AppSettings], Iterator[Finding]]] = {
        "environment": _environment,
        "dev server": _dev_server,
        "TLS": _tls,
        "files": _files,
        "variables": partial(_variables, declared),
        "API docs": _api_docs,
        "hosts": _hosts,
        "staleness": _staleness,
        "limits": _limits,
        "metrics": _metrics,  # extra: metrics
    }
    return {name: partial(check, settings) for name, check in checks.items()}


def _environment(settings: AppSettings) -> Iterator[Finding]:
    match settings.environment:
        case "development":
            text = "development shows details to everybody, and refuses nothing that is insecure"
            yield broken(text, "Set ENVIRONMENT=production.", "ENVIRONMENT")
        case "staging":
            yield ok("staging: what production refuses at the start is only looked for here", "ENVIRONMENT")
        case _:
            yield ok("production: what is insecure is refused at the start, too", "ENVIRONMENT")
    if settings.allow_insecure:
        text = f"the service is told to put up with {', '.join(settings.allow_insecure)}"
        yield broken(text, "Unset it, and fix what is refused then.", "ALLOW_INSECURE")


def _dev_server(settings: AppSettings) -> Iterator[Finding]:
    found = False
    for _, prefix, own in groups_with_prefix(settings):
        for field, value in own if own.enabled else ():
            variable = f"{prefix}{field.upper()}"
            if field in {"token", "token_file"} and _is_dev_token(value):
                found = True
                yield broken("everybody knows the dev Vault's root token", "Use another auth method.", variable)
            elif isinstance(value, Path) and DEV_FILES.name in value.parts:
                found = True
                remedy = f"Deliver the file from the real server, and set {variable} to it."
                yield broken("the file is one of the dev servers'", remedy, f"{variable}={value}")
    if DEV_FILES.is_dir():
        yield warning("files of the dev servers are here", "Ship without them; `make clean` removes them.", ".dev")
    if not found:
        yield ok("no token and no file of it is used")


def _is_dev_token(value: object) -> bool:
    """Look into the file as well; whether it can be read is the login's to say."""
    try:
        text = read_credential_file(value).decode() if isinstance(value, Path) else value
    except (OSError, UnicodeDecodeError):
        return False
    told = getattr(text, "get_secret_value", lambda: text)()
    return isinstance(told, str) and told.strip() == DEV_TOKEN


def _tls(settings: AppSettings) -> Iterator[Finding]:
    enabled = [(prefix, own) for _, prefix, own in groups_with_prefix(settings) if own.enabled]
    for prefix, own in enabled:
        for field, value in own:
            if not field.endswith("url") or not isinstance(value, str):
                continue
            variable = as_given(f"{prefix}{field.upper()}")
            if value.startswith("http://") and not is_loopback(value):
                text = "http:// sends credentials and secrets in the clear"
                yield broken(text, f"Set {variable} to https://.", f"{variable}={value}")
            elif value.startswith("https://"):
                yield ok("https://, and certificates are always verified", variable)
            else:
                yield ok("it does not leave this machine: an Agent or Proxy should listen there", f"{variable}={value}")
    if not enabled:
        yield ok("not needed: the settings name no server")


def _files(settings: AppSettings) -> Iterator[Finding]:
    exposed = [broken(each.text, each.remedy, each.subject) for each in exposed_files(settings)]
    yield from exposed or [ok("no file with a credential can be read by others")]


def _variables(declared: Container[str], settings: AppSettings) -> Iterator[Finding]:
    """Ask for files where there can be one. A wrapped secret id is worth nothing once the service has started."""
    environment, told, spared = in_environment(), set[str](), set[str]()
    for _, prefix, own in groups_with_prefix(settings):
        for field in own.used_credentials() if own.enabled else ():
            variable, file = as_given(f"{prefix}{field.upper()}"), own.value_or_file[field]
            is_wrapped = isinstance(own, VaultSettings) and own.secret_id_wrapped and field == "secret_id"
            counts = getattr(own, field) is not None and getattr(own, file) is None and field in own.credentials
            if is_wrapped:
                spared.add(variable)
            elif counts and variable in environment:
                told.add(variable)
                remedy = f"Put it into a file with mode 0600, and set {prefix}{file.upper()} to that."
                yield broken(f"a credential: {BY_FILE}", remedy, variable)
    for variable, value in sorted(environment.items()):
        if variable not in told | spared and is_secret(type(settings), variable, value):
            told.add(variable)
            is_entry = variable.startswith("SECRET_")
            remedy = f"Let it refer to Vault, or use {variable}_FILE." if is_entry else "Unset it if nobody needs it."
            if is_entry and variable.removeprefix("SECRET_").lower() in declared:
                yield broken(f"a secret of the service: {BY_FILE}", remedy, variable)
            else:
                yield warning(f"if it is a secret: {BY_FILE}", remedy, variable)
    if not told:
        yield ok("no credential is in the environment")


def _api_docs(settings: AppSettings) -> Iterator[Finding]:
    if settings.shows_api_docs:
        remedy = "Set API_DOCS=false, or leave it out: production has none."
        yield broken("everybody may read what the API is like", remedy, "API_DOCS")
    else:
        yield ok("the service shows none")


def _hosts(settings: AppSettings) -> Iterator[Finding]:
    remedy = "Name the service as callers do, or as the proxy in front sends it: ALLOWED_HOSTS=api.example.com."
    if not settings.allowed_hosts or EVERY in settings.allowed_hosts:
        yield broken("the service answers to any name", remedy, "ALLOWED_HOSTS")
    else:
        yield ok(f"the service answers to {', '.join(settings.allowed_hosts)}", "ALLOWED_HOSTS")
    if EVERY in settings.cors_origins:
        yield warning("pages of every origin may use the API", "Name the origins that are yours.", "CORS_ORIGINS")


def _staleness(settings: AppSettings) -> Iterator[Finding]:
    bound, interval = settings.vault.max_staleness, settings.vault.refresh_interval
    if not interval:
        yield warning("no rotation is taken in", "Set it to the seconds between two.", "VAULT_REFRESH_INTERVAL")
    elif not bound:
        yield warning("secrets count for ever, confirmed or not", "Set a bound in seconds.", "VAULT_MAX_STALENESS")
    else:
        yield ok(f"secrets that nobody has confirmed for {bound:g} s make the service unready")


def _limits(_: AppSettings) -> Iterator[Finding]:
    text = "how the service is started, and what a proxy in front limits, cannot be seen from here"
    yield reminder(text, "Start it with `python -m app serve`, one process a container; see docs/operate.md.")


# extra: metrics
def _metrics(_: AppSettings) -> Iterator[Finding]:
    text = "whether strangers reach /metrics cannot be seen from here"
    yield reminder(text, "Keep the path out of the ingress: it names secrets, Vaults and routes.")


# /extra
