"""Campaign files: what a whole one says, and what is told of a wrong one, with its line.  Issue 5, point 1."""

from __future__ import annotations

import json
import math
import random
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import pytest

from wa_cli.domain.campaign import Missed, Pacing, Priority, Quiet, StopRules
from wa_cli.domain.message import OnUnknown
from wa_cli.errors import FileMistakes, UsageError
from wa_cli.sources.campaigns import (
    BUTTON_KEYS,
    HEADER_KINDS,
    KEYS,
    SOURCE_KEYS,
    VARIANT_KEYS,
    parse_campaign,
    read_campaign,
)

MESSAGE = '[message]\ntext = "Hi {{ name }}"\n'
AUDIENCE = '[audience]\nsubgroups = ["vip"]\n'
BASE = MESSAGE + AUDIENCE  # four lines
FILE = "campaigns/sale.toml"

WHOLE = """\
title = "Gala night"
instance = "events"
priority = "high"
expires = "2h"
on_unknown = "skip"
max_attempts = 3
language = "jinja"
short_links = "https://go.example.org/"

[message]
text = "Hi {{ name }}, doors open at {{ doors }}"

[variables]
doors = "six"
Seats = 120

[fallbacks]
"First name" = "friend"

[audience]
any_of = [
    { subgroup = "vip" },
    { file = "people.csv", columns = { name = "First name" } },
    { contacts = { City = "Pune" } },
]
all_of = [{ subgroup = "consented" }]
none_of = [{ file = "staff.csv" }]

[schedule]
at = 2026-12-24 18:00:00
zone = "asia/singapore"
between = ["10:00", "5pm"]
missed = "skip"
grace = "30m"

[quiet]
hours = ["21:00", "09:00"]
days = ["sat-sun"]
dates = [2026-12-25]

[pacing]
delay = "2s"
jitter = 0.2
seed = 7

[limits]
per_minute = 30

[stop]
failure_rate = "10%"
opt_out_rate = false
after = 50

[canary]
size = 50
hold = "30m"

[costs]
rates = "rates.csv"
"""


def parse(text: str) -> object:
    return parse_campaign(text, name="sale", file=FILE)


def mistakes_of(text: str) -> tuple[str, ...]:
    with pytest.raises(FileMistakes) as caught:
        parse(text)
    assert caught.value.exit_code == 2
    return caught.value.mistakes


def test_a_file_may_say_its_own_name() -> None:
    """Issue 5, point 1: the name, where somebody looks for it."""
    assert parse_campaign("name = 'gala'\n" + BASE, name="gala", file="gala.toml").name == "gala"


def test_a_whole_file_is_read_to_its_last_key() -> None:
    spec = parse_campaign(WHOLE, name="gala", file=FILE)
    assert (spec.name, spec.title, spec.instance, spec.priority) == ("gala", "Gala night", "events", Priority.HIGH)
    assert (spec.expires, spec.on_unknown, spec.max_attempts, spec.language) == ("2h", OnUnknown.SKIP, 3, "jinja")
    assert spec.short_links == "https://go.example.org"
    assert spec.messages[0].text == "Hi {{ name }}, doors open at {{ doors }}"
    assert spec.variables == (("doors", "six"), ("seats", "120"))
    assert spec.fallbacks == (("first_name", "friend"),)
    first, second, third = spec.audience.any_of
    assert (first.kind, first.name) == ("subgroup", "vip")
    assert (second.kind, second.name, second.columns) == ("file", "people.csv", (("name", "First name"),))
    assert (third.kind, third.match) == ("contacts", (("city", "Pune"),))
    assert [source.name for source in spec.audience.all_of + spec.audience.none_of] == ["consented", "staff.csv"]
    assert (spec.schedule.at, spec.schedule.zone, spec.schedule.is_local) == (
        "2026-12-24 18:00:00",
        "Asia/Singapore",
        False,
    )
    assert (spec.schedule.between, spec.schedule.missed, spec.schedule.grace_ms) == (
        (600, 1020),
        Missed.SKIP,
        1_800_000,
    )
    assert spec.quiet == Quiet(start=1260, end=540, days=frozenset({5, 6}), dates=frozenset({"2026-12-25"}))
    assert spec.pacing == Pacing(delay_ms=2000, jitter=0.2, seed=7)
    assert spec.limits == (("per_minute", 30),)
    assert spec.stop == StopRules(failure_rate=0.1, opt_out_rate=None, after=50)
    assert spec.canary is not None
    assert (spec.canary.size, spec.canary.hold_ms) == (50, 1_800_000)
    assert spec.rates == "rates.csv"
    assert not spec.is_recurring


