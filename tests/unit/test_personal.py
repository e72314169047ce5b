"""Personal words: filled from people's fields, strictly, within bounds, and never evaluated."""

from __future__ import annotations

import sys
from collections import Counter
from subprocess import run
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wa_cli.domain.bounded_jinja import Workshop
from wa_cli.domain.campaign import MessageSpec
from wa_cli.domain.message import (
    Media,
    MediaKind,
    Template,
    TemplateButton,
    TemplateHeader,
    TemplateParameter,
    Text,
)
from wa_cli.domain.personal import CannotFill, Filler, MissingField, choose_variant, shorten_links
from wa_cli.errors import UsageError


def filler(text: str, **options: Any) -> Filler:
    return Filler([MessageSpec(text=text)], **options)


def fill(text: str, fields: dict[str, str] | None = None, **options: Any) -> str:
    content = filler(text, **options).fill(0, fields or {})
    assert isinstance(content, Text)
    return content.body


def refusal(text: str, **options: Any) -> UsageError:
    with pytest.raises(UsageError) as caught:
        filler(text, **options).check()
    return caught.value


# --- variables ---


@pytest.mark.parametrize("written", ["First name", "first-name", "FIRST_NAME", "first_name", " First  Name "])
def test_a_field_is_found_under_every_spelling_of_its_name(written: str) -> None:
    """Issue 5, point 2."""
    assert fill("Hi {{ First_Name }}!", {written: "Ada"}) == "Hi Ada!"


def test_of_two_spellings_the_first_that_holds_something_counts() -> None:
    assert fill("{{ name }}", {"Name ": " ", "NAME": "Ada", "Name": "Eva"}) == "Ada"


@pytest.mark.parametrize("value", ["", "  ", "\n\t", "\u200b", "\u00a0"])
def test_a_blank_value_counts_as_missing(value: str) -> None:
    """Issue 5, point 2: never a blank."""
    with pytest.raises(MissingField) as caught:
        fill("Hi {{ name }}", {"name": value})
    assert caught.value.name == "name"
    assert fill("Hi {{ name }}", {"name": value, "NAME": "Ada"}) == "Hi Ada"
    assert fill("Hi {{ name }}", {"name": value}, fallbacks=[("name", "friend")]) == "Hi friend"


def test_what_the_campaign_says_for_everybody_comes_first_then_the_person_then_the_fallback() -> None:
    one = filler("{{ a }} {{ b }} {{ c }}", variables=[("A", "all")], fallbacks=[("c", "back"), ("B", "back")])
    assert one.fill(0, {"a": "own", "b": "own"}) == Text(body="all own back")
    assert one.variables == {"b", "c"}


def test_fallbacks_that_were_needed_are_counted() -> None:
    one = filler(
        '{{ name }} {{ city | default("here") }} {{ city | default("x") }} {{ day }}', fallbacks=[("name", "friend")]
    )
    used: Counter[str] = Counter()
    one.fill(0, {"day": "Monday"}, used=used)
    one.fill(0, {"day": "Monday", "city": "Pune"}, used=used)
    one.fill(0, {"day": "Monday", "city": "Pune", "name": "Ada"}, used=used)
    assert used == {"name": 2, "city": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ name | title }}", "Mary-Ann O'neil"),
        ("{{ name | upper }}", "MARY-ANN O'NEIL"),
        ("{{name|trim|lower}}", "mary-ann o'neil"),
        ('{{ other | default("friend") | upper }}', "FRIEND"),
        ('{{ other | trim | default("friend") }}', "friend"),
        ("{{- name | capitalize -}}", "Mary-ann o'neil"),
        ("a{# a note #}b{% raw %}{{ c }}{% endraw %}", "ab{{ c }}"),
        ("{name} stays\n", "{name} stays"),
        ("no braces\n", "no braces"),
    ],
)
def test_plain_words_know_a_few_filters(text: str, said: str) -> None:
    assert fill(text, {"name": "mary-ann O'NEIL"}) == said


