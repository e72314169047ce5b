"""`wa instance restart` and `pair`: the linked device behind an instance."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from wa_cli.cli.session import clean_text, session_of
from wa_cli.errors import UsageError

if TYPE_CHECKING:
    from wa_cli.bootstrap import App
    from wa_cli.domain.connection import Connection, PairingQr
    from wa_cli.ports import Instance

Name = Annotated[str | None, typer.Argument(metavar="NAME", help="The instance; the default one without a name.")]

LOOK_SECONDS: Final = 5.0
ASK_SECONDS: Final = 30.0
# Beyond what a wait may take by itself, so that it ends with its own words.
MARGIN_SECONDS: Final = 60.0


def restart(
    context: typer.Context,
    name: Name = None,
    type_: Annotated[
        str, typer.Option("--type", metavar="KIND", help="soft: the gateway's own restart. hard: stop, then start.")
    ] = "soft",
    wait: Annotated[bool, typer.Option("--wait", help="Stay until the device is ready.")] = False,
) -> None:
    """Restart the device behind an instance; its phone stays paired.

    At most 4 restarts fall into 10 minutes, those that wa makes by itself included.
    """
    import asyncio

    from wa_cli.domain.connection import RestartKind
    from wa_cli.services.connections import take_restart, wait_until_ready

    session = session_of(context)
    if type_ not in set(RestartKind):
        raise UsageError(f"--type is '{type_}'", hint=f"one of: {', '.join(RestartKind)}")
    kind = RestartKind(type_)
    opened = session.open_app()
    instance = _find_device(opened, name)
    terms = opened.ladder_terms(instance)
    # First whether anybody is there: what nobody takes is no restart.
    opened.ask_gateway(instance, lambda gateway: gateway.look(), seconds=LOOK_SECONDS)
    left = take_restart(opened.instances, instance, kind, terms, now_ms=opened.clock.wall_ms())
    opened.ask_gateway(instance, lambda gateway: gateway.restart(kind), seconds=ASK_SECONDS)
    found = None
    if wait:
        if not session.json:
            session.say(clean_text(f"{kind} restart of {instance.name} asked for; waiting until it is ready"))
        seconds = (terms.soft_timeout_ms if kind is RestartKind.SOFT else terms.hard_timeout_ms) / 1000
        found = opened.ask_gateway(
            instance,
            lambda gateway: wait_until_ready(
                gateway,
                name=instance.name,
                note=lambda connection: _note(opened, instance, connection),
                sleep=asyncio.sleep,
                steady_ms=opened.clock.steady_ms,
                patience_seconds=seconds,
            ),
            seconds=seconds + MARGIN_SECONDS,
        )
    minutes = round(terms.window_ms / 60_000)
    if session.json:
        session.show_json(
            {
                "instance": instance.name,
                "type": kind.value,
                "requested": True,
                "state": found.state.value if found is not None else None,
                "restarts_left": left,
                "window_minutes": minutes,
            }
        )
        return
    if found is not None:
        session.show(clean_text(f"{instance.name} is ready again"))
    else:
        session.show(clean_text(f"{kind} restart of {instance.name} asked for"))
        session.hint(f"`wa instance status {instance.name}` shows how it goes")
    session.say(f"{left} more in the next {minutes} min" if left else f"no other one in the next {minutes} min")


def pair(
    context: typer.Context,
    name: Name = None,
    code: Annotated[bool, typer.Option("--code", help="Pair with a code typed into the phone, not a QR code.")] = False,
    phone: Annotated[
        str | None, typer.Option("--phone", metavar="NUMBER", help="With --code: the number of that phone.")
    ] = None,
    png: Annotated[
        Path | None, typer.Option("--png", metavar="FILE", help="Where the picture of the code goes, and stays.")
    ] = None,
) -> None:
    """Link a phone: draws the QR code to scan and waits for it.

    With --json: the code as text and picture, at once; the phone is not waited for.
    """
    import asyncio

    from wa_cli.cli.qr_screen import QrScreen
    from wa_cli.domain.connection import ConnectionState
    from wa_cli.services.pairing import PATIENCE_SECONDS
    from wa_cli.services.pairing import pair as pair_device

    session = session_of(context)
    number = _read_phone(code, phone, region=session.settings.text("WA_DEFAULT_REGION") or None)
    opened = session.open_app()
    instance = _find_device(opened, name)
    if code and not opened.provider(instance).capabilities.pairs_by_code:
        raise UsageError(
            f"{opened.provider(instance).title} pairs with a QR code only",
            hint=f"`wa instance pair {instance.name}`",
            code="no_pair_code",
        )
    picture = png if png is not None else opened.database.path.parent / f"{instance.name}-qr.png"
    screen = _Answer(picture) if session.json else QrScreen(session, picture=picture)
    stays = png is not None or session.json
    was_asked_for_nothing = True

    def note(connection: Connection) -> None:
        nonlocal was_asked_for_nothing
        if connection.state is not ConnectionState.READY:
            was_asked_for_nothing = False
        _note(opened, instance, connection)

    try:
        found = opened.ask_gateway(
            instance,
            lambda gateway: pair_device(
                gateway,
                screen,
                phone=number,
                note=note,
                sleep=asyncio.sleep,
                steady_ms=opened.clock.steady_ms,
                once=session.json,
            ),
            seconds=PATIENCE_SECONDS + MARGIN_SECONDS,
        )
    finally:
        screen.close()
        if not stays:
            with suppress(OSError):
                picture.unlink()  # whoever sees it could link a phone of theirs
    address = found.address or opened.find_instance(instance.name).address
    if isinstance(screen, _Answer):
        session.show_json(
            {"instance": instance.name, "state": found.state.value, "address": address, **screen.document()}
        )
        return
    who = f" as {address}" if address else ""
    if was_asked_for_nothing:
        session.show(clean_text(f"{instance.name} is paired already{who}"))
        return
    session.show(clean_text(f"{instance.name} is paired{who}"))
    session.hint("`wa run` sends through it")


class _Answer:
    """What a script gets to show: the first code, kept for the document on stdout."""

    def __init__(self, picture: Path) -> None:
        self._picture = picture
        self._qr: str | None = None
        self._png: str | None = None
        self._lasts_seconds: float | None = None
        self._code: str | None = None

    def show_qr(self, qr: PairingQr) -> None:
        from wa_cli.cli.private_file import replace_private_bytes
        from wa_cli.cli.qr_screen import draw_picture

        replace_private_bytes(self._picture, draw_picture(qr))
        self._qr, self._png, self._lasts_seconds = qr.text, str(self._picture), qr.lasts_seconds

    def show_code(self, code: str) -> None:
        self._code = code

    def count_down(self, seconds: float, *, is_code: bool) -> None:
        pass

    def close(self) -> None:
        pass

    def document(self) -> dict[str, object]:
        return {"qr": self._qr, "png": self._png, "lasts_seconds": self._lasts_seconds, "code": self._code}


def _find_device(opened: App, name: str | None) -> Instance:
    """Raises: UsageError for an instance without a linked device, or without its account."""
    instance = opened.find_instance(name)
    if not opened.provider(instance).capabilities.is_linked_device:
        raise UsageError(
            f"'{instance.name}' sends through {opened.provider(instance).title}: there is no device to restart or pair",
            hint="this is for instances behind a gateway: `wa instance list` shows all",
            code="no_device",
        )
    opened.accounts.check(instance)
    return instance


def _read_phone(code: bool, phone: str | None, *, region: str | None) -> str | None:
    if not code:
        if phone is not None:
            raise UsageError("--phone goes with --code", hint="a QR code is for whichever phone scans it")
        return None
    if phone is None:
        raise UsageError("--code needs --phone NUMBER", hint="the number of the phone that is to be linked")
    from wa_cli.domain.recipient import RecipientKind, parse_recipient

    recipient = parse_recipient(phone, default_region=region)
    if recipient.kind is not RecipientKind.PERSON:
        raise UsageError(f"--phone is '{phone}', which is no phone number", hint="for example +6591234567")
    return recipient.address


def _note(opened: App, instance: Instance, connection: Connection) -> None:
    opened.instances.note_connection(instance.id, connection, now_ms=opened.clock.wall_ms())
