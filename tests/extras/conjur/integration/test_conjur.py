"""The contract with Conjur: what the service relies on, whatever server this is (faults on demand: test_faults)."""

import base64
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from app.config import Settings
from app.core.errors import (
    AccessRefused,
    BackendError,
    BadRequest,
    LoginRefused,
    PathMissing,
    PermissionDenied,
    SeveralFailed,
    UnexpectedAnswer,
)
from app.core.logs.redaction import redact
from app.core.settings.references import parse_reference
from app.extras.conjur import resources
from app.extras.conjur.index import ConjurFolders, conjur_source, get_conjur_writer
from app.extras.conjur.policy import conjur_policy
from app.extras.conjur.variables import LONGEST_QUERY, ConjurVariables
from app.extras.conjur.writer import ConjurWriter
from app.vault import read_reference
from tests.extras.conjur.support import Conjur
from tests.support import load_all, unique

READ = ["read", "execute"]


def loaded(settings: Settings) -> dict[str, Any]:
    """Return all that the settings name."""
    return {name: value for secret in conjur_source(settings).load() for name, value in secret.data.items()}


def refused(settings: Settings) -> str:
    """Return what a refused login says."""
    with pytest.raises(LoginRefused) as caught:
        ConjurVariables(conjur_source(settings).session).read("x")
    assert "canary" not in str(caught.value)
    assert caught.value.remedy
    return str(caught.value)


@pytest.fixture
def writer(conjur: Conjur) -> ConjurWriter:
    """Return a writer with the administrator's login."""
    return get_conjur_writer(conjur.settings(access_mode="read_and_write"))


def test_a_wrong_key_is_refused(conjur: Conjur) -> None:
    """With the login, the account and what to check."""
    message = refused(conjur.settings((conjur.login, "canary-wrong")))
    assert f"{conjur.login} in account {conjur.account}: Conjur refuses the login" in message
    assert "CONJUR_AUTHN_API_KEY" in message


def test_an_unknown_host_and_an_unknown_account_are_refused(conjur: Conjur) -> None:
    """Likewise: Conjur does not tell which of them is wrong."""
    assert "host/nobody" in refused(conjur.settings(("host/nobody", conjur.api_key)))
    assert "account nowhere" in refused(conjur.settings(account="nowhere"))


def test_key_and_token_are_masked(conjur: Conjur) -> None:
    """The token in the form in which it travels, and in the one in which Conjur gives it."""
    variable = conjur.variable("x")
    login, key = conjur.host({variable: READ})
    settings = conjur.settings((login, key), variables=f"a={variable}")
    assert loaded(settings) == {"a": "x"}
    current = conjur_source(settings).session.current()
    assert current is not None
    for value in (key, current.token, base64.b64decode(current.token).decode()):
        assert redact(f"<{value}>") == "<***>"


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\n\n"])
def test_a_key_may_end_with_a_line_break(conjur: Conjur, tmp_path: Path, ending: str) -> None:
    """In a file and in a variable: Conjur itself would refuse it."""
    variable = conjur.variable("x")
    login, key = conjur.host({variable: READ})
    (tmp_path / "key").write_text(key + ending)
    for settings in (
        conjur.settings((login, key + ending), variables=f"a={variable}"),
        conjur.settings((login, ""), variables=f"a={variable}", authn_api_key_file=tmp_path / "key"),
    ):
        assert loaded(settings) == {"a": "x"}


def test_a_rotated_key_is_read_at_the_next_login(conjur: Conjur, tmp_path: Path) -> None:
    """The token that there is stays good."""
    variable = conjur.variable("x")
    login, key = conjur.host({variable: READ})
    file = tmp_path / "key"
    file.write_text(key)
    settings = conjur.settings((login, ""), variables=f"a={variable}", authn_api_key_file=file)
    assert loaded(settings) == {"a": "x"}
    role = {"role": f"host:{login.removeprefix('host/')}"}
    new = conjur.request("PUT", "authn", conjur.account, "api_key", params=role).text
    assert loaded(settings) == {"a": "x"}
    held = conjur_source(settings).session.current()
    assert held is not None
    held.token = "no token any more"
    assert "Conjur refuses the login" in refused(settings)
    file.write_text(new)
    again = conjur.settings((login, ""), variables=f"a={variable}", authn_api_key_file=file, timeout=9)
    assert loaded(again) == {"a": "x"}


