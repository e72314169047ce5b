"""`POST /instances/ID/restart`, and what `GET /instances/ID/status` says of a linked device."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from door import error_of
from scripted_device import Device, add_phone, plug_in

from wa_cli.domain.connection import Connection, ConnectionState

if TYPE_CHECKING:
    from door import Api


@pytest.fixture
def device(api: Api, monkeypatch: pytest.MonkeyPatch) -> Device:
    made = Device(clock=api.app.clock)
    plug_in(monkeypatch, made)
    add_phone(api.app)
    return made


def until_words(device: Device, words: list[str]) -> None:
    deadline = time.monotonic() + 20
    while device.words != words:
        assert time.monotonic() < deadline, device.words
        time.sleep(0.01)


def test_a_restart_is_answered_at_once_and_asked_for_behind(api: Api, device: Device) -> None:
    """Issue 6, point 5.  Row H11: by name and by id, with a key that sends or one that works the queue."""
    answer = api.post("/instances/phone/restart", {"type": "hard"})
    assert answer.status_code == 202
    assert answer.json() == {
        "success": True,
        "message": "hard restart of phone asked for",
        "instance": "phone",
        "type": "hard",
        "restartsLeft": 3,
        "windowMinutes": 10,
    }
    until_words(device, ["hard"])
    assert api.post("/instances/2/restart", key=api.key("cron", "worker")).json()["type"] == "soft"
    until_words(device, ["hard", "soft"])
    assert api.post("/instances/2/restart", key=api.key("looker", "read")).status_code == 403


def test_a_fifth_restart_is_refused(api: Api, device: Device) -> None:
    """Row H11."""
    for _time in range(4):
        assert api.post("/instances/phone/restart").status_code == 202
    refused = api.post("/instances/phone/restart")
    assert (refused.status_code, error_of(refused)["code"]) == (429, "too_many_restarts")
    until_words(device, ["soft"] * 4)


def test_an_instance_without_a_device_cannot_be_restarted(api: Api, device: Device) -> None:
    refused = api.post("/instances/default/restart", {"type": "soft"})
    assert (refused.status_code, error_of(refused)["code"]) == (400, "no_device")
    assert api.post("/instances/nobody/restart").status_code == 404
    assert api.post("/instances/phone/restart", {"type": "gentle"}).status_code == 422
    assert device.words == []


def test_the_status_of_a_lost_device_says_since_when_and_what_comes_next(api: Api, device: Device) -> None:
    """Issue 6, point 8.  Row H12."""
    now_ms = api.app.clock.wall_ms()
    ready = Connection(state=ConnectionState.READY, raw="WORKING", address="+6591234567")
    api.app.instances.note_connection(2, Connection(state=ConnectionState.CONNECTING, raw="STARTING"), now_ms=now_ms)
    api.app.instances.note_connection(2, ready, now_ms=now_ms)
    assert api.get("/instances/phone/status").json()["state"] == "READY"
    gone = Connection(state=ConnectionState.DISCONNECTED, raw="STOPPED", reason="the session is stopped")
    api.app.instances.note_connection(2, gone, now_ms=now_ms)
    api.app.instances.take_restart(2, word="start", details=None, at_most=4, window_ms=600_000, now_ms=now_ms)
    document = api.get("/instances/phone/status").json()
    assert (document["state"], document["address"]) == ("DISCONNECTED", "+6591234567")
    assert document["connection"]["state"] == "disconnected"
    assert (document["connection"]["raw"], document["connection"]["reason"]) == ("STOPPED", "the session is stopped")
    assert document["connection"]["since"]
    back = document["reconnection"]
    assert (back["isReconnecting"], back["attempts"], back["restartsUsed"], back["nextRestart"]) == (True, 1, 1, "soft")
    assert back["nextAttemptAt"] == back["nextRestartAt"] is not None


def test_disconnects_of_the_last_hour_are_counted(api: Api, device: Device) -> None:
    """Row H12: from ready to anything else, once each."""
    now_ms = api.app.clock.wall_ms()
    for ago, state in ((7_200, "ready"), (7_100, "error"), (90, "ready"), (80, "connecting"), (70, "disconnected"),
                       (60, "ready"), (50, "needs_qr")):  # fmt: skip
        found = Connection(state=ConnectionState(state), raw=state)
        api.app.instances.note_connection(2, found, now_ms=now_ms - ago * 1000)
    assert api.get("/instances/phone/status").json()["counters"]["disconnects1h"] == 2
