"""What comes to light about a message after it was accepted, as `wa message` and `wa failed` tell it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from stored import ACCEPTED, ADA, send

from wa_cli.domain.event import StatusEvent
from wa_cli.domain.outcome import Ambiguous, ErrorClass, Rejected
from wa_cli.domain.receipt import Receipt
from wa_cli.domain.retry import RetryPolicy
from wa_cli.services.events import EventTerms, settle
from wa_cli.store.sqlite.events import open_event_turn

if TYPE_CHECKING:
    from tests.cli.conftest import Wa
    from wa_cli.bootstrap import App


def tell(app: App, attempt_id: int, status: Receipt, *, wamid: str = "wamid.1", code: str | None = None) -> None:
    """One receipt for an attempt, as a webhook brings it."""
    refusal = code and Rejected(
        error_class=ErrorClass.DEAD_RECIPIENT, code=code, details="Message undeliverable", http_status=0
    )
    install = app.database.read_install()
    event = StatusEvent(
        number_id="1",
        provider_message_id=wamid,
        receipt=status,
        at_ms=app.clock.wall_ms() + 5_000,
        tag=f"wa1.{install}.{attempt_id}",
        refusal=refusal or None,
    )
    terms = EventTerms(install=install, policy=RetryPolicy(), numbers={"1": 1})
    with open_event_turn(app.database) as turn:
        settle(turn, [event], terms=terms, now_ms=app.clock.wall_ms())


def test_a_late_failure_is_shown_as_accepted_and_refused_later_with_both_times(wa: Wa, app: App) -> None:
    """Issue 4, point 3; promise P3: `rejected, HTTP 200` would be no true story."""
    (message_id,) = send(app, ADA, outcome=ACCEPTED)
    assert wa("message", "show", f"m{message_id}", "--json").json()["attempts"][0]["refused_later_at"] is None
    tell(app, 1, Receipt.FAILED, code="131026")
    (attempt,) = wa("message", "show", f"m{message_id}", "--json").json()["attempts"]
    assert attempt["refused_later_at"] > attempt["started_at"]
    time = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    for words in (("message", "show"), ("message", "explain"), ("failed", "show")):
        said = " ".join(wa(*words, f"m{message_id}").out.split())
        found = re.search(f"accepted ({time}), refused later ({time}), 131026: Message undeliverable, wamid.1", said)
        assert found is not None, said
        assert found[1] < found[2]
        assert "rejected," not in said


def test_a_failure_told_instead_of_an_answer_claims_no_acceptance(wa: Wa, app: App) -> None:
    unanswered = Ambiguous(code="no_answer_in_time", details="no answer came in time", http_status=None)
    (message_id,) = send(app, ADA, outcome=unanswered)
    tell(app, 1, Receipt.FAILED, code="131026")
    assert "no verdict at first, refused later" in " ".join(wa("message", "show", f"m{message_id}").out.split())


def test_a_proven_duplicate_says_that_it_went_out_twice(wa: Wa, app: App) -> None:
    """Issue 4, point 3: two ids for one message, on every screen of it."""
    (message_id,) = send(app, ADA, outcome=ACCEPTED)
    shown = wa("message", "show", f"m{message_id}", "--json").json()
    assert (shown["proven_duplicate"], shown["provider_message_ids"]) == (False, ["wamid.1"])
    assert "twice" not in wa("message", "show", f"m{message_id}").out
    tell(app, 1, Receipt.DELIVERED, wamid="wamid.2")
    shown = wa("message", "show", f"m{message_id}", "--json").json()
    assert (shown["proven_duplicate"], shown["provider_message_ids"]) == (True, ["wamid.1", "wamid.2"])
    for command in ("show", "explain"):
        said = " ".join(wa("message", command, f"m{message_id}").out.split())
        assert "it went out twice, as WhatsApp's receipts prove: wamid.1 and wamid.2" in said