def test_a_file_with_words_and_people_needs_nothing_more() -> None:
    spec = parse_campaign(BASE, name="sale", file=FILE)
    assert spec.title == "sale"
    assert spec.quiet.is_empty
    assert spec.canary is None
    assert spec.stop == StopRules()


def test_variants_have_names_and_shares() -> None:
    spec = parse_campaign(
        AUDIENCE + '[[variant]]\nname = "a"\ntext = "A"\n[[variant]]\nname = "b"\nweight = 3\ntext = "B"\n',
        name="sale",
        file=FILE,
    )
    assert [(message.name, message.weight, message.text) for message in spec.messages] == [("a", 1, "A"), ("b", 3, "B")]


def test_a_template_takes_its_values_by_place_or_by_name() -> None:
    template = AUDIENCE + '[message]\ntemplate = "sale_now"\ntemplate_language = "en"\n'
    spec = parse_campaign(
        template
        + 'parameters = ["{{ name }}", 20]\nheader = { image = "https://example.org/{{ shoe }}.jpg" }\n'
        + 'buttons = [{ index = 1, type = "url", value = "{{ code }}" },'
        + ' { index = 0, type = "quick_reply", value = "yes" }]\n',
        name="sale",
        file=FILE,
    )
    message = spec.messages[0]
    assert (message.template, message.language) == ("sale_now", "en")
    assert message.parameters == (("1", "{{ name }}"), ("2", "20"))
    assert message.header == ("image", "https://example.org/{{ shoe }}.jpg")
    assert message.buttons == ((0, "quick_reply", "yes"), (1, "url", "{{ code }}"))
    spec = parse_campaign(template + 'parameters = { first_name = "{{ name }}" }\n', name="sale", file=FILE)
    assert spec.messages[0].parameters == (("first_name", "{{ name }}"),)


@pytest.mark.parametrize(
    ("zone", "expected"), [("recipient", (None, True)), ("Recipient", (None, True)), ("utc", ("UTC", False))]
)
def test_a_zone_is_a_place_or_the_recipients_own(zone: str, expected: tuple[str | None, bool]) -> None:
    """Issue 5, point 5."""
    spec = parse_campaign(BASE + f'[schedule]\nat = "18:00"\nzone = "{zone}"\n', name="sale", file=FILE)
    assert (spec.schedule.zone, spec.schedule.is_local) == expected


def test_a_window_and_quiet_hours_may_go_over_midnight() -> None:
    spec = parse_campaign(BASE + '[schedule]\nbetween = ["22:00", "02:00"]\n', name="sale", file=FILE)
    assert spec.schedule.between == (1320, 120)


@pytest.mark.parametrize("words", ["monday 9am", "tuesday 09:00", "tomorrow 9am", "2020-01-01 09:00", "in 2h", "now"])
def test_a_time_is_checked_for_its_words_and_not_for_todays_date(words: str) -> None:
    spec = parse_campaign(BASE + f'[schedule]\nat = "{words}"\n', name="sale", file=FILE)
    assert spec.schedule.at == words