@pytest.mark.parametrize("form", ["json", "base64"])
def test_a_token_file_needs_no_login(conjur: Conjur, tmp_path: Path, form: str) -> None:
    """Somebody else keeps it fresh."""
    variable = conjur.variable("x")
    token = conjur.request("POST", "authn", conjur.account, conjur.login, "authenticate", data=conjur.api_key).content
    (tmp_path / "token").write_bytes(token if form == "json" else base64.b64encode(token) + b"\n")
    assert loaded(with_token_file(conjur, tmp_path / "token", variable)) == {"a": "x"}


@pytest.mark.parametrize(
    "content", ["", "canary", "{}", '{"payload": "canary"}', '{"payload": 1}', "[1]", "null", "\xff"]
)
def test_a_token_file_that_holds_something_else_is_refused(conjur: Conjur, tmp_path: Path, content: str) -> None:
    """Before anything is sent."""
    (tmp_path / "token").write_text(content)
    assert f"CONJUR_AUTHN_TOKEN_FILE={tmp_path / 'token'}: " in refused(with_token_file(conjur, tmp_path / "token"))


def with_token_file(conjur: Conjur, file: Path, variable: str = "x") -> Settings:
    """Return settings that take the token from a file."""
    login = conjur.login, ""
    return conjur.settings(login, variables=f"a={variable}", authn_api_key=None, authn_token_file=file)


def test_an_address_with_a_prefix_too_many_is_recognised(conjur: Conjur) -> None:
    """The editions differ in it, so this is a common slip."""
    settings = conjur.settings(appliance_url=f"{conjur.url}/api")
    with pytest.raises(UnexpectedAnswer, match="a prefix such as /api"):
        ConjurVariables(conjur_source(settings).session).read("x")


def test_several_variables_become_one_mapping(conjur: Conjur) -> None:
    """Under their last segment, or the name in front; each as the text that it is."""
    values = {"plain": "x", "json": '{"a": 1}', "number": "7", "space d": "a\nb ", "plus+": "ü", "com,ma": "☃"}
    ids = {name: conjur.variable(value, f"{unique('batch')}/{name}") for name, value in values.items()}
    named = ",".join(f"{name}={ids[name]}" for name in ids if "," not in name)
    secrets = {"com,ma": f"{{vault://conjur/{ids['com,ma']}}}"}
    assert loaded(conjur.settings(variables=named, secrets=secrets)) == values
    assert loaded(conjur.settings(variables=ids["plain"])) == {"plain": "x"}


def test_references_name_variables_by_their_whole_path(conjur: Conjur) -> None:
    """With `#version`, inside longer texts, percent-encoded; and the same variable any number of times."""
    variable = conjur.variable("old", f"{unique('db')}/pass word")
    conjur.set(variable, "n/w")
    path = variable.replace(" ", "%20")
    secrets = {
        "a": f"{{vault://conjur/{path}}}",
        "b": f"{{vault://conjur/{path}#1}}",
        "url": f"postgresql://app:{{vault://conjur/{path}}}@db/app",
        "slash": f"{{vault://conjur/{path}/}}",
    }
    settings = conjur.settings(secrets=secrets)
    assert loaded(settings) == {"a": "n/w", "b": "old", "url": "postgresql://app:n%2Fw@db/app", "slash": "n/w"}
    assert dict(load_all(settings)) == loaded(settings)


def test_defaults_count_where_conjur_says_404_and_nowhere_else(conjur: Conjur) -> None:
    """That may hide a variable that cannot be seen; one that may be seen, but not read, is an error."""
    hidden, forbidden = conjur.variable("canary"), conjur.variable("canary")
    login = conjur.host({forbidden: ["read"]})
    secrets = {
        "a": f"{{vault://conjur/{hidden}?default=d}}",
        "b": f"{{vault://conjur/{conjur.branch}/nowhere?optional=true}}",
    }
    assert loaded(conjur.settings(login, secrets)) == {"a": "d"}
    with pytest.raises(PermissionDenied):
        loaded(conjur.settings(login, {"a": f"{{vault://conjur/{forbidden}?default=d}}"}))


