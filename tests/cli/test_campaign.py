"""`wa campaign` from the file to the queue: what each command says, and what it refuses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

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
    assert (document["valid"], document["problems"], document["fields"]["campaign"]) == (True, [], "gala")
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
