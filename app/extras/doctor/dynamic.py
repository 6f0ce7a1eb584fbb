"""May the token have credentials issued, renewed and taken back? And what does Vault issue, where that is asked for?"""

from collections.abc import Iterator

from app.core.errors import PermissionDenied
from app.core.settings.dynamic import DynamicSecret
from app.core.settings.vault import VaultSettings
from app.core.vault.dynamic import credentials_of
from app.core.vault.kv import VaultKV
from app.core.vault.leases import variable_of
from app.core.vault.policy import issuing_grants
from app.core.vault.session import VaultSession
from app.extras.doctor.findings import Finding, ok, warning

LONG = 7 * 86_400.0  # seconds; a role without a TTL has Vault's 32 days
SOON = 600.0  # seconds

NOT_DONE = "Vault would issue it: `python -m app doctor --issue` has it done, and gives it back"


def examine_dynamic(session: VaultSession, own: VaultSettings, *, may_issue: bool) -> Iterator[Finding]:
    """Look at each dynamic secret; nothing is issued unless that is asked for."""
    if not own.dynamic:
        yield ok("there is none")
    for each in own.dynamic:
        subject = f"{variable_of(each, session.name)}={each.path}"
        _refuse_lacking(session, own.model_copy(update={"dynamic": (each,)}), subject)
        may = "have it issued, renew it and take it back" if each.has_lease else "read it"
        yield ok(f"the token may {may}" + ("" if may_issue or not each.has_lease else f". {NOT_DONE}"), subject)
        if may_issue:
            yield from _issued(session, each, subject)


def _refuse_lacking(session: VaultSession, own: VaultSettings, subject: str) -> None:
    """Raise `PermissionDenied` that names each grant which is missing."""
    needed = {path.replace("/*", "/x"): (path, grants) for path, grants in issuing_grants(own).items()}
    held = VaultKV(session).capabilities([*needed])
    lacking = [
        f'path "{path}" {{ capabilities = ["{grants[0]}"] }}'
        for asked, (path, grants) in needed.items()
        if not {"root", *grants[:1]} & {*held[asked]}
    ]
    if lacking:
        raise PermissionDenied(
            subject, f"the token lacks {len(lacking)} of what it takes", f"Add {'; '.join(lacking)}."
        )


def _issued(session: VaultSession, secret: DynamicSecret, subject: str) -> Iterator[Finding]:
    """Have it issued; it goes with the doctor's token, or is given back before that."""
    credentials = credentials_of(session)
    found = credentials.current(secret)
    lease, token = credentials.lease(secret.name), session.time_left()
    ttl = lease.duration
    yield ok(f"issued for {ttl:.0f} s, with {', '.join(sorted(found.data))}", subject)
    if ttl > LONG:
        yield warning(f"it is good for {ttl / 86_400:.0f} days", "Give its role a default_ttl of hours.", subject)
    if secret.has_lease and token is not None and token < ttl:
        remedy = "That is well where the token is renewed; else give it a longer TTL (token_ttl, token_max_ttl)."
        yield warning(f"it ends with the token, in {token:.0f} s", remedy, subject)
    if secret.has_lease and not lease.renewable and ttl < SOON:
        yield warning(f"it cannot be renewed, and is replaced every {ttl:.0f} s", "Let its role renew it.", subject)