def test_one_reference_can_be_read_by_itself(conjur: Conjur) -> None:
    """As the command line does."""
    variable = conjur.variable("one")
    conjur.set(variable, "two")
    settings = conjur.settings()

    def read(ending: str, path: str = variable) -> Any:
        return read_reference(parse_reference(f"{{vault://conjur/{path}{ending}}}"), settings)

    assert [read(ending) for ending in ("", "#1")] == [("two", None), ("one", 1)]
    assert [read(ending, "no/where") for ending in ("?default=d", "?optional=true")] == [("d", None), (None, None)]
    with pytest.raises(PathMissing, match="no/where"):
        read("", "no/where")


def test_the_report_names_every_culprit(conjur: Conjur) -> None:
    """A batch is all or nothing, and does not say which; each in its own words, and none with a value."""
    good, unset, hidden = conjur.variable("canary"), conjur.variable(), conjur.variable("canary")
    forbidden, binary = conjur.variable("canary"), conjur.variable(b"\x00\x01\xff\xfecanary")
    login = conjur.host({good: READ, unset: READ, forbidden: ["read"], binary: READ})
    names = ",".join([good, unset, hidden, forbidden, binary, f"{conjur.branch}/nowhere"])
    with pytest.raises(SeveralFailed) as caught:
        loaded(conjur.settings(login, variables=names))
    said = {error.subject.rpartition(":")[2]: (type(error), error.cause) for error in caught.value.errors}
    missing = f"it is missing, or cannot be seen by {login[0]}; Conjur does not say which"
    assert said == {
        unset: (PathMissing, "it has no value yet"),
        hidden: (PathMissing, missing),
        forbidden: (PermissionDenied, f"{login[0]} can see it, but lacks the privilege execute"),
        binary: (UnexpectedAnswer, "its value is binary, not UTF-8 text"),
        f"{conjur.branch}/nowhere": (PathMissing, missing),
    }
    assert "canary" not in str(caught.value)
    assert f"conjur resource show {conjur.account}:variable:{hidden}" in str(caught.value)
    assert f"conjur resource permitted-roles {conjur.account}:variable:{hidden} execute" in str(caught.value)
    assert f"Set it: `conjur variable set -i {unset} -v …`" in str(caught.value)


def test_one_binary_value_is_named_among_others(conjur: Conjur) -> None:
    """It keeps Conjur from answering for all of them."""
    good, binary = conjur.variable("canary"), conjur.variable(b"\xff\x00")
    with pytest.raises(UnexpectedAnswer, match=f"{binary}: its value is binary, not UTF-8 text"):
        loaded(conjur.settings(variables=f"{good},{binary}"))


def test_a_variable_that_is_wanted_twice_fails_once(conjur: Conjur) -> None:
    """Under whatever names; a reference to it has a line of its own, which tells what refers to it."""
    missing = f"{conjur.branch}/nowhere"
    where, reference = f"{conjur.account}:variable:{missing}", f"{{vault://conjur/{missing}}}"
    with pytest.raises(PathMissing):
        loaded(conjur.settings(variables=f"a={missing},b={missing}"))
    with pytest.raises(SeveralFailed) as caught:
        loaded(conjur.settings(variables=f"a={missing},b={missing}", secrets={"c": reference}))
    assert [each.subject for each in caught.value.errors] == [where, f"SECRET_C: {reference}: {where}"]


@pytest.mark.parametrize("path", ["/a", "a/", "a//b"])
def test_an_id_with_an_empty_segment_is_refused(writer: ConjurWriter, path: str) -> None:
    """To Conjur's policy a slash in front means another branch, and in its addresses two are one."""
    for act in (writer.read, writer.delete, writer.annotations, lambda path: writer.write(path, "x")):
        with pytest.raises(ValueError, match="must not have empty segments"):
            act(path)


def test_very_many_variables_are_no_problem(conjur: Conjur) -> None:
    """More than fit into the line of one request."""
    folder = unique("many")
    names = [f"{folder}/a-rather-long-name-for-one-variable-{number}" for number in range(LONGEST_QUERY // 40)]
    conjur.load("".join(f"- !variable {name}\n" for name in names))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: conjur.set(f"{conjur.branch}/{name}", name), names))
    settings = conjur.settings(variables=",".join(f"{conjur.branch}/{name}" for name in names))
    assert sorted(loaded(settings).values()) == sorted(names)


