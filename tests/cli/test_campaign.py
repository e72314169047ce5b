"""`wa campaign` from the file to the queue: what each command says, and what it refuses."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import select
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from posting import ACCEPTED, BUSY, post
from rich.cells import cell_len

from tests.processes import clean_environment
from wa_cli.campaigns import upkeep

if TYPE_CHECKING:
    from conftest import Result, Wa

    from wa_cli.bootstrap import App

FEW = "phone,name,city\n+6581230001,Ana,Jurong\n+6581230002,Ben,\n+65 8123 0001,Ana again,\nhello,X,\n"
GALA = """
[message]
text = "Hello {{ name }}, see you in {{ city }}"
[audience]
files = ["few.csv"]
[fallbacks]
city = "town"
"""


@pytest.fixture
def gala(wa: Wa) -> Wa:
    """A folder with `campaigns/gala.toml`, which reaches two people."""
    (wa.folder / "campaigns").mkdir()
    wa.write("campaigns/few.csv", FEW)
    wa.write("campaigns/gala.toml", GALA)
    assert wa("init").exit == 0
    return wa


def change(wa: Wa, old: str, new: str, *, name: str = "gala") -> None:
    path = wa.folder / "campaigns" / f"{name}.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def grow(wa: Wa, size: int) -> None:
    """So many people in the list."""
    rows = "".join(f"+658123{n:04},P{n},\n" for n in range(1000, 1000 + size))
    wa.write("campaigns/few.csv", f"phone,name,city\n{rows}")


def plan_id(result: Result) -> str:
    found = re.search(r"p\d+-[0-9a-f]{6}", result.out)
    assert found is not None, result
    return found[0]


def waiting(wa: Wa, name: str = "gala") -> list[dict[str, Any]]:
    listed = wa("message", "list", "--campaign", name, "--state", "queued", "--json")
    assert listed.exit == 0
    messages: list[dict[str, Any]] = listed.json()["messages"]
    return messages


def refused(result: Result, code: int, *words: str) -> None:
    """An error of two lines, with its exit code, and nothing on stdout."""
    assert result.exit == code, result
    assert "error: " in result.err
    assert "hint: " in result.err
    for word in words:
        assert word in result.err


# --- the file ---


def test_a_file_is_taken_in_and_read_again_by_its_path_or_its_name(gala: Wa) -> None:
    """Issue 5, point 1."""
    made = gala("campaign", "create", "campaigns/gala.toml")
    assert (made.exit, made.out) == (0, "created campaign gala, draft\n")
    assert "`wa campaign plan gala`" in made.err
    again = gala("campaign", "create", "gala", "--json")
    assert again.exit == 0
    document = again.json()
    assert (document["campaign"], document["state"], document["created"]) == ("gala", "draft", False)
    assert document["file"] == str(gala.folder / "campaigns" / "gala.toml")
    assert document["created_at"].endswith("Z")


def test_validate_says_in_plain_words_what_a_file_means_and_writes_nothing(gala: Wa, app: App) -> None:
    """Issue 5, point 1."""
    told = gala("campaign", "validate", "gala")
    assert told.exit == 0
    assert '"Hello {{ name }}, see you in {{ city }}"' in told.out
    assert "gala can be sent as it is" in told.out
    assert "line 5: 'hello' holds letters" in told.err
    document = gala("campaign", "validate", "gala", "--json").json()
    assert (document["valid"], document["problems"]) == (True, [])
    assert document["fields"][0] == {"name": "campaign", "value": "gala"}
    assert app.campaigns.list_all() == []


def test_validate_tells_all_that_is_wrong_at_once(gala: Wa) -> None:
    """Issue 5, point 1."""
    change(gala, 'files = ["few.csv"]', 'subgroups = ["nobody"]')
    gala.write("campaigns/gala.toml", 'instance = "shop"\n' + (gala.folder / "campaigns/gala.toml").read_text())
    told = gala("campaign", "validate", "gala", "--json")
    assert told.exit == 2
    document = told.json()
    assert document["valid"] is False
    assert len(document["problems"]) == 2
    assert "'shop'" in document["problems"][0]
    assert "'nobody'" in document["problems"][1]


@pytest.mark.parametrize("name", ["Gala.Night", "gala night", "gälä", "a" * 61])
def test_a_name_that_could_not_be_typed_is_refused_with_what_may_be(gala: Wa, name: str) -> None:
    """Issue 5, point 1."""
    gala.write(f"campaigns/{name}.toml", GALA)
    refused(gala("campaign", "create", f"campaigns/{name}.toml"), 2, "letters, digits, - and _", "rename the file")


def test_capitals_and_sixty_characters_are_a_name_and_found_in_any_case(gala: Wa) -> None:
    gala.write("campaigns/UPPER.toml", GALA)
    gala.write(f"campaigns/{'a' * 60}.toml", GALA)
    assert gala("campaign", "create", "campaigns/UPPER.toml").exit == 0
    assert gala("campaign", "create", f"campaigns/{'a' * 60}.toml").exit == 0
    assert gala("campaign", "show", "upper").out.startswith("UPPER  draft\n")


def test_a_second_file_of_one_name_never_takes_the_first_ones_campaign_over(
    gala: Wa, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 5, point 1: in another folder, by path and by name, and told by validate, too."""
    assert gala("campaign", "create", "campaigns/gala.toml").exit == 0
    first = app.campaigns.find("gala")
    (gala.folder / "other" / "campaigns").mkdir(parents=True)
    gala.write("other/campaigns/few.csv", FEW)
    gala.write("other/campaigns/gala.toml", GALA.replace("Hello", "Goodbye"))
    refused(gala("campaign", "create", "other/campaigns/gala.toml"), 7, str(first.path), "rename")
    refused(gala("--yes", "campaign", "start", "other/campaigns/gala.toml"), 7, "rename")
    monkeypatch.chdir(gala.folder / "other")
    refused(gala("campaign", "plan", "gala"), 7, "say which", str(first.path))
    refused(gala("campaign", "validate", "gala"), 2, "there is a campaign 'gala' already")
    assert app.campaigns.find("gala") == first
    assert gala("campaign", "plan", first.path).exit == 0