@given(st.text(), st.sampled_from(["plain", "jinja"]))
def test_what_a_field_holds_is_never_evaluated(value: str, language: str) -> None:
    """Fault 77: braces in a value stay braces."""
    for written in (value, f"{{{{ 7 * 7 }}}}{value}", f"{{% for x in y %}}{value}{{% endfor %}}"):
        text = "{% if 1 %}<{{ name }}>{% endif %}" if language == "jinja" else "<{{ name }}>"
        try:
            assert fill(text, {"name": written}, language=language) == f"<{written}>"
        except MissingField:
            assert not any(letter.isprintable() and not letter.isspace() for letter in written)
        except CannotFill:
            assert len(written) > 16_384


# --- what cannot be understood ---


@pytest.mark.parametrize(
    ("text", "words", "hint"),
    [
        ("Hi {{ first name }}", "{{ first name }} is no variable", "write {{ first_name }}"),
        ("Hi {{1}}", "{{ 1 }} is no variable", "parameters"),
        ("Hi {{ name }", "a brace is missing", "two braces"),
        ("Hi {{ name", "a brace is missing", "two braces"),
        ("Hi {{ }}", "names nothing", "{{ name }}"),
        ("one\ntwo {% if x %}y{% endif %}", "line 2: {% if %}", 'language = "jinja"'),
        ("{{ a.b }}", "a dot behind a name", 'language = "jinja"'),
        ("{{ a() }}", "a call such as name()", 'language = "jinja"'),
        ('{{ a | attr("b") }}', "the filter 'attr'", "upper, lower"),
        ('{{ a | default("") }}', "default takes one text", 'default("friend")'),
        ("{% include 'x' %}", "{% include %}", 'language = "jinja"'),
    ],
)
def test_what_is_no_plain_variable_is_refused_with_what_to_write_instead(text: str, words: str, hint: str) -> None:
    """Issue 5, point 2: plain variables by default."""
    error = refusal(text)
    assert words in error.message
    assert hint in (error.hint or "")


def test_a_mistake_names_its_variant_and_its_part() -> None:
    one = Filler(
        [
            MessageSpec(name="a", text="fine"),
            MessageSpec(name="b", template="t", parameters=(("1", "{{ x"),), buttons=((2, "url", "{{ 1 }}"),)),
        ]
    )
    assert [mistake.message.rpartition(":")[0] for mistake in one.mistakes] == [
        "variant 'b', parameter 1",
        "variant 'b', button 2",
    ]
    with pytest.raises(UsageError):
        one.fill(0, {})


def test_a_variable_of_another_program_is_sent_as_it_stands_and_warned_of() -> None:
    one = filler("Hi {First name}, {{ name }} {{name}} {% raw %}{{ x }}{% endraw %} {} {1} { a b c! }")
    one.check()
    assert one.warnings == (
        "the message, text: {First name} is sent as it stands; a variable is written {{ first_name }}",
    )


def test_a_value_for_everybody_that_holds_braces_is_a_mistake() -> None:
    assert "greeting" in refusal("x", variables=[("greeting", "Hi {{ name }}")]).message
    assert "name" in refusal("x", fallbacks=[("name", "{% if %}")]).message


# --- the whole of Jinja ---


def test_loops_and_conditions_are_there_once_they_are_asked_for() -> None:
    text = (
        "{% for item in items | split %}\n{{ loop.index }}. {{ item | title }}\n{% endfor %}\n"
        "{% if count | int > 1 %}\nThey are {{ count }}.\n{% endif %}\n"
    )
    assert fill(text, {"Items": "tea, milk", "COUNT": "2"}, language="jinja") == "1. Tea\n2. Milk\nThey are 2.\n"
    assert filler(text, language="jinja").variables == {"items", "count"}


