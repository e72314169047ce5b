"""`--wait`, and what is said about who will send, beside other senders and pauses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.stored import enqueue, take_lease
from wa_cli.domain.retry import Stop

if TYPE_CHECKING:
    from tests.cli.conftest import Wa
    from wa_cli.bootstrap import App

ADA = "+6581230001"


@pytest.fixture
def account(wa: Wa, monkeypatch: pytest.MonkeyPatch) -> None:
    """An account whose address nobody answers at: nothing here may post."""
    monkeypatch.setenv("WHATSAPP_API_URL", "http://127.0.0.1:9/v25.0/106540352242922/messages")
    monkeypatch.setenv("WHATSAPP_ACCESS_TOKEN", "a-token")


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("account")
def test_a_wait_beside_a_daemon_ends_when_the_instance_is_paused(wa: Wa, app: App) -> None:
    """Promise P7.  Without an end of its own it would ask the daemon again and again."""
    take_lease(app, role="daemon")
    wa("instance", "pause", "--reason", "counting heads")
    answer = wa("send", "to", ADA, "--text", "hello", "--wait")
    assert answer.exit == 4
    assert answer.out.splitlines()[-1] == "1 queued"
    assert "default is paused: counting heads\nhint: `wa instance resume default`" in answer.err


@pytest.mark.usefixtures("account")
def test_a_drain_says_that_a_person_has_paused_the_instance_and_is_content(wa: Wa, app: App) -> None:
    wa("send", "to", ADA, "--text", "hello")
    wa("instance", "pause", "--reason", "counting heads")
    answer = wa("drain")
    assert answer.exit == 0
    assert "default is paused: counting heads\nhint: `wa instance resume default`" in answer.err


def test_what_is_queued_for_a_paused_instance_names_the_pause_and_not_the_daemon(wa: Wa, app: App) -> None:
    take_lease(app, role="daemon")
    assert "the daemon with pid" in wa("send", "to", ADA, "--text", "one").err
    wa("instance", "pause", "--reason", "counting heads")
    answer = wa("send", "to", ADA, "--text", "two")
    assert "default is paused: counting heads" in answer.err
    assert "with pid" not in answer.err


@pytest.mark.usefixtures("account")
def test_an_instance_stopped_by_the_platform_names_what_to_do_about_it(wa: Wa, app: App) -> None:
    """Not only that something has to be mended: the table of errors knows what."""
    enqueue(app, ADA)
    lease = take_lease(app)
    with app.queue.turn() as turn:
        stop = Stop(code="190", reason="the access token is no longer valid")
        turn.apply_effect(lease.instance_id, stop, now_ms=app.clock.wall_ms())
    app.leases.release(lease)
    fix = "create a new token in Meta Business settings and set it as WHATSAPP_ACCESS_TOKEN"
    (trouble,) = [one for one in wa("status", "--json").json()["problems"] if one["code"] == "instance_paused"]
    assert trouble["hint"] == f"{fix}, then: wa instance resume default"
    assert f"hint: {fix}, then `wa instance resume default`" in wa("send", "to", ADA, "--text", "two").err
    assert max(map(len, wa("status").out.splitlines())) <= 80
