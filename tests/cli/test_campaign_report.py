"""`wa campaign report` and `wa campaign export`: every figure in four shapes, and one row a person."""

from __future__ import annotations

import csv
import io
import json
import re
import stat
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.cells import cell_len

from tests.ledger import MINUTE, Ledger, number

if TYPE_CHECKING:
    from conftest import Wa

    from wa_cli.bootstrap import App

HOSTILE = "</title><script>alert('x')</script>{{ 7 * 7 }}"


@pytest.fixture
def ledger(app: App) -> Ledger:
    """Two variants in three countries: 4 read, 1 delivered, 1 failed, 1 waiting, 1 expired, 3 left out."""
    built = Ledger(app.database, now_ms=app.clock.wall_ms())
    built.start_run()
    a, b = built.add_batch(variant="a"), built.add_batch(variant="b")
    for n in range(4):
        address = (number(n), "+14165550101", "+12125550101", number(4))[n]
        built.add(address, (a, b)[n % 2], "sent", "read", posted_at=built.now_ms - (40 - n) * MINUTE)
    built.add(number(5), a, "sent", "delivered", posted_at=built.now_ms - 30 * MINUTE)
    built.add(number(6), b, "failed", error_code="131026", posted_at=built.now_ms - 20 * MINUTE)
    built.add(number(7), b, due_at=built.now_ms + MINUTE)
    built.add(number(8), a, "expired", reason="expired")
    built.leave_out(number(9), "opted_out")
    built.leave_out(number(10), "missing_field", "name")
    built.leave_out(None, "invalid", "line 7: no digits")
    built.write_back(number(0), at=built.now_ms)
    return built


