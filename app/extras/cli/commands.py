"""What can be done from a terminal? `python -m app --help`; the settings are those of the service."""

import json
from dataclasses import replace
from typing import Annotated, Any

import typer

from app.core.errors import WouldIssue
from app.core.logs.logging_config import configure_logging
from app.core.settings.app import AppSettings
from app.core.settings.references import DYNAMIC, OPENING, is_reference, parse_reference, references_in
from app.core.store.provider import Blueprint, Provider
from app.core.store.source import Folders
from app.core.vault.versions import state_of
from app.extras.cli.command_input import (
    checked_path,
    values_of,
    visible,
    without_credentials,
)

cli = typer.Typer(
    help="Read and change secrets as the service does: with its settings, its login and its policy.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong command line, 3 wrong settings or reference, 4 there is no such "
    "secret, version or key, 5 refused, 6 somebody else was faster, 7 Vault is out of reach or sealed.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"max_content_width": 120},
    rich_markup_mode=None,  # rich takes as long to import as all else
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
AsJson = Annotated[bool, typer.Option("--json", help="For machines.")]
Versions = Annotated[list[int], typer.Option("--version", min=1, help="May be given several times.")]


@cli.callback()
def prepare(context: typer.Context) -> None:
    """Log only what matters, unless LOG_LEVEL=DEBUG; what is logged goes to standard error."""
    if context.invoked_subcommand in {"doctor", "policy"}:  # which make do with settings that lack something
        return
    settings = _blueprint(context).settings.of_environment()
    configure_logging("DEBUG" if settings.log_level == "DEBUG" else "ERROR", settings.log_format)


@cli.command()
def get(
    context: typer.Context,
    ref: Ref,
    version: Annotated[int | None, typer.Option(min=1, help="Instead of the latest one.")] = None,
    *,
    issue: Annotated[
        bool, typer.Option("--issue", help="Have a dynamic secret issued; it ends with the command.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print the value that a reference stands for; one that is missing is an error, also with `optional=true`."""
    text = f"{{{ref}}}" if ref.startswith((OPENING[1:], DYNAMIC[1:])) else ref  # a shell eats braces only too easily
    reference = references_in(text)[0] if is_reference(text) else parse_reference(text)
    options = {name: option for name, option in reference.options.items() if name != "optional"}
    wanted = replace(reference, options=options, version=reference.version if version is None else version)
    blueprint = _blueprint(context)
    settings = blueprint.settings.of_environment()
    source = blueprint.providers.source(settings, settings.source_of(wanted))
    try:
        value, found = source.resolve(wanted, may_issue=issue)
    except WouldIssue as error:
        raise WouldIssue(
            error.subject, error.cause, "With --issue it does; that is revoked when the command ends."
        ) from None
    if as_json:
        _print_json({"reference": reference.text, "version": found, "value": value})
    else:
        typer.echo(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


@cli.command()
def put(
    context: typer.Context,
    path: SecretPath,
    pairs: Pairs,
    cas: Annotated[int | None, typer.Option(min=0, help="Only if this is the current version; 0: none yet.")] = None,
    vault: VaultName = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Write a whole secret; keys that are not given are gone in the new version."""
    _print_version(path, _folders(context, vault).write(path, values_of(pairs), cas), as_json=as_json)


@cli.command()
def patch(
    context: typer.Context,
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
    _print_version(path, _folders(context, vault).patch(path, changes), as_json=as_json)


@cli.command()
def delete(context: typer.Context, path: SecretPath, vault: VaultName = None, *, as_json: AsJson = False) -> None:
    """Delete the latest version of a secret; undelete brings it back."""
    _folders(context, vault).delete(path)
    if as_json:
        _print_json({"path": path})


@cli.command()
def undelete(
    context: typer.Context, path: SecretPath, version: Versions, vault: VaultName = None, *, as_json: AsJson = False
) -> None:
    """Bring deleted versions back."""
    _folders(context, vault).undelete(path, version)
    if as_json:
        _print_json({"path": path, "versions": version})


@cli.command("list")
def list_names(
    context: typer.Context,
    path: Annotated[str, typer.Argument(help="A folder; without it, the mount point.", callback=checked_path)] = "",
    vault: VaultName = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List the names in a folder; folders have a closing slash."""
    names = _folders(context, vault).list(path.strip("/"))
    if as_json:
        _print_json(names)
    else:
        for name in names:
            typer.echo(visible(name))


@cli.command()
def versions(context: typer.Context, path: SecretPath, vault: VaultName = None, *, as_json: AsJson = False) -> None:
    """Show which versions of a secret there are; never their values."""
    found = _folders(context, vault).metadata(path).get("versions", {})
    if as_json:
        _print_json(found)
        return
    from rich.console import Console  # noqa: PLC0415 - it takes as long to import as all else
    from rich.table import Table  # noqa: PLC0415

    table = Table("version", "created", "state")
    for number, about in found.items():
        table.add_row(number, about.get("created_time", ""), state_of(about))
    Console().print(table)


@cli.command()
def policy(context: typer.Context, vault: VaultName = None, *, as_json: AsJson = False) -> None:
    """Print the least-privilege policy for all that the settings declare; needs no credentials.

    For `vault policy write`, or for `conjur policy load -b root -f`.
    """
    blueprint = _blueprint(context)
    settings = without_credentials(blueprint.settings)
    provider, name = _chosen(blueprint, settings, vault)
    text = provider.policy(settings, name)
    if as_json:
        _print_json({"vault": name, "policy": text})
    else:
        typer.echo(text, nl=False)


def _blueprint(context: typer.Context) -> Blueprint:
    found: Blueprint = context.obj
    return found


def _folders(context: typer.Context, vault: str | None) -> Folders:
    blueprint = _blueprint(context)
    settings = blueprint.settings.of_environment()
    provider, name = _chosen(blueprint, settings, vault)
    return provider.folders(settings, name)


def _chosen(blueprint: Blueprint, settings: AppSettings, vault: str | None) -> tuple[Provider, str]:
    providers = blueprint.providers
    return providers.primary(settings) if vault is None else (providers.of(settings, vault), vault)


def _print_version(path: str, version: int | None, *, as_json: bool) -> None:
    if as_json:
        _print_json({"path": path, "version": version})
    else:
        typer.echo(f"{visible(path)}: {'written' if version is None else f'version {version}'}")


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False))
