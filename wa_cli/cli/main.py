"""The `wa` command: global flags, the commands by name, and errors as two lines with an exit code.

The module of a command is loaded when it is called, and what it needs when it runs.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from wa_cli import __version__
from wa_cli.cli.session import Session
from wa_cli.errors import FileMistakes, StorageFull, WaError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

EPILOG: Final = """Exit codes: 0 done, 2 usage, 3 partly done, 4 an instance needs a person, 5 unknown outcomes,
6 refused by a safety rule, 7 conflict, 8 temporary, 9 storage. Flags above may stand anywhere on the line."""

# Flags that hold for every command; they may stand before or after its name.
GLOBAL_SWITCHES: Final = frozenset(
    ("--json", "--quiet", "-q", "--verbose", "-v", "--no-input", "--yes", "-y", "--debug")
)
GLOBAL_VALUES: Final = frozenset(("--db", "--env-file"))


def hoist_global_flags(
    arguments: Sequence[str], takes_value: Callable[[str], bool] = lambda _option: False
) -> list[str]:
    """The same line with the global flags first.  What follows `--` is left alone.

    takes_value: whether an option of some command wants a word after it; asked only where a global flag stands there,
    since `--text -v` means a text.
    """
    hoisted: list[str] = []
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        name, equals, _value = word.partition("=")
        is_ours = word in GLOBAL_SWITCHES or name in GLOBAL_VALUES
        if word == "--":
            rest += [word, *words]
        elif is_ours and rest and rest[-1].startswith("-") and takes_value(rest[-1]):
            rest.append(word)
        elif word in GLOBAL_SWITCHES or (name in GLOBAL_VALUES and equals):
            hoisted.append(word)
        elif word in GLOBAL_VALUES:
            hoisted.append(word)
            value = next(words, None)
            hoisted += [] if value is None else [value]
        else:
            rest.append(word)
    return hoisted + rest


def _takes_value(option: str) -> bool:
    """Whether any command has an option of that name that wants a word after it."""
    if "=" in option:
        return False
    waiting: list[Any] = list(getattr(typer.main.get_command(build_app()), "commands", {}).values())
    while waiting:
        command = waiting.pop()
        waiting += getattr(command, "commands", {}).values()
        for parameter in command.params:
            if option in parameter.opts and not getattr(parameter, "is_flag", False):
                return True
    return False


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"wa {__version__}\n")
        raise typer.Exit


def find_commands(words: Sequence[str]) -> Sequence[str]:
    """The commands that have to be there for a line with its global flags in front: one of them, none, or all."""
    from wa_cli.cli.commands import COMMANDS

    everything = list(COMMANDS)
    if "_WA_COMPLETE" in os.environ:  # the shell asks what could stand there
        return everything
    waiting = iter(words)
    for word in waiting:
        if word in GLOBAL_VALUES:
            next(waiting, None)
        elif word == "--version":
            return []
        elif not word.startswith("-"):
            return [word] if word in COMMANDS else everything
    return everything


def build_app(names: Sequence[str] | None = None, *, is_listing: bool = False) -> typer.Typer:
    """The command tree, whole or with these commands alone.  is_listing: good for the list of all, not for running."""
    from wa_cli.cli import commands

    app = typer.Typer(
        name="wa",
        cls=commands.InOrder,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        pretty_exceptions_enable=False,
        add_completion=True,
        epilog=EPILOG,
        rich_markup_mode=None,
    )

    @app.callback()
    def wa(
        context: typer.Context,
        db: Annotated[str | None, typer.Option("--db", metavar="FILE", help="The database file.")] = None,
        env_file: Annotated[
            Path | None, typer.Option("--env-file", metavar="FILE", help="Settings file instead of ./.env.")
        ] = None,
        json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
        quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only results and errors.")] = False,
        verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")] = False,
        no_input: Annotated[bool, typer.Option("--no-input", help="Never ask.")] = False,
        yes: Annotated[bool, typer.Option("--yes", "-y", help="Answer yes to every question.")] = False,
        debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
        version: Annotated[
            bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
        ] = False,
    ) -> None:
        """Send WhatsApp messages to lists of people, spaced and once each, with the truth about every one."""
        session = context.obj
        session.db, session.env_file = db, env_file
        session.json, session.quiet, session.verbose = json_output, quiet, verbose
        session.no_input, session.yes, session.debug = no_input, yes, debug

    commands.register(app, commands.COMMANDS if names is None else names, is_listing=is_listing)
    return app


def run(arguments: Sequence[str]) -> int:
    """Run one command line.  Returns its exit code; what it has to say is on stdout and stderr."""
    words = hoist_global_flags(arguments, _takes_value)
    session = Session(json="--json" in words, debug="--debug" in words)
    code = 0
    try:
        code = _run_command(session, words)
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_stdout()  # the reader has gone (`| head -1`): leave quietly
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _drop_stdout()
        code = StorageFull.exit_code
        hint = "free some space; the database is as the command left it, so look before you run it again"
        _show_error(session, "no space left to write the output", hint, StorageFull.default_code, code)
    finally:
        session.close()
    return code


def _drop_stdout() -> None:
    """Keep Python from complaining at its end about what could not be written."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run_command(session: Session, words: Sequence[str]) -> int:
    try:
        names = find_commands(words)
        tree = build_app(names, is_listing=len(names) > 1 and "_WA_COMPLETE" not in os.environ)
        result = tree(args=words, prog_name="wa", standalone_mode=False, obj=session)
        return result if isinstance(result, int) else 0
    except SystemExit as leaving:
        if isinstance(leaving.__context__, BrokenPipeError):  # typer would call this exit code 1, a bug
            raise leaving.__context__ from None
        raise
    except typer.Exit as leaving:
        return leaving.exit_code
    except WaError as error:
        mistakes = error.mistakes if isinstance(error, FileMistakes) else ()
        _show_error(
            session, error.message, error.hint, error.code, error.exit_code, mistakes=mistakes, below=error.below
        )
        if session.debug:
            raise
        return error.exit_code
    except typer.TyperException as error:
        message = getattr(error, "format_message", error.__str__)()
        if type(error).__name__ == "NoArgsIsHelpError":
            sys.stdout.write(message.rstrip() + "\n")
            return 0
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "wa"
        message = message[:1].lower() + message[1:].rstrip(".")
        _show_error(session, message, f"`{command} --help` shows what it takes", "usage", 2)
        return 2
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write("interrupted\n")
        return 130