def test_a_missing_field_is_missing_in_jinja_too() -> None:
    text = "{% if vip is defined %}Dear{% else %}Hi{% endif %} {{ name }}"
    assert fill(text, {"name": "Ada"}, language="jinja") == "Hi Ada"
    with pytest.raises(MissingField) as caught:
        fill(text, {"vip": "yes", "name": " "}, language="jinja")
    assert caught.value.name == "name"
    with pytest.raises(MissingField):
        fill("{% if name %}x{% endif %}", {}, language="jinja")
    used: Counter[str] = Counter()
    one = filler('{% if a is defined %}{% endif %}{{ name | default("you") ~ "!" }}', language="jinja")
    assert one.fill(0, {}, used=used) == Text(body="you!")
    assert used == {"name": 1}


ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ name.__class__ }}",
    "{{ name['__class__'] }}",
    "{{ name | attr('__class__') }}",
    "{{ '%s' % name }}",
    "{{ '{0.__class__}'.format(name) }}",
    "{{ ['{0.__class__}', name] | map('format') | list }}",
    "{{ name | map(attribute='__class__') | list }}",
    "{{ name.format }}",
    "{{ self.__init__.__globals__ }}",
    "{{ SELF }}{% if 1 %}{% endif %}",
    "{{ self._TemplateReference__context }}",
    "{{ cycler.__init__.__globals__.os }}",
    "{{ lipsum.__globals__['os'] }}",
    "{{ config }}{{ request.application }}",
    "{{ joiner('x') }}",
    "{{ namespace(a=1) }}",
    "{{ dict(a=1) }}",
    "{{ range(1000000000) | join }}",
    "{% for x in range(10**9) %}{% endfor %}",
    "{{ 'x' * 1000000000 }}",
    "{{ 10 ** 10 ** 10 }}",
    "{{ 'x' | center(1000000000) }}",
    "{{ 'x' | indent(1000000000) }}",
    "{% set x = 'a' %}{% set x = x ~ x %}{{ x }}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{% from 'os' import system %}",
    "{% extends 'base' %}",
    "{% block b %}{{ super() }}{% endblock %}",
    "{% call name() %}{% endcall %}",
    "{% filter upper %}x{% endfilter %}",
    "{% for x in name recursive %}{{ loop(x) }}{% endfor %}",
    "{% for x in name %}{{ loop.__class__ }}{{ loop.cycle }}{% endfor %}",
    "{{ name is filter }}",
    "{{ {'a': 1} }}",
    "{{ name | xmlattr }}",
    "{{ name | pprint }}",
    "{{ name | tojson }}",
    "{{ name[1.5] }}",
    "{{ name[other] }}",
]


@pytest.mark.parametrize("text", ESCAPES)
@pytest.mark.parametrize("language", ["plain", "jinja"])
def test_no_way_out_of_the_bounds_is_taken(text: str, language: str) -> None:
    """Fault 77: escapes and bombs are refused when they are read, before anybody's fields are there."""
    with pytest.raises(UsageError):
        filler(text, language=language).check()


@pytest.mark.parametrize("name", ["config", "request", "range", "lipsum", "cycler", "loop", "_", "__class__"])
@pytest.mark.parametrize("language", ["plain", "jinja"])
def test_names_that_mean_something_elsewhere_are_fields_like_any_other(name: str, language: str) -> None:
    """Fault 77."""
    text = f"{{{{ {name} }}}}{'{% if 1 %}{% endif %}' if language == 'jinja' else ''}"
    with pytest.raises(MissingField) as caught:
        fill(text, {}, language=language)
    assert caught.value.name == name
    assert fill(text, {name: "own"}, language=language) == "own"


@pytest.mark.parametrize(
    "text",
    [
        "{% for a in x %}{% for b in x %}{% for c in x %}{{ c }}{% endfor %}{% endfor %}{% endfor %}",
        f"{{% for a in {list(range(40))} %}}{{% for b in {list(range(40))} %}}x{{% endfor %}}{{% endfor %}}",
        '{{ x | replace("a", x) | replace("a", x) | replace("a", x) | replace("a", x) }}',
        "{{ x | join(x) | join(x) }}",
        "{% for a in x %}{% if a %}{{ x }}{{ x }}{{ x }}{{ x }}{% endif %}{% endfor %}",
        "{{ x | int }}",
        '{{ x | split("") }}',
        "{{ x + 1 }}",
        "{{ x[900:901] | first }}",
    ],
)
def test_a_text_that_grows_or_fails_is_a_finding_for_that_person(text: str) -> None:
    """Fault 77: time and output are capped."""
    one = filler(text, language="jinja")
    one.check()
    with pytest.raises(CannotFill) as caught:
        one.fill(0, {"x": "a" * 500})
    assert "aaaa" not in caught.value.details


def test_plain_words_do_not_grow_without_end_either() -> None:
    with pytest.raises(CannotFill):
        fill("{{ x }}" * 1000, {"x": "a" * 60_000})


