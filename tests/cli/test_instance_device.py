"""`wa instance restart` and `pair`, on a gateway that the test steers."""

from __future__ import annotations

import contextlib
import io
import os
import re
from typing import TYPE_CHECKING, Any

import pytest
import segno
from scripted_device import PROVIDER, Device, add_phone, plug_in

from wa_cli.cli.qr_screen import HALVES, INK, PLAIN, draw_lines, draw_picture, read_matrix
from wa_cli.domain.connection import Connection, ConnectionState, PairingQr
from wa_cli.domain.pacing import Limits
from wa_cli.domain.qr_image import read_qr_matrix
from wa_cli.errors import GatewayRefused
from wa_cli.ports import Instance
from wa_cli.provider import Capabilities
from wa_cli.services.instances import InstanceReport, Standing, find_next_start_ms

if TYPE_CHECKING:
    from conftest import Result, Wa

    from wa_cli.bootstrap import App

# As long as the real ones: four parts of base64 after the version.
CODE = "2@" + ",".join(["Zm9vYmFyYmF6" * 9, "c29tZWtleQ" * 4, "b3RoZXJrZXk" * 4, "bGFzdA==", "1"])


@pytest.fixture
def device(app: App, monkeypatch: pytest.MonkeyPatch) -> Device:
    made = Device(clock=app.clock)
    plug_in(monkeypatch, made)
    add_phone(app)
    monkeypatch.setattr("wa_cli.services.pairing.LOOK_SECONDS", 0.01)
    monkeypatch.setattr("wa_cli.services.connections.RESTART_LOOK_SECONDS", 0.01)
    return made


def after(looks: int, device: Device, state: ConnectionState) -> None:
    """Let the device be in another state from so many looks on."""
    first = len(device.looks) + looks

    def look() -> None:
        if len(device.looks) >= first:
            device.state = state

    device.on_look = look


# --- restart ---


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_a_restart_is_asked_for_and_answered_at_once(wa: Wa, app: App, device: Device, kind: str) -> None:
    """Issue 6, point 5.  Row H11."""
    answer = wa("instance", "restart", "phone", "--type", kind, "--json")
    assert answer.json() == {
        "instance": "phone",
        "type": kind,
        "requested": True,
        "state": None,
        "restarts_left": 3,
        "window_minutes": 10,
    }
    assert device.words == [kind]
    (event,) = app.instances.read_events(2, since_ms=0, kind="restart")
    assert (event.word, event.details) == (kind, "asked for")


def test_a_fifth_restart_is_refused_with_the_time_of_the_next(wa: Wa, device: Device) -> None:
    """Issue 6, point 5.  Row H11: exit 6."""
    for _time in range(4):
        assert wa("instance", "restart", "phone").exit == 0
    refused = wa("instance", "restart", "phone", "--type", "hard")
    assert refused.exit == 6
    assert re.search(r"error: 'phone' was restarted 4 times in 10 min: no more for (9 min \d+|10 min 0) s", refused.err)
    assert "wa instance status phone" in refused.err
    assert device.words == ["soft"] * 4


def test_a_restart_can_be_waited_for(wa: Wa, app: App, device: Device) -> None:
    device.on_act = lambda _word: setattr(device, "state", ConnectionState.CONNECTING)
    after(4, device, ConnectionState.READY)
    waited = wa("instance", "restart", "phone", "--wait")
    assert (waited.exit, waited.out) == (0, "phone is ready again\n")
    assert app.find_instance("phone").address == "+6591234567"


def test_waiting_for_a_device_that_has_lost_its_phone_ends_with_what_to_type(wa: Wa, device: Device) -> None:
    """Row H10: exit 4."""
    device.on_act = lambda _word: setattr(device, "state", ConnectionState.NEEDS_QR)
    waited = wa("instance", "restart", "phone", "--wait")
    assert waited.exit == 4
    assert "hint: `wa instance pair phone`" in waited.err


def test_a_gateway_that_is_away_costs_no_restart(wa: Wa, app: App, device: Device) -> None:
    """Exit 8: nobody was there to take it."""
    device.is_up = False
    assert wa("instance", "restart", "phone").exit == 8
    assert app.instances.read_events(2, since_ms=0, kind="restart") == []


def test_a_restart_that_a_gateway_does_not_have_is_refused_by_name(
    wa: Wa, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PROVIDER, "capabilities", Capabilities(kinds=frozenset(), is_linked_device=True))
    refused = wa("instance", "restart", "phone")
    assert refused.exit == 6
    assert "the gateway of 'phone' has no soft restart" in refused.err


@pytest.mark.parametrize("command", ["restart", "pair"])
def test_an_instance_without_a_device_is_refused_by_name(wa: Wa, device: Device, command: str) -> None:
    refused = wa("instance", command, "default")
    assert refused.exit == 2
    assert "'default' sends through" in refused.err
    assert device.looks == []


# --- status ---


