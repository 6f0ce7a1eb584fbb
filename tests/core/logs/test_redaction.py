"""Redaction: what the process holds, and what looks or is named like a credential, never stands in a log line."""

import json
import logging
import os
import secrets
import subprocess
import sys
import time
import timeit
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from app.config import Settings
from app.core.logs.logging_config import configure_logging, get_logger
from app.core.logs.redaction import (
    KEY_PREFIX,
    MASK,
    credentials_in,
    mask_from_now_on,
    mask_named,
    mask_shown,
    redact,
    strings_in,
)
from tests.support import DEADLINE, ROOT

VALUE = "Zk8-held-value-4711"


def test_a_held_value_is_masked_and_the_rest_stays() -> None:
    """However often it appears, and without touching what stands around it."""
    mask_from_now_on("test", [VALUE])
    assert redact(f"a{VALUE}b, {VALUE}{VALUE} <ü>") == f"a{MASK}b, {MASK}{MASK} <ü>"
    assert redact("nothing here") == "nothing here"


def test_values_that_overlap_are_masked_together() -> None:
    """Nothing of either is left over."""
    mask_from_now_on("test", ["abcdefgh", "efghijkl"])
    assert redact("x abcdefghijkl y") == f"x {MASK} y"


def test_the_call_before_counts_too_and_the_one_before_that_does_not() -> None:
    """Current and previous snapshot, token or secret id."""
    for n in (1, 2, 3):
        mask_from_now_on("test", [f"{VALUE}-{n}"])
    assert redact(f"{VALUE}-1 {VALUE}-2 {VALUE}-3") == f"{VALUE}-1 {MASK} {MASK}"


def test_the_same_values_again_keep_the_previous_ones() -> None:
    """A refresh that changes nothing does not forget the last rotation."""
    for value in ("the-former-one", VALUE, VALUE, VALUE):
        mask_from_now_on("test", [value])
    assert redact("the-former-one") == MASK


def test_owners_do_not_displace_each_other() -> None:
    """Two Vaults have two tokens."""
    mask_from_now_on("one", ["value-of-one"])
    mask_from_now_on("two", ["value-of-two"])
    assert redact("value-of-one value-of-two") == f"{MASK} {MASK}"


def test_a_value_of_fewer_than_six_characters_is_not_searched_for() -> None:
    """It would be met everywhere by chance."""
    mask_from_now_on("test", ["12345", "123456"])
    assert redact("12345 123456") == f"12345 {MASK}"


def test_strings_are_found_inside_other_values() -> None:
    """In nested objects, in text that is JSON, as the password of a URL, without white space around them."""
    value = {
        "nested": {"list": ["in-a-list", 7, None, True]},
        "text": '{"private_key": "in-json-text", "url": "https://u:p%40ssword@h/"}\n',
        "url": "postgresql://app:in%2Fa%2Furl@db.example.com/app",
        "token": "https://token-as-user@git.example.com/x",
        "user": "https://only-a-user:some-password@git.example.com/x",
        "database's user": "postgresql://a-database-user@db.example.com/x",
        "DSN": "host=db user=app password='in-a-libpq-dsn' dbname=app",
        "ODBC": "Server=db;Uid=app;PWD={in-an-odbc-dsn};Database=app",
        "query": "postgresql:///app?user=x&password=in%2Da-test&sslmode=require",
        "lines": "-----BEGIN KEY-----\n  first-line\n  second-line\n",
        "not json": "{not json",
        "not a URL": "http://[half",
    }
    found = set(strings_in(value))
    assert {"in-a-list", "in-json-text", "p%40ssword", "p@ssword", "in%2Fa%2Furl", "in/a/url"} <= found
    assert {"first-line", "second-line"} <= found
    assert {"token-as-user", "in-a-libpq-dsn", "in-an-odbc-dsn", "in%2Da-test", "in-a-test"} <= found
    assert not {"only-a-user", "a-database-user"} & found
    assert value["text"].strip() in found  # type: ignore[attr-defined]
    assert "text" not in found


def test_credentials_are_found_among_the_settings() -> None:
    """Those of every Vault; paths, addresses and references are none."""
    settings = Settings.model_validate(
        {
            "vault": {"token": "main-token", "secret_id": "main-secret-id", "role": "shop"},
            "vaults": {"partner": {"url": "https://partner.example.com", "token": "partner-token"}},
            "secrets": {"x": "{vault://partner/a/b}"},
        }
    )
    assert set(credentials_in(settings)) == {"main-token", "main-secret-id", "partner-token"}