def test_a_long_program_is_refused_and_so_are_long_fields_in_one() -> None:
    with pytest.raises(CannotFill):
        fill("{% if 1 %}{{ x[0] }}{% endif %}", {"x": "a" * 20_000}, language="jinja")
    assert "characters" in refusal("{% if a %}" + "x" * 20_000 + "{% endif %}", language="jinja").message


PIECES = st.sampled_from(
    [
        *("{{ a }}", "{{ b | upper }}", "{{- a | trim -}}", '{{ c | default("x") | title }}', "{{a|lower}}"),
        *(" ", "\n", "word", "{# note #}\n", "{% raw %}{{ a }}{% endraw %}", "{a}", "*", "é😀"),
    ]
)


@given(st.lists(PIECES, max_size=8), st.text(alphabet="aB -'é", min_size=1).filter(str.strip), st.booleans())
def test_plain_words_say_what_jinja_would_say(pieces: list[str], value: str, has_third: bool) -> None:
    text = "".join(pieces)
    fields = {"a": value, "b": "bé"} | ({"c": value} if has_third else {})
    workshop = Workshop()
    program = workshop.make_program(workshop.parse(text), {}, length=len(text), is_link=False)
    assert fill(text, fields) == program.fill(fields, set())


# --- every kind of message ---


def test_media_is_told_by_the_ending_of_its_own_link() -> None:
    spec = MessageSpec(media="https://example.org/{{ poster }}", text="For {{ name }}", filename="{{ name }}.pdf")
    one = Filler([spec])
    assert one.fill(0, {"poster": "a b.jpg", "name": "Ada"}) == Media(
        kind=MediaKind.IMAGE, link="https://example.org/a%20b.jpg", caption="For Ada", filename="Ada.pdf"
    )
    filled = one.fill(0, {"poster": "menü.pdf?v=1", "name": "Ada"})
    assert isinstance(filled, Media)
    assert (filled.kind, filled.link) == (MediaKind.DOCUMENT, "https://example.org/men%C3%BC.pdf?v=1")
    assert one.variables == {"poster", "name"}
    whole = Filler([MessageSpec(media="{{ link }}", media_type="video")])
    link = "https://example.org/a%20b?x=1&y=2"
    assert whole.fill(0, {"link": link}) == Media(kind=MediaKind.VIDEO, link=link)


def test_a_template_gets_its_parameters_header_and_buttons() -> None:
    """Issue 5, point 2: template parameters and buttons too."""
    named = MessageSpec(
        template="sale",
        language="de",
        parameters=(("first_name", "{{ name }}"), ("percent", "10%")),
        header=("image", "https://example.org/{{ id }}.png"),
        buttons=((0, "url", "shop?for={{ name }}"), (1, "quick_reply", "{{ name }}")),
    )
    placed = MessageSpec(template="plain", parameters=(("1", "{{ name }}"), ("2", "x")))
    one = Filler([named, placed])
    assert one.fill(0, {"name": "A & B", "id": "7"}) == Template(
        name="sale",
        language="de",
        parameters=(
            TemplateParameter(name="first_name", value="A & B"),
            TemplateParameter(name="percent", value="10%"),
        ),
        header=TemplateHeader(kind="image", value="https://example.org/7.png"),
        buttons=(
            TemplateButton(index=0, sub_type="url", value="shop?for=A%20%26%20B"),
            TemplateButton(index=1, sub_type="quick_reply", value="A & B"),
        ),
    )
    second = one.fill(1, {"name": "Ada"})
    assert isinstance(second, Template)
    assert [(each.name, each.value) for each in second.parameters] == [(None, "Ada"), (None, "x")]
    assert one.variables_of(1) == {"name"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("see https://x.org/{{ v }}", "see https://x.org/a%20b&c"),
        ("see https://x.org/?q={{ v }}&r={{ v }}", "see https://x.org/?q=a%20b%26c&r=a%20b%26c"),
        ("https://x.org/{{ w }}", "https://x.org/100%25%20%C3%BC%20"),
        ('https://x.org/{{ x | default("b c") }}', "https://x.org/b%20c"),
        ("https://x.org {{ v }}", "https://x.org a b&c"),
        ("{{ v }}", "a b&c"),
    ],
)
def test_a_value_within_an_address_is_encoded(text: str, said: str) -> None:
    assert fill(text, {"v": "a b&c", "w": "100% ü%20"}) == said