def test_status_says_how_the_device_stands_and_how_it_comes_back(wa: Wa, app: App, device: Device) -> None:
    """Issue 6, point 8.  Row H12."""
    ready = Connection(state=ConnectionState.READY, raw="WORKING", address="+6591234567")
    lost = Connection(state=ConnectionState.DISCONNECTED, raw="STOPPED", reason="the session is stopped")
    now_ms = app.clock.wall_ms()
    for found in (lost, ready, lost):
        app.instances.note_connection(2, found, now_ms=now_ms)
    wa("instance", "restart", "phone")
    shown = wa("instance", "status", "phone").out
    assert "phone  disconnected  (scripted)" in shown
    assert "reason     the session is stopped" in shown
    assert re.search(r"device     disconnected, for \d+ s  \(it says STOPPED\)", shown)
    assert "number     +6591234567" in shown
    assert "restarts   1 of 4 in 10 min   1 disconnect in 1 h" in shown
    document = wa("instance", "show", "phone", "--json").json()
    assert document["connection"]["raw"] == "STOPPED"
    assert (document["reconnection"]["restartsUsed"], document["reconnection"]["nextRestart"]) == (1, "hard")
    assert document["next_allowed_send_at"] is None


def test_status_says_when_the_limits_let_the_next_one_out() -> None:
    """Issue 6, point 8.  Row H12."""
    now_ms = 1_800_000_000_000
    phone = Instance(id=2, name="phone", transport="scripted", connection=ConnectionState.READY)
    report = InstanceReport(
        instance=phone, standing=Standing.READY, reason=None, waiting=1, sending=0, next_due_at_ms=None, holder=None
    )
    starts = [(contact, now_ms - 30_000 + contact) for contact in range(6)]
    assert (
        find_next_start_ms(report, Limits(per_minute=6), starts, now_ms=now_ms) == now_ms + 30_001
    )  # a window has both its ends
    assert find_next_start_ms(report, Limits(per_minute=7), starts, now_ms=now_ms) == now_ms


# --- pair, without a terminal ---


def test_a_paired_device_says_so_and_nothing_is_asked_for(wa: Wa, device: Device) -> None:
    """Issue 6, point 5."""
    paired = wa("instance", "pair", "phone")
    assert (paired.exit, paired.out) == (0, "phone is paired already as +6591234567\n")
    assert device.acts == []
    assert wa("instance", "pair", "phone", "--json").json() == {
        "instance": "phone",
        "state": "ready",
        "address": "+6591234567",
        "qr": None,
        "png": None,
        "lasts_seconds": None,
        "code": None,
    }


def test_a_session_that_does_not_run_is_started_and_its_code_saved_until_the_phone_is_there(
    wa: Wa, app: App, device: Device
) -> None:
    """Issue 6, point 5: no terminal, so the picture's path is said."""
    seen: list[tuple[bytes, int]] = []
    picture = wa.folder / "phone-qr.png"

    def note_picture() -> None:
        if picture.exists():
            seen.append((picture.read_bytes(), picture.stat().st_mode & 0o777))
            device.state = ConnectionState.READY

    device.state = ConnectionState.DISCONNECTED
    device.on_act = lambda _word: setattr(device, "state", ConnectionState.NEEDS_QR)
    device.on_look, device.qr_texts = note_picture, [CODE]
    paired = wa("instance", "pair", "phone")
    assert (paired.exit, paired.out) == (0, "phone is paired as +6591234567\n")
    assert device.words == ["start"]
    assert str(picture) in paired.err
    ((png, mode), *_rest) = seen
    assert mode == 0o600
    assert read_qr_matrix(png) == matrix_of(CODE)
    assert not picture.exists()  # nobody can link a phone with what is left behind
    assert app.find_instance("phone").connection is ConnectionState.READY


def test_a_script_gets_the_code_as_text_and_picture_at_once(wa: Wa, device: Device) -> None:
    """Issue 6, point 5."""
    device.state, device.qr_texts = ConnectionState.NEEDS_QR, [CODE]
    answer = wa("instance", "pair", "phone", "--json", "--png", "code.png").json()
    assert (answer["state"], answer["qr"], answer["png"]) == ("needs_qr", CODE, "code.png")
    assert answer["lasts_seconds"] == 20.0
    assert read_qr_matrix((wa.folder / "code.png").read_bytes()) == matrix_of(CODE)


def test_a_pair_code_is_printed_and_the_phone_waited_for(wa: Wa, device: Device) -> None:
    """Issue 6, point 5."""
    device.state = ConnectionState.NEEDS_QR
    after(3, device, ConnectionState.READY)
    paired = wa("instance", "pair", "phone", "--code", "--phone", "+65 9123 4567")
    assert paired.exit == 0
    assert paired.out == "ABCD-EFGH\nphone is paired as +6591234567\n"
    assert device.codes == ["+6591234567"]
    device.state, device.on_look = ConnectionState.NEEDS_QR, lambda: None
    assert wa("instance", "pair", "phone", "--code", "--phone", "+6591234567", "--json").json()["code"] == "ABCD-EFGH"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--code"], "--code needs --phone"),
        (["--phone", "+6591234567"], "--phone goes with --code"),
        (["--code", "--phone", "120363025246125486@g.us"], "no phone number"),
    ],
)
def test_a_call_that_cannot_be_meant_is_refused_before_the_gateway_is_asked(
    wa: Wa, device: Device, flags: list[str], words: str
) -> None:
    refused = wa("instance", "pair", "phone", *flags)
    assert refused.exit == 2
    assert words in refused.err
    assert device.looks == []


