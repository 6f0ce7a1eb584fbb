"""What can be done from a terminal? `python -m app --help`; the settings are those of the service."""

import json
import os
import sys
from dataclasses import replace
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.command_input import (
    check_deletion,
    check_undeletion,
    checked_path,
    refuse_what_is_no_text,
    settings_without_credentials,
    values_of,
    visible,
)
from app.config import MAIN_VAULT, Settings, get_settings
from app.config_conjur import CONJUR
from app.conjur import ConjurFolders, get_conjur_writer
from app.conjur_policy import conjur_policy
from app.doctor import doctor
from app.errors import (
    AccessRefused,
    BadReference,
    BadSettings,
    BlueprintError,
    KeyMissing,
    LoginRefused,
    LostRace,
    PathMissing,
    PermissionDenied,
    VaultRateLimited,
    VaultSealed,
    VaultUnreachable,
)
from app.logging_config import configure_logging
from app.policy import vault_policy
from app.references import OPENING, is_reference, parse_reference, references_in
from app.vault import read_reference
from app.vault_writing import get_writer

# what a script can tell apart; 2 is a wrong command line
EXIT_CODES: dict[int, tuple[type[Exception], ...]] = {
    3: (BadSettings, BadReference),
    4: (PathMissing, KeyMissing),
    5: (PermissionDenied, LoginRefused, AccessRefused),
    6: (LostRace,),
    7: (VaultUnreachable, VaultSealed, VaultRateLimited),
    2: (ValueError,),
    1: (BlueprintError,),
}

cli = typer.Typer(
    help="Read and change secrets as the service does: with its settings, its login and its policy.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong command line, 3 wrong settings or reference, 4 there is no such "
    "secret, version or key, 5 refused, 6 somebody else was faster, 7 Vault is out of reach or sealed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they would show local variables
)

Ref = Annotated[str, typer.Argument(help="{vault://NAME/PATH/KEY}; a closing slash means the whole secret.")]
SecretPath = Annotated[str, typer.Argument(help="A path below the mount point.", metavar="PATH", callback=checked_path)]
Pairs = Annotated[
    list[str], typer.Argument(help="key=value, key=@file, or key=- for standard input; files are taken as they are.")
]
VaultName = Annotated[
    str | None, typer.Option("--vault", help="Which of the configured Vaults, or conjur; default: what is enabled.")
]
MayLogIn = Annotated[bool | None, typer.Option("--login/--no-login", help="Even where that uses something up.")]
AsJson = Annotated[bool, typer.Option("--json", help="For machines.")]
Versions = Annotated[list[int], typer.Option("--version", min=1, help="May be given several times.")]


@cli.callback()
def prepare(context: typer.Context) -> None:
    """Log only what matters, unless LOG_LEVEL=DEBUG; what is logged goes to standard error."""
    if context.invoked_subcommand in {"doctor", "policy"}:  # which make do with settings that lack something
        return
    settings = get_settings()
    configure_logging("DEBUG" if settings.log_level == "DEBUG" else "ERROR", settings.log_format)


