"""`wa init`: the database and the `.env`, made or brought up to date, as often as one likes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import typer

from wa_cli.cli.session import Session, clean_text, session_of
from wa_cli.errors import UsageError

TRIES: Final = 3
LARGEST_TOKEN_BYTES: Final = 10_000


def init(
    context: typer.Context,
    api_url: Annotated[
        str | None,
        typer.Option("--api-url", metavar="URL", help="https://graph.facebook.com/v25.0/PHONE_NUMBER_ID/messages"),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", metavar="FILE", help="Read the access token from this file.")
    ] = None,
    token_stdin: Annotated[bool, typer.Option("--token-stdin", help="Read the access token from stdin.")] = False,
    region: Annotated[
        str | None, typer.Option("--region", metavar="XX", help="Country of numbers written without +, like SG.")
    ] = None,
    timezone: Annotated[
        str | None, typer.Option("--timezone", metavar="ZONE", help="Zone of times without one, like Asia/Singapore.")
    ] = None,
    token: Annotated[str | None, typer.Option("--token", "--access-token", hidden=True)] = None,
) -> None:
    """Create the database and a .env. Asks on a terminal; run it again to change a setting."""
    from wa_cli.config import load_settings
    from wa_cli.services.upkeep import edit_env, read_env_text, write_env

    session = session_of(context)
    if token is not None:
        raise UsageError(
            "a token on the command line can be read by everybody on this computer, and stays in the shell's history",
            hint="--token-file FILE, or --token-stdin; take a new token if this one was real",
            code="secret_on_line",
        )
    path = (session.env_file or Path.cwd() / ".env").absolute()
    text = read_env_text(path)
    given = {
        "WHATSAPP_API_URL": api_url,
        "WHATSAPP_ACCESS_TOKEN": _read_token(token_file, from_stdin=token_stdin),
        "WA_DEFAULT_REGION": region,
        "WA_TIMEZONE": timezone,
        "WA_DB": str(Path(session.db).expanduser().absolute()) if session.db else None,
    }
    values = {name: CHECKS[name](value) for name, value in given.items() if value is not None}
    standing = load_settings(env_file=path if path.is_file() else None, problems=[])
    if session.can_ask() and not session.json:
        values |= _ask_for_rest(session, {name for name in CHECKS if name in values or standing.text(name)})
    is_new = not path.exists()
    edit = edit_env(text, values)
    loose = not is_new and path.stat().st_mode & 0o077 != 0
    if is_new or edit.changed or loose:
        write_env(path, edit.text)

    session.env_file = path
    database = session.settings.database_path()
    created = not database.exists()
    app = session.open_app(create=True)
    _warn_of_overrides(session, values)
    steps = _next_steps(session, has_account=not app.accounts.find_missing(app.find_instance()))
    if session.json:
        session.show_json(
            {
                "database": str(database),
                "created": created,
                "env_file": str(path),
                "env_file_created": is_new,
                "changed": list(edit.changed),
                "kept": list(edit.kept),
                "next": steps,
            }
        )
        return
    session.show(f"{'created' if created else 'kept'} the database {database}")
    session.show(f"{'created' if is_new else 'updated' if edit.changed else 'kept'} {path}")
    for name in edit.changed:
        session.show(f"  set {name}")
    for name in edit.kept:
        session.show(f"  {name} was so already")
    if loose:
        session.show("  others could read it; now only you can")
    session.say("next:")
    for step in steps:
        session.say(f"  {step}")


def _read_token(file: Path | None, *, from_stdin: bool) -> str | None:
    if file is not None and from_stdin:
        raise UsageError("the token comes from a file or from stdin, not from both", hint="leave one of them out")
    if from_stdin:
        return sys.stdin.read(LARGEST_TOKEN_BYTES).strip()
    if file is None:
        return None
    try:
        with file.open(encoding="utf-8-sig") as stream:
            return stream.read(LARGEST_TOKEN_BYTES).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(
            f"the token file {file} cannot be read: {reason}", hint="give --token-file a text file"
        ) from error


# --- what may stand in each setting; each returns the value as it will be written ---


def _check_url(text: str) -> str:
    from wa_cli.accounts import check_account_words

    check_account_words(api_url=text.strip())
    return text.strip()


def _check_token(text: str) -> str:
    from wa_cli.accounts import check_account_words

    check_account_words(token=text)
    return text.strip()


def _check_region(text: str) -> str:
    from wa_cli.domain.recipient import parse_region

    return parse_region(text) or ""


def _check_zone(text: str) -> str:
    from wa_cli.domain.schedule import parse_zone

    return str(parse_zone(text))


CHECKS: Final[dict[str, Callable[[str], str]]] = {
    "WHATSAPP_API_URL": _check_url,
    "WHATSAPP_ACCESS_TOKEN": _check_token,
    "WA_DEFAULT_REGION": _check_region,
    "WA_TIMEZONE": _check_zone,
    "WA_DB": str,
}
QUESTIONS: Final = {
    "WHATSAPP_API_URL": "The messages URL of your number (https://graph.facebook.com/v25.0/PHONE_NUMBER_ID/messages)",
    "WHATSAPP_ACCESS_TOKEN": "The access token (it is not shown)",
    "WA_DEFAULT_REGION": "Country of numbers written without +, two letters like SG",
    "WA_TIMEZONE": "Time zone of times without one, like Asia/Singapore",
}


def _ask_for_rest(session: Session, known: set[str]) -> dict[str, str]:
    """What a person types for the settings nobody has given yet.  Enter leaves one as it is."""
    answers: dict[str, str] = {}
    session.say("Enter leaves a setting as it is.")
    for name, question in QUESTIONS.items():
        if name in known:
            continue
        for _try in range(TRIES):
            answer = _ask(question, is_secret=name == "WHATSAPP_ACCESS_TOKEN").strip()
            if not answer:
                break
            try:
                answers[name] = CHECKS[name](answer)
            except UsageError as error:  # asked again: the person is still here
                session.say(clean_text(f"{error.message} ({error.hint})"))
                continue
            break
    return answers


def _ask(question: str, *, is_secret: bool) -> str:
    if is_secret:
        from getpass import getpass

        return getpass(f"{question}: ", stream=sys.stderr)
    sys.stderr.write(f"{question}: ")
    sys.stderr.flush()
    return sys.stdin.readline()


def _warn_of_overrides(session: Session, values: dict[str, str]) -> None:
    for name in values:
        if session.settings.origins[name].source == "environment":
            session.warn(f"{name} is also set in the environment, which wins over the file")


def _next_steps(session: Session, *, has_account: bool) -> list[str]:
    steps = ["wa doctor"] if has_account else ["wa demo", "wa init   (again, once you have an account)"]
    if not session.settings.default_region():
        steps.append("wa init --region SG   (your country's two letters)")
    return [*steps, "wa subgroup create vip"]