def _show_error(
    session: Session,
    message: str,
    hint: str | None,
    code: str,
    exit_code: int,
    *,
    mistakes: Sequence[str] = (),
    below: Sequence[str] = (),
) -> None:
    """mistakes: what to show instead of the message, a line each.  below: what to show under it, a line each."""
    from wa_cli.cli.session import clean_json, clean_text, fold

    if session.json:
        whole = "\n".join((message, *below))
        document = {"error": {"code": code, "message": whole, "hint": hint, "exit": exit_code}}
        sys.stderr.write(clean_json(json.dumps(document, ensure_ascii=False)) + "\n")
        return
    for line in mistakes or (message,):
        sys.stderr.write(f"error: {clean_text(line)}\n")
    for line in below:
        sys.stderr.write(f"  {clean_text(line)}\n")
    if hint:
        sys.stderr.write(fold(f"hint: {clean_text(hint)}") + "\n")


def _open_missing_streams() -> None:
    """Give a process that was started without stdin, stdout or stderr the null device in their place.

    In the order of their numbers, so that no file of ours becomes a standard stream.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - open to the end


def main() -> None:
    """The entry point of the `wa` command."""
    _open_missing_streams()
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure:  # names of people are written in every script; an ASCII locale must not break a report
            reconfigure(encoding="utf-8", errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))
