"""`wa sandbox`: a local WhatsApp Cloud API, to try and to test with."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from wa_cli.cli.session import Session, session_of
from wa_cli.errors import UsageError

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
    webhook_url: Annotated[
        str | None, typer.Option("--webhook-url", metavar="URL", help="Post receipts and replies there.")
    ] = None,
    app_secret_env: Annotated[
        str | None,
        typer.Option("--app-secret-env", metavar="NAME", help="The variable with the app secret to sign with."),
    ] = None,
    verify_token_env: Annotated[
        str | None, typer.Option("--verify-token-env", metavar="NAME", help="The variable with the verify token.")
    ] = None,
    gateway_key_env: Annotated[
        str | None,
        typer.Option("--gateway-key-env", metavar="NAME", help="The variable with the key that gateways ask for."),
    ] = None,
    ladder_speed: Annotated[
        float, typer.Option("--ladder-speed", min=0, metavar="N", help="Receipts N times faster than life; 0: at once.")
    ] = 1.0,
    strict_window: Annotated[
        bool, typer.Option("--strict-window", help="Free text only within 24 h of a person's own message.")
    ] = False,
    other: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any other setting, as read_share=1.")
    ] = None,
    magic: Annotated[
        bool, typer.Option("--magic", help="List the numbers that always meet a fault, and leave.")
    ] = False,
) -> None:
    """Run a local WhatsApp until Ctrl-C. Nothing leaves this computer.

    It checks, limits and answers as Meta's Cloud API does. Numbers with certain endings always meet a fault:
    --magic lists them. With --webhook-url it also reports what becomes of each message: sent, delivered, read or
    failed, signed as Meta signs. The gateways WAHA and GOWA answer at the same address; with
    --set device_scan_seconds=5 their QR codes are scanned after so long.
    """
    from wa_cli.sandbox.admin import read_assignments
    from wa_cli.sandbox.faults import parse_chaos
    from wa_cli.sandbox.runner import run_sandbox
    from wa_cli.sandbox.settings import SandboxSettings

    session = session_of(context)
    if magic:
        _show_magic(session)
        return
    standard = SandboxSettings()
    settings = SandboxSettings(
        host=host,
        port=port,
        allow_remote=allow_remote,
        ledger_path=ledger,
        latency_ms=float(latency),
        throughput_per_second=throughput,
        strict_pair=strict_pair,
        pair_seconds=0.0 if no_pair_limit else standard.pair_seconds,
        chaos=parse_chaos(chaos or ()),
        seed=seed,
        webhook_url=webhook_url,
        app_secret=_read_secret(session, app_secret_env) or standard.app_secret,
        verify_token=_read_secret(session, verify_token_env) or standard.verify_token,
        gateway_key=_read_secret(session, gateway_key_env) or standard.gateway_key,
        ladder_speed=ladder_speed,
        strict_window=strict_window,
    )
    settings = read_assignments(settings, other or ())
    run_sandbox(settings, announce=lambda running: _announce(session, running))


def _read_secret(session: Session, name: str | None) -> str | None:
    """The value of a variable, from the environment or for a setting of `wa` also from `.env`; None for no name."""
    if name is None:
        return None
    from wa_cli.config import BY_NAME

    value = session.settings.text(name) if name in BY_NAME else os.environ.get(name, "")
    if not value:
        raise UsageError(f"the variable {name} is not set", hint=f"export {name}=..., or leave the flag out")
    # While a secret is changed there are two, the new one first or last: either of them is accepted.
    return value.partition(",")[0].strip()


def _announce(session: Session, running: Sandbox) -> None:
    from wa_cli.sandbox.settings import SandboxSettings

    settings, standard = running.settings, SandboxSettings()
    # A secret of the user's own is never shown; ours open nothing.
    app_secret = settings.app_secret if settings.app_secret == standard.app_secret else None
    verify_token = settings.verify_token if settings.verify_token == standard.verify_token else None
    if session.json:
        session.show_json(
            {
                "url": running.url,
                "messages_url": running.messages_url,
                "token": settings.token,
                "phone_number_id": settings.phone_number_id,
                "waba_id": settings.waba_id,
                "webhook_url": settings.webhook_url,
                "app_secret": app_secret,
                "verify_token": verify_token,
                "pid": os.getpid(),
            }
        )
    else:
        session.show(f"WHATSAPP_API_URL={running.messages_url}")
        session.show(f"WHATSAPP_ACCESS_TOKEN={settings.token}")
        if settings.webhook_url is not None:
            for name, value in (("WHATSAPP_APP_SECRET", app_secret), ("WHATSAPP_VERIFY_TOKEN", verify_token)):
                session.show(f"{name}={value}" if value is not None else f"# {name} is taken from your own variable")
        session.say("put these lines into the environment or .env, then `wa run` sends to this sandbox")
        if settings.webhook_url is not None:
            session.say(f"webhooks go to {settings.webhook_url}   how they fared: {running.url}/sandbox/deliveries")
        else:
            session.say("no webhooks: --webhook-url URL has receipts and replies posted there")
        session.say(
            f"gateways: wa instance add NAME --transport waha (or gowa) --url {running.url}   devices: /sandbox/devices"
        )
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
