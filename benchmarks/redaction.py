"""What does it cost to keep secrets out of a log line? `make bench`; microseconds, on this machine."""

import json
import re
import secrets
import time
import timeit
from typing import Any

from app.core.logs.redaction import MASK, mask_from_now_on, mask_named, mask_shown, redact

SIZE, HELD = 1024, 1000
RANDOM = [secrets.token_urlsafe(24) for _ in range(HELD)]
ALIKE = [f"postgresql://app:{secrets.token_urlsafe(18)}@db.example.com:5432/app{n}" for n in range(HELD)]


def event_with(detail: str) -> dict[str, Any]:
    """Return an event that takes a kilobyte, as the access event does, and ends with `detail`."""
    event = {
        "event": "request_finished",
        "request_id": secrets.token_hex(16),
        "method": "GET",
        "path": "/api/v1/orders",
        "status": 200,
        "duration_ms": 12.34,
        "logger": "app.core.web.requests",
        "level": "info",
        "timestamp": "2026-11-21T08:35:41.204871Z",
        "detail": detail,
    }
    words = "http://127.0.0.1:8200: Vault is sealed. Unseal it: `vault operator unseal`. Check VAULT_URL (app.vault). "
    room = SIZE - len(json.dumps(event))
    return {**event, "detail": (words * 12)[:room] + detail}


def microseconds(event: dict[str, Any]) -> float:
    """Return what both processors cost for this event, with what is held now."""
    line = json.dumps(event)
    assert len(line) == SIZE

    def mask() -> None:
        mask_named(None, "", event)
        mask_shown(None, "", line)

    return min(timeit.repeat(mask, number=1000, repeat=9)) * 1000


def main() -> None:
    """Measure lines that show nothing, a secret, or half of one."""
    for what, held in {"random": RANDOM, "that begin alike": ALIKE}.items():
        start = time.perf_counter()
        mask_from_now_on("benchmark", held)
        built = (time.perf_counter() - start) * 1000
        cases = {"": "", ", one shown": held[7], ", one abbreviated": f"{held[7][:12]}...{held[7][-13:]}"}
        for case, detail in cases.items():
            event = event_with(detail)
            assert (MASK in mask_shown(None, "", json.dumps(event))) == bool(case)
            cost = microseconds(event)
            print(f"a log line of 1 KB, {HELD} secrets held, {what}{case}: {cost:.0f} µs (aim: under 50)")
        print(f"taking in {HELD} secrets, {what}, at a rotation, in a worker thread: {built:.0f} ms")
    for piece in ("eyJ", "a...", "://a:b@"):
        hostile = piece * (64 * SIZE // len(piece))
        cost = min(timeit.repeat(lambda line=hostile: redact(line), number=1, repeat=9)) * 1000
        print(f"a hostile line of 64 KB, {piece!r} repeated: {cost:.1f} ms")
    naive, line = re.compile("|".join(map(re.escape, RANDOM))), json.dumps(event_with(""))
    cost = min(timeit.repeat(lambda: naive.search(line), number=20, repeat=5)) / 20 * 1e6
    print(f"for comparison, one regular expression of {HELD} alternatives: {cost:.0f} µs")


if __name__ == "__main__":
    main()