def test_a_code_that_is_not_there_yet_is_asked_for_again(
    wa: Wa, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that has just started refuses for some seconds."""
    device.state = ConnectionState.NEEDS_QR
    answers: list[Any] = [GatewayRefused("not yet"), GatewayRefused("not yet"), CODE]

    async def fetch_qr() -> PairingQr:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return PairingQr(text=answer, png=None, lasts_seconds=20.0)

    # The first look alone is not forgiven: then nothing is known to work.
    monkeypatch.setattr(type(device), "fetch_qr", lambda _self: fetch_qr())
    device.state = ConnectionState.CONNECTING
    after(2, device, ConnectionState.NEEDS_QR)
    assert wa("instance", "pair", "phone", "--json").json()["qr"] == CODE


# --- pair, on a terminal ---


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def pair_on_terminal(wa: Wa, monkeypatch: pytest.MonkeyPatch, *, columns: int = 80) -> tuple[Result, str]:
    """Pair before a person's eyes; what the command gave, and what they saw."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr("shutil.get_terminal_size", lambda _fallback=(80, 24): os.terminal_size((columns, 50)))
    terminal = Terminal()
    with contextlib.redirect_stderr(terminal):
        given = wa("instance", "pair", "phone")
    return given, terminal.getvalue()


def matrix_of(text: str) -> list[list[bool]]:
    made = segno.make(text, error="l", boost_error=False, micro=False)
    return [[bool(module) for module in row] for row in made.matrix]


def undraw(lines: list[str]) -> list[list[bool]]:
    """The modules of a drawn code, quiet zone included."""
    back = {character: halves for halves, character in HALVES.items()}
    rows: list[list[bool]] = []
    for line in lines:
        rows.append([back[character][0] for character in line])
        rows.append([back[character][1] for character in line])
    return rows


def test_a_drawn_code_is_the_code_with_its_quiet_zone_and_fits_80_columns() -> None:
    """Issue 6, point 5."""
    matrix = matrix_of(CODE)
    lines = draw_lines(matrix, quiet=4)
    assert max(map(len, lines)) <= 80
    rows = undraw(lines)
    side = len(matrix)
    assert [row[4 : 4 + side] for row in rows[4 : 4 + side]] == matrix
    around = [*rows[:4], *rows[4 + side :], *(row[:4] for row in rows), *(row[4 + side :] for row in rows)]
    assert not any(any(row) for row in around)
    assert min(len(rows) - side - 4, len(lines[0]) - side - 4) >= 4


def test_a_picture_alone_is_drawn_as_well() -> None:
    """GOWA gives a PNG and nothing else."""
    png = draw_picture(PairingQr(text=CODE, png=None, lasts_seconds=20))
    assert read_matrix(PairingQr(text=None, png=png, lasts_seconds=20)) == matrix_of(CODE)
    assert read_matrix(PairingQr(text=None, png=b"no picture", lasts_seconds=20)) is None


def test_a_terminal_shows_each_new_code_in_the_place_of_the_last_and_counts_down(
    wa: Wa, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 6, point 5."""
    monkeypatch.setattr("wa_cli.services.pairing.READ_AGAIN_SECONDS", 0.0)
    device.state, device.qr_texts = ConnectionState.NEEDS_QR, [CODE, CODE, "2@another"]
    after(6, device, ConnectionState.READY)
    paired, shown = pair_on_terminal(wa, monkeypatch)
    assert paired.out == "phone is paired as +6591234567\n"
    drawn = re.findall(re.escape(INK) + "(.*?)" + re.escape(PLAIN), shown)
    first, second = draw_lines(matrix_of(CODE), quiet=4), draw_lines(matrix_of("2@another"), quiet=4)
    assert drawn == [*first, *second]  # the same code twice is drawn once
    assert f"\x1b[{len(first)}A\x1b[J{INK}" in shown
    assert "valid for 20 s more" in shown
    assert "Linked devices" in shown


def test_a_terminal_that_is_too_narrow_gets_the_picture(
    wa: Wa, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.state, device.qr_texts = ConnectionState.NEEDS_QR, [CODE]
    after(3, device, ConnectionState.READY)
    paired, shown = pair_on_terminal(wa, monkeypatch, columns=50)
    assert paired.exit == 0
    assert INK not in shown
    assert "phone-qr.png" in shown


def test_ctrl_c_leaves_the_terminal_clean_and_no_picture_behind(
    wa: Wa, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 130."""
    device.state, device.qr_texts = ConnectionState.NEEDS_QR, [CODE]

    def interrupt() -> None:
        if len(device.looks) > 4:
            raise KeyboardInterrupt

    device.on_look = interrupt
    left, shown = pair_on_terminal(wa, monkeypatch)
    assert left.exit == 130
    assert not (wa.folder / "phone-qr.png").exists()
    assert shown.endswith("\r\x1b[K")
