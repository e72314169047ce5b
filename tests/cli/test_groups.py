"""Groups of a linked device: listing them, making subgroups of them, and the look at them before a send."""

from __future__ import annotations

from typing import TYPE_CHECKING

import linked
import pytest

if TYPE_CHECKING:
    from conftest import Wa
    from linked import Device

    from wa_cli.bootstrap import App

ANN, BOB, CAT, OWN = "+6581234567", "+6581234568", "+6581234569", "+6581230000"


@pytest.fixture
def device(app: App, monkeypatch: pytest.MonkeyPatch) -> Device:
    """The device of an instance `main`, in three groups."""
    device = linked.install(monkeypatch)
    linked.add_instance(app)
    device.add_group(1, "Choir Köln", OWN, ANN, BOB)
    device.add_group(2, "Choir Bonn", OWN, BOB, CAT)
    device.add_group(3, "News \x1b[31mof\u202e all", OWN, ANN, may_post=False)
    return device


GROUP_1, GROUP_2, GROUP_3 = (f"12036302524612{number:04d}@g.us" for number in (1, 2, 3))


def test_the_groups_of_an_instance_are_listed_and_remembered_for_an_hour(wa: Wa, device: Device) -> None:
    """Issue 6, point 4."""
    listed = wa("instance", "groups", "main", "--json")
    assert listed.exit == 0, listed.err
    assert [(one["group_id"], one["name"], one["size"], one["may_post"]) for one in listed.json()["groups"]] == [
        (GROUP_2, "Choir Bonn", 3, True),
        (GROUP_1, "Choir Köln", 3, True),
        (GROUP_3, "News \x1b[31mof\u202e all", 2, False),
    ]
    device.asked.clear()
    again = wa("instance", "groups", "main", "--match", "choir b")
    assert again.out.splitlines() == [f"3\tyes\t{GROUP_2}\tChoir Bonn"]
    assert device.asked == []
    assert wa("instance", "groups", "main", "--refresh", "--json").json()["count"] == 3
    assert device.asked == ["look", "list_groups"]


def test_a_groups_name_cannot_steer_the_terminal(wa: Wa, device: Device) -> None:
    shown = wa("instance", "groups", "main", "--match", "*of*").out
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "News \\e[31mof" in shown


def test_a_number_on_the_cloud_api_has_no_groups_to_list(wa: Wa, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHATSAPP_API_URL", "http://127.0.0.1:9/v25.0/1/messages")
    monkeypatch.setenv("WHATSAPP_ACCESS_TOKEN", "token")
    refused = wa("instance", "groups", "default", "--json")
    assert (refused.exit, refused.error()["code"]) == (2, "no_gateway")


def test_a_gateway_that_is_away_leaves_the_stored_list_with_a_warning(wa: Wa, app: App, device: Device) -> None:
    device.is_reachable = False
    refused = wa("instance", "groups", "main", "--json")
    assert (refused.exit, refused.error()["code"]) == (8, "gateway_down")
    device.is_reachable = True
    assert wa("instance", "groups", "main").exit == 0
    with app.database.write() as connection:
        connection.execute("UPDATE group_chat SET seen_at = seen_at - 7200000")
    device.is_reachable = False
    old = wa("instance", "groups", "main")
    assert (old.exit, len(old.out.splitlines())) == (0, 3)
    assert "warning: the list is of" in old.err


def test_a_device_that_waits_for_its_qr_code_says_so(wa: Wa, device: Device) -> None:
    device.state = linked.ConnectionState.NEEDS_QR
    refused = wa("instance", "groups", "main", "--json")
    assert (refused.exit, refused.error()["code"]) == (4, "instance_not_ready")
    assert "wa instance pair main" in refused.error()["hint"]


def test_a_subgroup_is_filled_with_the_groups_that_match_and_keeps_their_names(wa: Wa, device: Device) -> None:
    """Issue 6, point 4; row R1."""
    tried = wa("subgroup", "import", "choirs", "--create", "--from-instance", "main", "--match", "choir*", "--dry-run")
    assert tried.exit == 0, tried.err
    assert tried.out.splitlines()[-1] == "would be 2 added"
    assert wa("subgroup", "show", "choirs").exit == 2

    made = wa("subgroup", "import", "choirs", "--create", "--from-instance", "main", "--match", "choir*", "--json")
    assert (made.exit, made.json()["added"], made.json()["matched"]) == (0, 2, 2)
    members = wa("subgroup", "show", "choirs", "--json").json()["members"]
    assert {one["recipient"]: one["attributes"] for one in members} == {
        GROUP_1: {"name": "Choir Köln"},
        GROUP_2: {"name": "Choir Bonn"},
    }

    device.add_group(4, "Choir Trier", OWN)
    more = wa("subgroup", "import", "choirs", "--from-instance", "main", "--match", "choir", "--refresh", "--json")
    assert (more.json()["added"], more.json()["already_there"]) == (1, 2)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("choirs", "--from-instance", "main"), "no_subgroup"),
        (("choirs", "--create", "--from-instance", "main", "--match", "nobody"), "no_match"),
        (("choirs", "--create", "--from-instance", "nowhere"), "no_instance"),
        (("choirs", "people.csv", "--from-instance", "main"), "usage"),
        (("choirs", "people.csv", "--match", "choir"), "usage"),
        (("choirs",), "usage"),
    ],
)
def test_an_import_of_groups_that_cannot_be_meant_changes_nothing(
    words: tuple[str, ...], code: str, wa: Wa, device: Device
) -> None:
    refused = wa("subgroup", "import", *words, "--json")
    assert (refused.exit, refused.error()["code"]) == (2, code)
    assert wa("subgroup", "list", "--json").json()["count"] == 0