# (text, line, where, words that must be told)
WRONG = [
    # The top of the file
    ("titel = 'x'\n" + BASE, 1, "titel", "did you mean 'title'?"),
    ("name = 'x'\n" + BASE, 1, "name", "called as its file is"),
    ("per_minute = 30\n" + BASE, 1, "per_minute", "it belongs into [limits]"),
    ("nonsense = 1\n" + BASE, 1, "nonsense", "what may stand here: audience, canary, costs"),
    ("\n\ntitle = 5\n" + BASE, 3, "title", 'a text in quotes, such as "Gala night", and is the number 5'),
    ("title = ' '\n" + BASE, 1, "title", "is empty"),
    ("title = 'a\u2028b'\n" + BASE, 1, "title", "is one line"),
    ("priority = 'hihg'\n" + BASE, 1, "priority", "did you mean 'high'?"),
    ("priority = 1\n" + BASE, 1, "priority", 'one of "high", "normal", "low", and is the number 1'),
    ("on_unknown = 'retry'\n" + BASE, 1, "on_unknown", 'one of "hold", "resend", "skip"'),
    ("max_attempts = 0\n" + BASE, 1, "max_attempts", "is 0 and goes from 1 to 100"),
    ("max_attempts = '5'\n" + BASE, 1, "max_attempts", "leave the quotes away"),
    ("max_attempts = true\n" + BASE, 1, "max_attempts", "a whole number, such as 5, and is true"),
    ("language = 'html'\n" + BASE, 1, "language", 'one of "plain", "jinja"'),
    ("expires = '5 parsecs'\n" + BASE, 1, "expires", "'parsecs' is not a unit of time"),
    ("expires = 'soon'\n" + BASE, 1, "expires", "'soon' is not a time"),
    ("short_links = 'go.example.org'\n" + BASE, 1, "short_links", "write it like https://go.example.org"),
    ("short_links = 'http://example.org'\n" + BASE, 1, "short_links", "write it like https://go.example.org"),
    ("instance = ['a']\n" + BASE, 1, "instance", "and is a list"),
    # The message
    (AUDIENCE, 1, "", "there is no [message]"),
    (AUDIENCE + "message = 'Hi'\n", 3, "[audience] message", "it belongs to the top of the file"),
    ("message = 'Hi'\n" + AUDIENCE, 1, "message", "must be a table, such as [message]"),
    (BASE + "[[variant]]\nname = 'a'\ntext = 'A'\n", 5, "variant", "there is a [message] already"),
    (AUDIENCE + "[message]\n", 3, "message", "says nothing; add text"),
    (AUDIENCE + "[message]\ntext = ''\n", 4, "[message] text", "is empty"),
    (AUDIENCE + '[message]\ntext = "\\u0000"\n', 4, "[message] text", "a NUL character"),
    (AUDIENCE + "[message]\nbody = 'Hi'\ntext = 'Hi'\n", 4, "[message] body", "no such key"),
    (MESSAGE + "priority = 'high'\n" + AUDIENCE, 3, "[message] priority", "above the first [table]"),
    (MESSAGE + "template = 'a'\n" + AUDIENCE, 2, "[message] text", "does not go with a template"),
    (MESSAGE + "parameters = ['a']\n" + AUDIENCE, 3, "[message] parameters", "belongs to a template"),
    (MESSAGE + "filename = 'a.pdf'\n" + AUDIENCE, 3, "[message] filename", "belongs to media"),
    (MESSAGE + "media = 'ftp://example.org/menu.pdf'\n" + AUDIENCE, 3, "[message] media", "https:// in front"),
    (
        MESSAGE + "media = 'https://a.example/x'\nmedia_type = 'movie'\n" + AUDIENCE,
        4,
        "[message] media_type",
        'one of "image", "video"',
    ),
    (
        MESSAGE + "media = 'https://a.example/x'\nmedia_type = 'audio'\n" + AUDIENCE,
        2,
        "[message] text",
        "has no caption",
    ),
    (MESSAGE + "link_preview = 'yes'\n" + AUDIENCE, 3, "[message] link_preview", "true or false, without quotes"),
    (AUDIENCE + "[message]\ntemplate = 'Sale Now'\n", 4, "[message] template", "made of a-z, 0-9 and _"),
    (
        AUDIENCE + "[message]\ntemplate = 'a'\ntemplate_language = 'en-US'\n",
        5,
        "[message] template_language",
        "write en_US",
    ),
    (
        AUDIENCE + "[message]\ntemplate = 'a'\nparameters = [\n  'x',\n  true,\n]\n",
        7,
        "[message] parameters, item 2",
        "must be a text in quotes, and is true",
    ),
    (
        AUDIENCE + "[message]\ntemplate = 'a'\nparameters = { 1 = 'x' }\n",
        5,
        "[message] parameters, 1",
        "values by their place are a list",
    ),
    (
        AUDIENCE + "[message]\ntemplate = 'a'\nheader = { image = 'https://a.example', text = 'x' }\n",
        5,
        "[message] header",
        "has exactly one of text, image, video, document",
    ),
    (
        AUDIENCE + "[message]\ntemplate = 'a'\nheader = { picture = 'https://a.example' }\n",
        5,
        "[message] header, picture",
        "what may stand here: document, image, text, video",
    ),
    (
        AUDIENCE + "[message]\ntemplate = 'a'\nbuttons = [\n  { index = 0, type = 'url', value = 'a' },\n"
        "  { index = 0, type = 'link', value = 'b' },\n]\n",
        7,
        "[message] buttons, item 2, index",
        "button 0 stands there twice",
    ),
    (
        AUDIENCE + "[message]\ntemplate = 'a'\nbuttons = [\n  { index = 0, value = 'a' },\n]\n",
        6,
        "[message] buttons, item 1",
        "has no type",
    ),
    # Variants
    (AUDIENCE + "[[variant]]\ntext = 'A'\n", 3, "[[variant]]", "has no name"),
    (
        AUDIENCE + "[[variant]]\nname = 'a'\ntext = 'A'\n[[variant]]\nname = 'A'\ntext = 'B'\n",
        7,
        "[[variant]] name",
        "there is a variant 'A' already",
    ),
    (
        AUDIENCE + "[[variant]]\nname = 'a'\ntext = 'A'\nweight = 0\n",
        6,
        "[[variant]] weight",
        "goes from 1 to 1,000,000; leave out a variant for nobody",
    ),
    (AUDIENCE + "[variant]\nname = 'a'\n", 3, "variant", "must be a list, such as"),
    # Variables
    (BASE + "[variables]\n'two words!' = 'x'\n", 6, "[variables] two words!", "letters, digits and _"),
    (BASE + "[variables]\na = 'x'\nA = 'y'\n", 7, "[variables] A", "'a' stands here twice"),
    (BASE + "[variables]\nprice = 1.50\n", 6, "[variables] price", "must be a text in quotes, and is the number 1.5"),
    (BASE + "[fallbacks]\nname = ''\n", 6, "[fallbacks] name", "is empty"),
    (BASE + "[variables]\nname = '{{ x }}'\n", 6, "[variables] name", "holds braces"),
    # The words
    (AUDIENCE + "[message]\ntext = 'Hi {{ name'\n", 4, "[message] text", "a brace is missing"),
    (AUDIENCE + '[message]\ntext = """\nHi,\n\n{{ a | nofilter }}"""\n', 7, "[message] text", "'nofilter'"),
    (AUDIENCE + "[message]\ntext = '''Hi,\n{{ a | nofilter }}'''\n", 5, "[message] text", "'nofilter'"),
    (AUDIENCE + '[message]\ntext = "Hi,\\n{{ a | nofilter }}"\n', 4, "[message] text", "'nofilter'"),
    (AUDIENCE + '[message]\ntext = """\nHi, \\\n  {{ a | nofilter }}"""\n', 4, "[message] text", "'nofilter'"),
    (AUDIENCE + "[message]\ntext = '{% if a %}b{% endif %}'\n", 4, "[message] text", 'put language = "jinja"'),
    (
        "language = 'jinja'\n" + AUDIENCE + "[message]\ntext = '{% for a in b %}{{ a }}'\n",
        5,
        "[message] text",
        "endfor",
    ),
    (
        AUDIENCE + "[message]\ntemplate = 'a'\nparameters = [\n  'a',\n  '{{ b'\n]\n",
        7,
        "[message] parameters, item 2",
        "a brace is missing",
    ),
    (
        AUDIENCE + "[[variant]]\nname = 'a'\ntemplate = 'a'\n[variant.header]\nimage = 'https://a.example/{{ b'\n",
        7,
        "[[variant]] header, image",
        "a brace is missing",
    ),
    # The audience
    (MESSAGE, 1, "", "there is no [audience]"),
    (MESSAGE + "[audience]\n", 3, "audience", "names nobody"),
    (MESSAGE + "[audience]\nsubgroup = 'vip'\n", 4, "[audience] subgroup", "did you mean 'subgroups'?"),
    (MESSAGE + "[audience]\nsubgroups = 'vip'\n", 4, "[audience] subgroups", 'must be a list, such as ["vip"]'),
    (MESSAGE + "[audience]\nsubgroups = []\n", 4, "[audience] subgroups", "is empty"),
    (MESSAGE + "[audience]\nsubgroups = [\n'a',\n'-b',\n]\n", 6, "[audience] subgroups, item 2", "like a flag"),
    (MESSAGE + "[audience]\ncontacts = false\n", 4, "[audience] contacts", "must be true for everybody"),
    (MESSAGE + "[audience]\nany_of = ['vip']\n", 4, "[audience] any_of, item 1", 'such as { subgroup = "vip" }'),
    (
        MESSAGE + "[audience]\nany_of = [\n  { subgroup = 'a' },\n  { subgroup = 'b', file = 'c.csv' },\n]\n",
        6,
        "[audience] any_of, item 2",
        "has subgroup and file, and may have one of them",
    ),
    (
        MESSAGE + "[audience]\nany_of = [{ subgrop = 'a' }]\n",
        4,
        "[audience] any_of, item 1, subgrop",
        "did you mean 'subgroup'?",
    ),
    (
        AUDIENCE + MESSAGE + "[[audience.none_of]]\nfile = 'a.csv'\ncolumns = { name = 3 }\n",
        7,
        "[audience] none_of, item 1, columns, name",
        "must be a text in quotes",
    ),
    (
        MESSAGE + "[audience]\nany_of = [{ contacts = { city = [1] } }]\n",
        4,
        "[audience] any_of, item 1, contacts, city",
        "and is a list",
    ),
    # When
    (BASE + "[schedule]\nat = '25:00'\n", 6, "[schedule] at", "there is no time '25:00'"),
    (BASE + "[schedule]\nat = '01/02/2027 09:00'\n", 6, "[schedule] at", "could be 1 February 2027 or 2 January 2027"),
    (BASE + "[schedule]\nat = '18:00'\nevery = 'monday 09:00'\n", 7, "[schedule] every", "there is an at already"),
    (BASE + "[schedule]\nevery = 'dialy 09:00'\n", 6, "[schedule] every", "did you mean daily"),
    (BASE + "[schedule]\nevery = 'every other friday 9am'\n", 6, "[schedule] every", "second friday of month 9am"),
    (BASE + "[schedule]\nevery = '0 9 * * 8'\n", 6, "[schedule] every", "'8' is not a weekday"),
    (BASE + "[schedule]\nuntil = '2027-03-31'\n", 6, "[schedule] until", "only a recurring campaign"),
    (BASE + "[schedule]\nevery = 'monday 09:00'\nuntil = 'then'\n", 7, "[schedule] until", "'then' is not a day"),
    (BASE + "[schedule]\nzone = 'Asia/Singapor'\n", 6, "[schedule] zone", "did you mean Asia/Singapore"),
    (BASE + "[schedule]\nbetween = ['10:00']\n", 6, "[schedule] between", "has a begin and an end"),
    (BASE + "[schedule]\nbetween = ['10:00', '10:00']\n", 6, "[schedule] between", "at the same time"),
    (BASE + "[schedule]\nbetween = '10:00-17:00'\n", 6, "[schedule] between", "two times of day"),
    (
        BASE + "[schedule]\nbetween = [\n '10:00',\n '5'\n]\n",
        8,
        "[schedule] between, item 2",
        "could be 05:00 or 17:00",
    ),
    (BASE + "[schedule]\nmissed = 'drop'\n", 6, "[schedule] missed", 'one of "send", "skip"'),
    (BASE + "[schedule]\ngrace = 3600\n", 6, "[schedule] grace", 'such as "1h", and is the number 3600'),
    (BASE + "[quiet]\ndays = ['sonday']\n", 6, "[quiet] days, item 1", "is not a day of the week"),
    (BASE + "[quiet]\ndates = ['25 Dec']\n", 6, "[quiet] dates, item 1", "write it like 2027-03-31"),
    (BASE + "[quiet]\ndays = ['mon-sun']\n", 5, "quiet", "all seven days of the week are quiet"),
    (
        BASE + "[schedule]\nbetween = ['22:00', '23:00']\n[quiet]\nhours = ['21:00', '09:00']\n",
        7,
        "quiet",
        "nothing could ever leave",
    ),
    # How fast, how far, and at what price
    (BASE + "[pacing]\ndelay = 'fast'\n", 6, "[pacing] delay", "is not a length of time"),
    (BASE + "[pacing]\ndelay = -1\n", 6, "[pacing] delay", "goes from 0 to 86,400,000 ms"),
    (BASE + "[pacing]\ndelay = 1.5\n", 6, "[pacing] delay", 'such as 2000 (ms) or "auto", and is the number 1.5'),
    (BASE + "[pacing]\njitter = 2\n", 6, "[pacing] jitter", "goes from 0 to 0.9"),
    (BASE + "[pacing]\njitter = nan\n", 6, "[pacing] jitter", "goes from 0 to 0.9"),
    (BASE + "[pacing]\njitter = '20%'\n", 6, "[pacing] jitter", "must be a number"),
    (BASE + "[limits]\nper_minut = 3\n", 6, "[limits] per_minut", "did you mean 'per_minute'?"),
    (BASE + "[limits]\nper_minute = 0\n", 6, "[limits] per_minute", "never faster"),
    (BASE + "[stop]\nfailure_rate = 10\n", 6, "[stop] failure_rate", 'write "10%" with its sign'),
    (BASE + "[stop]\nfailure_rate = '110%'\n", 6, "[stop] failure_rate", "must be a share above 0"),
    (BASE + "[stop]\nafter = 0\n", 6, "[stop] after", "goes from 1"),
    (BASE + "[canary]\nhold = '30m'\n", 5, "canary", "has no size"),
    (BASE + "[canary]\nsize = 0\n", 6, "[canary] size", "is 0 and goes from 1"),
    (BASE + "[canary]\nsize = 5\nhold = '0h'\n", 7, "[canary] hold", "no time at all"),
    (BASE + "[costs]\n", 5, "costs", "names no rates"),
    (BASE + "[costs]\nrates = ['a']\n", 6, "[costs] rates", "and is a list"),
]


