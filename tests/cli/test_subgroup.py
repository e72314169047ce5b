"""`wa subgroup`: its flags, its words, its JSON and its exit codes."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import signal
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from processes import clean_environment

from wa_cli.services.subgroups import CHUNK_ROWS
from wa_cli.store.sqlite.database import Database
from wa_cli.store.sqlite.subgroups import SqliteSubgroups

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Wa

    from wa_cli.bootstrap import App

ANN, BOB, CAT = "+6581234567", "+6581234568", "+6581234569"
GROUP = "120363025246125486@g.us"
PEOPLE = f"phone,name,city\n{ANN},Ann,Singapore\n{BOB},Bob,\n{GROUP},Choir,Köln\n"


@pytest.fixture
def vip(wa: Wa) -> str:
    assert wa("subgroup", "create", "vip").exit == 0
    return "vip"


def members(wa: Wa, name: str = "vip") -> list[str]:
    shown = wa("subgroup", "show", name, "--json")
    assert shown.exit == 0, shown.err
    return [one["recipient"] for one in shown.json()["members"]]


def start_wa(folder: Path, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """`wa` as a process of its own on the same database."""
    command = [sys.executable, "-m", "wa_cli", "--db", str(folder / "wa.db"), *arguments]
    return subprocess.Popen(command, cwd=folder, env=clean_environment(folder), **options)


def run_on_terminal(
    folder: Path, *arguments: str, typed: str = "", env: dict[str, str] | None = None
) -> tuple[int, str]:
    """Exit code and screen of `wa` run on a terminal."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "wa_cli", "--db", str(folder / "wa.db"), *arguments]
    environment = {**clean_environment(folder), "TERM": "xterm", "COLUMNS": "80", **(env or {})}
    with subprocess.Popen(command, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        os.write(ours, typed.encode())
        screen = b""
        while True:
            try:
                block = os.read(ours, 65536)
            except OSError:  # Linux says so when the other end is closed
                break
            if not block:
                break
            screen += block
        code = process.wait()
    os.close(ours)
    return code, screen.decode()


# create, list, rename, delete


def test_a_new_subgroup_is_empty_and_the_next_step_is_named(wa: Wa) -> None:
    made = wa("subgroup", "create", "vip")
    assert (made.exit, made.out) == (0, "created subgroup vip\n")
    assert "wa subgroup import vip people.csv" in made.err
    assert wa("subgroup", "list", "--json").json()["count"] == 1


def test_creating_what_is_there_already_changes_nothing(wa: Wa, vip: str) -> None:
    wa("subgroup", "add", vip, ANN)
    again = wa("subgroup", "create", "VIP", "--json")
    assert again.exit == 0
    assert again.json() == {"id": "1", "name": "vip", "created": False, "members": 1}


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, "a\tb", "a\x1b[2Jb"])
def test_a_name_nobody_could_type_is_refused(wa: Wa, name: str) -> None:
    refused = wa("subgroup", "create", name)
    assert refused.exit == 2
    assert refused.err.startswith("error: ")
    assert "\x1b" not in refused.err
    assert not wa.db.exists()


def test_a_name_that_looks_like_a_flag_is_refused(wa: Wa) -> None:
    assert "begins with '-'" in wa("subgroup", "create", "--", "-vip").err


def test_the_list_tells_people_from_groups(wa: Wa, vip: str) -> None:
    wa("subgroup", "import", vip, wa.write("people.csv", PEOPLE))
    (one,) = wa("subgroup", "list", "--json").json()["subgroups"]
    assert one.pop("created_at").endswith("Z")
    assert one == {"id": "1", "name": "vip", "members": 3, "people": 2, "groups": 1}
    assert wa("subgroup", "list").out.split("\t")[:4] == ["vip", "3", "2", "1"]


def test_an_empty_list_says_how_to_begin(wa: Wa, app: App) -> None:
    shown = wa("subgroup", "list")
    assert (shown.exit, shown.out) == (0, "")
    assert "wa subgroup create vip" in shown.err