def test_a_file_that_has_gone_is_told_and_followed_once_it_is_named_again(gala: Wa, app: App) -> None:
    """Issue 5, point 1."""
    assert gala("campaign", "create", "campaigns/gala.toml").exit == 0
    (gala.folder / "moved").mkdir()
    for name in ("gala.toml", "few.csv"):
        (gala.folder / "campaigns" / name).rename(gala.folder / "moved" / name)
    for line in ("plan gala", "start gala", "test gala --to +6581239999", "validate gala"):
        refused(gala("campaign", *line.split()), 2, "not there any more", "`wa campaign create FOLDER/gala.toml`")
    assert gala("campaign", "create", "moved/gala.toml").exit == 0
    assert app.campaigns.find("gala").path == str(gala.folder / "moved" / "gala.toml")
    assert gala("campaign", "plan", "gala").exit == 0


def test_a_clone_is_a_file_of_its_own_and_takes_nobodys_place(gala: Wa) -> None:
    """Issue 5, point 1."""
    made = gala("campaign", "clone", "gala", "gala-2")
    assert made.exit == 0
    assert (gala.folder / "campaigns" / "gala-2.toml").read_text() == GALA
    assert "`wa campaign plan gala-2`" in made.err
    refused(gala("campaign", "clone", "gala", "gala-2"), 6, "is there already")
    refused(gala("campaign", "clone", "gala", "a b"), 2, "cannot be the name")


def test_an_unknown_name_is_refused_with_the_nearest_by_every_command(gala: Wa) -> None:
    gala("campaign", "create", "campaigns/gala.toml")
    for line in ("plan", "start", "pause", "resume", "cancel", "delete", "show", "report", "export", "validate"):
        refused(gala("--yes", "campaign", line, "galla"), 2, "'galla'", "did you mean 'gala'?")
    refused(gala("message", "list", "--campaign", "galla"), 2, "did you mean 'gala'?")


# --- the list ---