@pytest.mark.parametrize(("text", "line", "where", "words"), WRONG, ids=range(len(WRONG)))
def test_a_mistake_is_told_with_its_file_line_and_key_and_what_would_be_right(
    text: str, line: int, where: str, words: str
) -> None:
    """Issue 5, point 1."""
    begin = f"{FILE}:{line}: {where}: " if where else f"{FILE}:{line}: "
    told = mistakes_of(text)
    assert any(one.startswith(begin) and words in one for one in told), told
    assert all("\n" not in one for one in told)


SYNTAX = [
    ('title = "x\n' + BASE, 1, "not closed on its line"),
    ("\ntitle = x\n" + BASE, 2, "put texts in double quotes"),
    ("\ntitle 'x'\n" + BASE, 2, "need a = between them"),
    (BASE + "[quiet\n", 5, "add ]"),
    (BASE + "subgroups = ['a']\n", 5, "for the second time"),
    (BASE + "[message]\n", 5, "for the second time"),
    (BASE + "any_of = [{ subgroup = 'a' }\n", 5, "a list is not closed"),
    (BASE + "text = 'a' 'b'\n", 5, "something stands behind the value"),
    (BASE + 'files = ["C:\\people.csv"]\n', 5, "write \\\\, or use single quotes"),
    (BASE + "at = 2026-02-30\n", 5, "no such date or time"),
    (BASE + "text = '''\nendless\n", 6, "not closed"),
    (BASE + "a = " + "[" * 5000, 1, "nested too deeply"),
    (BASE + f"a = {'9' * 5000}\n", 1, "not TOML"),
]


