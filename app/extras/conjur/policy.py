"""What is written to Conjur as policy? What the service declares of itself, and single variables that come and go.

An id is always quoted: whatever stands in it, it is one id and nothing else.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from app.core.settings.app import AppSettings
from app.core.settings.references import Reference, references_in
from app.extras.conjur.settings import CONJUR, ConjurSettings

LONGEST_KEY = 1000  # characters; YAML wants a longer one to be marked as a key
NO_ANNOTATIONS: Mapping[str, str] = MappingProxyType({})


def yaml_string(text: str) -> str:
    """Quote a text for YAML: all but plain ASCII is escaped, quotes and line breaks of every kind included."""
    plain = (each if " " <= each <= "~" and each not in '"\\' else f"\\U{ord(each):08X}" for each in text)
    return f'"{"".join(plain)}"'


def declare(variable: str, annotations: Mapping[str, str] = NO_ANNOTATIONS) -> str:
    """Return the statement that declares a variable, by its id within the branch."""
    if not annotations:
        return f"- !variable {yaml_string(variable)}\n"
    pairs = [(yaml_string(name), yaml_string(value)) for name, value in annotations.items()]
    lines = [
        f"    {name}: {value}\n" if len(name) <= LONGEST_KEY else f"    ? {name}\n    : {value}\n"
        for name, value in pairs
    ]
    return f"- !variable\n  id: {yaml_string(variable)}\n  annotations:\n{''.join(lines)}"


def delete(variable: str) -> str:
    """Return the statement that deletes a variable; only `PATCH` and `PUT` take it."""
    return f"- !delete\n  record: !variable {yaml_string(variable)}\n"


def policy_branch(settings: AppSettings) -> str:
    """Return the branch in which the service creates variables."""
    return ConjurSettings.within(settings).policy_branch or settings.vault.write_prefix


def variable_of(reference: Reference) -> str:
    """Return the id of the variable that a reference names: its whole path, since a variable has one value."""
    return "/".join([reference.resource, *([reference.key] if reference.key else [])])


def conjur_policy(settings: AppSettings) -> str:
    """Return the policy for what the settings declare: the host, what it reads, the branch that it owns if it writes.

    It is to be loaded into `root`, by somebody who may. What is there already stays as it is.
    """
    login = ConjurSettings.within(settings).authn_login or f"host/{settings.service.name}"
    kind, role = ("host", login.removeprefix("host/")) if login.startswith("host/") else ("user", login)
    whom = f"!{kind} {yaml_string(role)}"
    statements = [_who(ConjurSettings.within(settings), kind, role)]
    branch, mode = policy_branch(settings), settings.vault.access_mode
    read = [] if mode == "write_only" else _variables_to_read(settings)
    if mode != "read_only" and branch != "root":
        inside = [variable for variable in read if variable.startswith(f"{branch}/")]
        read = [variable for variable in read if variable not in inside]  # an owner needs no permit
        statements.append(f"- !policy\n  id: {yaml_string(branch)}\n  owner: {whom}\n")
        if inside:
            statements += ["  body:\n", *(f"    {declare(variable.removeprefix(f'{branch}/'))}" for variable in inside)]
    if read:
        statements += [declare(variable) for variable in read]
        resources = "".join(f"    - !variable {yaml_string(variable)}\n" for variable in read)
        statements.append(f"- !permit\n  role: {whom}\n  privileges: [read, execute]\n  resources:\n{resources}")
    return "".join(statements)


def _who(own: ConjurSettings, kind: str, role: str) -> str:
    """Return the statements about who logs in, and how."""
    if (kind, role) == ("user", "admin"):
        return "# The user admin is there, and may do everything: better give the service a host of its own.\n"
    whom, service = f"!{kind} {yaml_string(role)}", own.authn_jwt_service_id
    if service:
        return (
            f"# Give it the annotations authn-jwt/{service}/… that its JWT must meet.\n- {whom}\n"
            f"- !permit\n  role: {whom}\n  privileges: [read, authenticate]\n"
            f"  resource: !webservice {yaml_string(f'conjur/authn-jwt/{service}')}\n"
        )
    if own.authn_token_file:
        return f"- {whom}\n"
    return f"- !{kind}\n  id: {yaml_string(role)}\n  annotations:\n    authn/api-key: true\n"


def _variables_to_read(settings: AppSettings) -> list[str]:
    """Return the ids in `CONJUR_VARIABLES` and in every `SECRET_<NAME>` that refers to Conjur."""
    texts: Iterable[str] = (value.get_secret_value() for value in settings.secrets.values())
    found = [variable_of(each) for text in texts for each in references_in(text) if each.addressee == CONJUR]
    return list(dict.fromkeys([*(variable for _, variable in ConjurSettings.within(settings).variables), *found]))