def test_the_last_twenty_versions_are_kept(conjur: Conjur) -> None:
    """The first of twenty-one is gone, and the error says how that comes."""
    variable = conjur.variable()
    for number in range(1, 22):
        conjur.set(variable, f"value {number}")
    variables = ConjurVariables(conjur_source(conjur.settings()).session)
    secret = variables.read(variable, 2)
    assert (dict(secret.data), secret.version) == ({variable.rpartition("/")[2]: "value 2"}, 2)
    for version in (1, 22):
        said = rf"there is no version {version} of it \(there are 2 to 21; the last 20 are kept\)"
        with pytest.raises(PathMissing, match=said):
            variables.read(variable, version)
    with pytest.raises(PathMissing, match=r"there is no version 2 of it \(there is 1; the last 20 are kept\)"):
        variables.read(conjur.variable("x"), 2)
    with pytest.raises(PathMissing, match="it has no value yet"):
        variables.read(conjur.variable(), 1)


def test_a_variable_may_hold_a_page(conjur: Conjur) -> None:
    """What a proxy puts in Conjur's place is told from it, whatever type the variable declares."""
    name = unique("page")
    conjur.load(f"- !variable\n  id: {name}\n  annotations:\n    conjur/mime_type: text/html\n")
    conjur.set(f"{conjur.branch}/{name}", "<html>")
    assert loaded(conjur.settings(variables=f"page={conjur.branch}/{name}")) == {"page": "<html>"}


def test_a_megabyte_is_no_problem(conjur: Conjur, writer: ConjurWriter) -> None:
    """Exactly one, of text that is not ASCII."""
    value = "ü" * 2**19
    writer.write(path := f"{conjur.branch}/{unique('large')}", value)
    assert conjur.get(path) == value.encode()


def test_new_variables_are_created_in_the_branch(conjur: Conjur, writer: ConjurWriter) -> None:
    """Those that are there stay what they are, and get their new value."""
    old = conjur.variable("old")
    new = [f"{conjur.branch}/{unique('new')}/{name}" for name in ("a", "b c", "ü", "x+y", "p%2Fq", "k,l")]
    writer.write_many({old: "renewed", **{path: path for path in new}})
    assert conjur.get(old) == b"renewed"
    assert [conjur.get(path).decode() for path in new] == new


@pytest.mark.parametrize(
    "name",
    ['"quoted"', "it's", "a: b # c", "!host x", "*alias", "{a}", "null", "~", "1.0", "- x", "back\\slash", "🙂"],
)
def test_a_name_is_a_name_in_the_policy(conjur: Conjur, writer: ConjurWriter, name: str) -> None:
    """Whatever it would mean to YAML; deleted by the same name, and nothing else with it."""
    folder = f"{conjur.branch}/{unique('names')}"
    writer.write(f"{folder}/{name}", "x")
    writer.write(f"{folder}/other", "x")
    assert [path for path, _ in writer.list(folder)] == sorted([f"{folder}/{name}", f"{folder}/other"])
    writer.delete(f"{folder}/{name}")
    assert [path for path, _ in writer.list(folder)] == [f"{folder}/other"]


@pytest.mark.parametrize("value", ["", " ", "\n\t", "\v\f\r"])
def test_a_blank_value_is_refused(conjur: Conjur, writer: ConjurWriter, value: str) -> None:
    """As Conjur does; no variable is created for it."""
    path = f"{conjur.branch}/{unique('blank')}"
    with pytest.raises(BadRequest, match="no empty or blank values"):
        writer.write(path, value)
    assert path not in [each for each, _ in writer.list(conjur.branch)]