@pytest.mark.parametrize(("text", "line", "words"), SYNTAX, ids=range(len(SYNTAX)))
def test_a_file_that_is_no_toml_is_told_with_its_line(text: str, line: int, words: str) -> None:
    """Issue 5, point 1."""
    (told,) = mistakes_of(text)
    assert told.startswith(f"{FILE}:{line}: "), told
    assert words in told


def test_all_mistakes_of_a_file_are_told_at_once_in_its_order() -> None:
    """Issue 5, point 1."""
    told = mistakes_of("priority = 'x'\n" + MESSAGE + "[stop]\nafter = -1\n[audience]\nsubgroups = [1]\n")
    assert [one.split(": ")[0] for one in told] == [f"{FILE}:1", f"{FILE}:5", f"{FILE}:7"]
    with pytest.raises(FileMistakes) as caught:
        parse("priority = 'x'\n")
    assert caught.value.message == "\n".join(caught.value.mistakes)
    assert caught.value.hint == "correct those 3 lines, then `wa campaign validate sale`"


# Files


def write(folder: Path, text: str, name: str = "sale.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_campaign_is_called_as_its_file_is_and_its_text_comes_back(tmp_path: Path) -> None:
    spec, text = read_campaign(write(tmp_path, BASE))
    assert (spec.name, text) == ("sale", BASE)


def test_a_name_that_could_not_be_typed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileMistakes, match="'summer sale' cannot be the name of a campaign"):
        read_campaign(write(tmp_path, BASE, "summer sale.toml"))


