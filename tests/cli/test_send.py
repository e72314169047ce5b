"""`wa send`: what it queues, what it refuses, what it says."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import closing
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Wa

ADA, BEN, EVA = "+6581230001", "+6581230002", "+6581230003"
GROUP = "120363012345678901@g.us"


def fill(wa: Wa, *members: str, name: str = "vip") -> None:
    assert wa("subgroup", "create", name).exit == 0
    assert wa("subgroup", "add", name, *members).exit == 0


def rows(wa: Wa, query: str) -> list[Any]:
    with closing(sqlite3.connect(wa.db)) as connection:
        return connection.execute(query).fetchall()


def test_a_subgroup_send_is_spaced_by_the_given_delay(wa: Wa) -> None:
    """Rows R1, R3, S1: due times are written at enqueue, in order, with the queue position."""
    fill(wa, ADA, BEN, EVA)
    answer = wa("send", "subgroup", "vip", "Doors open at six", "--delay", "3000", "--json").json()
    assert (answer["queued"], answer["duplicates"], answer["skipped"], answer["delay_ms"]) == (3, 0, 0, 3000)
    assert [one["recipient"] for one in answer["messages"]] == [ADA, BEN, EVA]
    assert [one["queue_position"] for one in answer["messages"]] == [1, 2, 3]
    assert {one["outcome"] for one in answer["messages"]} == {"queued"}
    due = [row[0] for row in rows(wa, "SELECT due_at FROM message ORDER BY id")]
    assert [later - earlier for earlier, later in pairwise(due)] == [3000, 3000]
    assert wa("message", "show", answer["messages"][0]["id"], "--json").json()["subgroup"] == "vip"


def test_the_default_delay_is_two_seconds(wa: Wa) -> None:
    """Rows R1, T3."""
    fill(wa, ADA, BEN)
    assert wa("send", "subgroup", "vip", "Hello", "--json").json()["delay_ms"] == 2000


@pytest.mark.parametrize(("size", "low", "high"), [(5, 1000, 2000), (30, 2000, 5000), (60, 5000, 10000)])
def test_delay_auto_picks_by_size(wa: Wa, size: int, low: int, high: int) -> None:
    """Row R4."""
    fill(wa, *[f"+65812300{number:02d}" for number in range(size)])
    assert low <= wa("send", "subgroup", "vip", "Hello", "--delay", "auto", "--json").json()["delay_ms"] <= high


def test_a_delay_below_the_recommended_range_gets_a_hint(wa: Wa) -> None:
    """Row R4."""
    fill(wa, ADA, BEN)
    assert "hint: for 2 recipients 1000 to 2000 ms" in wa("send", "subgroup", "vip", "Hello", "--delay", "100").err


def test_epoch_seconds_are_a_start_time(wa: Wa) -> None:
    """Row R2."""
    answer = wa("send", "to", ADA, BEN, "--text", "Happy new year", "--at", "1893456000", "--json").json()
    assert [one["due_at"] for one in answer["messages"]] == ["2030-01-01T00:00:00Z", "2030-01-01T00:00:02Z"]


def test_a_start_time_is_echoed_in_the_users_zone_and_in_utc(wa: Wa, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WA_TIMEZONE", "Asia/Singapore")
    out = wa("send", "to", ADA, "--text", "Hello", "--at", "2030-01-01T09:00").out
    assert "Tue 1 Jan 2030 09:00 Asia/Singapore (01:00 UTC" in out


def test_an_ambiguous_date_is_refused_with_both_readings(wa: Wa) -> None:
    answer = wa("send", "to", ADA, "--text", "Hello", "--at", "01/02/2030")
    assert answer.exit == 2
    assert "1 February 2030 or 2 January 2030" in answer.err
    assert rows(wa, "SELECT count(*) FROM message") == [(0,)]


def test_the_same_words_to_the_same_person_are_a_duplicate_and_it_is_said(wa: Wa) -> None:
    """Rows T2, T4, H6."""
    first = wa("send", "to", ADA, "--text", "Hello", "--json").json()["messages"][0]
    second = wa("send", "to", "+65 8123 0001", "--text", "Hello")
    assert second.exit == 0
    assert "1 duplicate not queued again (1 queued)" in second.out
    assert f"queued as {first['id']}" in second.err
    assert "--again" in second.err


def test_again_means_it(wa: Wa) -> None:
    wa("send", "to", ADA, "--text", "Hello")
    assert wa("send", "to", ADA, "--text", "Hello", "--again", "--json").json()["queued"] == 1


def test_composed_and_decomposed_accents_are_the_same_words(wa: Wa) -> None:
    wa("send", "to", ADA, "--text", "café")
    assert wa("send", "to", ADA, "--text", "café", "--json").json()["duplicates"] == 1


def test_a_callers_key_answers_with_the_first_result(wa: Wa) -> None:
    """Rows H5, H6."""
    call = ("send", "to", ADA, "--text", "Order 7 is ready", "--key", "order:shop:7:ready:v1", "--json")
    first, second = wa(*call).json(), wa(*call).json()
    assert (first["queued"], second["queued"], second["duplicates"]) == (1, 0, 1)
    assert first["batch_id"] == second["batch_id"]
    assert first["messages"][0]["id"] == second["messages"][0]["id"]


def test_a_key_with_other_content_is_a_conflict(wa: Wa) -> None:
    """Row H6."""
    wa("send", "to", ADA, "--text", "Order 7 is ready", "--key", "order:7")
    answer = wa("send", "to", ADA, "--text", "Order 8 is ready", "--key", "order:7", "--json")
    assert answer.exit == 7
    assert answer.error()["code"] == "key_conflict"
    other = wa("send", "to", BEN, "--text", "Order 7 is ready", "--key", "order:7")
    assert other.exit == 7
    assert rows(wa, "SELECT count(*) FROM message") == [(1,)]


def test_two_keys_may_say_the_same_words(wa: Wa) -> None:
    """Row H5: the key says what is the same, not the words."""
    wa("send", "to", ADA, "--text", "Order confirmed", "--key", "order:7")
    assert wa("send", "to", ADA, "--text", "Order confirmed", "--key", "order:8", "--json").json()["queued"] == 1


def test_a_full_queue_refuses_the_whole_call_and_writes_nothing(wa: Wa, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row H3."""
    monkeypatch.setenv("MAX_QUEUE_SIZE", "2")
    fill(wa, ADA, BEN, EVA)
    answer = wa("send", "subgroup", "vip", "Hello", "--json")
    assert (answer.exit, answer.error()["code"]) == (6, "queue_full")
    assert rows(wa, "SELECT (SELECT count(*) FROM message), (SELECT count(*) FROM batch)") == [(0, 0)]


