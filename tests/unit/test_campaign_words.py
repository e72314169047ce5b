"""What a campaign file says, in plain words.  Issue 5, point 1."""

from __future__ import annotations

import pytest

from wa_cli.domain.campaign_words import describe_spec
from wa_cli.sources.campaigns import parse_campaign

BASE = '[message]\ntext = "Hi\\n{{ name }}"\n[audience]\nsubgroups = ["vip"]\n'


def describe(text: str) -> dict[str, str]:
    fields = describe_spec(parse_campaign(text, name="sale", file="sale.toml"))
    assert all(words.isprintable() and label for label, words in fields)
    assert len({label for label, _words in fields}) == len(fields)
    return dict(fields)


def test_a_short_file_shows_what_holds_without_being_said() -> None:
    assert describe(BASE) == {
        "campaign": "sale",
        "says": '"Hi\\n{{ name }}"',
        "to": "subgroup vip",
        "when": "as soon as it is started",
        "pace": "as fast as the limits allow",
        "stops": "by itself when over 25% failed or over 5% opted out, from 20 outcomes on",
        "sends by": "instance default, priority normal",
        "attempts": "5 at most; unknown outcomes are held until somebody decides",
    }


@pytest.mark.parametrize(
    ("above", "below", "label", "words"),
    [
        ("title = 'Sale'\n", "", "campaign", "sale (Sale)"),
        ("language = 'jinja'\n", "", "language", "jinja"),
        ("expires = '2h'\n", "", "expires", "2h after a message was due"),
        ("expires = '2030-01-01 09:00'\n", "", "expires", "2030-01-01 09:00"),
        (
            "short_links = 'https://go.example.org'\n",
            "",
            "links",
            "replaced by short ones under https://go.example.org",
        ),
        ("", "contacts = true\n", "to", "subgroup vip or every contact"),
        ("", "contacts = { City = 'Pune', vip = 1 }\n", "to", 'subgroup vip or contacts with city "Pune" and vip "1"'),
        ("", "all_of = [{ subgroup = 'a' }]\n", "but only", "subgroup a"),
        (
            "",
            "none_of = [{ file = 'a.csv', columns = { name = 'First' } }, { subgroup = 'b' }]\n",
            "but not",
            'file a.csv (name from "First") or subgroup b',
        ),
        ("", "[variables]\ndoors = 'six'\n", "for everybody", 'doors = "six"'),
        ("", "[fallbacks]\nname = 'friend'\n", "if missing", 'name = "friend"'),
        ("", "[schedule]\nat = '18:00'\n", "when", "18:00"),
        ("", "[schedule]\nevery = 'monday 9am'\n", "when", "every Monday at 09:00"),
        (
            "",
            "[schedule]\nevery = 'monday 9am'\nuntil = '2030-01-01'\n",
            "when",
            "every Monday at 09:00, until 2030-01-01",
        ),
        ("", "[schedule]\nevery = 'monday 9am'\ngrace = '90m'\n", "if missed", "sent up to 1 h 30 min late"),
        ("", "[schedule]\nevery = 'monday 9am'\nmissed = 'skip'\n", "if missed", "left out"),
        ("", "[schedule]\nzone = 'recipient'\n", "time zone", "everybody's own"),
        ("", "[schedule]\nzone = 'utc'\n", "time zone", "UTC"),
        ("", "[schedule]\nbetween = ['22:00', '01:30']\n", "spread over", "22:00 to 01:30"),
        ("", "[schedule]\nbetween = ['10:00', '12:00']\n", "pace", "evenly over its hours"),
        (
            "",
            "[quiet]\nhours = ['21:00', '09:00']\ndays = ['sat-sun']\n",
            "quiet",
            "21:00 to 09:00, on Saturday and Sunday",
        ),
        (
            "",
            "[pacing]\ndelay = 2000\njitter = 0.2\nseed = 7\n",
            "pace",
            "2,000 ms between two messages, shaken by 20% (seed 7)",
        ),
        ("", "[pacing]\ndelay = 'auto'\n", "pace", "by the number of people"),
        ("", "[limits]\nper_minute = 30\nper_hour = 1000\n", "limits", "at most 30 a minute and 1,000 an hour"),
        ("", "[canary]\nsize = 1\nhold = '5m'\n", "canary", "1 person first, the rest 5 min after them"),
        (
            "",
            "[stop]\nfailure_rate = false\nopt_out_rate = '0.5%'\n",
            "stops",
            "by itself when over 0.5% opted out, from 20 outcomes on",
        ),
        ("", "[stop]\nfailure_rate = false\nopt_out_rate = false\n", "stops", "never by itself"),
        ("", "[costs]\nrates = 'r.csv'\n", "prices", "from r.csv"),
    ],
)
def test_each_line_of_a_file_is_a_line_of_words(above: str, below: str, label: str, words: str) -> None:
    assert describe(above + BASE + below)[label] == words


def test_variants_templates_and_media_are_told_apart() -> None:
    audience = '[audience]\nsubgroups = ["vip"]\n'
    words = describe(
        audience
        + "[[variant]]\nname = 'a'\nweight = 3\nmedia = 'https://a.example/x.pdf'\nmedia_type = 'document'\n"
        + "text = 'Menu'\n"
        + "[[variant]]\nname = 'b'\ntemplate = 'sale'\nparameters = ['{{ name }}']\n"
        + "header = { image = 'https://a.example/x.jpg' }\nbuttons = [{ index = 1, type = 'url', value = 'x' }]\n"
    )
    assert words["says a"] == 'to 3 of 4: document "https://a.example/x.pdf", "Menu"'
    assert words["says b"] == (
        'to 1 of 4: template sale (en_US) with value 1 "{{ name }}", image "https://a.example/x.jpg", button 1 "x"'
    )


def test_what_is_long_or_cannot_be_seen_stays_on_its_line() -> None:
    words = describe('[message]\ntext = "' + "x" * 5000 + '"\n[audience]\nfiles = ["a\\u202eb.csv"]\n')
    assert len(words["says"]) <= 300
    assert words["to"] == "file a\\u202eb.csv"