def test_a_mark_and_line_ends_of_windows_change_neither_lines_nor_values(tmp_path: Path) -> None:
    path = tmp_path / "sale.toml"
    path.write_bytes(b"\xef\xbb\xbf" + BASE.replace("\n", "\r\n").encode())
    assert read_campaign(path)[0].messages[0].text == "Hi {{ name }}"
    path.write_bytes(b"\xef\xbb\xbf" + (BASE + "[stop]\nafter = 0\n").replace("\n", "\r\n").encode())
    with pytest.raises(FileMistakes, match=r":6: \[stop\] after"):
        read_campaign(path)


def test_lists_that_are_not_there_are_told_with_their_lines(tmp_path: Path) -> None:
    """Paths begin where the campaign's file is, and may lead out of there."""
    folder = tmp_path / "campaigns"
    folder.mkdir()
    (tmp_path / "people.csv").write_text("phone\n+6581234567\n")
    (folder / "list").mkdir()
    text = (
        MESSAGE
        + '[audience]\nfiles = [\n"../people.csv",\n"gone.csv",\n"list",\n]\nnone_of = [{ file = "/dev/null" }]\n'
        + '[costs]\nrates = "rates.csv"\n'
    )
    with pytest.raises(FileMistakes) as caught:
        read_campaign(write(folder, text))
    told = [one.removeprefix(f"{folder}/sale.toml:") for one in caught.value.mistakes]
    assert told == [
        "6: [audience] files, item 2: there is no file 'gone.csv'; paths begin where the campaign's file is",
        "7: [audience] files, item 3: 'list' is a directory; name a file in it",
        "9: [audience] none_of, item 1, file: '/dev/null' is a pipe or a device; name a file",
        "11: [costs] rates: there is no file 'rates.csv'; paths begin where the campaign's file is",
    ]


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        read_campaign(tmp_path / "sale.toml")
    with pytest.raises(UsageError, match="is a directory"):
        read_campaign(tmp_path)
    with pytest.raises(UsageError, match="a pipe or a device"):
        read_campaign(Path("/dev/zero"))
    path = tmp_path / "sale.toml"
    path.write_bytes(b"title = 'a'\ntitle = '\xe4'\n")
    with pytest.raises(FileMistakes, match=r":2: the byte 0xE4 is not UTF-8"):
        read_campaign(path)
    path.write_bytes(b"# " + b"x" * 1024 * 1024)
    with pytest.raises(UsageError, match="larger than a campaign file can be"):
        read_campaign(path)