def test_a_dry_run_says_the_same_and_writes_no_byte(wa: Wa) -> None:
    """The dry run is the same code, rolled back."""
    fill(wa, ADA, BEN)
    wa("send", "to", ADA, "--text", "Hello")
    with closing(sqlite3.connect(wa.db)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = hashlib.sha256(wa.db.read_bytes()).digest()
    dry = wa("send", "subgroup", "vip", "Hello", "--dry-run", "--json").json()
    assert hashlib.sha256(wa.db.read_bytes()).digest() == before
    assert rows(wa, "SELECT count(*) FROM message") == [(1,)]
    real = wa("send", "subgroup", "vip", "Hello", "--json").json()
    counts = ("queued", "duplicates", "skipped", "delay_ms")
    assert [dry[name] for name in counts] == [real[name] for name in counts]
    assert [one["outcome"] for one in dry["messages"]] == [one["outcome"] for one in real["messages"]]


def test_a_dry_run_without_a_database_makes_none(wa: Wa) -> None:
    assert wa("send", "to", ADA, "--text", "Hello", "--dry-run").exit == 0
    assert not wa.db.exists()


def test_a_bad_number_does_not_stop_the_good_ones(wa: Wa) -> None:
    """P12."""
    answer = wa("send", "to", ADA, "12", BEN, "--text", "Hello", "--json")
    assert answer.exit == 3
    document = answer.json()
    assert (document["queued"], document["refused"]) == (2, 1)
    assert "too short" in document["refusals"][0]["reason"]


def test_only_bad_numbers_are_a_usage_error(wa: Wa) -> None:
    answer = wa("send", "to", "12", "--text", "Hello")
    assert answer.exit == 2
    assert "nothing to send" in answer.err
    assert "hint:" in answer.err


def test_a_group_is_skipped_with_the_reason_and_stays_in_the_ledger(wa: Wa) -> None:
    """P12, P13: an ordinary group cannot be reached by the Cloud API."""
    fill(wa, ADA, GROUP)
    answer = wa("send", "subgroup", "vip", "Hello", "--json")
    assert answer.exit == 3
    assert [one["outcome"] for one in answer.json()["messages"]] == ["queued", "skipped"]
    stats = wa("status", "--json").json()["stats"]
    assert (stats["queued"], stats["skipped"]) == (1, 1)


def test_a_batch_from_csv_reports_bad_rows_by_line(wa: Wa) -> None:
    """Rows S4, Q2's shape of input; P12."""
    file = wa.write("orders.csv", f"phone,message\n{ADA},Order 1\nfoo,Order 2\n{BEN},Order 3\n")
    answer = wa("send", "batch", file)
    assert answer.exit == 3
    assert "line 3: 'foo'" in answer.err
    assert "queued 2 messages from orders.csv" in answer.out


def test_a_batch_from_json_lines_may_carry_keys(wa: Wa) -> None:
    """Rows S4, H5."""
    orders = [{"recipient": ADA, "text": "One", "key": "k:1"}, {"recipient": ADA, "text": "Two", "key": "k:2"}]
    file = wa.write("orders.jsonl", "".join(json.dumps(order) + "\n" for order in orders))
    assert wa("send", "batch", file, "--json").json()["queued"] == 2
    again = wa("send", "batch", file, "--json").json()
    assert (again["queued"], again["duplicates"]) == (0, 2)
    changed = wa.write("changed.jsonl", f'{{"recipient": "{ADA}", "text": "Other", "key": "k:1"}}\n')
    assert wa("send", "batch", changed).exit == 7


def test_a_batch_never_writes_to_one_person_twice_with_the_same_words(wa: Wa) -> None:
    file = wa.write("twice.csv", f"phone,message\n{ADA},Hello\n0065 8123 0001,Hello\n{ADA},Bye\n")
    answer = wa("send", "batch", file, "--json").json()
    assert (answer["queued"], answer["duplicates"]) == (2, 1)


def test_a_batch_with_one_message_too_long_queues_the_others(wa: Wa) -> None:
    file = wa.write("long.csv", f"phone,message\n{ADA},{'x' * 4097}\n{BEN},short\n")
    answer = wa("send", "batch", file)
    assert answer.exit == 3
    assert "line 2: the text is 1 character too long" in answer.err
    assert "queued 1 message" in answer.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("",), "text is empty"),
        (("   ",), "text"),
        (("x" * 4097,), "1 character too long"),
        ((), "there is no message to send"),
        (("Hello", "--delay", "2s"), "--delay is '2s'"),
        (("Hello", "--delay", "-1"), "--delay"),
        (("Hello", "--delay", "99999999999"), "out of range"),
        (("Hello", "--on-unknown", "maybe"), "--on-unknown is 'maybe'"),
        (("Hello", "--at", "now", "--immediate"), "exclude each other"),
        (("Hello", "--key", "a", "--again"), "exclude each other"),
        (("Hello", "--key", ""), "--key must be"),
        (("Hello", "--max-attempts", "0"), "--max-attempts"),
        (("Hello", "--type", "poll"), "--type poll needs --option"),
        (("--type", "image"), "needs --media"),
        (("--media", "http://example.org/a.jpg"), "https"),
        (("--media", "https://example.org/a.mp3", "--caption", "la"), "caption"),
        (("Hello", "--template", "hello_world"), "does not go with"),
        (("--template", "Hello World"), "template"),
        (("--template", "hello", "--param", "two\nlines"), "line"),
        (("Hello", "--at", "yesterday 9am"), ""),
        (("Hello", "--expires", "1970-01-01"), ""),
        (("Hello", "--instance", "nobody"), "no instance named 'nobody'"),
    ],
)
def test_what_cannot_be_meant_is_a_clear_usage_error(wa: Wa, words: tuple[str, ...], message: str) -> None:
    """Bad input of the faults page: exit 2, two lines, nothing written."""
    fill(wa, ADA)
    answer = wa("send", "subgroup", "vip", *words)
    assert answer.exit == 2
    assert message in answer.err
    assert answer.err.splitlines()[-1].startswith("hint: ")
    assert "Traceback" not in answer.err
    assert rows(wa, "SELECT count(*) FROM message") == [(0,)]


