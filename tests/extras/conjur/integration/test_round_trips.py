"""What is written to Conjur is what is read from it, alone and in a batch, whatever it looks like."""

import base64
import json
import random
import string

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as trying
from hypothesis import strategies as st

from app.core.errors import BadRequest
from app.core.store.source import Secret
from app.extras.conjur.index import conjur_source, get_conjur_writer
from app.extras.conjur.variables import ConjurVariables
from app.extras.conjur.writer import ConjurWriter
from tests.extras.conjur.support import Conjur
from tests.support import unique

BLANKS = " \t\n\v\f\r"  # to Conjur
PASSWORD = string.ascii_letters + string.digits + string.punctuation
FORMS = [  # what Rack would misread, or refuse, if it took it for a form
    "100%sure",
    "%",
    "a%2",
    "%zz",
    "a" * 70_000,
    "a=1&a[b]=2",
    "a[]=1&a[b]=2",
    "x=a&_method=DELETE",
    "x=a&_method=get",
    "x=a&_method=PUT",
    "&" * 5000,
    "a" + "[b]" * 200,
    "a=%FF",
    "=" * 100,
    "a+b=c%20d",
    '--boundary\r\nContent-Disposition: form-data; name="_method"\r\n\r\nDELETE\r\n--boundary--\r\n',
]
PIECES = [
    "%",
    "%41",
    "%zz",
    "&",
    "=",
    "+",
    ";",
    "a",
    "[b]",
    "_method=",
    "DELETE",
    "\0",
    "\r\n",
    '"',
    "\\u0041",
    "\ufeff",
    "é",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
BLANK = st.text(BLANKS, max_size=3)
ANY = st.text(st.characters(codec="utf-8"), min_size=1)
TEXTS = st.one_of(
    ANY,
    st.lists(st.sampled_from(PIECES), min_size=1).map("".join),
    JSON.map(json.dumps),
    st.tuples(BLANK, ANY, BLANK).map("".join),
    st.binary(min_size=1).map(lambda raw: raw.decode("latin-1")),
    st.binary(min_size=1).map(lambda raw: base64.b64encode(raw).decode()),
    st.tuples(ANY, st.integers(1, 70_000)).map(lambda each: (each[0] * each[1])[: each[1]]),
).filter(lambda text: text.strip(BLANKS))
IDS = (
    st.lists(st.text(":%? &=+#@;,~()*!|'\"<>{}[]^`$\\.-_aZ9üß☃😀é", min_size=1, max_size=8), min_size=1, max_size=3)
    .filter(lambda segments: not {".", ".."} & set(segments))
    .map("/".join)
)
QUICKLY = trying(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def writer(conjur: Conjur) -> ConjurWriter:
    """Return a writer with the administrator's login."""
    return get_conjur_writer(conjur.settings(access_mode="read_and_write"))


def read_back(conjur: Conjur, *variables: str) -> list[str]:
    """Read variables in each way that there is, and return what they hold."""
    reader = ConjurVariables(conjur_source(conjur.settings(access_mode="read_and_write")).session)
    alone = [reader.read(each).data for each in variables]
    together = reader.read_many([(each, None) for each in variables])
    assert [each.data for each in together if isinstance(each, Secret)] == alone
    return [str(value) for data in alone for value in data.values()]


def encoded(conjur: Conjur, variable: str) -> bytes:
    """Return what Conjur says in base64, which has room for every value."""
    asked = {"params": {"variable_ids": f"{conjur.account}:variable:{variable}"}}
    answer = conjur.send("GET", "secrets", headers={"Accept-Encoding": "base64"}, **asked)
    assert (answer.status_code, answer.headers["Content-Encoding"]) == (200, "base64")
    return base64.b64decode(answer.json().popitem()[1])


def test_every_password_can_be_stored(conjur: Conjur, writer: ConjurWriter) -> None:
    """Also one that a server might take for a form."""
    chance = random.Random(1)
    variable = conjur.variable()
    for _ in range(300 if conjur.standin else 50):
        password = "".join(chance.choices(PASSWORD, k=24))
        writer.write(variable, password)
        assert conjur.get(variable).decode() == password


@pytest.mark.parametrize("value", FORMS, ids=lambda value: ascii(value[:20]))
def test_a_value_is_never_taken_for_a_form(conjur: Conjur, writer: ConjurWriter, value: str) -> None:
    """It is neither refused, nor does it turn the request into another one; nor does a variable's creation."""
    variable, other = conjur.variable("before"), f"{conjur.branch}/{unique('created')}"
    writer.write_many({variable: value, other: value})
    assert read_back(conjur, variable, other) == [value, value]


@given(text=TEXTS)
@example(text="\0")
@example(text=" \u2028 \x85\n")
@example(text="é" * 35_000)
@QUICKLY
def test_any_text_is_read_as_it_was_written(conjur: Conjur, writer: ConjurWriter, text: str) -> None:
    """Byte by byte, its line ends and blanks included: alone, in a batch, and in a batch in base64."""
    variable, other = conjur.variable(name="any-text"), conjur.variable("x", name="beside")
    writer.write(variable, text)
    assert conjur.get(variable) == encoded(conjur, variable) == text.encode()
    assert read_back(conjur, variable, other) == [text, "x"]


@given(text=st.text(BLANKS))
@QUICKLY
def test_blank_text_is_refused_before_it_is_sent(conjur: Conjur, writer: ConjurWriter, text: str) -> None:
    """Conjur would, and say nothing of a variable; it is not created for that either."""
    variable = f"{conjur.branch}/{unique('blank')}"
    with pytest.raises(BadRequest, match=f"{variable}: Conjur keeps no empty or blank values"):
        writer.write(variable, text)
    assert conjur.send("GET", "resources", conjur.account, "variable", variable).status_code == 404


@given(text=st.tuples(ANY, st.characters(categories=["Cs"]), ANY).map("".join))
@QUICKLY
def test_what_is_no_unicode_text_is_refused(conjur: Conjur, writer: ConjurWriter, text: str) -> None:
    """Half a pair of surrogates: nothing is sent, and nothing of it shown."""
    variable = conjur.variable("before", name="surrogates")
    with pytest.raises(BadRequest, match="the value is not Unicode text") as caught:
        writer.write(variable, text)
    assert text not in str(caught.value)
    assert conjur.get(variable) == b"before"


@given(ids=st.lists(IDS, min_size=1, max_size=3, unique=True))
@example(ids=["a/b%2Fc", "a/b/c", "a%2Fb/c"])
@example(ids=["a+b", "a b", "a%20b", "a?b=c&version=1", "a#b", "a:b:c"])
@QUICKLY
def test_every_id_names_its_own_variable(conjur: Conjur, writer: ConjurWriter, ids: list[str]) -> None:
    """It is created, written and read under the id that it has, whatever URLs and YAML would make of it."""
    variables = [f"{conjur.branch}/ids/{each}" for each in ids]
    values = {variable: f"value of {number}" for number, variable in enumerate(variables)}
    writer.write_many(values)
    assert read_back(conjur, *variables) == list(values.values())
    assert set(variables) <= {found for found, _ in writer.list(f"{conjur.branch}/ids")}
    for variable in variables:
        writer.delete(variable)
