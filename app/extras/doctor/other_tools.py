"""Which variables of Vault's and OpenBao's own tools are set, but do nothing here, or are not those that count?"""

from collections.abc import Iterator, Mapping

from app.core.settings.tool_names import names_that_count, our_name
from app.extras.doctor.findings import Finding, ok, warning

FALSE = {"0", "f", "false"}
# what the tools understand and this service does not: why, and what to do instead
IGNORED = {
    "SKIP_VERIFY": ("certificates are always verified", "Name a private CA in VAULT_CACERT."),
    "AGENT_ADDR": (
        "this service asks no Agent by itself",
        "Set VAULT_URL to the Agent's address, and VAULT_AUTH_METHOD=none if it adds the token.",
    ),
    "HTTP_PROXY": ("proxies have other variables here", "Set HTTPS_PROXY."),
    "PROXY_ADDR": ("proxies have other variables here", "Set HTTPS_PROXY."),
    "CLIENT_TIMEOUT": ("the timeout has another variable here", "Set VAULT_TIMEOUT, in seconds."),
    "MAX_RETRIES": ("the number of repetitions is fixed", "Unset it, if it is not for another program."),
    "RATE_LIMIT": ("requests are not limited here", "Set a rate limit quota in Vault."),
    "DISABLE_REDIRECTS": ("a standby's redirects are followed", "Set VAULT_URL to an address that sends none."),
    "SRV_LOOKUP": ("SRV records are not looked up", "Set VAULT_URL to a host and a port."),
    "WRAP_TTL": ("answers are not wrapped", "Unset it, if it is not for another program."),
    "MFA": ("logins send no second factor", "Use a role or mount without MFA: nobody is there to enter one."),
    "HEADERS": ("no headers are added to requests", "Unset it, if it is not for another program."),
    "LOG_LEVEL": ("the log has another variable here", "Set LOG_LEVEL."),
}
HARMLESS = {"FORMAT", "CLI_NO_COLOR", "DETAILED", "CONFIG_PATH", "TOKEN_HELPER", "REDIRECT_ADDR", "API_ADDR", "LICENSE"}


def examine_other_tools(places: Mapping[str, Mapping[str, str | None]], known: set[str]) -> Iterator[Finding]:
    """Point out what is set for the tools alone, and which of two names for one setting counts.

    `places` are the variables of each place, `known` the names of ours, in upper case.
    """
    for name in sorted(set().union(*places.values())):
        prefix, _, rest = name.partition("_")
        values = {(place.get(name) or "").lower() for place in places.values() if name in place}
        if prefix not in {"VAULT", "BAO"} or our_name(name.lower()).upper() in known:
            continue
        if rest in IGNORED and not (rest == "SKIP_VERIFY" and values <= FALSE):
            why, remedy = IGNORED[rest]
            yield warning(f"it is for Vault's own tools, and ignored here: {why}", remedy, name)
        elif rest in HARMLESS:
            yield ok("it is for Vault's own tools, and ignored here", name)
    for place, variables in places.items():
        yield from _twice(place, {name.lower(): value or "" for name, value in variables.items()})


def _twice(place: str, variables: Mapping[str, str]) -> Iterator[Finding]:
    """Point out names of which another one, with another value, counts in the same place."""
    counts = names_that_count(variables)
    for name, value in variables.items():
        winner = counts[our_name(name)]
        if winner != name and variables[winner] != value:
            text = f"it is ignored, since {winner.upper()} is set {place}, too"
            yield warning(text, f"Unset {name.upper()} or {winner.upper()}.", name.upper())