@pytest.mark.parametrize("where", ["elsewhere", "alike"])
def test_what_is_missing_outside_the_branch_is_not_created(conjur: Conjur, writer: ConjurWriter, where: str) -> None:
    """What is there may be written wherever it lies; nothing outside is deleted or annotated."""
    inside = f"{conjur.branch}/{unique('in')}"
    outside = unique("blueprint-tests-outside") if where == "elsewhere" else f"{conjur.branch}-{where}/x"
    with pytest.raises(PathMissing, match=f"does not lie in the policy branch {conjur.branch}") as caught:
        writer.write_many({inside: "x", outside: "y"})
    assert "CONJUR_POLICY_BRANCH" in caught.value.remedy
    assert conjur.get(inside) == b"x"
    attempts: list[Callable[[], object]] = [
        lambda: writer.delete(outside),
        lambda: writer.declare(outside, {"a": "b"}),
        lambda: writer.annotate(outside, {"a": "b"}),
    ]
    for forbidden in attempts:
        with pytest.raises(BadRequest, match="does not lie in the policy branch"):
            forbidden()


def test_what_the_service_may_update_it_need_not_own(conjur: Conjur) -> None:
    """A variable of somebody else's, with the privilege `update`, and one without."""
    mine, theirs = conjur.variable("old"), conjur.variable("old")
    login = conjur.host({mine: ["read", "update"], theirs: ["read"]})
    writer = get_conjur_writer(conjur.settings(login, access_mode="write_only"))
    writer.write(mine, "new")
    assert conjur.get(mine) == b"new"
    with pytest.raises(PermissionDenied, match="lacks the privilege update"):
        writer.write(theirs, "new")
    assert conjur.get(theirs) == b"old"


def test_who_only_writes_learns_no_names(conjur: Conjur) -> None:
    """Nor annotations, nor versions, beyond what writing itself looks at."""
    blind, path = get_conjur_writer(conjur.settings(access_mode="write_only")), f"{conjur.branch}/{unique('blind')}"
    blind.write(path, "x")
    blind.annotate(path, {"a": "b"})
    attempts: list[Callable[[], object]] = [
        lambda: blind.annotations(path),
        lambda: blind.versions(path),
        lambda: blind.list(conjur.branch),
        blind.list,
    ]
    for forbidden in attempts:
        with pytest.raises(AccessRefused, match="VAULT_ACCESS_MODE is write_only"):
            forbidden()
    ConjurFolders(blind).delete(path)
    with pytest.raises(PathMissing):
        ConjurFolders(blind).delete(path)


def test_a_refused_policy_is_reported_as_the_cause(conjur: Conjur) -> None:
    """The branch is not there or cannot be seen; can be seen, but not changed; is there, but not ours."""
    name, path = unique("branch"), f"{conjur.branch}/{unique('x')}/y"
    login = conjur.host()
    invisible = get_conjur_writer(conjur.settings(login, access_mode="read_and_write"))
    with pytest.raises(PathMissing, match=f"could be created: {conjur.account}:policy:{conjur.branch}: there is no"):
        invisible.write(path, "x")

    host = login[0].rpartition("/")[2]
    for privileges, error, said in (
        ("read", PermissionDenied, "can see the policy branch, but lacks the privilege create"),
        ("read, create", PathMissing, f"was created in {conjur.branch}/{name}, but {login[0]} cannot see it there"),
    ):
        conjur.load(
            f"- !policy {name}\n- !permit\n  role: !host {host}\n  privileges: [{privileges}]\n"
            f"  resource: !policy {name}\n"
        )
        branch = f"{conjur.branch}/{name}"
        writer = get_conjur_writer(conjur.settings(login, access_mode="read_and_write", policy_branch=branch))
        with pytest.raises(BackendError, match=said) as caught:
            writer.write(f"{branch}/x", "x")
        assert type(caught.value) is error
    with pytest.raises(PermissionDenied, match="lacks the privilege update"):
        writer.delete(f"{branch}/x")


def test_writers_at_the_same_time_lose_nothing(conjur: Conjur, writer: ConjurWriter) -> None:
    """Conjur loads one policy at a time and refuses the others for a while."""
    folder = f"{conjur.branch}/{unique('parallel')}"
    paths = [f"{folder}/{number}" for number in range(5)]
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda path: writer.write(path, path), paths))
    assert [conjur.get(path).decode() for path in paths] == paths