def test_list_shows_each_campaign_and_a_draft_without_numbers(gala: Wa) -> None:
    assert "`wa campaign create" in gala("campaign", "list").err
    assert gala("campaign", "list", "--json").json() == {"campaigns": [], "count": 0}
    gala("campaign", "clone", "gala", "later")
    assert gala("--yes", "campaign", "start", "gala").exit == 0
    cells = {line.split("\t")[0]: line.split("\t")[1:6] for line in gala("campaign", "list").out.splitlines()}
    assert cells == {"gala": ["running", "3", "0", "0", "2"], "later": ["draft", "-", "-", "-", "-"]}
    listed = gala("campaign", "list", "--json").json()
    assert listed["count"] == 2
    assert {row["campaign"]: (row["audience"], row["waiting"]) for row in listed["campaigns"]} == {
        "gala": (3, 2),
        "later": (0, 0),
    }


def test_a_plan_writes_down_whom_it_leaves_out_and_why(gala: Wa) -> None:
    """Issue 5, point 3: counts, and a file of reasons, readable by its owner alone."""
    assert gala("contact", "opt-out", "+6581230002", "--reason", "by phone").exit == 0
    planned = gala("campaign", "plan", "gala", "--left-out", "left-out.csv")
    assert planned.exit == 0
    assert "wrote the 2 left out to left-out.csv" in planned.err
    path = gala.folder / "left-out.csv"
    assert path.stat().st_mode & 0o777 == 0o600
    lines = path.read_text().splitlines()
    assert lines[0] == "recipient,reason,details"
    assert sorted(line.split(",")[1] for line in lines[1:]) == ["invalid", "opted_out"]
    assert "few.csv line 5" in path.read_text()
    assert "'+6581230002,opted_out," in lines
    refused(gala("campaign", "plan", "gala", "--left-out", "left-out.csv"), 2, "left-out.csv")


# --- plan and apply ---


def test_a_plan_shows_who_when_and_how_much_and_queues_nothing(gala: Wa) -> None:
    """Issue 5, point 4."""
    planned = gala("campaign", "plan", "gala")
    assert planned.exit == 0
    for words in (
        "2 people and 1 row that names nobody; 1 more mention of the same people",
        "1 not readable",
        "2 messages from 'default'",
        "SG 2",
        "city 1",
        "Hello Ana, see you in Jurong",
        "Hello Ben, see you in town",
    ):
        assert words in planned.out
    assert f"`wa campaign apply gala --plan {plan_id(planned)}`" in planned.err
    assert waiting(gala) == []


def test_a_plan_as_json_is_one_document_with_times_in_utc(gala: Wa) -> None:
    """Issue 5, point 4."""
    document = gala("campaign", "plan", "gala", "--json").json()
    assert (document["audience"], document["queued"], document["merged"]) == (3, 2, 1)
    assert (document["excluded"], document["fallbacks"], document["occurrences"]) == ({"invalid": 1}, {"city": 1}, [])
    assert document["first_at"].endswith("Z")
    assert document["first_at"] <= document["last_at"]
    assert all(name == name.lower() and " " not in name for name in document)


def test_apply_sends_precisely_the_plan_once_and_no_other_campaigns(gala: Wa) -> None:
    """Issue 5, point 4."""
    word = plan_id(gala("campaign", "plan", "gala"))
    gala("campaign", "clone", "gala", "other")
    refused(gala("campaign", "apply", "other", "--plan", word), 2, f"'other' has no plan {word}")
    refused(gala("campaign", "apply", "gala", "--plan", "soon"), 2, "is no plan id", "`wa campaign plan gala`")
    refused(gala("campaign", "apply", "gala", "--plan", "p999-000000"), 2, "`wa campaign plan gala` makes a new one")
    refused(gala("campaign", "apply", "gala"), 2, "--plan")
    assert waiting(gala) == []
    applied = gala("campaign", "apply", "gala", "--plan", word, "--json")
    assert applied.exit == 0
    assert (applied.json()["plan_id"], applied.json()["queued"], applied.json()["excluded"]) == (word, 2, 1)
    refused(gala("campaign", "apply", "gala", "--plan", word), 7, "applied already")
    assert len(waiting(gala)) == 2