def test_a_mistyped_name_is_answered_with_the_nearest(wa: Wa, vip: str) -> None:
    for command in (["show"], ["add", ANN], ["export"], ["delete"], ["import", "people.csv"], ["rename", "new"]):
        missing = wa("subgroup", command[0], "vpi", *command[1:])
        assert missing.exit == 2
        assert "error: no subgroup named 'vpi'\nhint: did you mean 'vip'?" in missing.err


def test_a_renamed_subgroup_keeps_its_members_and_what_was_sent_to_it(wa: Wa, vip: str) -> None:
    """Row R3."""
    wa("subgroup", "add", vip, ANN)
    wa("send", "subgroup", vip, "hello")
    assert wa("subgroup", "rename", "VIP", "Gold").out == "renamed subgroup vip to Gold\n"
    assert members(wa, "gold") == [ANN]
    assert wa("message", "show", "m1", "--json").json()["subgroup"] == "Gold"


def test_a_name_that_is_taken_is_a_conflict(wa: Wa, vip: str) -> None:
    wa("subgroup", "create", "staff")
    assert wa("subgroup", "rename", "staff", "VIP", "--json").exit == 7
    assert wa("subgroup", "rename", "staff", "VIP", "--json").error()["code"] == "subgroup_exists"
    assert wa("subgroup", "rename", "vip", "VIP").exit == 0


def test_an_empty_subgroup_is_deleted_without_a_question(wa: Wa, vip: str) -> None:
    assert wa("subgroup", "delete", vip).out == "deleted subgroup vip with 0 members\n"


def test_a_subgroup_with_members_is_not_deleted_unasked(wa: Wa, vip: str) -> None:
    wa("subgroup", "add", vip, ANN, BOB)
    refused = wa("subgroup", "delete", vip)
    assert refused.exit == 6
    assert "delete the subgroup 'vip' with 2 members?" in refused.err
    assert members(wa) == [ANN, BOB]
    assert wa("subgroup", "delete", vip, "--yes").exit == 0
    assert wa("subgroup", "show", vip).exit == 2


def test_on_a_terminal_the_question_names_the_subgroup_and_no_means_no(wa: Wa, vip: str) -> None:
    wa("subgroup", "add", vip, ANN)
    code, screen = run_on_terminal(wa.folder, "subgroup", "delete", "vip", typed="n\n")
    assert code == 6
    assert "delete the subgroup 'vip' with 1 member? [y/N]" in screen
    assert members(wa) == [ANN]
    assert run_on_terminal(wa.folder, "subgroup", "delete", "vip", typed="y\n")[0] == 0
    assert wa("subgroup", "show", vip).exit == 2


def test_deleting_a_subgroup_leaves_its_queue_and_says_how_to_cancel_it(wa: Wa, vip: str) -> None:
    wa("subgroup", "add", vip, ANN, BOB)
    wa("send", "subgroup", vip, "hello", "--at", "in 2h")
    deleted = wa("subgroup", "delete", vip, "--yes")
    assert "2 messages queued for it earlier will still be sent" in deleted.err
    assert "hint: `wa message cancel --subgroup vip`" in deleted.err
    assert [one["state"] for one in wa("message", "list", "--json").json()["messages"]] == ["queued", "queued"]
    wa("message", "cancel", "--subgroup", "vip", "--yes")
    assert [one["state"] for one in wa("message", "list", "--json").json()["messages"]] == ["cancelled", "cancelled"]


# add, remove


def test_every_spelling_of_a_person_is_one_member(wa: Wa, vip: str) -> None:
    """Row S6."""
    added = wa("subgroup", "add", vip, ANN, "+65 8123-4567", "whatsapp:+6581234567", GROUP, "--json")
    assert added.exit == 0
    assert (added.json()["added"], added.json()["already_there"]) == (2, 2)
    assert [one["outcome"] for one in added.json()["members"]] == ["added", "already_there", "already_there", "added"]
    assert members(wa) == [ANN, GROUP]