# --- links ---


@pytest.mark.parametrize(
    ("text", "shortened"),
    [
        ("https://x.org", "<https://x.org>"),
        ("See https://x.org/a.", "See <https://x.org/a>."),
        ("(https://x.org/a_(b))", "(<https://x.org/a_(b)>)"),
        ("*https://x.org/a*", "*<https://x.org/a>*"),
        ("_https://x.org/a_", "_<https://x.org/a>_"),
        ("https://x.org/a_", "<https://x.org/a_>"),
        ("https://x.org?a=1&b=2, then", "<https://x.org?a=1&b=2>, then"),
        ("https://a.org https://b.org!", "<https://a.org> <https://b.org>!"),
        ("请看https://x.org/a。好", "请看<https://x.org/a>。好"),
        ("HTTPS://X.ORG", "<HTTPS://X.ORG>"),
        ("“https://x.org”…", "“<https://x.org>”…"),
        ("ftp://x.org xhttps://x.org https:// mailto:a@x.org", "ftp://x.org xhttps://x.org https:// mailto:a@x.org"),
        ("https://...", "https://..."),
    ],
)
def test_an_address_ends_where_its_sentence_goes_on(text: str, shortened: str) -> None:
    """Issue 5, point 10."""
    assert shorten_links(text, lambda url: f"<{url}>") == shortened


def test_links_are_shortened_in_all_that_people_read_and_nowhere_else() -> None:
    """Issue 5, point 10: the file of a message is fetched by the platform, so it keeps its address."""
    media = MessageSpec(media="https://x.org/a.jpg", text="more: {{ link }}")
    template = MessageSpec(
        template="t",
        parameters=(("1", "{{ link }}"),),
        header=("image", "{{ link }}"),
        buttons=((0, "url", "{{ link }}"),),
    )
    one = Filler([media, template, MessageSpec(text="{{ link }}.")])
    asked: list[str] = []

    def shorten(url: str) -> str:
        asked.append(url)
        return "https://s.org/r/1"

    fields = {"link": "https://x.org/1"}
    assert one.fill(0, fields, shorten=shorten) == Media(
        kind=MediaKind.IMAGE, link="https://x.org/a.jpg", caption="more: https://s.org/r/1"
    )
    filled = one.fill(1, fields, shorten=shorten)
    assert isinstance(filled, Template)
    assert filled.parameters[0].value == filled.buttons[0].value == "https://s.org/r/1"
    assert filled.header == TemplateHeader(kind="image", value="https://x.org/1")
    assert one.fill(2, fields, shorten=shorten) == Text(body="https://s.org/r/1.")
    assert set(asked) == {"https://x.org/1"}


# --- variants ---


def test_a_person_gets_the_same_variant_each_time_and_each_variant_its_share() -> None:
    weights = [1, 0, 3]
    chosen = [choose_variant(weights, seed=7, contact_id=number) for number in range(20_000)]
    assert chosen == [choose_variant(weights, seed=7, contact_id=number) for number in range(20_000)]
    counts = Counter(chosen)
    assert counts[1] == 0
    assert abs(counts[0] / 20_000 - 0.25) < 0.01
    other = [choose_variant(weights, seed=8, contact_id=number) for number in range(20_000)]
    assert 0.3 < sum(a != b for a, b in zip(chosen, other, strict=True)) / 20_000 < 0.45


@pytest.mark.parametrize("weights", [[], [0, 0], [2, -1]])
def test_weights_that_mean_nothing_are_refused(weights: list[int]) -> None:
    with pytest.raises(ValueError):
        choose_variant(weights, seed=0, contact_id=1)


def test_jinja_is_not_loaded_for_a_text_without_braces() -> None:
    script = (
        "import sys; from wa_cli.domain.campaign import MessageSpec; from wa_cli.domain.personal import Filler; "
        "Filler([MessageSpec(text='hello')]).fill(0, {}); sys.exit('jinja2' in sys.modules)"
    )
    assert run([sys.executable, "-c", script], check=False).returncode == 0
