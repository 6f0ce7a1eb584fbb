"""What is measured while all is well? Starts, reads and forks; each scene yields rows, with a cell for each peer."""

import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence

from benchmarks.peers.arena import FIELDS, Access, Found, lines_of, requests_to, tokens_of, write
from benchmarks.peers.environments import Column
from infrastructure.dev_vault import EmbeddedVault

STARTS, CHILDREN = 7, 4
LOGIN = "auth/approle/login"
Row = tuple[str, list[str]]


def starts(access: Access, vault: EmbeddedVault, columns: Sequence[Column]) -> Iterator[Row]:
    """Count what one start asks of Vault and leaves there, and time it."""
    write(access.root, "starts", "of-starts")
    for fields in (1, FIELDS):
        costs = [_cost(access, vault, column, str(fields)) for column in columns]
        what = "1 field" if fields == 1 else f"{fields} fields of one secret"
        yield f"requests to Vault for one start, {what}", [_told(asked) for asked, _ in costs]
        yield (
            f"tokens left after its exit, {what}",
            [str(left) + ("" if LOGIN in asked else " (it is handed one)") for asked, left in costs],
        )
    taken = [[_time(access, column) for column in columns] for _ in range(STARTS)]
    yield (
        "from the start of the process to the first value",
        [f"{statistics.median(each):.2f} s" for each in zip(*taken, strict=True)],
    )


def _cost(access: Access, vault: EmbeddedVault, column: Column, fields: str) -> tuple[list[str], int]:
    """Return what a start asks for, and how many tokens are there because of it; it must have succeeded."""
    told = access.variables("starts")
    tokens = tokens_of(access.root)
    lines = lines_of(vault)
    (found,) = access.played(column, told, "start", fields)
    asked = requests_to(vault, lines)
    if found.get("value") != "of-starts" * int(fields):
        raise RuntimeError(f"{column.name} did not start: {found}")
    return asked, tokens_of(access.root) - tokens


def _told(asked: list[str]) -> str:
    kinds = Counter("read" if path.startswith("secret/") else path.rpartition("/")[2] for path in asked)
    return f"{len(asked)} ({', '.join(kind if n == 1 else f'{n} {kind}' for kind, n in kinds.items())})"


def _time(access: Access, column: Column) -> float:
    told = access.variables("starts")
    begun = time.perf_counter()
    with access.process(column, told, "start", "1") as process:
        if process.stdout:
            process.stdout.readline()
        return time.perf_counter() - begun


def reads(access: Access, columns: Sequence[Column]) -> Iterator[Row]:
    """Time a read of what is held, and one that asks Vault."""
    write(access.root, "reads", "of-reads")
    found = [access.played(column, access.variables("reads"), "reads")[-1] for column in columns]
    held = [each["held"] for each in found]
    yield "a read of a held value", ["— (it holds none)" if each is None else f"{each * 1e9:.0f} ns" for each in held]
    yield "a read from Vault", [f"{each['fresh'] * 1e3:.1f} ms" for each in found]


def forks(access: Access, columns: Sequence[Column]) -> Iterator[Row]:
    """Have children read beside their parent."""
    own, *others = paths = [f"fork-{n}" for n in range(CHILDREN + 1)]
    for path in paths:
        write(access.root, path, f"of-{path}")
    found = [access.played(column, access.variables(own), "fork", *others) for column in columns]
    yield f"{CHILDREN} forked children and their parent read at once", [_summed(each) for each in found]
    yield "the parent's next read, once the children have ended", [_after(each[-1]["after"]) for each in found]


def _summed(found: list[Found]) -> str:
    told = Counter[str]()
    for each in found[:-1]:
        told.update(each)
    bad = [f"{told[name]} {what}" for name, what in BAD.items() if told[name]]
    return ", ".join(bad or ["all right"]) + f" of {told.total()}"


BAD = {"wrong": "**wrong values**", "failed": "failed", "unanswered": "not answered in time"}


def _after(found: Found) -> str:
    return "right" if found.get("value") == "of-fork-0" else f"{found.get('value') or found.get('error') or 'None'}"