# Whatever stands in it

ALL_KEYS = sorted(
    {*VARIANT_KEYS, *SOURCE_KEYS, *BUTTON_KEYS, *HEADER_KINDS, *(key for keys in KEYS.values() for key in keys)}
)
SCALARS = (
    *(True, False, 0, 1, -1, 10**20, 0.1, 1e300, math.inf, math.nan),
    *(
        "",
        " ",
        "a",
        "{{ name }}",
        "{{",
        "{% if a %}",
        "10%",
        "30m",
        "18:00",
        "monday 09:00",
        "\x00",
        "\\",
        "https://a.example",
    ),
    *(date(2027, 1, 1), time(9, 0), datetime(2027, 1, 1, 9, 0)),
)


def make_value(chance: random.Random, depth: int) -> Any:
    kind = chance.random()
    if depth and kind < 0.2:
        return [make_value(chance, depth - 1) for _ in range(chance.randrange(3))]
    if depth and kind < 0.6:
        return {key: make_value(chance, depth - 1) for key in chance.sample(ALL_KEYS, chance.randrange(4))}
    return chance.choice(SCALARS)


def make_section(chance: random.Random, key: str) -> Any:
    """Often a table with keys that belong there, or several, so that what lies deeper is reached."""
    known = VARIANT_KEYS if key == "variant" else KEYS.get(key, ())
    if not known or chance.random() < 0.2:
        return make_value(chance, 3)
    tables = [
        {name: make_value(chance, 2) for name in chance.sample(known, chance.randrange(len(known) + 1))}
        for _ in range(1 + (key == "variant"))
    ]
    return tables if key == "variant" else tables[0]


def write_value(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return json.dumps(value)
        case list():
            return f"[{', '.join(map(write_value, value))}]"
        case dict():
            return "{" + ", ".join(f"{json.dumps(key)} = {write_value(part)}" for key, part in value.items()) + "}"
        case int() | float():
            return str(value)
        case _:
            return str(value.isoformat())


@pytest.mark.parametrize("seed", range(10))
def test_whatever_stands_in_a_file_is_read_or_told_with_its_line(seed: int) -> None:
    """Issue 5, point 1; promise P12."""
    chance = random.Random(seed)
    told = 0
    for _file in range(30):
        keys = chance.sample(KEYS[""], chance.randrange(8))
        lines = [f"{key} = {write_value(make_section(chance, key))}" for key in keys]
        try:
            parse("\n".join(lines))
        except FileMistakes as error:
            for mistake in error.mistakes:
                place, number, words = mistake.split(":", 2)
                assert place == FILE
                key = keys[int(number) - 1] if keys else ""
                about_the_whole = words.startswith((" is for nobody", " says nothing to anybody"))
                assert about_the_whole or words.lstrip().startswith((key, f"[{key}]", f"[[{key}]]")), mistake
                told += 1
    assert told > 100