@cli.command()
def get(
    ref: Ref,
    version: Annotated[int | None, typer.Option(min=1, help="Instead of the latest one.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Print the value that a reference stands for; one that is missing is an error, also with `optional=true`."""
    text = f"{{{ref}}}" if ref.startswith(OPENING[1:]) else ref  # a shell eats braces only too easily
    reference = references_in(text)[0] if is_reference(text) else parse_reference(text)
    options = {name: option for name, option in reference.options.items() if name != "optional"}
    wanted = replace(reference, options=options, version=reference.version if version is None else version)
    value, found = read_reference(wanted)
    if as_json:
        _print_json({"reference": reference.text, "version": found, "value": value})
    else:
        typer.echo(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


@cli.command()
def put(
    path: SecretPath,
    pairs: Pairs,
    cas: Annotated[int | None, typer.Option(min=0, help="Only if this is the current version; 0: none yet.")] = None,
    vault: VaultName = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Write a whole secret; keys that are not given are gone in the new version."""
    _print_version(path, _writer(vault).write(path, values_of(pairs), cas), as_json=as_json)


@cli.command()
def patch(
    path: SecretPath,
    pairs: Annotated[list[str] | None, typer.Argument(help="As for put.")] = None,
    remove: Annotated[list[str] | None, typer.Option(help="A key to be removed; may be given several times.")] = None,
    vault: VaultName = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Change some keys of a secret and keep the others."""
    changes = {**values_of(pairs or []), **dict.fromkeys(remove or [])}
    if not changes:
        raise typer.BadParameter("give key=value or --remove KEY")
    _print_version(path, _writer(vault).patch(path, changes), as_json=as_json)


@cli.command()
def delete(path: SecretPath, vault: VaultName = None, *, as_json: AsJson = False) -> None:
    """Delete the latest version of a secret; undelete brings it back."""
    writer = _writer(vault)
    check_deletion(writer, path)
    writer.delete(path)
    if as_json:
        _print_json({"path": path})


@cli.command()
def undelete(path: SecretPath, version: Versions, vault: VaultName = None, *, as_json: AsJson = False) -> None:
    """Bring deleted versions back."""
    writer = _writer(vault)
    check_undeletion(writer, path, version)
    writer.undelete(path, version)
    if as_json:
        _print_json({"path": path, "versions": version})


@cli.command("list")
def list_names(
    path: Annotated[str, typer.Argument(help="A folder; without it, the mount point.", callback=checked_path)] = "",
    vault: VaultName = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List the names in a folder; folders have a closing slash."""
    names = _writer(vault).list(path.strip("/"))
    if as_json:
        _print_json(names)
    else:
        for name in names:
            typer.echo(visible(name))


@cli.command()
def versions(path: SecretPath, vault: VaultName = None, *, as_json: AsJson = False) -> None:
    """Show which versions of a secret there are; never their values."""
    found = _writer(vault).metadata(path).get("versions", {})
    if as_json:
        _print_json(found)
        return
    table = Table("version", "created", "state")
    for number, about in found.items():
        deleted = f"deleted {about['deletion_time']}" if about.get("deletion_time") else "there"
        table.add_row(number, about.get("created_time", ""), "destroyed" if about.get("destroyed") else deleted)
    Console().print(table)


@cli.command()
def policy(vault: VaultName = None, *, as_json: AsJson = False) -> None:
    """Print the least-privilege policy for all that the settings declare; needs no credentials.

    For `vault policy write`, or for `conjur policy load -b root -f`.
    """
    settings = settings_without_credentials()
    name = _chosen(settings, vault)
    text = conjur_policy(settings) if name == CONJUR else vault_policy(settings, name)
    if as_json:
        _print_json({"vault": name, "policy": text})
    else:
        typer.echo(text, nl=False)


@cli.command("doctor")
def diagnose(login: MayLogIn = None, *, as_json: AsJson = False) -> None:
    """Say what is wrong between the settings and the secrets, and what mends it; 0 only if all is well."""
    raise typer.Exit(doctor(as_json=as_json, login=login))


def _writer(vault: str | None) -> Any:
    """Return what changes secrets there; in Conjur a path is a folder of variables, one for each key."""
    name = _chosen(get_settings(), vault)
    return ConjurFolders(get_conjur_writer()) if name == CONJUR else get_writer(name)


def _chosen(settings: Settings, vault: str | None) -> str:
    only_conjur = settings.conjur.enabled and not settings.vault.enabled
    return vault or (CONJUR if only_conjur else MAIN_VAULT)


def _print_version(path: str, version: int | None, *, as_json: bool) -> None:
    if as_json:
        _print_json({"path": path, "version": version})
    else:
        typer.echo(f"{visible(path)}: {'written' if version is None else f'version {version}'}")


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False))


def main() -> None:
    """Run the command line; end with the exit code that fits what went wrong."""
    try:
        refuse_what_is_no_text(sys.argv[1:])
        try:
            cli(prog_name="python -m app")
        finally:
            if sys.stdout is not None:  # it is where the shell has closed it
                sys.stdout.flush()
    except (BlueprintError, ValueError) as error:
        _end(str(error), next(code for code, kinds in EXIT_CODES.items() if isinstance(error, kinds)))
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python tries once more at its end
        _end(f"standard output: {error.strerror}", 1)


def _end(text: str, code: int) -> NoReturn:
    Console(stderr=True, soft_wrap=True).print(Text(f"error: {_visible_lines(text)}"))
    sys.exit(code)


def _visible_lines(text: str) -> str:
    return "\n".join(map(visible, text.split("\n")))


if __name__ == "__main__":
    main()
