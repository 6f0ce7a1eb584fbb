"""How is the doctor asked from a terminal? `python -m app doctor`."""

from typing import Annotated

import typer

MayLogIn = Annotated[bool | None, typer.Option("--login/--no-login", help="Even where that uses something up.")]


def add_to(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command("doctor")(diagnose)


def diagnose(
    context: typer.Context,
    login: MayLogIn = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    production: Annotated[bool, typer.Option("--production", help="Also what must hold before production.")] = False,
    issue: Annotated[bool, typer.Option("--issue", help="Have dynamic secrets issued, and give them back.")] = False,
) -> None:
    """Say what is wrong between the settings and the secrets, and what fixes it; 0 only if all is well."""
    from app.extras.doctor.diagnosis import doctor  # noqa: PLC0415 - other commands would wait for it

    raise typer.Exit(doctor(context.obj, as_json=as_json, login=login, production=production, issue=issue))
