"""Groups of a linked device: listing them, making subgroups of them, and the look at them before a send."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from typing import TYPE_CHECKING

import linked
import pytest
from rich.cells import cell_len

from wa_cli.door import Wa as Door

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
    assert (refused.exit, refused.error()["code"]) == (4, "needs_qr")
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


# --- before a send ---


@pytest.fixture
def choirs(wa: Wa, device: Device) -> Device:
    """The two choirs and the news, in a subgroup; what was seen of them is an hour old."""
    assert wa("subgroup", "import", "all", "--create", "--from-instance", "main").exit == 0
    return device


def grow_old(app: App) -> None:
    with app.database.write() as connection:
        connection.execute("UPDATE group_chat SET seen_at = seen_at - 3600000")


def test_a_send_to_groups_skips_those_that_cannot_be_written_to_with_the_reason(
    wa: Wa, app: App, choirs: Device
) -> None:
    """Issue 6, point 4; promise P13: every group is accounted for."""
    grow_old(app)
    del choirs.groups[GROUP_2]
    sent = wa("send", "subgroup", "all", "Doors open at six", "--instance", "main", "--json")
    assert sent.exit == 3, sent.err
    document = sent.json()
    assert {one["recipient"]: (one["outcome"], one.get("reason")) for one in document["messages"]} == {
        GROUP_1: ("queued", None),
        GROUP_2: ("skipped", "not_in_group"),
        GROUP_3: ("skipped", "may_not_post"),
    }
    assert document["skipped_by_reason"] == {"not_in_group": 1, "may_not_post": 1}
    assert document["preflight"] == {
        "groups": 3, "checked": 3, "unreachable": 2, "members": 3, "in_several": None, "problem": None,
    }  # fmt: skip
    shown = wa("message", "explain", document["messages"][0]["id"])
    assert "the instance is not in this group" in shown.out
    (stats,) = (wa("status", "--json").json()["stats"],)
    assert (stats["queued"], stats["skipped"]) == (1, 2)


def test_a_dry_run_shows_what_a_send_to_groups_would_do_and_remembers_nothing(wa: Wa, app: App, choirs: Device) -> None:
    grow_old(app)
    del choirs.groups[GROUP_2]
    choirs.groups[GROUP_3] = linked.GroupInfo(
        address=GROUP_3, name="News", size=2, may_post=True, participants=(OWN, ANN)
    )
    before = app.groups.list_all(app.instances.find("main").id)
    tried = wa("send", "subgroup", "all", "Doors open at six", "--instance", "main", "--dry-run")
    assert tried.exit == 3, tried.err
    assert "would queue 2 messages" in tried.out
    assert "1 skipped (1 not in group)" in tried.out
    assert "5 members in 2 groups; 1 person is in more than one of these groups" in tried.err
    assert app.groups.list_all(app.instances.find("main").id) == before
    assert wa("message", "list", "--json").json()["count"] == 0


def test_what_was_seen_within_the_hour_is_believed_and_a_missing_group_is_asked_about_by_itself(
    wa: Wa, app: App, choirs: Device
) -> None:
    choirs.asked.clear()
    assert wa("send", "to", GROUP_1, "--text", "one", "--instance", "main").exit == 0
    assert choirs.asked == []
    late = choirs.add_group(4, "Choir Trier", OWN)
    choirs.hidden.add(late)
    sent = wa("send", "to", late, "--text", "two", "--instance", "main", "--json")
    assert (sent.exit, sent.json()["preflight"]["checked"]) == (0, 1)
    assert choirs.asked == ["look", "list_groups", f"read_group {late}"]


@pytest.mark.parametrize("trouble", ["away", "unpaired"])
def test_a_gateway_that_cannot_be_asked_stops_no_send_but_says_that_nothing_was_checked(
    trouble: str, wa: Wa, app: App, choirs: Device
) -> None:
    grow_old(app)
    choirs.is_reachable = trouble != "away"
    choirs.state = linked.ConnectionState.NEEDS_QR
    sent = wa("send", "to", GROUP_1, GROUP_2, "--text", "one", "--instance", "main", "--json")
    assert (sent.exit, sent.json()["queued"]) == (0, 2)
    assert sent.json()["preflight"]["checked"] == 0
    assert "2 of 2 groups were not checked" in sent.err


def test_people_are_sent_to_without_asking_the_gateway(wa: Wa, choirs: Device) -> None:
    choirs.asked.clear()
    assert wa("send", "to", ANN, "--text", "one", "--instance", "main").exit == 0
    assert choirs.asked == []


def test_a_file_of_messages_knows_its_groups(wa: Wa, choirs: Device) -> None:
    wa.write("rows.csv", f"group_id,message\n{GROUP_1},one\n{GROUP_3},two\n{GROUP_1},three\n")
    sent = wa("send", "batch", "rows.csv", "--instance", "main", "--json")
    assert (sent.exit, sent.json()["queued"], sent.json()["skipped_by_reason"]) == (3, 2, {"may_not_post": 1})
    assert sent.json()["preflight"]["groups"] == 2


def test_a_campaign_leaves_out_the_groups_that_cannot_be_written_to_and_says_why(
    wa: Wa, app: App, choirs: Device
) -> None:
    """Issue 6, point 4; promise P13: the audience adds up."""
    grow_old(app)
    del choirs.groups[GROUP_2]
    (wa.folder / "campaigns").mkdir()
    wa.write(
        "campaigns/gala.toml",
        'instance = "main"\n[message]\ntext = "Doors open"\n[audience]\nsubgroups = ["all"]\nfiles = ["numbers.csv"]\n',
    )
    wa.write("campaigns/numbers.csv", f"phone\n{ANN}\n{BOB}\n")
    choirs.numbers[BOB] = linked.NumberCheck(verdict=linked.OnWhatsApp.NO)
    assert wa("contact", "check", BOB, "--instance", "main").exit == 0
    planned = wa("campaign", "plan", "campaigns/gala.toml", "--json")
    assert planned.exit == 0, planned.err
    document = planned.json()
    assert (document["audience"], document["queued"]) == (5, 2)
    assert document["excluded"] == {"not_in_group": 1, "may_not_post": 1, "not_on_whatsapp": 1}
    assert document["groups"] == "3 members in the group"
    started = wa("--yes", "campaign", "start", "campaigns/gala.toml", "--json")
    assert started.exit == 0, started.err
    waiting = wa("message", "list", "--state", "queued", "--json").json()["messages"]
    assert {one["recipient"] for one in waiting} == {GROUP_1, ANN}
    exported = wa("campaign", "export", "gala", "--format", "jsonl")
    assert exported.exit == 0, exported.err
    lines = {one["recipient"]: one for one in map(json.loads, exported.out.splitlines())}
    assert {group: (lines[group]["group_name"], lines[group]["reason"]) for group in (GROUP_1, GROUP_2)} == {
        GROUP_1: ("Choir Köln", None),
        GROUP_2: ("Choir Bonn", "not_in_group"),
    }


def test_what_was_sent_to_a_group_is_listed_with_the_groups_name(wa: Wa, choirs: Device) -> None:
    """Issue 6, point 4: results per group."""
    sent = wa("send", "subgroup", "all", "Doors open", "--instance", "main", "--json").json()
    rows = wa("message", "list", "--subgroup", "all", "--state", "queued", "--json").json()["messages"]
    assert {one["recipient"]: one["group_name"] for one in rows} == {GROUP_1: "Choir Köln", GROUP_2: "Choir Bonn"}
    assert "[Choir Köln] Doors open" in wa("message", "list", "--recipient", GROUP_1).out
    (queued, *_others) = [one for one in sent["messages"] if one["recipient"] == GROUP_1]
    shown = wa("message", "show", queued["id"])
    assert f"{GROUP_1}  Choir Köln" in shown.out
    assert wa("message", "show", queued["id"], "--json").json()["group_name"] == "Choir Köln"


def test_a_gateway_that_never_answers_holds_up_a_send_for_some_seconds_at_most(
    wa: Wa, app: App, choirs: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(_gateway: linked.LinkedGateway) -> list[linked.GroupInfo]:
        await asyncio.Event().wait()
        raise AssertionError

    grow_old(app)
    monkeypatch.setattr(linked.LinkedGateway, "list_groups", never)
    monkeypatch.setattr("wa_cli.services.groups.LOOK_SECONDS", 0.2)
    sent = wa("send", "to", GROUP_1, "--text", "one", "--instance", "main", "--json")
    assert (sent.exit, sent.json()["queued"]) == (0, 1)
    assert "the group was not checked: the gateway has not answered within 0.2 s" in sent.err


def test_groups_that_are_not_read_in_time_are_not_counted_twice_over_but_left_out_of_the_count(
    wa: Wa, choirs: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(_gateway: linked.LinkedGateway, _address: str) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(linked.LinkedGateway, "read_group", never)
    monkeypatch.setattr("wa_cli.services.groups.LOOK_SECONDS", 0.7)
    sent = wa("send", "to", GROUP_1, GROUP_2, "--text", "one", "--instance", "main", "--json")
    assert (sent.exit, sent.json()["preflight"]["checked"], sent.json()["preflight"]["in_several"]) == (0, 2, None)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", [60, 80])
@pytest.mark.parametrize(
    "words",
    [
        "instance groups main",
        "subgroup import more --create --from-instance main --dry-run",
        "subgroup import more --create --from-instance main",
        f"send to {GROUP_1} {GROUP_3} --text hello --instance main --dry-run",
        f"contact check {ANN} --instance main",
        "message list",
    ],
)
def test_no_line_about_groups_is_wider_than_its_terminal(
    words: str, columns: int, wa: Wa, choirs: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    choirs.add_group(5, "A name that goes on and on, as the names of groups do " * 3, OWN, ANN)
    assert wa("instance", "groups", "main", "--refresh").exit == 0
    assert wa("send", "subgroup", "all", "Doors open at six", "--instance", "main").exit == 3
    screen = Terminal()
    with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):
        wa(*words.split())
    lines = screen.getvalue().splitlines()
    assert lines
    assert [line for line in lines if cell_len(line) > columns and "`" not in line] == []
    assert not any("\x1b" in line or "\u202e" in line for line in lines)


def test_the_python_door_skips_what_is_known_and_asks_nobody(wa: Wa, choirs: Device) -> None:
    choirs.numbers[BOB] = linked.NumberCheck(verdict=linked.OnWhatsApp.NO)
    assert wa("contact", "check", BOB, "--instance", "main").exit == 0
    choirs.asked.clear()
    with Door(db=wa.db, instance="main") as door:
        pairs = [(GROUP_1, "one"), (GROUP_3, "two"), (BOB, "three"), ("120363025246129999@g.us", "four")]
        outcomes = [(one.outcome, one.reason) for one in door.send_batch_messages(pairs)]
    assert outcomes[1:3] == [("skipped", "may_not_post"), ("skipped", "not_on_whatsapp")]
    assert [outcome for outcome, _reason in outcomes] == ["immediate", "skipped", "skipped", "queued"]
    assert choirs.asked == []


def test_a_pool_writes_to_a_group_through_a_number_that_is_in_it(wa: Wa, app: App, choirs: Device) -> None:
    """Issue 6, points 4 and 7."""
    main, second = app.instances.find("main"), linked.add_instance(app, "second")
    now_ms = app.clock.wall_ms()
    strangers = [group for group in choirs.groups.values() if group.address != GROUP_1]
    app.groups.save_list(second.id, strangers, now_ms=now_ms)
    app.groups.save(second.id, GROUP_1, None, now_ms=now_ms)
    app.groups.save(main.id, GROUP_2, None, now_ms=now_ms)
    assert wa("pool", "create", "both", "main", "second").exit == 0
    with Door(db=wa.db, instance="both") as door:
        pairs = [(GROUP_2, "two"), (GROUP_1, "one"), (GROUP_3, "three")]
        reasons = [one.reason for one in door.send_batch_messages(pairs)]
    assert reasons == [None, None, "may_not_post"]
    waiting = wa("message", "list", "--state", "queued", "--json").json()["messages"]
    assert {one["recipient"]: one["instance"] for one in waiting} == {GROUP_1: "main", GROUP_2: "second"}

    pool = app.pools.find("both")
    assert pool is not None
    assert app.pools.move_from(pool.id, main.id, known=()) == []  # the other one is not in that group
    app.groups.save(second.id, GROUP_1, choirs.groups[GROUP_1], now_ms=now_ms)
    assert len(app.pools.move_from(pool.id, main.id, known=())) == 1