def test_an_unknown_subgroup_names_the_near_one(wa: Wa) -> None:
    fill(wa, ADA)
    answer = wa("send", "subgroup", "vpi", "Hello")
    assert answer.exit == 2
    assert "did you mean 'vip'" in answer.err


def test_an_empty_subgroup_is_an_error_that_says_how_to_fill_it(wa: Wa) -> None:
    wa("subgroup", "create", "vip")
    answer = wa("send", "subgroup", "vip", "Hello")
    assert answer.exit == 2
    assert "wa subgroup add vip" in answer.err


def test_more_than_fifty_without_a_terminal_goes_on_and_says_so(wa: Wa) -> None:
    fill(wa, *[f"+65812300{number:02d}" for number in range(51)])
    answer = wa("send", "subgroup", "vip", "Hello")
    assert answer.exit == 0
    assert "going on without a question: 51 recipients" in answer.err


def test_a_template_with_parameters_media_and_buttons_is_queued(wa: Wa) -> None:
    answer = wa(
        *("send", "to", ADA, "--template", "spring_sale", "--language", "en", "--param", "first_name=Ada"),
        *("--header", "image=https://example.org/a.jpg", "--button", "0=abc", "--json"),
    )
    assert answer.exit == 0
    body = rows(wa, "SELECT body FROM content")[0][0]
    assert '"name":"spring_sale"' in body
    assert '["first_name","Ada"]' in body


def test_immediate_jumps_the_queue(wa: Wa) -> None:
    """Row S3."""
    wa("send", "to", ADA, BEN, "--text", "Later")
    wa("send", "to", EVA, "--text", "Now", "--immediate")
    lanes = dict(rows(wa, "SELECT contact.address, lane FROM message JOIN contact ON contact.id = contact_id"))
    assert lanes[EVA] < min(lanes[ADA], lanes[BEN])


@pytest.mark.parametrize("text", ["-v", "--json", "--db", "-q"])
def test_a_text_that_looks_like_a_global_flag_is_a_text(wa: Wa, text: str) -> None:
    answer = wa("send", "to", ADA, "--text", text, "--json").json()
    assert answer["queued"] == 1
    assert rows(wa, "SELECT body FROM content") == [(f'{{"body":"{text}","type":"text"}}',)]


def test_queueing_says_that_nothing_sends_yet(wa: Wa) -> None:
    assert "`wa run` starts the daemon" in wa("send", "to", ADA, "--text", "Hello").err
