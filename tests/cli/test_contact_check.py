"""`wa contact check`: look-ups that are spaced, remembered and acted upon."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import linked
import pytest

from wa_cli.domain.connection import NumberCheck, OnWhatsApp
from wa_cli.errors import Temporary

if TYPE_CHECKING:
    from conftest import Wa
    from linked import Device

    from wa_cli.bootstrap import App

ANN, BOB, CAT = "+6581234567", "+6581234568", "+6581234569"
# A mobile in Brazil is listed with its ninth digit; WhatsApp may have the person without it.
BIA, BIA_CHAT = "+5511987654321", "+551187654321"
NO = NumberCheck(verdict=OnWhatsApp.NO)


@pytest.fixture
def device(app: App, monkeypatch: pytest.MonkeyPatch) -> Device:
    device = linked.install(monkeypatch)
    linked.add_instance(app)
    device.numbers |= {BOB: NO, CAT: NumberCheck(verdict=OnWhatsApp.UNKNOWN)}
    device.numbers[BIA] = NumberCheck(verdict=OnWhatsApp.YES, chat=BIA_CHAT)
    return device


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between look-ups, which take no time here."""
    pauses: list[float] = []
    real_sleep = asyncio.sleep

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await real_sleep(0)

    monkeypatch.setattr("wa_cli.services.numbers.asyncio.sleep", sleep)
    return pauses


def asked(device: Device) -> list[str]:
    return [call.removeprefix("check_number ") for call in device.asked if call.startswith("check_number")]


def test_numbers_are_looked_up_one_a_second_and_once_in_30_days(
    wa: Wa, app: App, device: Device, slept: list[float]
) -> None:
    """Issue 6, points 2 and 4: yes, no, unknown."""
    first = wa("contact", "check", ANN, BOB, CAT, ANN, "--instance", "main", "--json")
    assert first.exit == 0, first.err
    assert {one["recipient"]: one["on_whatsapp"] for one in first.json()["numbers"]} == {
        ANN: "yes", BOB: "no", CAT: "unknown",
    }  # fmt: skip
    assert (asked(device), slept) == ([ANN, BOB, CAT], [1.0, 1.0])

    device.asked.clear()
    again = wa("contact", "check", ANN, BOB, CAT, "--instance", "main", "--json").json()
    assert (again["looked_up"], asked(device)) == (1, [CAT])  # nothing was found out about that one
    with app.database.write() as connection:
        connection.execute("UPDATE number_check SET checked_at = checked_at - 30 * 86400000")
    device.asked.clear()
    assert wa("contact", "check", ANN, "--instance", "main", "--json").json()["looked_up"] == 1
    assert wa("contact", "check", ANN, "--instance", "main", "--refresh", "--json").json()["looked_up"] == 1


def test_a_subgroups_people_are_looked_up_and_its_groups_are_not(wa: Wa, device: Device, slept: list[float]) -> None:
    assert wa("subgroup", "create", "vip").exit == 0
    assert wa("subgroup", "add", "vip", ANN, BOB, "120363025246125486@g.us").exit == 0
    checked = wa("contact", "check", "--subgroup", "vip", "--instance", "main", "--delay", "250", "--json")
    assert (checked.json()["yes"], checked.json()["no"]) == (1, 1)
    assert slept == [0.25]


def test_a_send_through_a_linked_device_skips_a_number_that_is_not_on_whatsapp_for_30_days(
    wa: Wa, app: App, device: Device, slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 6, point 4; promise P13."""
    assert wa("contact", "check", ANN, BOB, "--instance", "main").exit == 0
    sent = wa("send", "to", ANN, BOB, CAT, "--text", "one", "--instance", "main", "--json")
    assert (sent.exit, sent.json()["queued"], sent.json()["skipped_by_reason"]) == (3, 2, {"not_on_whatsapp": 1})
    monkeypatch.setenv("WHATSAPP_API_URL", "http://127.0.0.1:9/v25.0/1/messages")
    monkeypatch.setenv("WHATSAPP_ACCESS_TOKEN", "token")
    assert wa("send", "to", BOB, "--text", "one", "--instance", "default").exit == 0  # it was not asked
    with app.database.write() as connection:
        connection.execute("UPDATE number_check SET checked_at = checked_at - 30 * 86400000")
    assert wa("send", "to", BOB, "--text", "two", "--instance", "main").exit == 0


def test_a_person_is_written_to_under_whatsapps_address_and_never_under_both(
    wa: Wa, app: App, device: Device, slept: list[float]
) -> None:
    """Promise P2: both spellings are one person from the look-up on."""
    assert wa("contact", "check", BIA, "--instance", "main").exit == 0
    sent = wa("send", "to", BIA, "+55 11 8765-4321", "--text", "one", "--instance", "main", "--json")
    assert (sent.json()["queued"], [one["recipient"] for one in sent.json()["messages"]]) == (1, [BIA])
    drained = wa("drain", "--instance", "main", "--json")
    assert (drained.exit, drained.json()["sent"]) == (0, 1), drained.err
    assert [post.address for post in device.posts] == [BIA_CHAT]
    assert wa("message", "list", "--recipient", BIA, "--json").json()["count"] == 1
    assert wa("send", "to", BIA_CHAT, "--text", "one", "--instance", "main", "--json").json()["duplicates"] == 1


def test_quite_another_number_is_not_written_to_in_somebodys_place(
    wa: Wa, app: App, device: Device, slept: list[float]
) -> None:
    device.numbers[ANN] = NumberCheck(verdict=OnWhatsApp.YES, chat="+4915112345678")
    checked = wa("contact", "check", ANN, "--instance", "main", "--json").json()
    assert checked["numbers"][0]["chat"] is None


def test_what_was_found_out_before_a_gateway_went_away_is_kept(
    wa: Wa, device: Device, slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = linked.LinkedGateway.check_number

    async def check_number(self: linked.LinkedGateway, phone: str) -> NumberCheck:
        if phone == BOB:
            raise Temporary("the gateway does not answer", code="gateway_down")
        return await real(self, phone)

    monkeypatch.setattr(linked.LinkedGateway, "check_number", check_number)
    cut = wa("contact", "check", ANN, BOB, "--instance", "main")
    assert cut.exit == 8
    assert "1 number looked up and stored" in cut.err
    device.asked.clear()
    assert wa("contact", "check", ANN, "--instance", "main").exit == 0
    assert asked(device) == []


def test_erasing_a_person_takes_their_look_up_along(wa: Wa, app: App, device: Device, slept: list[float]) -> None:
    assert wa("contact", "check", BIA, "--instance", "main").exit == 0
    assert wa("contact", "erase", BIA, "--yes").exit == 0
    with app.database.read() as connection:
        assert connection.execute("SELECT count(*) FROM number_check").fetchone() == (0,)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ((ANN, "--instance", "default"), "no_number_check"),
        (("--instance", "main"), "usage"),
        ((ANN, "--subgroup", "vip", "--instance", "main"), "usage"),
        (("12345", "--instance", "main"), "invalid_recipient"),
        (("120363025246125486@g.us", "--instance", "main"), "usage"),
    ],
)
def test_a_look_up_that_cannot_be_meant_asks_nobody(words: tuple[str, ...], code: str, wa: Wa, device: Device) -> None:
    refused = wa("contact", "check", *words, "--json")
    assert (refused.exit, refused.error()["code"]) == (2, code)
    assert device.asked == []