def test_apply_refuses_with_a_diff_once_the_file_has_changed(gala: Wa) -> None:
    """Issue 5, point 4."""
    word = plan_id(gala("campaign", "plan", "gala"))
    change(gala, "Hello", "Dear")
    drifted = gala("campaign", "apply", "gala", "--plan", word)
    refused(drifted, 7, '-text = "Hello', '+text = "Dear', "`wa campaign plan gala` makes a new one")
    assert waiting(gala) == []


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--hold", "30m"), "--hold goes with --canary"),
        (("--canary", "0"), "--canary"),
        (("--canary", "1", "--hold", "soon"), "--hold: "),
        (("--at", "2020-01-01 10:00"), "ago"),
        (("--at", "sometime"), "'sometime' is not a time"),
        (("--confirm", "galla"), "the campaign is 'gala'"),
    ],
)
def test_start_refuses_what_does_not_go_together_and_queues_nothing(
    gala: Wa, flags: tuple[str, ...], words: str
) -> None:
    """Issue 5, points 4 to 6."""
    gala("campaign", "create", "gala")
    result = gala("--yes", "campaign", "start", "gala", *flags)
    assert result.exit == (6 if "--confirm" in flags else 2)
    assert words in result.err
    assert waiting(gala) == []


def test_a_sample_as_large_as_the_audience_holds_nobody_and_says_so(gala: Wa) -> None:
    """Issue 5, point 6."""
    planned = gala("campaign", "plan", "gala", "--canary", "50", "--hold", "30m")
    assert "everybody (2 people): the sample takes all, and nothing is held" in planned.out
    smaller = gala("campaign", "plan", "gala", "--canary", "1", "--hold", "30m")
    assert "sample first  1 person; the rest from " in smaller.out


# --- start, and its confirmation ---


def test_a_few_messages_need_a_yes_and_a_start_says_what_it_did(gala: Wa) -> None:
    """Issue 5, point 4."""
    refused_start = gala("campaign", "start", "gala")
    assert refused_start.exit == 6
    assert refused_start.err.endswith(
        "error: not confirmed: send 2 messages?\nhint: add --yes to go on without being asked\n"
    )
    assert waiting(gala) == []
    started = gala("--yes", "campaign", "start", "gala")
    assert started.exit == 0
    assert started.out.startswith("campaign gala is running: 2 messages queued\n  left out  1\n")
    assert "`wa campaign watch gala`" in started.err
    assert len(waiting(gala)) == 2
    refused(gala("--yes", "campaign", "start", "gala"), 7, "is running", "`wa campaign show gala`")


def test_from_51_messages_on_a_yes_is_not_enough_and_nothing_is_written(gala: Wa, app: App) -> None:
    """Issue 5, point 4: the ladder of confirmation."""
    grow(gala, 50)
    assert "send 50 messages?" in gala("campaign", "start", "gala").err
    grow(gala, 51)
    for flags in ((), ("--yes",)):
        result = gala(*flags, "campaign", "start", "gala", "--json")
        assert (result.exit, result.out) == (6, "")
        assert result.error()["code"] == "not_confirmed"
        assert "--confirm gala" in result.error()["hint"]
    refused(gala("campaign", "start", "gala", "--confirm", "Gala 2"), 6, "--confirm gala")
    assert waiting(gala) == []
    with app.database.read() as connection:
        assert connection.execute("SELECT count(*) FROM plan").fetchone()[0] == 0
    started = gala("campaign", "start", "gala", "--confirm", "gala", "--json")
    assert (started.exit, started.json()["queued"]) == (0, 51)


def test_starting_again_what_everybody_has_had_is_done_already(gala: Wa, app: App) -> None:
    """Issue 5, point 6: nobody is written to twice, and a finished campaign says that nobody is left."""
    assert gala("--yes", "campaign", "start", "gala").exit == 0
    for message in waiting(gala):
        post(app, message["id"], ACCEPTED)
    upkeep.look_after(app)
    again = gala("--yes", "campaign", "start", "gala")
    assert again.exit == 0
    assert "campaign gala is finished" in again.out
    assert "nobody is left to write to: 1 invalid, 2 already written" in again.out
    assert "`wa campaign clone gala NEW-NAME`" in again.err
    assert gala("--yes", "campaign", "start", "gala", "--json").json()["queued"] == 0
    refused(gala("campaign", "plan", "gala"), 2, "nobody is left to write to", "`wa campaign clone gala NEW-NAME`")


