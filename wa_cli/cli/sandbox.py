"""`wa sandbox`: a local WhatsApp Cloud API, to try and to test with."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from wa_cli.cli.session import Session, session_of

if TYPE_CHECKING:
    from wa_cli.sandbox.server import Sandbox

PORT: Final = 8025


def sandbox(
    context: typer.Context,
    port: Annotated[int, typer.Option("--port", metavar="N", min=0, max=65535, help="0 takes a free one.")] = PORT,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="The address to listen on.")] = "127.0.0.1",
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Permit an address that other machines reach.")
    ] = False,
    ledger: Annotated[
        Path | None, typer.Option("--ledger", metavar="FILE", help="Append every post, one JSON line each.")
    ] = None,
    latency: Annotated[
        int, typer.Option("--latency", min=0, metavar="MS", help="Milliseconds before each answer.")
    ] = 0,
    throughput: Annotated[
        int, typer.Option("--throughput", min=0, metavar="N", help="Messages a second; 0 lifts it.")
    ] = 80,
    strict_pair: Annotated[bool, typer.Option("--strict-pair", help="No burst towards one person.")] = False,
    no_pair_limit: Annotated[bool, typer.Option("--no-pair-limit", help="Any pace towards one person.")] = False,
    chaos: Annotated[
        list[str] | None, typer.Option("--chaos", metavar="FAULT=P", help="A fault by chance, like cut_body=0.01.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="The same one makes the same chaos.")] = 0,
    magic: Annotated[
        bool, typer.Option("--magic", help="List the numbers that always meet a fault, and leave.")
    ] = False,
) -> None:
    """Run a local WhatsApp until Ctrl-C. Nothing leaves this computer.

    It checks, limits and answers as Meta's Cloud API does. Numbers with certain endings always meet a fault:
    --magic lists them.
    """
    from wa_cli.sandbox.faults import parse_chaos
    from wa_cli.sandbox.runner import run_sandbox
    from wa_cli.sandbox.settings import SandboxSettings

    session = session_of(context)
    if magic:
        _show_magic(session)
        return
    settings = SandboxSettings(
        host=host,
        port=port,
        allow_remote=allow_remote,
        ledger_path=ledger,
        latency_ms=float(latency),
        throughput_per_second=throughput,
        strict_pair=strict_pair,
        pair_seconds=0.0 if no_pair_limit else SandboxSettings().pair_seconds,
        chaos=parse_chaos(chaos or ()),
        seed=seed,
    )
    run_sandbox(settings, announce=lambda running: _announce(session, running))


def _announce(session: Session, running: Sandbox) -> None:
    settings = running.settings
    if session.json:
        session.show_json(
            {
                "url": running.url,
                "messages_url": running.messages_url,
                "token": settings.token,
                "phone_number_id": settings.phone_number_id,
                "waba_id": settings.waba_id,
                "pid": os.getpid(),
            }
        )
    else:
        session.show(f"WHATSAPP_API_URL={running.messages_url}")
        session.show(f"WHATSAPP_ACCESS_TOKEN={settings.token}")
        session.say("put these two lines into the environment or .env, then `wa run` sends to this sandbox")
        session.say(f"posts so far: {running.url}/sandbox/ledger   numbers that fail: wa sandbox --magic")
        session.say("Ctrl-C stops it")
    sys.stdout.flush()


def _show_magic(session: Session) -> None:
    from wa_cli.sandbox.faults import MAGIC_NUMBERS

    if session.json:
        session.show_json(
            {
                "magic": [
                    {"ending": magic.ending, "fault": str(magic.fault), "meaning": magic.meaning}
                    for magic in MAGIC_NUMBERS
                ],
                "count": len(MAGIC_NUMBERS),
            }
        )
        return
    session.show_table(
        ("ENDING", "FAULT", "WHAT HAPPENS"),
        [(magic.ending, str(magic.fault), magic.meaning) for magic in MAGIC_NUMBERS],
        keep=(0, 1),
    )
