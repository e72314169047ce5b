"""What the Cloud API takes, judged before anything is queued."""

from __future__ import annotations

from typing import Any

import pytest

from wa_cli.domain.message import (
    Content,
    Media,
    MediaKind,
    Template,
    TemplateButton,
    TemplateHeader,
    TemplateParameter,
    Text,
    count_units,
)
from wa_cli.domain.recipient import RecipientKind
from wa_cli.transports.cloud_api.rules import CloudApiRules

RULES = CloudApiRules()
LINK = "https://example.org/a.pdf"


def template(**parts: Any) -> Template:
    return Template(**{"name": "spring_sale", "language": "en_US", **parts})


def values(*texts: str) -> tuple[TemplateParameter, ...]:
    return tuple(TemplateParameter(value=text) for text in texts)


@pytest.mark.parametrize(
    "content",
    [
        Text(body="x" * 4096),
        Text(body="👩" * 2048),
        Text(body="line\nbreak\ttab"),
        Media(kind=MediaKind.IMAGE, link=LINK, caption="x" * 1024),
        Media(kind=MediaKind.DOCUMENT, link=LINK, caption="c", filename="Menü 1.pdf"),
        Media(kind=MediaKind.AUDIO, link="https://93.184.216.34/a.ogg"),
        Media(kind=MediaKind.STICKER, link="https://example.org:8443/a.webp?x=1"),
        template(),
        template(language="fil"),
        template(language="zh_Hant_TW", name="a" * 512),
        template(parameters=values("Ada", "four    blanks")),
        template(parameters=(TemplateParameter(name="first_name", value="Ada"),)),
        template(header=TemplateHeader(kind="text", value="x" * 60)),
        template(header=TemplateHeader(kind="video", value=LINK)),
        template(buttons=(TemplateButton(index=0, sub_type="url", value="a%20b?c=d"),)),
        template(buttons=(TemplateButton(index=9, sub_type="copy_code", value="SAVE10"),)),
    ],
)
def test_what_the_platform_takes_has_no_problem(content: Content) -> None:
    assert RULES.find_problem(content) is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (Text(body=""), "the text is empty"),
        (Text(body=" \n\t\u00a0"), "the text is empty"),
        (Text(body="\u200b\u200d"), "the text is empty"),
        (Text(body="x" * 4097), "1 character too long: 4,097 of 4,096"),
        (Text(body="x" * 5000), "904 characters too long"),
        (Text(body="👩" * 2049), "2 characters too long"),
        (Text(body="ab\x00"), "a NUL character at position 3"),
        (Text(body="a\ud83d"), "lone surrogate) at position 2"),
        (Media(kind=MediaKind.IMAGE, link=LINK, caption="x" * 1030), "the caption is 6 characters too long"),
        (Media(kind=MediaKind.IMAGE, link=LINK, caption="a\ud83d"), "the caption holds half"),
        (Media(kind=MediaKind.AUDIO, link=LINK, caption="c"), "an audio message cannot have a caption"),
        (Media(kind=MediaKind.STICKER, link=LINK, caption="c"), "a sticker cannot have a caption"),
        (Media(kind=MediaKind.IMAGE, link=LINK, filename="a.png"), "an image cannot have a file name"),
        (Media(kind=MediaKind.DOCUMENT, link=LINK, filename=""), "the file name is empty"),
        (Media(kind=MediaKind.DOCUMENT, link=LINK, filename="../a"), "holds a slash"),
        (Media(kind=MediaKind.DOCUMENT, link=LINK, filename="a\nb"), "control character"),
        (Media(kind=MediaKind.IMAGE, link="http://example.org/a.png"), "plain http"),
        (Media(kind=MediaKind.IMAGE, link="ftp://example.org/a.png"), "not a link that WhatsApp can fetch"),
        (Media(kind=MediaKind.IMAGE, link="file:///etc/passwd"), "not a link that WhatsApp can fetch"),
        (Media(kind=MediaKind.IMAGE, link="menu.pdf"), "not a link that WhatsApp can fetch"),
        (Media(kind=MediaKind.IMAGE, link=""), "not a link that WhatsApp can fetch"),
        (Media(kind=MediaKind.IMAGE, link="https://"), "not a link that WhatsApp can fetch"),
        (Media(kind=MediaKind.IMAGE, link="https://[::1"), "is not a URL"),
        (Media(kind=MediaKind.IMAGE, link="https://e.org:99999/"), "is not a URL"),
        (Media(kind=MediaKind.IMAGE, link="https://e.org/a b"), "holds a blank"),
        (Media(kind=MediaKind.IMAGE, link="https://me:pw@e.org/a"), "a user or a password"),
        (Media(kind=MediaKind.IMAGE, link="https://e.org/" + "x" * 2048), "14 bytes too long"),
        (Media(kind=MediaKind.IMAGE, link="https://localhost/a"), "private network"),
        (Media(kind=MediaKind.IMAGE, link="https://127.0.0.1/a"), "private network"),
        (Media(kind=MediaKind.IMAGE, link="https://[::1]/a"), "private network"),
        (Media(kind=MediaKind.IMAGE, link="https://192.168.1.4/a"), "private network"),
        (Media(kind=MediaKind.IMAGE, link="https://169.254.169.254/a"), "private network"),
        (Media(kind=MediaKind.IMAGE, link="https://nas.local/a"), "private network"),
        (Media(kind=MediaKind.IMAGE, link="https://intranet/a"), "private network"),
        (template(name="Spring Sale"), "a template's name"),
        (template(name=""), "a template's name"),
        (template(name="a" * 513), "a template's name"),
        (template(name="sale\n"), "a template's name"),
        (template(language="english"), "not a code"),
        (template(language="en-US"), "not a code"),
        (template(language=""), "not a code"),
        (template(parameters=values("a", "b\nc")), "template value 2 holds a line break"),
        (template(parameters=values("a\tb")), "template value 1 holds a line break, a tab"),
        (template(parameters=values("a     b")), "more than four blanks"),
        (template(parameters=values("")), "template value 1 is empty"),
        (template(parameters=values("x" * 1025)), "template value 1 is 1 character too long"),
        (template(parameters=values("x" * 600, "y" * 600)), "together are 176 characters too long"),
        (
            template(parameters=(TemplateParameter(value="a"), TemplateParameter(name="b", value="b"))),
            "partly named and partly by position",
        ),
        (template(parameters=(TemplateParameter(name="First", value="a"),)), "value's name"),
        (
            template(parameters=(TemplateParameter(name="a", value="1"), TemplateParameter(name="a", value="2"))),
            "'a' is given twice",
        ),
        (template(header=TemplateHeader(kind="text", value="x" * 61)), "1 character too long: 61 of 60"),
        (template(header=TemplateHeader(kind="image", value="http://e.org/a")), "the header's link is plain http"),
        (template(header=TemplateHeader(kind="location", value="1,2")), "a text, an image, a video or a document"),
        (template(buttons=(TemplateButton(index=10, sub_type="url", value="a"),)), "there is no button 10"),
        (template(buttons=(TemplateButton(index=-1, sub_type="url", value="a"),)), "there is no button -1"),
        (template(buttons=(TemplateButton(index=0, sub_type="flow", value="a"),)), "a button's kind"),
        (template(buttons=(TemplateButton(index=0, sub_type="url", value="a b"),)), "not percent-encoded"),
        (template(buttons=(TemplateButton(index=0, sub_type="url", value="50%"),)), "not percent-encoded"),
        (template(buttons=(TemplateButton(index=0, sub_type="url", value=""),)), "button 0 is empty"),
        (template(buttons=(TemplateButton(index=0, sub_type="copy_code", value="X" * 16),)), "1 character too long"),
        (template(buttons=(TemplateButton(index=0, sub_type="quick_reply", value="x" * 257),)), "1 character too"),
        (template(buttons=(TemplateButton(index=0, sub_type="url", value="a"),) * 2), "button 0 is given twice"),
    ],
)
def test_what_the_platform_would_refuse_is_named_with_what_to_do(content: Content, words: str) -> None:
    """Promise P12: bad input is said before anything is queued."""
    problem = RULES.find_problem(content)
    assert problem is not None
    assert words in problem.message
    assert problem.hint
    assert problem.message.isprintable()


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.0.0.1.", "127.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "0",
        "0251.0376.0251.0376", "10.0.0.1", "100.64.0.1", "169.254.169.254", "198.51.100.1", "224.0.0.1", "0.0.0.0",
        "１２７.０.０.１", "127。0。0。1", "①②⑦.0.0.1", "127．0．0．1",
        "[::1]", "[::]", "[::127.0.0.1]", "[::ffff:10.0.0.1]", "[0:0:0:0:0:ffff:7f00:1]", "[64:ff9b::7f00:1]",
        "[64:ff9b::a9fe:a9fe]", "[2002:7f00:1::]", "[2001:0:7f00:1::]", "[fd00::1]", "[fe80::1%25eth0]", "[ff02::1]",
        "localhost", "LOCALHOST.", "a.localhost", "metadata.google.internal", "router.lan", "intranet",
        "ex%61mple.com", "10.0.0.1%00.example.com", "example.com.1",
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_header", [False, True])
def test_a_link_to_a_private_address_is_refused_however_it_is_spelt(host: str, is_header: bool) -> None:
    """Fault 76: whoever fetches it, it must not be somebody's own network."""
    link = f"https://{host}/a.png"
    header = TemplateHeader(kind="image", value=link)
    problem = RULES.find_problem(template(header=header) if is_header else Media(kind=MediaKind.IMAGE, link=link))
    assert problem is not None
    assert "private network" in problem.message


@pytest.mark.parametrize(
    "host",
    ["example.org", "8.8.8.8", "[2606:4700::1111]", "[::ffff:8.8.8.8]", "[64:ff9b::808:808]", "münchen.example.org",
     "1.example.org", "example.org:8443", "xn--mnchen-3ya.de", "0x7f.example.org"],
)  # fmt: skip
def test_a_link_to_a_public_address_is_taken(host: str) -> None:
    assert RULES.find_problem(Media(kind=MediaKind.IMAGE, link=f"https://{host}/a.png")) is None


def test_an_emoji_counts_as_its_utf_16_units() -> None:
    assert [count_units(text) for text in ("a", "ä", "👩", "👩‍👩‍👧")] == [1, 1, 2, 8]


def test_a_group_needs_a_gateway_and_a_person_does_not() -> None:
    problem = RULES.find_recipient_problem(RecipientKind.GROUP)
    assert problem is not None
    assert "group" in problem.message
    assert problem.hint is not None
    assert "gateway" in problem.hint
    assert RULES.find_recipient_problem(RecipientKind.PERSON) is None