def test_starting_a_paused_one_again_replaces_what_waits_and_leaves_out_who_was_written_to(gala: Wa, app: App) -> None:
    """Issue 5, points 3 and 6."""
    assert gala("--yes", "campaign", "start", "gala").exit == 0
    post(app, waiting(gala)[-1]["id"], ACCEPTED)
    gala("campaign", "pause", "gala")
    change(gala, "Hello", "Dear")
    planned = gala("campaign", "plan", "gala")
    assert "instead of  1 waiting message of it" in planned.out
    assert "1 written to by this campaign already" in planned.out
    assert gala("--yes", "campaign", "start", "gala").exit == 0
    (left,) = waiting(gala)
    assert left["body"] == "Dear Ben, see you in town"


# --- recurring ---

WEEKLY = GALA + '[schedule]\nevery = "monday 09:00"\nzone = "UTC"\n'


def test_a_recurring_campaign_shows_three_occurrences_and_goes_on_the_calendar(gala: Wa) -> None:
    """Issue 5, point 5."""
    gala.write("campaigns/weekly.toml", WEEKLY)
    planned = gala("campaign", "plan", "weekly")
    assert "the audience is gathered anew" in planned.out
    assert planned.out.count("Mon ") >= 3
    assert "puts it on the calendar" in planned.err
    times = gala("campaign", "plan", "weekly", "--json").json()["occurrences"]
    assert len(times) == len({*times}) == 3
    assert all(time.endswith("T09:00:00Z") for time in times)
    assert "send 2 messages each time, as its audience stands now?" in gala("campaign", "start", "weekly").err
    started = gala("--yes", "campaign", "start", "weekly")
    assert started.exit == 0
    assert started.out.startswith("campaign weekly is on the calendar; its audience is gathered anew each time\n")
    shown = gala("campaign", "list", "--json").json()["campaigns"][0]
    assert (shown["state"], shown["next_occurrence_at"]) == ("scheduled", times[0])
    assert waiting(gala, "weekly") == []


def test_planning_or_trying_an_edited_file_changes_nothing_of_what_is_on_the_calendar(gala: Wa, app: App) -> None:
    """Issue 5, points 4 and 5: what was confirmed goes on until a text is taken in on purpose."""
    gala.write("campaigns/weekly.toml", WEEKLY)
    assert gala("--yes", "campaign", "start", "weekly").exit == 0
    change(gala, "Hello", "Dear", name="weekly")
    assert "Dear Ana" in gala("campaign", "plan", "weekly").out
    assert gala("campaign", "test", "campaigns/weekly.toml", "--to", "+6581239999").exit == 0
    assert gala("--yes", "campaign", "start", "weekly").exit == 7
    assert app.campaigns.find("weekly").source == WEEKLY
    taken = gala("campaign", "create", "campaigns/weekly.toml")
    assert taken.out == "read again: campaign weekly, scheduled\n"
    assert "its occurrences to come go by this text" in taken.err
    assert "Dear" in app.campaigns.find("weekly").source


@pytest.mark.parametrize("flags", [("--at", "tomorrow 10:00"), ("--canary", "5")])
def test_what_holds_once_does_not_go_with_a_recurring_campaign(gala: Wa, flags: tuple[str, ...]) -> None:
    """Issue 5, point 5."""
    gala.write("campaigns/weekly.toml", WEEKLY)
    refused(gala("campaign", "plan", "weekly", *flags), 2, f"{flags[0]} does not go with a recurring campaign")


def test_a_campaign_for_later_has_not_begun_and_says_when_it_will(gala: Wa) -> None:
    """Issue 5, points 5 and 8; promise P3."""
    assert gala("--yes", "campaign", "start", "gala", "--at", "in 3 days").exit == 0
    shown = gala("campaign", "show", "gala")
    assert shown.out.startswith("gala  scheduled\n")
    assert "begins   " in shown.out
    assert "(in 2 d 23 h)" in shown.out
    for word in ("started", "running", "pace"):
        assert word not in shown.out.partition("recipients")[0]
    document = gala("campaign", "show", "gala", "--json").json()
    assert document["started_at"] > document["checked_at"]
    assert document["duration_seconds"] == 0
    gala("campaign", "pause", "gala")
    assert gala("--yes", "campaign", "start", "gala", "--at", "in 5 days").exit == 0
    assert gala("campaign", "show", "gala", "--json").json()["started_at"] > document["started_at"]
    assert gala("campaign", "cancel", "gala", "--json").exit == 6


