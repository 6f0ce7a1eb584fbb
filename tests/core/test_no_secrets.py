"""No file of the repository holds a credential: none that its form gives away, and none that its name does."""

import math
import re
from collections import Counter
from pathlib import Path

import pytest

from infrastructure.project import project_files
from tests.support import ROOT

SHAPES = {
    "a token of Vault": r"\bhv[bsr]\.[\w-]{20,}",
    "an old token of Vault": r"(?<![\w.])[bsr]\.[A-Za-z0-9]{24}(?![\w.(])",
    "a private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----",
    "an access key of AWS": r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    "a token of GitHub": r"\b(?:gh[pousr]_|github_pat_)\w{22,}",
    "a token of Slack": r"\bxox[abprs]-[\w-]{10,}",
    "a token of GitLab": r"\bglpat-[\w-]{20,}",
    "a key of Stripe": r"\b[rs]k_live_\w{20,}",
    "an API key of a service like this one": r"\b[a-z]{2,12}_(?=[\w-]*\d)(?P<value>[A-Za-z0-9_-]{43})(?![\w-])",
    "a JWT": r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}",
    "a password in a URL": r"\b[a-z][a-z0-9+.-]*://[^\s:/@\"'<>{}$]+:(?P<value>[^\s/@\"'<>{}$]+)@",
    "a password": (
        r"(?i)(?:password|passwd|pwd)[\"']?[ \t]*[:=][ \t]*[\"']?"
        r"(?P<value>(?=[^\s\"']*\d)(?=[^\s\"']*[a-zA-Z])[^\s\"'<>{}()\[\],]{8,})"
    ),
    "a value of a credential": (
        r"(?i)(?:password|passwd|secret|token|api_?key|credential)\w*[\"']?[ \t]*[:=][ \t]*[\"']?"
        r"(?P<value>(?=[\w+/=.~-]*\d)[\w+/=.~-]{16,})"
    ),
}
EXEMPT: tuple[str, ...] = (
    # what a throwaway Conjur server said, its short-lived tokens included
    "tests/extras/conjur/recordings/",  # extra: conjur
)
PICKED_BY_PEOPLE = {"a password", "a password in a URL"}
PICKED = 2.5  # bits a character; a password that a person has picked has less
CHANCE = 3.7  # bits a character; text and names have less, what a generator made has more
# What may stand here: known to everybody, or made up so that one sees it.
ALLOWED = re.compile(
    r"^dev-token-12345$"  # the dev Vault's root token
    r"|canary|example|password|passwd|secret|token|junk|test|wrong|local|placeholder|bench|change-me|sesame|p%40ss|in%2Fa"
    r"|^(?:app|user|pass|p|x|k|s)$",
    re.IGNORECASE,
)


def chance(text: str) -> float:
    """Return the entropy of a text's characters, in bits a character."""
    return -sum(count / len(text) * math.log2(count / len(text)) for count in Counter(text).values())


def findings(text: str) -> list[str]:
    """Return what in a text looks like a credential, by line and kind, without repeating it."""
    found = []
    for kind, shape in SHAPES.items():
        for match in re.finditer(shape, text):
            value = match.groupdict().get("value")
            if value is not None and (
                ALLOWED.search(value) or chance(value) < (PICKED if kind in PICKED_BY_PEOPLE else CHANCE)
            ):
                continue
            found.append(f"line {text.count(chr(10), 0, match.start()) + 1}: {kind}")
    return found


def text_of(file: Path) -> str:
    """Return a file's text; what is no text has none."""
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def test_no_file_holds_a_credential() -> None:
    """Of those that git tracks or would track."""
    files = project_files(ROOT)
    assert len(files) > 100
    named = ((file.relative_to(ROOT).as_posix(), file) for file in files)
    found = {name: findings(text_of(file)) for name, file in named if not name.startswith(EXEMPT)}
    assert not {name: lines for name, lines in found.items() if lines}


RANDOM = "q7Zt2LxVb9Rk4WmYc8Jd"  # put together below, or this file would hold what it looks for


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("a token of Vault", "hvs." + RANDOM + "5N"),
        ("a token of Vault", "VAULT_TOKEN=hvb." + RANDOM * 3),
        ("an old token of Vault", "token: s." + RANDOM + "5N3p"),
        ("a private key", "-----BEGIN RSA " + "PRIVATE KEY-----"),
        ("an access key of AWS", "AKIA" + "IOSFODNN7EXAMPLE"),
        ("a token of GitHub", "ghp_" + RANDOM * 2),
        ("a token of Slack", "xoxb-" + RANDOM),
        ("a token of GitLab", "glpat-" + RANDOM),
        ("a key of Stripe", "sk_live_" + RANDOM),
        ("a private key", "-----BEGIN PGP " + "PRIVATE KEY BLOCK-----"),
        ("a password", "DB_PASSWORD=" + "Su9mer7024!"),
        ("a password", 'redis_password: "' + 'aB3$xY9!kL"'),
        ("a JWT", "eyJ" + RANDOM + ".eyJ" + RANDOM + "." + RANDOM),
        ("a password in a URL", "postgresql://shop:" + RANDOM + "@db.internal/shop"),
        ("a password in a URL", "postgresql+psycopg://shop:" + "Su9mer7024!@db.internal/shop"),
        ("a password", "host=db.internal user=shop password=" + "Su9mer7024!"),
        ("an API key of a service like this one", "svc_" + (RANDOM * 3)[:43]),
        ("a value of a credential", 'api_key = "' + RANDOM + '"'),
        ("a value of a credential", '"client_secret": "' + RANDOM + '"'),
        ("a value of a credential", "DB_PASSWORD=" + RANDOM),
    ],
)
def test_a_credential_would_be_found(kind: str, line: str) -> None:
    """Wherever it stands in a file; what is found is not repeated."""
    found = findings(f"harmless\n{line}\nharmless")
    assert f"line 2: {kind}" in found
    assert RANDOM not in str(found)


@pytest.mark.parametrize(
    "line",
    [
        "token dev-token-12345",
        'SECRETS = {"api_key": "canary-api-key-0123456789"}',
        "postgresql://app:password@db.example.com/app",
        "postgresql://{vault://vault/db/user}:{vault://vault/db/password}@db.example.com/app",
        "token = session.current().auth.client_token",
        "    --hash=sha256:0a30ef8f5322a4173720ae6712dc9a5e58f5a19868f3f167b4b5778db066c2b5",
    ],
)
def test_what_is_none_is_let_pass(line: str) -> None:
    """Or people would stop looking."""
    assert not findings(line)
