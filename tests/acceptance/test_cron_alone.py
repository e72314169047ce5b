"""A machine that knows only cron lines: what a daemon looks after between sends, a drain does when it comes by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rig import number

if TYPE_CHECKING:
    from collections.abc import Callable

    from rig import Household


def test_an_unknown_is_sent_again_by_its_policy_though_nothing_else_waits(make_home: Callable[..., Household]) -> None:
    """Promise P2: `--on-unknown resend` is a policy that somebody chose, also without a daemon."""
    home = make_home(WA_RESEND_UNKNOWN_MINUTES="0")
    home.sandbox.fault("reset")
    message_id = home.send(number(1), "hello", "--on-unknown", "resend")
    assert home.wa("drain", "--json").exit == 5
    assert home.state(message_id) == "unknown"
    again = home.wa("drain", "--json")
    assert (again.exit, again.json()["sent"]) == (0, 1)
    assert home.state(message_id) == "sent"