# --- the sample ---


def test_a_sample_is_filled_in_as_for_somebody_and_is_no_part_of_the_ledger(gala: Wa) -> None:
    """Issue 5, point 4."""
    sent = gala("campaign", "test", "gala", "--to", "+6581239999")
    assert sent.exit == 0
    assert sent.out.startswith("queued a sample to +6581239999, filled in as for +6581230001: m")
    like = gala("campaign", "test", "gala", "--to", "+6581239999", "--like", "81230002", "--json")
    assert like.exit == 2  # no country was said
    like = gala("campaign", "test", "gala", "--to", "+6581239999", "--like", "+6581230002", "--json").json()
    assert (like["like"], like["text"]) == ("+6581230002", "Hello Ben, see you in town")
    assert waiting(gala) == []
    assert gala("campaign", "list", "--json").json()["campaigns"][0]["audience"] == 0


def test_a_sample_keeps_its_links_and_an_opted_out_tester_gets_none(gala: Wa) -> None:
    """Issue 5, points 4 and 10."""
    change(gala, "see you in {{ city }}", "https://example.com/programme")
    change(gala, "\n[message]", 'short_links = "https://wa.example.com"\n[message]')
    sent = gala("campaign", "test", "gala", "--to", "+6581239999", "--json")
    assert sent.json()["text"] == "Hello Ana, https://example.com/programme"
    assert gala("contact", "opt-out", "+6581239998").exit == 0
    refused(gala("campaign", "test", "gala", "--to", "+6581239998"), 6, "opted out", "`wa contact show")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "--to"),
        (("--to", "hello"), "holds letters"),
        (("--to", "+6581239999", "--variant", "b"), "its message has no variants"),
        (("--to", "+6581239999", "--like", "+6581230009"), "+6581230009 is not in its audience"),
    ],
)
def test_a_sample_that_cannot_be_made_says_why(gala: Wa, flags: tuple[str, ...], words: str) -> None:
    refused(gala("campaign", "test", "gala", *flags), 2, words)


# --- pause, resume, cancel, delete ---


def test_pause_and_resume_say_what_changed_and_what_to_type(gala: Wa) -> None:
    """Issue 5, point 6; promise P7."""
    gala("--yes", "campaign", "start", "gala")
    paused = gala("campaign", "pause", "campaigns/gala.toml", "--reason", "wrong date")
    assert (paused.exit, paused.out) == (0, "campaign gala paused\n")
    assert "`wa campaign resume gala`" in paused.err
    again = gala("campaign", "pause", "gala", "--json").json()
    assert again == {"campaign": "gala", "state": "paused", "changed": False, "in_flight": 0}
    changes = gala("campaign", "show", "gala", "--json").json()["changes"]
    assert "wrong date" in str(changes)
    resumed = gala("campaign", "resume", "gala")
    assert (resumed.exit, resumed.out) == (0, "campaign gala goes on: running\n")
    assert "`wa run`" in resumed.err
    refused(gala("campaign", "resume", "gala"), 7, "is running, not paused")


def test_a_paused_one_names_the_number_that_has_to_come_back_first(gala: Wa) -> None:
    """Issue 5, points 6 and 8: the reason, and the next command."""
    gala("--yes", "campaign", "start", "gala")
    gala("campaign", "pause", "gala")
    assert gala("campaign", "show", "gala", "--json").json()["problems"] == []
    assert gala("instance", "pause", "default").exit == 0
    shown = gala("campaign", "show", "gala")
    assert "! default is paused: " in shown.out
    assert "wa instance resume default" in shown.out
    resumed = gala("campaign", "resume", "gala")
    assert "`wa instance resume default`" in resumed.err


def test_a_draft_can_neither_pause_nor_resume(gala: Wa) -> None:
    gala("campaign", "create", "gala")
    for line in ("pause", "resume"):
        refused(gala("campaign", line, "gala"), 7, "`wa campaign show gala` lists what can be done now")


