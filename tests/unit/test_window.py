"""The 24 h window as three values.  Issue 4, point 4; Cloud API sheet, section 9."""

from __future__ import annotations

from typing import Final

import pytest

from wa_cli.domain.window import Hearing, Window, judge_window

NOW: Final = 1_800_000_000_000
HOUR: Final = 3_600_000
DEAF: Final = Hearing()
HEARS: Final = Hearing(webhooks_since_ms=NOW - 24 * HOUR, last_webhook_at_ms=NOW - HOUR)
NEW: Final = Hearing(webhooks_since_ms=NOW - 24 * HOUR + 1, last_webhook_at_ms=NOW)
SILENT: Final = Hearing(webhooks_since_ms=NOW - 90 * HOUR, last_webhook_at_ms=NOW - 24 * HOUR - 1)


@pytest.mark.parametrize(
    ("hearing", "wrote_at_ms", "closed_at_ms", "window"),
    [
        # Who wrote within a day may be answered, whatever else is known.
        (DEAF, NOW - 24 * HOUR + 1, None, Window.OPEN),
        (HEARS, NOW, None, Window.OPEN),
        (HEARS, NOW - HOUR, NOW - 2 * HOUR, Window.OPEN),
        (HEARS, NOW - HOUR, NOW - HOUR, Window.OPEN),
        # Nobody wrote for a day, and we would know.
        (HEARS, NOW - 24 * HOUR, None, Window.CLOSED),
        (HEARS, None, None, Window.CLOSED),
        # The platform said so after their last message.
        (DEAF, NOW - 2 * HOUR, NOW - HOUR, Window.CLOSED),
        (DEAF, None, NOW - HOUR, Window.CLOSED),
        (HEARS, None, NOW - 90 * HOUR, Window.CLOSED),
        # Without webhooks, with new ones, and with ones that have stopped, silence says nothing.
        (DEAF, None, None, Window.UNKNOWN),
        (DEAF, NOW - 24 * HOUR, None, Window.UNKNOWN),
        (NEW, None, None, Window.UNKNOWN),
        (SILENT, NOW - 50 * HOUR, None, Window.UNKNOWN),
        (SILENT, None, NOW - 24 * HOUR, Window.UNKNOWN),
    ],
)
def test_the_window_is_open_closed_or_not_known(
    hearing: Hearing, wrote_at_ms: int | None, closed_at_ms: int | None, window: Window
) -> None:
    assert judge_window(hearing, last_inbound_at_ms=wrote_at_ms, closed_at_ms=closed_at_ms, now_ms=NOW) is window


def test_a_window_that_ends_before_a_message_is_due_is_closed_for_it() -> None:
    def judge(hearing: Hearing, due_at_ms: int) -> Window:
        return judge_window(hearing, last_inbound_at_ms=NOW - HOUR, closed_at_ms=None, now_ms=NOW, due_at_ms=due_at_ms)

    assert judge(HEARS, NOW + 23 * HOUR - 1) is Window.OPEN
    assert judge(HEARS, NOW + 23 * HOUR) is Window.CLOSED
    assert judge(DEAF, NOW + 23 * HOUR) is Window.UNKNOWN
    assert judge(HEARS, NOW - 9 * HOUR) is Window.OPEN  # overdue: it leaves now
