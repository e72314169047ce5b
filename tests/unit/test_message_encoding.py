"""How a message is written down: equal content is equal bytes, and the bytes tell everything."""

from __future__ import annotations

import hashlib
import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wa_cli.domain.message import (
    CONTENT_TYPES,
    Buttons,
    ContactCard,
    Content,
    ListMenu,
    ListRow,
    ListSection,
    LocalFile,
    Location,
    Media,
    MediaKind,
    Poll,
    Reaction,
    ReplyButton,
    Template,
    TemplateButton,
    TemplateHeader,
    TemplateParameter,
    Text,
    content_hash,
    content_summary,
    content_type,
    decode_content,
    encode_content,
    format_batch_id,
    format_message_id,
    generate_idempotency_key,
    parse_message_id,
)
from wa_cli.errors import UsageError

WORDS = st.text(max_size=60).map(lambda text: unicodedata.normalize("NFC", text))
SOME_WORDS = st.none() | st.text(min_size=1, max_size=40).map(lambda text: unicodedata.normalize("NFC", text))
TEMPLATES = st.builds(
    Template,
    name=WORDS,
    language=WORDS,
    parameters=st.lists(st.builds(TemplateParameter, value=WORDS, name=SOME_WORDS), max_size=4).map(tuple),
    header=st.none() | st.builds(TemplateHeader, kind=st.sampled_from(["text", "image"]), value=WORDS),
    buttons=st.lists(
        st.builds(TemplateButton, index=st.integers(0, 9), sub_type=st.sampled_from(["url", "copy_code"]), value=WORDS),
        max_size=3,
    ).map(tuple),
)
ROWS = st.lists(st.builds(ListRow, id=WORDS, title=WORDS, description=SOME_WORDS), max_size=3).map(tuple)
FRAME = {"body": WORDS, "header": SOME_WORDS, "footer": SOME_WORDS}
OTHERS = st.one_of(
    st.builds(
        Media,
        kind=st.sampled_from(list(MediaKind)),
        caption=SOME_WORDS,
        filename=SOME_WORDS,
        file=st.builds(LocalFile, digest=WORDS, mime_type=WORDS, size=st.integers(1, 10**9)),
    ),
    st.builds(Location, latitude=WORDS, longitude=WORDS, name=SOME_WORDS, address=SOME_WORDS),
    st.builds(ContactCard, name=WORDS, phone=WORDS, organization=SOME_WORDS),
    st.builds(Poll, question=WORDS, options=st.lists(WORDS, max_size=4).map(tuple), max_answers=st.integers(0, 12)),
    st.builds(Reaction, message_id=WORDS, emoji=WORDS),
    st.builds(Buttons, buttons=st.lists(st.builds(ReplyButton, id=WORDS, title=WORDS), max_size=3).map(tuple), **FRAME),
    st.builds(
        ListMenu,
        button=WORDS,
        sections=st.lists(st.builds(ListSection, title=SOME_WORDS, rows=ROWS), max_size=3).map(tuple),
        **FRAME,
    ),
)
CONTENTS = st.one_of(
    OTHERS,
    st.builds(Text, body=WORDS, preview_url=st.booleans()),
    st.builds(Media, kind=st.sampled_from(list(MediaKind)), link=WORDS, caption=SOME_WORDS, filename=SOME_WORDS),
    TEMPLATES,
)