def test_cancel_asks_first_and_is_for_good(gala: Wa) -> None:
    """Issue 5, point 6."""
    gala("--yes", "campaign", "start", "gala")
    refused(gala("campaign", "cancel", "gala"), 6, "cancel campaign gala and its 2 waiting messages for good?", "--yes")
    assert len(waiting(gala)) == 2
    cancelled = gala("--yes", "campaign", "cancel", "gala")
    assert (cancelled.exit, cancelled.out) == (0, "campaign gala cancelled: 2 messages will not be sent\n")
    assert gala("campaign", "cancel", "gala", "--json").json() == {
        "campaign": "gala", "state": "cancelled", "cancelled": 0, "in_flight": 0,
    }  # fmt: skip
    for line in ("start", "plan"):
        refused(gala("--yes", "campaign", line, "gala"), 7, "is cancelled", "`wa campaign clone gala NEW-NAME`")


def test_delete_forgets_a_draft_and_keeps_what_was_sent(gala: Wa) -> None:
    """Issue 5, point 9: the ledger of what was sent stays."""
    gala("campaign", "clone", "gala", "later")
    refused(gala("campaign", "delete", "later"), 6, "--yes")
    gone = gala("--yes", "campaign", "delete", "later", "--json")
    assert gone.json() == {"campaign": "later", "deleted": True}
    assert (gala.folder / "campaigns" / "later.toml").exists()
    gala("--yes", "campaign", "start", "gala")
    kept = gala("--yes", "campaign", "delete", "gala")
    refused(kept, 6, "its ledger is kept")
    assert "db prune" not in kept.err


# --- a campaign beside the other commands ---


def test_a_resend_wakes_a_finished_campaign_and_its_report_stays_true(gala: Wa, app: App) -> None:
    """Rows Q2, Q6; promise P13; issue 5, point 6."""
    gala("--yes", "campaign", "start", "gala")
    first, second = (message["id"] for message in waiting(gala))
    post(app, first, BUSY)
    post(app, second, ACCEPTED)
    upkeep.look_after(app)
    assert app.campaigns.find("gala").state == "finished"
    assert gala("failed", "list", "--campaign", "gala", "--json").json()["count"] == 1
    resent = gala("--yes", "resend", "--campaign", "gala", "--json").json()
    assert resent["resend_count"] == 1
    assert (gala("campaign", "pause", "gala").exit, gala("campaign", "resume", "gala").exit) == (0, 0)
    shown = gala("campaign", "show", "gala", "--json").json()
    assert (shown["state"], shown["buckets"]["queued"], shown["buckets"]["sent"]) == ("running", 1, 1)
    (left,) = waiting(gala)
    post(app, left["id"], ACCEPTED)
    upkeep.look_after(app)
    shown = gala("campaign", "show", "gala", "--json").json()
    assert (shown["state"], shown["audience"], shown["buckets"]["sent"]) == ("finished", 3, 2)
    assert sum(shown["buckets"].values()) == shown["audience"]
    assert shown["ledger_error"] is None


def test_nothing_of_a_cancelled_campaign_is_resent_not_even_with_force(gala: Wa, app: App) -> None:
    """Promise P7: what was ended for good stays ended, and a resend says so."""
    gala("--yes", "campaign", "start", "gala")
    post(app, waiting(gala)[0]["id"], BUSY)
    assert gala("--yes", "campaign", "cancel", "gala").exit == 0
    resent = gala("resend", "--campaign", "gala", "--force")
    assert resent.exit == 6
    assert "its campaign gala was cancelled: send it anew" in resent.out
    assert waiting(gala) == []


def test_a_campaign_survives_a_backup_and_the_erasure_of_one_of_its_people(gala: Wa, app: App) -> None:
    """Promise P13: the ledger still adds up, and nothing of the person is left in it."""
    gala("--yes", "campaign", "start", "gala")
    for message in waiting(gala):
        post(app, message["id"], ACCEPTED)
    assert gala("db", "backup", "copy.db").exit == 0
    assert gala("--yes", "contact", "erase", "+6581230001").exit == 0
    shown = gala("campaign", "show", "gala", "--json").json()
    assert sum(shown["buckets"].values()) == shown["audience"] == 3
    assert "81230001" not in gala("campaign", "export", "gala").out
    assert gala("db", "check").exit == 0
    copy = gala("--db", "copy.db", "campaign", "show", "gala", "--json").json()
    assert (copy["state"], copy["audience"], copy["buckets"]["sent"]) == ("running", 3, 2)