def test_what_cannot_be_read_is_named_and_the_rest_goes_in(wa: Wa, vip: str) -> None:
    """Promise P12."""
    added = wa("subgroup", "add", vip, "12", ANN, "hello", BOB)
    assert added.exit == 3
    assert added.out == "2 added, 2 refused\n"
    assert "refused: '12' is too short" in added.err
    assert "refused: 'hello' holds letters" in added.err
    assert members(wa) == [ANN, BOB]


def test_when_nothing_can_be_read_the_call_was_wrong(wa: Wa, vip: str) -> None:
    several = wa("subgroup", "add", vip, "12", "hello", "--json")
    assert several.exit == 2
    assert several.json()["refused"] == 2
    assert several.error()["code"] == "rows_refused"
    one = wa("subgroup", "add", vip, "hello")
    assert one.exit == 2
    assert "error: 'hello' holds letters" in one.err
    assert members(wa) == []


def test_a_national_number_is_read_in_the_default_region(wa: Wa, vip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert wa("subgroup", "add", vip, "81234567").exit == 2
    monkeypatch.setenv("WA_DEFAULT_REGION", "sg")
    assert wa("subgroup", "add", vip, "81234567").exit == 0
    assert members(wa) == [ANN]


def test_removing_by_any_spelling_and_removing_nobody(wa: Wa, vip: str) -> None:
    wa("subgroup", "add", vip, ANN, BOB)
    removed = wa("subgroup", "remove", vip, "+65 8123 4567", CAT)
    assert (removed.exit, removed.out) == (0, "1 removed, 1 not there\n")
    assert f"{CAT} is not in vip" in removed.err
    assert members(wa) == [BOB]
    assert wa("subgroup", "remove", vip, ANN, "--json").json()["not_there"] == [ANN]


def test_removing_somebody_says_that_the_queue_is_not_touched(wa: Wa, vip: str) -> None:
    wa("subgroup", "add", vip, ANN)
    wa("send", "subgroup", vip, "hello", "--at", "in 2h")
    removed = wa("subgroup", "remove", vip, ANN)
    assert "1 message queued for it earlier will still be sent" in removed.err
    assert "wa message list --subgroup vip --state queued" in removed.err


# show


def test_show_gives_members_in_order_with_their_attributes(wa: Wa, vip: str) -> None:
    wa("subgroup", "import", vip, wa.write("people.csv", PEOPLE))
    shown = wa("subgroup", "show", vip, "--json").json()
    assert shown["count"] == 3
    assert shown["name"] == "vip"
    assert shown["members"] == [
        {"recipient": ANN, "kind": "person", "attributes": {"name": "Ann", "city": "Singapore"}},
        {"recipient": BOB, "kind": "person", "attributes": {"name": "Bob"}},
        {"recipient": GROUP, "kind": "group", "attributes": {"name": "Choir", "city": "Köln"}},
    ]
    lines = [line.split("\t") for line in wa("subgroup", "show", vip).out.splitlines()]
    assert [line[:2] for line in lines] == [[ANN, "person"], [BOB, "person"], [GROUP, "group"]]
    assert json.loads(lines[2][2]) == {"name": "Choir", "city": "Köln"}


def test_show_of_nobody_is_one_document_too(wa: Wa, vip: str) -> None:
    shown = wa("subgroup", "show", vip, "--json").json()
    assert (shown["count"], shown["members"]) == (0, [])


@pytest.mark.parametrize(
    ("size", "pace"),
    [
        (5, "1.4 s apart, 5 s in all"),
        (30, "3.5 s apart, 1 min 41 s in all"),
        (60, "5.1 s apart, 5 min in all"),
    ],
)
def test_show_says_how_long_a_send_takes_at_the_pace_for_its_size(wa: Wa, vip: str, size: int, pace: str) -> None:
    """Row R4."""
    wa("subgroup", "add", vip, *(f"+6581{number:06d}" for number in range(size)))
    assert f"a send with --delay auto: {pace}" in wa("subgroup", "show", vip).err


def test_a_terminal_sees_the_first_fifty_a_pipe_all_and_nobody_s_name_steers_it(wa: Wa, vip: str) -> None:
    rows = "".join(f"+6581{number:06d},\x1b[31m[bold]{number}\n" for number in range(60))
    wa("subgroup", "import", vip, wa.write("people.csv", f"phone,name\n{rows}"))
    assert len(wa("subgroup", "show", vip).out.splitlines()) == 60
    assert len(wa("subgroup", "show", vip, "--limit", "7").out.splitlines()) == 7
    code, screen = run_on_terminal(wa.folder, "subgroup", "show", "vip")
    assert code == 0
    assert screen.count("person ") == 50
    assert "10 more; --all shows them" in screen
    assert "\x1b[31m" not in screen
    assert "[bold]0" in screen
    assert all(len(line) <= 80 for line in screen.splitlines())
    assert run_on_terminal(wa.folder, "subgroup", "show", "vip", "--all")[1].count("person ") == 60


# import


def test_an_import_makes_members_in_the_order_of_the_file(wa: Wa, vip: str) -> None:
    done = wa("subgroup", "import", vip, wa.write("people.csv", PEOPLE))
    assert (done.exit, done.out, done.err) == (0, "read 3 rows: 3 added\n", "")
    assert members(wa) == [ANN, BOB, GROUP]


@pytest.mark.parametrize(
    "content",
    [
        f"{ANN}\n{BOB}\n",
        f"\ufeffphone\r\n{ANN}\r\n{BOB}\r\n".encode(),
        f"Recipient;name\n{ANN};Ann\n{BOB};Bob\n",
        f"name\tNUMBER\nAnn\t{ANN}\nBob\t{BOB}\n",
        f"phone\n{ANN}\n{BOB}\n".encode("utf-16"),
    ],
)
def test_every_common_kind_of_list_is_read(wa: Wa, vip: str, content: str | bytes) -> None:
    assert wa("subgroup", "import", vip, wa.write("people.csv", content)).exit == 0
    assert members(wa) == [ANN, BOB]


def test_good_rows_go_in_and_bad_ones_are_named_by_line_and_reason(wa: Wa, vip: str) -> None:
    """Promise P12."""
    path = wa.write("people.csv", f"phone,name\n{ANN},Ann\n12,Short\n,Nobody\n{BOB},Bob\n9.19877E+11,Excel\n")
    done = wa("subgroup", "import", vip, path)
    assert done.exit == 3
    assert done.out == "read 5 rows: 2 added, 3 refused\n"
    assert "line 3: '12' is too short" in done.err
    assert "line 4: the recipient is empty" in done.err
    assert "line 6: '9.19877E+11' was shortened by a spreadsheet" in done.err
    assert members(wa) == [ANN, BOB]


def test_the_report_in_json_adds_up_and_lists_what_was_refused(wa: Wa, vip: str) -> None:
    """Promise P13, for an import."""
    wa("subgroup", "import", vip, wa.write("first.csv", f"phone,name\n{ANN},Ann\n{BOB},Bob\n"))
    path = wa.write("people.csv", f"phone,name\n{ANN},Anna\n{BOB},Bob\n{CAT},Cat\n{CAT},Cat\nfoo,Foo\n")
    done = wa("subgroup", "import", vip, path, "--json")
    assert done.exit == 3
    report = done.json()
    rows = report.pop("rows")
    assert report == {
        "subgroup": "vip",
        "read": 5,
        "added": 1,
        "already_there": 2,
        "updated": 1,
        "refused": 1,
        "opted_out": 0,
        "rows_omitted": 0,
    }
    assert [sorted(row) for row in rows] == [["line", "reason", "text"]]
    assert rows[0]["line"] == 6
    assert rows[0]["text"] == "foo,Foo"


def test_a_list_without_the_columns_takes_no_attribute_away(wa: Wa, vip: str) -> None:
    wa("subgroup", "import", vip, wa.write("people.csv", PEOPLE))
    again = wa("subgroup", "import", vip, wa.write("plain.txt", f"{ANN}\n"))
    assert again.out == "read 1 row: 0 added, 1 already there\n"
    assert wa("subgroup", "show", vip, "--json").json()["members"][0]["attributes"]["name"] == "Ann"


def test_the_first_twenty_bad_rows_are_shown_and_a_file_takes_all(wa: Wa, vip: str) -> None:
    path = wa.write("people.csv", "phone\n" + f"{ANN}\n" + "".join(f"=x{number}\n" for number in range(30)))
    done = wa("subgroup", "import", vip, path)
    assert done.err.count("line ") == 20
    assert "… and 10 more" in done.err
    assert "hint: --errors FILE" in done.err
    done = wa("subgroup", "import", vip, path, "--errors", "bad.csv")
    assert done.exit == 3
    assert "all refused rows are in bad.csv" in done.err
    errors = wa.folder / "bad.csv"
    assert stat.S_IMODE(errors.stat().st_mode) == 0o600
    rows = list(csv.DictReader(io.StringIO(errors.read_text())))
    assert [int(row["line"]) for row in rows] == list(range(3, 33))
    assert all(row["text"].startswith("'=x") for row in rows), "a spreadsheet would run the cell"


def test_the_errors_file_is_no_file_that_is_there_already(wa: Wa, vip: str) -> None:
    path = wa.write("people.csv", f"{ANN}\nfoo\n")
    for force in ([], ["--force"]):
        assert wa("subgroup", "import", vip, path, "--errors", path, *force).exit == 2
    assert path.read_text() == f"{ANN}\nfoo\n"
    wa.write("bad.csv", "precious")
    assert wa("subgroup", "import", vip, path, "--errors", "bad.csv").exit == 2
    assert (wa.folder / "bad.csv").read_text() == "precious"
    assert members(wa) == []
    assert wa("subgroup", "import", vip, path, "--errors", "bad.csv", "--force").exit == 3
    assert sorted(one.name for one in wa.folder.iterdir() if one.name.startswith(".wa-")) == []


def test_strict_takes_all_or_nothing(wa: Wa, vip: str) -> None:
    path = wa.write("people.csv", f"phone\n{ANN}\nfoo\n{BOB}\n")
    refused = wa("subgroup", "import", vip, path, "--strict", "--errors", "bad.csv")
    assert refused.exit == 2
    assert refused.out == ""
    assert "line 3: 'foo' holds letters" in refused.err
    assert "error: 1 row of 3 cannot be read, so none was imported" in refused.err
    assert (wa.folder / "bad.csv").read_text().startswith("line,reason,text\n3,")
    report = wa("subgroup", "import", vip, path, "--strict", "--json")
    assert (report.json()["added"], report.json()["refused"], report.error()["exit"]) == (0, 1, 2)
    assert members(wa) == []
    assert wa("subgroup", "import", vip, wa.write("good.csv", f"{ANN}\n{BOB}\n"), "--strict").exit == 0
    assert members(wa) == [ANN, BOB]


def test_a_refused_strict_import_makes_no_subgroup_and_no_contacts(wa: Wa, app: App) -> None:
    rows = "".join(f"+6581{number:06d}\n" for number in range(CHUNK_ROWS + 10))
    path = wa.write("people.csv", rows + "foo\n")
    assert wa("subgroup", "import", "vip", path, "--strict", "--create").exit == 2
    assert wa("subgroup", "list", "--json").json()["count"] == 0
    with app.database.read() as connection:
        assert connection.execute("SELECT count(*) FROM contact").fetchone()[0] == 0


def test_a_missing_subgroup_is_made_only_when_asked_for(wa: Wa, app: App) -> None:
    path = wa.write("people.csv", PEOPLE)
    missing = wa("subgroup", "import", "vip", path)
    assert missing.exit == 2
    assert "wa subgroup create" in missing.err
    assert "--create" in missing.err
    assert wa("subgroup", "import", "vip", path, "--create").exit == 0
    assert members(wa) == [ANN, BOB, GROUP]


def test_a_file_that_cannot_be_read_makes_no_subgroup(wa: Wa) -> None:
    for path in ("nowhere.csv", wa.folder, wa.write("b.csv", b"\x1f\x8b\x08\x00zip"), wa.write("c.csv", "a,b\n1,2\n")):
        failed = wa("subgroup", "import", "vip", path, "--create")
        assert failed.exit == 2
        assert failed.err.startswith("error: ")
        assert "hint: " in failed.err
    assert wa("subgroup", "list", "--json").json()["count"] == 0


def test_when_no_row_can_be_read_the_call_was_wrong(wa: Wa, vip: str) -> None:
    path = wa.write("people.csv", "phone\n81234567\n81234568\n")
    refused = wa("subgroup", "import", vip, path)
    assert refused.exit == 2
    assert "line 2: " in refused.err
    assert "nothing was imported: all 2 rows cannot be read" in refused.err
    assert "WA_DEFAULT_REGION" in refused.err


def test_an_empty_list_is_said_to_be_empty(wa: Wa, vip: str) -> None:
    done = wa("subgroup", "import", "new", wa.write("people.csv", "phone,name\n"), "--create")
    assert done.exit == 0
    assert "warning: the list is empty" in done.err
    assert members(wa, "new") == []
    assert wa("subgroup", "import", vip, wa.write("people.csv", "")).exit == 2


def test_a_list_in_another_encoding_is_read_once_it_is_named(wa: Wa, vip: str) -> None:
    path = wa.write("people.csv", f"phone;name\n{ANN};Jürgen Müßig\n".encode("cp1252"))
    assert "--encoding" in wa("subgroup", "import", vip, path).err
    assert members(wa) == []
    assert wa("subgroup", "import", vip, path, "--encoding", "cp1252").exit == 0
    assert wa("subgroup", "show", vip, "--json").json()["members"][0]["attributes"] == {"name": "Jürgen Müßig"}


@pytest.mark.parametrize("strict", [[], ["--strict"]])
def test_stdin_is_read_like_a_file(wa: Wa, vip: str, strict: list[str]) -> None:
    with start_wa(wa.folder, "subgroup", "import", vip, "-", *strict, stdin=-1, stdout=-1) as process:
        out, _ = process.communicate(PEOPLE.encode())
    assert process.returncode == 0
    assert out == b"read 3 rows: 3 added\n"
    assert members(wa) == [ANN, BOB, GROUP]


def test_an_import_that_is_killed_keeps_what_was_said_and_a_rerun_adds_only_the_rest(wa: Wa, vip: str) -> None:
    """Row 80, promises P1 and P12: a tenth of the rows is bad, kill -9 half-way, no good row is lost or doubled."""
    size = 3 * CHUNK_ROWS
    lines = [f"+6581{number:06d}" if number % 10 else f"bad{number}" for number in range(size)]
    good = [line for line in lines if line.startswith("+")]
    text = "".join(f"{line}\n" for line in lines)
    database = Database.open(wa.db, create=False)
    subgroups = SqliteSubgroups(database)
    with start_wa(wa.folder, "subgroup", "import", vip, "-", stdin=-1, stdout=-1, stderr=-1) as process:
        assert process.stdin is not None
        # The last third never comes and the pipe stays open, so the import cannot have ended when it is killed.
        part = "".join(f"{line}\n" for line in lines[: 2 * CHUNK_ROWS])
        process.stdin.write(part.encode() + b"\n" * 600_000)
        process.stdin.flush()
        while subgroups.count(1) < CHUNK_ROWS:
            assert process.poll() is None
            time.sleep(0.002)  # another process's commit is no event that could be waited for
        process.send_signal(signal.SIGKILL)
    kept = subgroups.count(1)
    database.close()
    assert CHUNK_ROWS <= kept < len(good)
    again = wa("subgroup", "import", vip, wa.write("people.txt", text), "--json")
    assert again.exit == 3
    report = again.json()
    assert (report["added"], report["already_there"]) == (len(good) - kept, kept)
    assert report["refused"] == size // 10
    assert members(wa) == good


def test_a_long_import_counts_its_rows_on_a_terminal(wa: Wa, vip: str) -> None:
    path = wa.write("people.txt", "".join(f"+6581{number:06d}\n" for number in range(CHUNK_ROWS)))
    code, screen = run_on_terminal(wa.folder, "subgroup", "import", "vip", str(path))
    assert code == 0
    assert "rows" in screen
    assert "2,000 added" in screen


# export


def test_an_export_is_private_and_comes_back_the_same(wa: Wa, vip: str) -> None:
    """Row 79."""
    awkward = {"name": "=1+1", "note": 'a "quoted", cell', "city": "Köln"}
    header = "phone," + ",".join(awkward)
    body = io.StringIO()
    csv.writer(body, lineterminator="\n").writerow([ANN, *awkward.values()])
    wa("subgroup", "import", vip, wa.write("people.csv", f"{header}\n{body.getvalue()}{GROUP},,,\n"))
    assert wa("subgroup", "export", vip, "out.csv").out == "exported 2 members to out.csv\n"
    out = wa.folder / "out.csv"
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert not any(line.startswith(("=", "+", "-", "@")) for line in out.read_text().splitlines())
    assert wa("subgroup", "import", "copy", out, "--create").exit == 0
    first, copy = (wa("subgroup", "show", name, "--json").json()["members"] for name in (vip, "copy"))
    assert first == copy
    assert first[0]["attributes"] == awkward


def test_a_raw_export_is_for_machines(wa: Wa, vip: str) -> None:
    wa("subgroup", "add", vip, ANN)
    assert wa("subgroup", "export", vip, "--raw").out == f"recipient\n{ANN}\n"
    assert wa("subgroup", "export", vip).out == f"recipient\n'{ANN}\n"


def test_an_export_replaces_no_file_unless_told_to(wa: Wa, vip: str) -> None:
    wa("subgroup", "add", vip, ANN)
    path = wa.write("out.csv", "precious")
    refused = wa("subgroup", "export", vip, path)
    assert refused.exit == 2
    assert "--force" in refused.err
    assert path.read_text() == "precious"
    done = wa("subgroup", "export", vip, path, "--force", "--json")
    assert done.json() == {"subgroup": "vip", "file": str(path), "exported": 1}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_export_into_nowhere_is_a_storage_fault(wa: Wa, vip: str) -> None:
    assert wa("subgroup", "export", vip, wa.folder / "no" / "out.csv").exit == 9
    assert wa("subgroup", "export", vip, wa.folder).exit == 2
    assert wa("subgroup", "export", vip, "/dev/null").exit == 2


def test_the_csv_and_the_json_do_not_share_stdout(wa: Wa, vip: str) -> None:
    refused = wa("subgroup", "export", vip, "--json")
    assert refused.exit == 2
    assert refused.error()["hint"].endswith("`wa subgroup show vip --json`")


def test_the_help_of_every_command_is_there(wa: Wa) -> None:
    for command in ("create", "list", "show", "add", "remove", "import", "export", "rename", "delete"):
        shown = wa("subgroup", command, "-h")
        assert shown.exit == 0
        assert f"wa subgroup {command}" in shown.out