@given(content=CONTENTS)
def test_what_was_written_is_read_back_unchanged(content: Content) -> None:
    """Issue 6, point 3: every kind, and always in the same bytes."""
    encoded = encode_content(content)
    assert decode_content(encoded) == content
    assert encoded == json.dumps(json.loads(encoded), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    assert content_type(content) in CONTENT_TYPES


@given(one=CONTENTS, other=CONTENTS)
def test_equal_bytes_mean_equal_content(one: Content, other: Content) -> None:
    assert (encode_content(one) == encode_content(other)) == (one == other)


def test_the_bytes_of_a_text_never_change_between_versions() -> None:
    """Stored keys and checksums are taken from these bytes: changing them would send everything a second time."""
    assert encode_content(Text(body="Grüße 👋")) == '{"body":"Grüße 👋","type":"text"}'
    media = Media(kind=MediaKind.IMAGE, link="https://example.org/a.jpg", caption="a")
    assert encode_content(media) == '{"caption":"a","link":"https://example.org/a.jpg","type":"image"}'
    template = Template(
        name="hello",
        language="en",
        parameters=(TemplateParameter(value="Ana"),),
        header=TemplateHeader(kind="text", value="x"),
    )
    assert (
        encode_content(template)
        == '{"header":["text","x"],"language":"en","name":"hello","parameters":[[null,"Ana"]],"type":"template"}'
    )


def test_the_same_look_in_two_unicode_forms_is_the_same_message() -> None:
    """Row T4; bad input of the text kind: NFC against NFD."""
    composed, decomposed = "Café", unicodedata.normalize("NFD", "Café")
    assert composed != decomposed
    assert encode_content(Text(body=composed)) == encode_content(Text(body=decomposed))


@pytest.mark.parametrize(
    "body", ["\n\u0303", "a\r\u0301", "\t\u030c", "\x0b\u0307", '"\u0301', "\\\u0301", "e\u0301\n\u0303"]
)
def test_a_combining_mark_after_a_line_break_is_stored_as_text_that_can_be_read(body: str) -> None:
    """Bad input of the text kind: combining stacks.  Promise P12."""
    assert decode_content(encode_content(Text(body=body))) == Text(body=unicodedata.normalize("NFC", body))


@pytest.mark.parametrize(
    "body",
    ["", " ", "Hello", "hello", "Hello ", "Hello\n", "Hello\u200b", "Ηello", '{"type":"text"}', "\\", "\x00", "👩‍👩‍👧"],
)
def test_different_words_have_different_checksums(body: str) -> None:
    others = {content_hash(encode_content(Text(body=other))) for other in ("Hallo", "HELLO", body + "x")}
    assert content_hash(encode_content(Text(body=body))) not in others


def test_a_preview_makes_another_message() -> None:
    assert encode_content(Text(body="x", preview_url=True)) != encode_content(Text(body="x"))


def test_the_checksum_is_sha_256_of_the_stored_bytes() -> None:
    encoded = encode_content(Text(body="Grüße"))
    assert content_hash(encoded) == hashlib.sha256(encoded.encode()).digest()
    assert len(content_hash(encoded)) == 32


def test_a_lone_surrogate_has_a_checksum_too() -> None:
    """It cannot be sent; hashing it must not crash an import."""
    assert len(content_hash(encode_content(Text(body="\ud83d")))) == 32


def test_stored_words_are_json_that_other_programs_can_read() -> None:
    assert json.loads(encode_content(Text(body='quote " and \u2028'))) == {"type": "text", "body": 'quote " and \u2028'}


@pytest.mark.parametrize("stored", ["", "{", "[]", '{"body":"x"}', '{"type":"text"}', '{"type":"hologram","link":"x"}'])
def test_what_is_no_stored_content_is_refused_and_not_guessed(stored: str) -> None:
    with pytest.raises((KeyError, ValueError, TypeError)):
        decode_content(stored)


# --- keys ---


def test_the_default_key_is_sha_256_in_hex() -> None:
    """Rows T4, H5."""
    key = generate_idempotency_key("default", "+6591234567", encode_content(Text(body="Hello")))
    assert len(key) == 64
    assert key == generate_idempotency_key("default", "+6591234567", encode_content(Text(body="Hello")))


def test_another_instance_recipient_or_text_is_another_key() -> None:
    """Rows T4, H5."""
    encoded = encode_content(Text(body="Hello"))
    keys = {
        generate_idempotency_key("default", "+6591234567", encoded),
        generate_idempotency_key("second", "+6591234567", encoded),
        generate_idempotency_key("default", "+6591234568", encoded),
        generate_idempotency_key("default", "+6591234567", encode_content(Text(body="Hello!"))),
    }
    assert len(keys) == 4


def test_the_parts_of_a_key_cannot_run_into_each_other() -> None:
    """Row T4."""
    assert generate_idempotency_key("a", "+65", "1x") != generate_idempotency_key("a", "+651", "x")


# --- words for people ---


@pytest.mark.parametrize(
    ("content", "kind", "summary"),
    [
        (Text(body="Hello"), "text", "Hello"),
        (Media(kind=MediaKind.VIDEO, link="https://example.org/v.mp4"), "video", "https://example.org/v.mp4"),
        (Media(kind=MediaKind.IMAGE, link="https://example.org/i.jpg", caption="Look"), "image", "Look"),
        (Template(name="hello", language="en"), "template", "hello (en)"),
        (
            Template(
                name="hello", language="en", parameters=(TemplateParameter(value="a"), TemplateParameter(value="b"))
            ),
            "template",
            "hello (en): a, b",
        ),
    ],
)
def test_a_listing_names_the_type_and_says_what_a_message_says(content: Content, kind: str, summary: str) -> None:
    """Row R6."""
    assert (content_type(content), content_summary(content)) == (kind, summary)


@given(number=st.integers(1, 10**18 - 1))
def test_a_message_id_is_read_back_as_it_is_shown(number: int) -> None:
    assert parse_message_id(format_message_id(number)) == number
    assert parse_message_id(f" {format_message_id(number)}\n") == number


@pytest.mark.parametrize("text", ["", "m", "42", "mm42", "m-1", "m4 2", "M42", "m٤٢", "m4.0", "m" + "9" * 19, "b42"])
def test_anything_else_is_no_message_id_and_the_hint_shows_one(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_message_id(text)
    assert "m42" in str(caught.value.hint)


def test_a_batch_id_cannot_be_mistaken_for_a_message_id() -> None:
    with pytest.raises(UsageError):
        parse_message_id(format_batch_id(7))
