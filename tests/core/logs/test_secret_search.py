"""The matcher: whatever is held is found, in whatever spelling, and nothing else."""

import base64
import html
import json
import re
import reprlib
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from app.core.logs.secret_search import SHORTEST, Matcher, encoded

ODD = 'pa"ss\\wörd/%+\n\t\u2028ünd @ mehr&<x!'  # everything that some spelling writes in another way
TEXTS = st.text(max_size=60)
STRINGS = st.text(min_size=SHORTEST, max_size=40).filter(lambda text: len(text.replace("\\", "")) >= SHORTEST)


def bare(text: str) -> bytes:
    """Return what is compared: backslashes do not count."""
    return encoded(text).replace(b"\\", b"")


def shown(strings: set[str], text: str) -> set[bytes]:
    """Return the pieces of the text that the matcher finds, without backslashes."""
    data = encoded(text)
    return {data[start:end].replace(b"\\", b"") for start, end in Matcher(strings).find(data)}


@given(strings=st.sets(STRINGS, min_size=1, max_size=8), before=TEXTS, after=TEXTS, data=st.data())
def test_a_string_is_found_wherever_it_stands(strings: set[str], before: str, after: str, data: st.DataObject) -> None:
    """At even and odd positions, at the beginning and at the end, among any other strings."""
    string = data.draw(st.sampled_from(sorted(strings)))
    assert bare(string) in shown(strings, before + string + after)


@given(strings=st.sets(STRINGS, max_size=8), text=TEXTS)
def test_nothing_else_is_found(strings: set[str], text: str) -> None:
    """What is found in a text without an ellipsis is a spelling of something that is held, as a slow search sees it."""
    text = text.replace(".", "").replace("…", "")
    found = shown(strings, text)
    slow = {bare(string) for string in strings if string in text}
    assert slow <= found
    if not slow and text.isascii() and "%" not in text and "\\" not in text and "+" not in text:
        letters = "".join(character for character in text if character.isalnum() or character in "-_/")
        assert all(piece.decode() in letters for piece in found), "only base64 can look like that"


@pytest.mark.parametrize("string", ["plain-0123456789", ODD, "has a back\\slash", "'quoted' and \"quoted\"", '"x=1;"'])
@pytest.mark.parametrize(
    "spell",
    [
        pytest.param(str, id="plain"),
        pytest.param(quote, id="percent-encoded path"),
        pytest.param(lambda text: quote(text, safe=""), id="percent-encoded"),
        pytest.param(quote_plus, id="percent-encoded form"),
        pytest.param(lambda text: quote(text, safe="!#$%&'()*+,/:;=?@[]~"), id="percent-encoded by requests"),
        pytest.param(lambda text: quote(text, safe="!$%&'()*+,/:;=@[]^|~"), id="percent-encoded by browsers"),
        pytest.param(lambda text: re.sub("%..", lambda each: each[0].lower(), quote(text)), id="lower-case"),
        pytest.param(html.escape, id="HTML"),
        pytest.param(lambda text: html.escape(text, quote=False), id="HTML with quotes"),
        pytest.param(lambda text: html.escape(text).replace("x27;", "39;").replace("quot;", "#34;"), id="markup"),
        pytest.param(ascii, id="ascii"),
        pytest.param(lambda text: json.dumps(text).replace("fc", "FC").replace("f6", "F6"), id="JSON, upper-case"),
        pytest.param(lambda text: json.dumps(text).replace("&", r"\u0026").replace("<", r"\u003c"), id="JSON for HTML"),
        pytest.param(json.dumps, id="JSON"),
        pytest.param(lambda text: json.dumps(text, ensure_ascii=False), id="JSON beyond ASCII"),
        pytest.param(repr, id="repr"),
        pytest.param(lambda text: repr(text.encode()), id="repr of bytes"),
        pytest.param(lambda text: json.dumps({"inner": json.dumps({"value": text})}), id="JSON in JSON"),
        pytest.param(lambda text: json.dumps({"inner": repr({"value": text})}), id="repr in JSON"),
        pytest.param(lambda text: json.dumps({"url": quote(text)}), id="percent-encoded in JSON"),
        pytest.param(lambda text: json.dumps([json.dumps([json.dumps([repr([text])])])]), id="four times"),
    ],
)
def test_every_spelling_is_found(string: str, spell: object) -> None:
    """Percent-encoded, escaped once and twice; nothing of it is left over."""
    assert callable(spell)
    text = f"<{spell(string)}>"
    data = encoded(text)
    ((start, end),) = set(Matcher({string}).find(data))
    around = re.sub(rb"[^A-Za-z0-9]", b"", data[:start] + data[end:])
    assert around in {b"", b"inner", b"innervalue", b"url", b"b"}


@given(
    string=STRINGS, before=st.binary(max_size=8), after=st.binary(max_size=8), alphabet=st.sampled_from(["std", "url"])
)
def test_base64_is_found_wherever_it_stands_in_what_was_encoded(
    string: str, before: bytes, after: bytes, alphabet: str
) -> None:
    """Alone or, as in Basic authentication, behind a user name: all but letters that are shared with a neighbour."""
    encode = base64.b64encode if alphabet == "std" else base64.urlsafe_b64encode
    text = encode(before + encoded(string) + after)
    found = max(Matcher({string}).find(text), key=lambda span: span[1] - span[0])
    assert found[1] - found[0] >= len(encoded(string)) * 8 // 6 - 1


LONG = "k3y-" + "Xq7Rw9Tz" * 8


def test_what_reprlib_has_shortened_is_found() -> None:
    """The debug output of asyncio shows arguments that way."""
    assert {LONG[:12].encode(), LONG[-13:].encode()} <= shown({LONG}, f"call_later({reprlib.repr(LONG)}) took 0.2 s")


def test_what_pydantic_has_shortened_is_found() -> None:
    """Its errors repeat the input, cut in the middle."""

    class Number(BaseModel):
        number: int

    with pytest.raises(ValidationError) as caught:
        Number.model_validate({"number": LONG})
    assert LONG not in str(caught.value)
    found = shown({LONG}, str(caught.value))
    assert any(LONG.startswith(piece.decode()) and len(piece) > 12 for piece in found)
    assert any(LONG.endswith(piece.decode()) and len(piece) > 12 for piece in found)


def test_dots_beside_an_ellipsis_belong_to_it() -> None:
    """The string may have ended with one, or the sentence."""
    assert shown({LONG}, f"{LONG[:12]}....") == {LONG[:12].encode()}
    assert shown({LONG}, f"......{LONG[-12:]}") == {LONG[-12:].encode()}


def test_an_ellipsis_alone_hides_nothing() -> None:
    """Neither prose nor a piece of fewer characters than are searched for."""
    assert shown({LONG}, "waiting... for k3y-X... and ...w9Tz … nothing") == set()


@pytest.mark.parametrize("text", ["", "a", "ab", "abc", "abcd", "abcde", "ä"])
def test_short_texts_are_fine(text: str) -> None:
    """There is less than one number in them."""
    assert Matcher({"abcdef"}).find(encoded(text)) == []


def test_a_thousand_strings_that_begin_alike_are_all_found() -> None:
    """They cannot all stand under their first window."""
    strings = {f"postgresql://app:{n:04}@db/app" for n in range(1000)}
    matcher = Matcher(strings)
    for string in strings:
        assert any(end - start == len(string) for start, end in matcher.find(encoded(f"x {string} y")))
    assert matcher.find(b"postgresql://app:1000@db/app") == []