class Page(HTMLParser):
    """What is on a page: tags in order, texts, attributes; and whether every tag is closed."""

    VOID = frozenset({"meta", "link", "br", "img", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style" and data.strip():
            self.texts.append(data.strip())

    def count(self, name: str) -> int:
        return sum(tag == name for tag, _attributes in self.tags)


def read_page(wa: Wa, name: str = "spring-sale", file: str = "report.html") -> tuple[str, Page]:
    result = wa("campaign", "report", name, "--html", file, "--force")
    assert result.exit == 0, result.err
    text = (wa.folder / file).read_text(encoding="utf-8")
    return text, Page(text)


# --- the page ---


def test_the_page_stands_alone_and_runs_nothing(wa: Wa, ledger: Ledger) -> None:
    """Issue 5, point 9."""
    text, page = read_page(wa)
    assert page.count("script") == 0
    assert not re.search(r"(src|href)\s*=|url\(|@import|https?:", text)
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert not [attributes for _tag, attributes in page.tags if any(name.startswith("on") for name in attributes)]


def test_every_chart_has_a_name_a_description_and_a_table_beside_it(wa: Wa, ledger: Ledger) -> None:
    """Issue 5, point 9."""
    _text, page = read_page(wa)
    ids = [attributes["id"] for _tag, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    charts = [attributes for tag, attributes in page.tags if tag == "svg" and attributes.get("role") == "img"]
    assert [str(chart["aria-labelledby"]).split("-title")[0] for chart in charts] == [
        "funnel", "sends", "read-times", "failures", "unsent", "variants", "countries", "instances",
    ]  # fmt: skip
    for chart in charts:
        assert set(str(chart["aria-labelledby"]).split()) <= set(ids)
    assert page.count("table") == page.count("caption") == len(charts) + 1  # and the ledger's
    for landmark in ("header", "main", "footer", "h1"):
        assert page.count(landmark) == 1
    headings = [tag for tag, _attributes in page.tags if re.fullmatch("h[1-6]", tag)]
    assert headings == ["h1"] + ["h2"] * (len(charts) + 1)
    assert [attributes["lang"] for tag, attributes in page.tags if tag == "html"] == ["en"]
    assert all("scope" in attributes for tag, attributes in page.tags if tag == "th")


def test_the_page_shows_the_figures_and_no_number_of_a_person(wa: Wa, ledger: Ledger) -> None:
    """Promises P11, P13."""
    text, page = read_page(wa)
    assert not re.search(r"\+?\d{8,}", re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL))
    for words in ("spring-sale", "5 · 45.5%", "131026", "opted out", "missing field", "CA", "audience"):
        assert words in page.texts
    place = page.texts.index("audience")
    assert page.texts[place + 1] == "11"


def test_words_of_strangers_are_words_on_the_page(wa: Wa, ledger: Ledger, app: App) -> None:
    with app.database.write() as connection:
        connection.execute("UPDATE batch SET variant = ?", (HOSTILE,))
        connection.execute("UPDATE message SET error_code = ? WHERE state = 'failed'", (HOSTILE,))
        connection.execute("UPDATE exclusion SET reason = ?", (HOSTILE,))
        connection.execute("UPDATE instance SET name = ?", (HOSTILE,))
        connection.execute("UPDATE campaign SET pause_reason = ?", (HOSTILE,))
    text, page = read_page(wa)
    assert page.count("script") == 0
    assert "<script" not in text
    assert HOSTILE in page.texts
    screen = wa("campaign", "report", "spring-sale").out
    assert max(map(cell_len, screen.splitlines())) <= 80


def test_the_page_is_for_its_owner_alone_and_replaces_nothing_unasked(wa: Wa, ledger: Ledger) -> None:
    first = wa("campaign", "report", "spring-sale", "--html", "report.html")
    assert (first.exit, first.out) == (0, "wrote report.html\n")
    path = wa.folder / "report.html"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("mine", encoding="utf-8")
    second = wa("campaign", "report", "spring-sale", "--html", "report.html")
    assert second.exit == 2
    assert path.read_text(encoding="utf-8") == "mine"
    assert wa("campaign", "report", "spring-sale", "--html", "report.html", "--force", "--json").json() == {
        "file": "report.html",
        "name": "spring-sale",
    }
    assert not list(wa.folder.glob(".wa-*"))


def test_an_empty_run_makes_a_sound_page(wa: Wa, app: App) -> None:
    ledger = Ledger(app.database, now_ms=app.clock.wall_ms())
    ledger.start_run()
    _text, page = read_page(wa)
    assert "No message yet." in page.texts
    assert wa("campaign", "report", "spring-sale").exit == 0
    assert wa("campaign", "export", "spring-sale").out.count("\n") == 1


def test_the_template_is_in_the_package() -> None:
    from importlib.resources import files

    assert files("wa_cli.cli").joinpath("report.html.j2").is_file()


# --- the terminal, CSV, JSON ---


@pytest.mark.parametrize("columns", ["80", "60"])
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_the_report_fits_its_terminal_in_ascii_where_need_be(
    wa: Wa, ledger: Ledger, columns: str, locale: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 5, point 9: in the terminal with plots."""
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("LC_ALL", locale)
    screen = wa("campaign", "report", "spring-sale").out
    assert max(map(cell_len, screen.splitlines())) <= int(columns)
    assert screen.isascii() is (locale == "C")
    for words in ("time to read: half within 5 min", "queued and then not sent: 1 expired", "by variant", "by country"):
        assert words in screen
    assert re.search(r"^  b +4 +50\.0%", screen, re.MULTILINE)


def test_the_report_as_json_adds_up_in_every_part(wa: Wa, ledger: Ledger) -> None:
    """Promise P13; issue 5, point 9."""
    document = wa("campaign", "report", "spring-sale", "--json").json()
    assert set(document) == {
        "name", "state", "run", "audience", "buckets", "left_out", "ledger_error", "funnel", "replied", "opted_out",
        "clicked", "clicks", "previews", "rate", "failures", "sends", "variants", "countries", "instances", "unsent",
        "pruned_at",
        "read_times", "checked_at",
    }  # fmt: skip
    assert document["audience"] == 11 == sum(document["buckets"].values())
    assert document["ledger_error"] is None
    for section in ("variants", "countries", "instances"):
        assert sum(part["messages"] for part in document[section]) == 8
        assert all(sum(part["buckets"].values()) == part["messages"] for part in document[section])
    assert {part["name"]: part["replied"] for part in document["variants"]} == {"a": 1, "b": 0}
    assert {part["name"]: part["messages"] for part in document["countries"]} == {"SG": 6, "CA": 1, "US": 1}
    assert document["unsent"] == {"expired": 1}
    assert (document["read_times"]["count"], document["read_times"]["median_seconds"]) == (4, 300.0)
    assert sum(document["sends"]["counts"]) == 6


def test_the_report_as_csv_has_one_figure_a_row(wa: Wa, ledger: Ledger) -> None:
    """Issue 5, point 9."""
    rows = list(csv.reader(io.StringIO(wa("campaign", "report", "spring-sale", "--csv").out)))
    assert rows[0] == ["section", "name", "measure", "value"]
    assert ["buckets", "read", "count", "4"] in rows
    assert ["variants", "a", "replied", "1"] in rows
    assert ["read_times", "median", "seconds", "300.0"] in rows
    buckets = [int(row[3]) for row in rows if row[0] == "buckets"]
    assert sum(buckets) == 11
    assert wa("campaign", "report", "spring-sale", "--csv", "--html", "x.html").exit == 2


def test_nothing_sent_is_nothing_to_report(wa: Wa, app: App) -> None:
    Ledger(app.database, state="draft")
    for verb in ("report", "export"):
        error = wa("campaign", verb, "spring-sale", "--json").error()
        assert (error["code"], error["exit"]) == ("no_run", 2)
        assert "wa campaign start spring-sale" in error["hint"]


# --- the ledger ---


def test_the_ledger_has_one_row_for_everybody_and_adds_up(wa: Wa, ledger: Ledger) -> None:
    """Promise P13; issue 5, points 3 and 9."""
    result = wa("campaign", "export", "spring-sale", "--raw")
    rows = list(csv.DictReader(io.StringIO(result.out)))
    assert list(rows[0]) == [
        "recipient", "state", "reason", "details", "variant", "instance", "due_at", "sent_at", "delivered_at",
        "read_at", "error_code", "replied_at", "clicked_at", "opted_out_at", "attempts", "message_id", "group_name",
    ]  # fmt: skip
    assert len(rows) == 11
    buckets = wa("campaign", "show", "spring-sale", "--json").json()["buckets"]
    for bucket, count in buckets.items():
        assert sum(row["state"] == bucket for row in rows) == count
    first = rows[0]
    assert (first["recipient"], first["state"], first["variant"], first["message_id"]) == (number(0), "read", "a", "m1")
    assert first["sent_at"] < first["delivered_at"] < first["read_at"] < first["replied_at"]
    failed = next(row for row in rows if row["state"] == "failed")
    assert (failed["error_code"], failed["sent_at"]) == ("131026", "")
    nobody = rows[-1]
    assert (nobody["recipient"], nobody["state"], nobody["reason"], nobody["details"]) == (
        "", "skipped", "invalid", "line 7: no digits",
    )  # fmt: skip


def test_cells_that_look_like_formulas_are_guarded(wa: Wa, ledger: Ledger, app: App) -> None:
    """Fault 79."""
    with app.database.write() as connection:
        connection.execute("UPDATE exclusion SET details = '=HYPERLINK(1)' WHERE reason = 'invalid'")
    rows = list(csv.reader(io.StringIO(wa("campaign", "export", "spring-sale").out)))
    live = [cell for row in rows for cell in row if cell[:1] in ("=", "+", "-", "@")]
    assert live == []
    assert rows[-1][3] == "'=HYPERLINK(1)"
    assert rows[1][0] == f"'{number(0)}"


def test_the_ledger_as_json_lines_and_into_a_private_file(wa: Wa, ledger: Ledger) -> None:
    lines = [json.loads(line) for line in wa("campaign", "export", "spring-sale", "-", "--json").out.splitlines()]
    assert len(lines) == 11
    assert lines[0]["recipient"] == number(0)
    assert wa("campaign", "export", "spring-sale", "ledger.jsonl").out == "exported 11 of spring-sale to ledger.jsonl\n"
    path = wa.folder / "ledger.jsonl"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] == lines
    assert wa("campaign", "export", "spring-sale", "ledger.jsonl").exit == 2
    again = wa("campaign", "export", "spring-sale", "ledger.csv", "--json")
    assert again.json() == {"file": "ledger.csv", "exported": 11}
    assert wa("campaign", "export", "spring-sale", "--format", "xml").exit == 2
    assert wa("campaign", "export", "spring-sale", "--format", "csv", "--json").exit == 2


def test_an_earlier_run_of_a_recurring_campaign_has_a_report_of_its_own(wa: Wa, app: App) -> None:
    """Issue 5, point 5."""
    ledger = Ledger(app.database, state="scheduled", now_ms=app.clock.wall_ms())
    ledger.start_run("2026-11-16T09:00", state="finished", ended_at=ledger.now_ms)
    ledger.add(number(1), ledger.add_batch(), "sent", "read")
    ledger.start_run("2026-11-23T09:00")
    ledger.add(number(2), ledger.add_batch(), "failed")
    run = ("--run", "2026-11-16T09:00")
    assert wa("campaign", "report", "spring-sale", *run, "--json").json()["buckets"]["read"] == 1
    assert number(1) in wa("campaign", "export", "spring-sale", *run).out
    assert number(2) not in wa("campaign", "export", "spring-sale", *run).out
    assert number(2) in wa("campaign", "export", "spring-sale").out


def test_the_file_of_a_campaign_comes_back_as_it_was_taken_in(wa: Wa, app: App) -> None:
    """Issue 5, point 1: export; also when the file on the disk is gone."""
    app.campaigns.create("gala", path="/gone/gala.toml", source='title = "Gala"\n', actor="tester", now_ms=1)
    assert wa("campaign", "export", "gala", "--format", "toml").out == 'title = "Gala"\n'
    assert wa("campaign", "export", "gala", "copy.toml").exit == 0
    assert Path("copy.toml").read_text() == 'title = "Gala"\n'
    assert wa("campaign", "export", "gala", "copy.toml").exit == 2  # it is there already
    assert wa("campaign", "export", "gala", "--format", "toml", "--json").json()["text"] == 'title = "Gala"\n'