def test_annotations_come_with_the_list(conjur: Conjur, writer: ConjurWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over as many pages as it takes; below a path, and not below one that begins alike."""
    monkeypatch.setattr(resources, "PAGE", 2)
    folder = f"{conjur.branch}/{unique('keys')}"
    notes = {"created": "2026-11-21", 'q"uote\n': "a: 'b'\u2028#c \\ ü"}
    writer.declare(f"{folder}/a", notes)
    for path in (f"{folder}/b", f"{folder}/c", f"{folder}-alike/d"):
        writer.write(path, "x")
    assert writer.list(folder) == [(f"{folder}/a", notes), (f"{folder}/b", {}), (f"{folder}/c", {})]
    assert {path for path, _ in writer.list()} >= {f"{folder}/a", f"{folder}-alike/d"}


def test_annotations_can_be_changed(conjur: Conjur, writer: ConjurWriter) -> None:
    """Some, while the others stay, and so does the value; to declare it again changes none that is there."""
    path = f"{conjur.branch}/{unique('key')}"
    writer.declare(path, {"a": "1", "b": "1"})
    writer.write(path, "one")
    writer.annotate(path, {"b": "2", "c": "3"})
    assert writer.annotations(path) == {"a": "1", "b": "2", "c": "3"}
    assert conjur.get(path) == b"one"
    writer.declare(path, {"a": "4"})
    assert writer.annotations(path) == {"a": "1", "b": "2", "c": "3"}
    assert conjur.get(path) == b"one"


def test_annotations_of_another_policy_are_not_silently_left(conjur: Conjur) -> None:
    """Conjur says 201, and changes nothing."""
    name = unique("inner")
    conjur.load(f"- !policy {name}\n- !variable\n  id: {name}/x\n  annotations:\n    a: '1'\n")
    branch = f"{conjur.branch}/{name}"
    writer = get_conjur_writer(conjur.settings(access_mode="read_and_write", policy_branch=branch))
    with pytest.raises(BackendError, match="as another policy than"):
        writer.annotate(f"{branch}/x", {"a": "2"})


def test_deleting_what_is_not_there_is_no_error(conjur: Conjur, writer: ConjurWriter) -> None:
    """The value of one that was is gone for good, also when the variable comes back."""
    variable = conjur.variable("x")
    writer.delete(variable)
    writer.delete(variable)
    with pytest.raises(PathMissing):
        writer.read(variable)
    with pytest.raises(PathMissing):
        writer.annotations(variable)
    conjur.load(f"- !variable {variable.removeprefix(conjur.branch + '/')}\n")
    with pytest.raises(PathMissing):
        writer.read(variable)


def test_with_it_the_service_can_do_its_work(conjur: Conjur) -> None:
    """Loaded by an administrator; then the values are set, and the host reads, writes, lists and deletes."""
    folder = f"{conjur.branch}/{unique('service')}"
    names = f"{folder}/url,b={folder}/b c,own={folder}/keys/of/ours"
    fields = {"variables": names, "policy_branch": f"{folder}/keys"}
    secrets = {"c": f"{{vault://conjur/{folder}/referred/to}}"}
    planned = conjur.settings((f"host/{folder}", "?"), secrets, access_mode="read_and_write", **fields)
    created = conjur.load(conjur_policy(planned), "root")
    key = created[f"{conjur.account}:host:{folder}"]["api_key"]
    assert conjur.load(conjur_policy(planned), "root") == {}, "it can be loaded again"
    for name in ("url", "b c", "referred/to", "keys/of/ours"):
        conjur.set(f"{folder}/{name}", name)
    settings = conjur.settings((f"host/{folder}", key), secrets, access_mode="read_and_write", **fields)
    assert loaded(settings) == {"url": "url", "b": "b c", "c": "referred/to", "own": "keys/of/ours"}

    writer, path = get_conjur_writer(settings), f"{folder}/keys/k"
    writer.declare(path, {"a": "1"})
    writer.write(path, "w")
    writer.annotate(path, {"a": "2"})
    assert writer.list(f"{folder}/keys") == [(path, {"a": "2"}), (f"{folder}/keys/of/ours", {})]
    assert writer.read(path).data == {"k": "w"}
    writer.delete(path)
    assert [each for each, _ in writer.list(f"{folder}/keys")] == [f"{folder}/keys/of/ours"]
    with pytest.raises(PermissionDenied):
        writer.write(f"{folder}/url", "only read")
    with pytest.raises(PathMissing):
        writer.read(conjur.variable("of somebody else"))
