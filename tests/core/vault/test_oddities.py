"""What looks like something else than the credential that belongs there is told apart; credentials are left alone."""

import base64
import json

import pytest

from app.core.vault.auth_methods.oddities import look_of, look_of_bytes

TOKEN = "hvs.CAESIJ" + "canary" * 5
JWT = "eyJhbGciOiJFUzI1NiJ9." + "eyJzdWIiOiJhcHAifQ." + "c2lnbmF0dXJl-_"
PEM = "-----BEGIN " + "PRIVATE KEY-----"


@pytest.mark.parametrize("text", [TOKEN, "s." + "x" * 24, "root", "dev-token-12345", "hvb.AAAA-_" + "x" * 200])
def test_a_token_is_left_alone(text: str) -> None:
    """Service and batch tokens of both servers, and one that an operator chose."""
    assert look_of(text, "VAULT_TOKEN") == ""


@pytest.mark.parametrize(
    ("text", "variable"),
    [
        (JWT, "VAULT_JWT"),
        ("078bc261-26e0-ea06-b225-91be529862a6", "VAULT_SECRET_ID"),
        ("chosen#by=hand", "VAULT_SECRET_ID"),
        ("", ""),
        ('"four words" and one', "VAULT_PASSWORD"),
        ("ends with \\n", "VAULT_PASSWORD"),
    ],
)
def test_other_credentials_are_left_alone(text: str, variable: str) -> None:
    """Each in its place."""
    assert look_of(text, variable) == ""


@pytest.mark.parametrize(
    ("text", "look"),
    [
        (f'"{TOKEN}"', "quotes"),
        (f"'{TOKEN}'", "quotes"),
        (f'"{TOKEN}', "quotes"),
        (json.dumps({"auth": {"client_token": TOKEN}}), "JSON"),
        (json.dumps([TOKEN]), "JSON"),
        (f'{{"token": "{TOKEN}",}}', "JSON"),
        (f"export VAULT_TOKEN={TOKEN}", "name of a variable"),
        (f"VAULT_TOKEN={TOKEN}", "name of a variable"),
        (f"token: {TOKEN}", "name of a variable"),
        (f"$env:VAULT_TOKEN={TOKEN}", "name of a variable"),
        (f"Bearer {TOKEN}", "several words"),
        (f"{TOKEN} # of the shop", "several words"),
        (f"{TOKEN}\\n", "line end"),
        ("<your token>", "placeholder"),
        ("${VAULT_TOKEN}", "placeholder"),
        ("{{ with secret }}", "placeholder"),
        (JWT, "a JWT"),
        (base64.b64encode(TOKEN.encode()).decode(), "base64"),
        (PEM, "PEM"),
    ],
)
def test_what_is_no_bare_token_is_told_apart(text: str, look: str) -> None:
    """Without repeating it."""
    said = look_of(text, "VAULT_TOKEN")
    assert look in said
    assert "canary" not in said


@pytest.mark.parametrize("text", ["not-a-jwt", "a.b", TOKEN])
def test_what_is_no_jwt_is_told_apart(text: str) -> None:
    """Also a token of Vault's in its place, and a secret id that is a wrapping token."""
    assert look_of(text, "VAULT_JWT")
    assert "VAULT_SECRET_ID_WRAPPED" in look_of(TOKEN, "VAULT_SECRET_ID")


@pytest.mark.parametrize(
    ("content", "look"),
    [
        (b"\xef\xbb\xbf" + TOKEN.encode(), "byte order mark"),
        (TOKEN.encode("utf-16"), "UTF-16"),
        (b"\x00\x01\x02\xff", "binary"),
        (b"\x00\x01", "binary"),
        (b"one\ntwo\r\nthree", "3 lines"),
        (f'{{\n  "token": "{TOKEN}"\n}}'.encode(), "JSON"),
        (f"export VAULT_TOKEN={TOKEN}\nexport VAULT_ADDR=x\n".encode(), "name of a variable"),
        (f"{PEM}\ncanary\n".encode(), "PEM"),
        ("hvs.☃".encode(), "other characters"),
        (b"tab\there", "several words"),
    ],
)
def test_what_cannot_be_a_credential_is_described(content: bytes, look: str) -> None:
    """For whoever wrote the file."""
    said = look_of_bytes(content)
    assert look in said
    assert "canary" not in said