def test_a_campaign_without_messages_is_no_unknown_name(gala: Wa) -> None:
    """Row Q2."""
    gala("campaign", "create", "gala")
    assert gala("message", "list", "--campaign", "gala", "--json").json()["messages"] == []
    assert gala("failed", "list", "--campaign", "GALA", "--json").json()["count"] == 0
    assert gala("resend", "--campaign", "gala", "--json").json()["resend_count"] == 0


# --- screens ---


def lines_of(screen: str) -> list[str]:
    """What stood on the lines of a terminal, also for a moment."""
    return re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen).rstrip())


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", [60, 80])
def test_every_screen_of_a_campaign_fits_the_terminal(gala: Wa, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 5, points 4 and 8: nothing is cut that matters."""
    gala.write("campaigns/weekly.toml", WEEKLY.replace("Hello", "Hello to everybody who is on this list, dear " * 3))
    monkeypatch.setenv("COLUMNS", str(columns))
    for line in (
        "validate gala",
        "validate weekly",
        "plan weekly",
        "plan gala --canary 1",
        "start gala",
        "pause gala",
        "list",
        "show gala",
        "report gala",
        "cancel gala",
    ):
        screen = Screen()
        with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):  # type: ignore[type-var]
            assert gala("--yes", "campaign", *line.split()).exit == 0, screen.getvalue()
        lines = lines_of(screen.getvalue())
        assert max(map(cell_len, lines)) <= columns, (line, max(lines, key=cell_len))
        if line == "list":
            assert lines[0].split()[:2] == ["NAME", "STATE"]
            assert {tuple(row.split()[:2]) for row in lines[1:]} == {("gala", "paused"), ("weekly", "draft")}


# --- a real terminal ---


def on_terminal(wa: Wa, *words: str, answer: str, columns: int = 80) -> tuple[int, list[str]]:
    """(exit code, the lines of the screen) of a command that asks, and is answered as soon as it does."""
    lead, follow = pty.openpty()
    command = [sys.executable, "-m", "wa_cli", "--db", str(wa.db), *words]
    environment = clean_environment(wa.folder) | {"COLUMNS": str(columns), "TERM": "xterm", "WA_TIMEZONE": "UTC"}
    process = subprocess.Popen(command, cwd=wa.folder, env=environment, stdin=follow, stdout=follow, stderr=follow)
    os.close(follow)
    seen, is_answered = b"", False
    while select.select([lead], [], [], 60)[0]:
        try:
            part = os.read(lead, 65536)
        except OSError:  # Linux says so when the last of the other side is closed
            break
        if not part:
            break
        seen += part
        if not is_answered and (b"[y/N]" in seen or seen.rstrip().endswith(b"messages:")):
            os.write(lead, answer.encode() + b"\n")
            is_answered = True
    os.close(lead)
    assert is_answered, seen
    return process.wait(60), lines_of(seen.decode())


@pytest.mark.parametrize(("people", "answer", "code"), [(2, "y", 0), (2, "", 6), (51, "gala", 0), (51, "y", 6)])
def test_a_terminal_is_asked_for_a_yes_or_for_the_name(gala: Wa, people: int, answer: str, code: int) -> None:
    """Issue 5, point 4: the ladder of confirmation, on a terminal of 60 columns, where nothing is cut."""
    grow(gala, people)
    exit_code, lines = on_terminal(gala, "campaign", "start", "gala", answer=answer, columns=60)
    assert exit_code == code, lines
    assert max(map(len, lines)) <= 60
    assert len(waiting(gala)) == (people if code == 0 else 0) or people > 50
    screen = "\n".join(lines)
    assert ("type the campaign's name to send 51 messages:" in screen) is (people > 50)
    assert ("campaign gala is running" in screen) is (code == 0)
    assert ("nothing was" in screen) is (code != 0)
