"""What does something look like that should be a credential? Said where it is refused, and never with the value."""

import base64
import codecs
import json
import re

QUOTES = "\"'`"
_UTF_16 = codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE
_ASSIGNMENT = re.compile(
    r"(export|set|setx|setenv)\s+\S|(\$env:)?[A-Z][A-Z0-9_]*\s*=\s*[^=\s]|[A-Za-z_]*token\s*=\s*[^=\s]|[A-Za-z_]+:\s"
)
_TEMPLATE = re.compile(r"<[^<>]*>|\$\{[^{}]*\}|\$\([^()]*\)|\{\{.*\}\}|\$[A-Z_]+")
_TOKEN = re.compile(r"(hv[sbr]|[sb])\.[\w-]{20,}")  # of Vault's and OpenBao's
_JWT = re.compile(r"[\w-]+\.[\w-]+\.[\w-]*")
_JSON_WEB = re.compile(r"eyJ[\w-]*\.[\w-]+\.[\w-]*")


def look_of_bytes(content: bytes) -> str:
    """Say what cannot be a credential, since it is not one line of ASCII text."""
    if content.startswith(_UTF_16):
        return "it is UTF-16, as PowerShell writes it"
    marked = content.startswith(codecs.BOM_UTF8)
    try:
        text = content.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        return "it is binary"
    if "\0" in text:
        return "it is binary"
    if marked and text.isascii() and text.isprintable():
        return "it begins with a byte order mark (BOM)"
    lines = len(text.splitlines())
    return look_of(text) or (f"it has {lines} lines" if lines > 1 else "it holds other characters")


def look_of(text: str, variable: str = "") -> str:
    """Say what a text is, if it does not look like the credential that belongs into `variable`; else nothing."""
    if not text:  # with the method `none`
        return ""
    if text.startswith("-----BEGIN "):
        return "it is PEM, a key or a certificate"
    if _is_json(text):
        return "it is JSON"
    is_free = variable.startswith("VAULT_PASSWORD")  # and may hold whatever people think of
    if text[0] in QUOTES or text[-1] in QUOTES:
        return "" if is_free and text[0] != text[-1] else "there are quotes around it"
    if _TEMPLATE.fullmatch(text):
        return "it is a placeholder that nobody has filled in"
    if _ASSIGNMENT.match(text):
        return "the name of a variable stands before it"
    if is_free:
        return ""
    if re.search(r"\s", text.strip()):
        return "it is several words" if len(text.splitlines()) == 1 else ""
    if text.endswith(("\\n", "\\r")):
        return "a line end is written out after it, as a backslash and a letter"
    return _other_kind(text, variable)


def _other_kind(text: str, variable: str) -> str:
    """Recognise a credential in the place of another one."""
    if variable.startswith("VAULT_JWT"):
        if _TOKEN.fullmatch(text):
            return "it is a token of Vault's"
        return "" if _JWT.fullmatch(text) else "it is not a JWT, which has three parts with dots between them"
    if variable.startswith("VAULT_TOKEN"):
        if _JSON_WEB.fullmatch(text):
            return "it is a JWT, and no token of Vault's"
        return "it is in base64" if _TOKEN.fullmatch(_from_base64(text)) else ""
    if variable.startswith("VAULT_SECRET_ID") and _TOKEN.fullmatch(text):
        return "it is a token: if it wraps a secret id, set VAULT_SECRET_ID_WRAPPED=true"
    return ""


def _is_json(text: str) -> bool:
    try:
        return text[0] in "{[" and isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return text[0] == "{" and text[-1] == "}" and '"' in text


def _from_base64(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode("ascii").strip()
    except ValueError:
        return ""