TOKEN_24, TOKEN_95 = "Aa0" * 8, "CAESI" + "b-_4" * 23
SHAPES = {
    "service token": (f"hvs.{TOKEN_95}", f"hvs.{MASK}"),
    "short service token": (f"hvs.{TOKEN_24}", f"hvs.{MASK}"),
    "batch token": (f"hvb.{TOKEN_95}", f"hvb.{MASK}"),
    "recovery token": (f"hvr.{TOKEN_24}", f"hvr.{MASK}"),
    "service token before 1.10": (f"s.{TOKEN_24}", f"s.{MASK}"),
    "service token of a namespace": (f"s.{TOKEN_24}.mYZvii", f"s.{MASK}"),
    "batch token before 1.10": (f"b.{TOKEN_95}", f"b.{MASK}"),
    "JWT": (jwt.encode({"sub": "x"}, "k" * 32), f"eyJ{MASK}"),
    "API key of this service": (KEY_PREFIX + "x-_4" * 10 + "abc", f"{KEY_PREFIX}{MASK}"),
    "Conjur's token": ('Token token="eyJwcm90ZWN0=="', f'Token token="{MASK}"'),
    "URL": ("amqp://user:pa:ss@w@host:5672/x", f"amqp://user:{MASK}@host:5672/x"),
    "URL without user": ("redis://:secretly@host/0", f"redis://:{MASK}@host/0"),
    "bearer": ("Authorization: Bearer 0123456789abcdef", f"Authorization: Bearer {MASK}"),
    "basic": ("Authorization: Basic dXNlcjpwYXNzd29yZA==", f"Authorization: Basic {MASK}"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_what_looks_like_a_credential_is_masked_though_nobody_holds_it(shape: str) -> None:
    """In plain text, and with the escapes of JSON around it."""
    text, masked = SHAPES[shape]
    assert redact(f"x '{text}', y") == f"x '{masked}', y"
    assert json.loads(redact(json.dumps({"x": f"a {text} b"}))) == {"x": f"a {masked} b"}


@pytest.mark.parametrize("before", ["Bearer ", "token=", "%20", "%3D", "'", '"', "\n", "x.", "_", "eyJ.", "eyJ\n"])
def test_a_jwt_is_masked_wherever_it_begins(before: str) -> None:
    """Also behind letters that an escape ends with, and behind what only begins like one."""
    token = jwt.encode({"sub": "x"}, "k" * 32)
    for text in (before + token, json.dumps(before + token)):
        shown = redact(text)
        assert MASK in shown
        assert not any(part in shown for part in token.split("."))


HOSTILE = [
    "eyJ", "eyJ-", "eyJaaaaaaaa.", "eyJaaaaaaaa.aa", "...", "…", "a...", "a" * 90 + "…", "://", "://a:",
    "://a:b@", "a:@", "hvs.", "hvs.hvb.", "s.", "b.", KEY_PREFIX, "Token token=", "Token token=\\",
    "Basic ", "Bearer a", "\\", '\\"', "a", "%",
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_no_line_takes_long(piece: str) -> None:
    """Whatever a stranger repeats in one: four times as much takes about four times as long, not sixteen times."""

    def seconds(size: int) -> float:
        line = piece * (size // len(piece))
        return min(timeit.repeat(lambda: redact(line), timer=time.process_time, number=1, repeat=5))

    mask_from_now_on("test", [VALUE, *(secrets.token_urlsafe(24) for _ in range(100))])
    assert seconds(200_000) < 9 * seconds(50_000)


@pytest.mark.parametrize(
    "harmless",
    [
        "http://127.0.0.1:8200: Vault is sealed. Unseal it: `vault operator unseal`.",
        'secret/app: permission denied. Grant it in the policy: path "secret/data/app" { capabilities = ["read"] }.',
        "VAULT_TOKEN: Vault does not accept the token: wrong, expired or revoked. Provide a new one.",
        "class.attribute_of_a_very_long_name_indeed settings.abcdefghijklmnopqrstuvwx",
        "s.short b.short hvs.short eyJ.x.y Basic authentication, Bearer tokens",
        "mail to nobody@example.com, see https://example.com/a:b?c=d@e",
        "f81d4fae-7dec-11d0-a765-00a0c91e6bf6 2026-11-21T08:35:41.204871Z",
        "SECRET_DATABASE_URL={vault://vault/app/database_url?default=x#2}",
    ],
)
def test_what_only_resembles_a_credential_stays(harmless: str) -> None:
    """The on-call engineer needs it."""
    assert redact(harmless) == harmless


@pytest.mark.parametrize(
    "name",
    [
        "password", "db_password", "PASSWD", "secret", "client_secret", "clientSecret", "token", "access_token",
        "X-Vault-Token", "apiKey", "api_key", "x-api-key", "Authorization", "proxy-authorization", "cookie",
        "Set-Cookie", "secret_id", "jwt", "jwt_secret", "private_key", "credentials", "passphrase",
        "tokens", "passwords", "api_keys", "auth", "http_auth", "bearer", "pass", "db_pass", "dsn", "ssh_key", "pin",
        "otp",
    ],
)  # fmt: skip
def test_what_is_called_a_secret_is_masked(name: str) -> None:
    """Whatever the value, at any depth, in the forms that headers have."""
    event = {
        name: "unheld",
        "headers": {name: ["unheld"]},
        "scope": [(name.encode(), b"unheld"), (b"host", b"x")],
        "pairs": [(name, "unheld"), ("host", "x")],
        "number": [{name: 123456}],
    }
    shown = mask_named(None, "", event)
    assert "unheld" not in repr(shown)
    assert "123456" not in repr(shown)
    assert "host" in repr(shown)


OURS: dict[str, Any] = {
    "token_type": "service", "names": ["api_key", "jwt_secret"], "keys": ["api_key", "jwt_secret"], "ttl": 1200.0,
    "method": "approle", "key": "x", "secret_path": "app", "token_file": "/run/token", "secrets_age": 3.0,
    "password": None, "token": False, "broken": ["api_key: missing"], "source": "vault",
    "remedy": "chmod 600 .dev/secret-id", "pair": ["token", "b"], "object": "signing keys",
}  # fmt: skip


def test_our_own_harmless_fields_stay() -> None:
    """Names of secrets, lifetimes and paths are what a log is for."""
    assert mask_named(None, "", OURS) == OURS


@pytest.mark.parametrize(
    ("value", "event", "shown"),
    [
        ("483920184", {"pin": 483920184, "pi": 3.5, "ok": True}, {"pin": MASK, "pi": 3.5, "ok": True}),
        ('"quoted"', {"x": "quoted", "y": ['a "quoted" b']}, {"x": "quoted", "y": [f"a {MASK} b"]}),
        ("back\\slash", {"x": "back\\slash", "y": None}, {"x": MASK, "y": None}),
        ("the-name", {"the-name": 1}, {MASK: 1}),
    ],
)
def test_a_masked_line_of_json_stays_json(value: str, event: dict[str, Any], shown: dict[str, Any]) -> None:
    """Also where the value is a number, has quotes around it or names a field."""
    mask_from_now_on("test", [value])
    assert json.loads(mask_shown(None, "", json.dumps(event))) == shown


@given(
    values=st.lists(
        st.text(st.characters(exclude_characters="*", categories=["L", "N", "P", "Zs"]), min_size=6), max_size=5
    ),
    others=st.lists(st.text(max_size=20), min_size=6, max_size=6),
)
def test_no_held_value_is_left_in_any_text(values: list[str], others: list[str]) -> None:
    """Whatever the values and whatever stands between them."""
    mask_from_now_on("any", values)
    held = {value.strip() for value in values if len(value.strip()) >= 6}
    text = "".join(other + value for other, value in zip(others, [*values, ""], strict=False))
    shown = redact(text)
    assert not [value for value in held if value in shown.replace(MASK, "\0")]


in_each_form = pytest.mark.parametrize("form", ["json", "console"])


def log_in(form: Any) -> None:
    """Log in this form from now on, with a value held."""
    mask_from_now_on("test", [VALUE])
    configure_logging("DEBUG", form)


def raise_with_notes() -> None:
    """Raise what shows the value in every way that a traceback has."""
    try:
        raise KeyError(VALUE)
    except KeyError as error:
        group = ExceptionGroup(f"group {VALUE}", [ValueError(VALUE), error])
        group.add_note(f"note {VALUE}")
        raise group from error


def written(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what was logged, after a look at whether there is something."""
    text = capsys.readouterr().err
    assert MASK in text
    return text


@in_each_form
def test_tracebacks_are_masked(capsys: pytest.CaptureFixture[str], form: str) -> None:
    """Messages, notes, causes and groups; the frames stay."""
    log_in(form)
    try:
        raise_with_notes()
    except ExceptionGroup:
        get_logger().exception("thing_failed")
    text = written(capsys)
    assert VALUE not in text
    assert "raise_with_notes" in text
    assert "ExceptionGroup" in text


@in_each_form
def test_foreign_loggers_are_masked(capsys: pytest.CaptureFixture[str], form: str) -> None:
    """Their messages, arguments, extra fields and tracebacks."""
    log_in(form)
    foreign = logging.getLogger("some.library")
    foreign.warning("with %s and %r", VALUE, {"x": VALUE}, extra={"password": "unheld", "other": VALUE})
    try:
        raise ValueError(VALUE)
    except ValueError:
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
    text = written(capsys)
    assert VALUE not in text
    assert "unheld" not in text
    assert "some.library" in text


@in_each_form
def test_objects_that_only_the_renderer_turns_into_text_are_masked(
    capsys: pytest.CaptureFixture[str], form: str
) -> None:
    """By their `repr`."""
    log_in(form)
    get_logger().info("thing_happened", thing=SimpleThing(VALUE), both=[SecretStr(VALUE), VALUE.encode()])
    assert VALUE not in written(capsys)


class SimpleThing:
    """Something that shows what it holds."""

    def __init__(self, value: str) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"<thing {self.value}>"


@in_each_form
def test_a_line_that_cannot_be_rendered_is_reported_without_its_arguments(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Python's own report prints the arguments."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's own raises what it cannot render
    log_in(form)
    logging.getLogger("some.library").warning("%d", VALUE)
    text = capsys.readouterr().err
    assert "log_line_lost" in text
    assert "some.library" in text
    assert "test_redaction.py" in text
    assert VALUE not in text


def test_a_stream_that_is_gone_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log line that cannot be written is lost, quietly."""

    class Gone:
        def write(self, _text: str) -> None:
            raise BrokenPipeError

        flush = None

    configure_logging()
    monkeypatch.setattr(logging.getLogger().handlers[0], "stream", Gone())
    get_logger("app.test").warning("thing_happened")


@in_each_form
def test_warnings_are_masked(capsys: pytest.CaptureFixture[str], form: str) -> None:
    """Python would write them past the log."""
    log_in(form)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn(f"deprecated: {VALUE}", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(capture=False)
    text = written(capsys)
    assert VALUE not in text
    assert "py.warnings" in text


SCRIPT = """
import os, threading, warnings
from app.core.logs.logging_config import configure_logging
from app.core.logs.redaction import mask_from_now_on
configure_logging("INFO", os.environ["FORM"])
value = os.environ["VALUE"]
mask_from_now_on("test", [value])
def fail(): raise ValueError(value)
class Broken:
    def __del__(self): fail()
thread = threading.Thread(target=fail)
thread.start()
thread.join()
Broken()
warnings.warn(value)
threading.Thread(target=lambda: exit(value)).start()
raise RuntimeError(value)
"""


@in_each_form
def test_what_python_itself_would_print_is_masked(form: str) -> None:
    """Exceptions that nobody catches: of a thread, of a `__del__`, of the program; and warnings. It fails as before."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "FORM": form, "VALUE": VALUE, "PYTHONWARNINGS": "default"}
    command = [sys.executable, "-c", SCRIPT]
    ended = subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=DEADLINE)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.count("exception_uncaught") == 3
    assert all(name in ended.stderr for name in ("ValueError", "RuntimeError", "UserWarning", MASK))
    assert VALUE not in ended.stderr


def test_many_threads_may_hold_and_log_at_once() -> None:
    """A rotation in one thread never lets a line of another pass that it should not."""
    mask_from_now_on("test", [VALUE])

    def rotate(n: int) -> None:
        mask_from_now_on(f"owner-{n % 4}", [secrets.token_hex(8) for _ in range(50)])

    with ThreadPoolExecutor(8) as pool:
        rotations = [pool.submit(rotate, n) for n in range(40)]
        assert {redact(f"line {n} {VALUE}") for n in range(500)} == {f"line {n} {MASK}" for n in range(500)}
        assert all(rotation.exception() is None for rotation in rotations)
