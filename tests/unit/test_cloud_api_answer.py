"""Reading an answer: whatever the bytes are, an outcome; and no secret in its words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wa_cli.domain.outcome import Accepted, Ambiguous, ErrorClass, Rejected
from wa_cli.transports.cloud_api.answer import read_answer
from wa_cli.transports.masking import MAX_DETAILS_CHARS, mask

JSON = {"Content-Type": "application/json"}


def read(shape: Any, status: int = 400) -> Any:
    return read_answer(status, JSON, json.dumps(shape).encode(), secrets=("s3cret-token",))


@given(st.integers(100, 599), st.binary(max_size=200))
def test_any_bytes_give_an_outcome_and_never_a_success(status: int, body: bytes) -> None:
    """Promise P3."""
    assert isinstance(read_answer(status, JSON, body), Ambiguous)


_SHAPES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "messages", "id", "code", "message", "error_data", "details", "error_subcode"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(st.integers(100, 599), _SHAPES)
def test_any_json_gives_an_outcome_and_success_needs_a_2xx_and_an_id(status: int, shape: Any) -> None:
    outcome = read_answer(status, JSON, json.dumps(shape).encode())
    if isinstance(outcome, Accepted):
        assert 200 <= status < 300
        assert shape["messages"][0]["id"] == outcome.provider_message_id != ""
        assert "error" not in shape or shape["error"] is None
    elif isinstance(outcome, Rejected):
        assert str(int(shape["error"]["code"])) == outcome.code


def test_the_words_of_a_refusal_are_kept_once_each() -> None:
    outcome = read(
        {
            "error": {
                "message": "(#131056) pair rate limit hit",
                "code": 131056,
                "error_subcode": 2494055,
                "error_data": {"messaging_product": "whatsapp", "details": "too many messages"},
                "error_user_title": "",
                "error_user_msg": "too many messages",
                "fbtrace_id": "Az8or2yhqkZfEZ-_4Qn_Bam",
            }
        }
    )
    assert outcome == Rejected(
        error_class=ErrorClass.PAIR,
        code="131056",
        details="pair rate limit hit: too many messages [subcode 2494055] [fbtrace_id Az8or2yhqkZfEZ-_4Qn_Bam]",
        http_status=400,
    )


@pytest.mark.parametrize("data", ["a plain string", {"details": "a plain string"}, [1], 7, None, {"details": 5}])
def test_error_data_may_be_anything(data: Any) -> None:
    outcome = read({"error": {"message": "m", "code": 131009, "error_data": data}})
    assert isinstance(outcome, Rejected)
    assert outcome.details == ("m: a plain string" if "plain" in str(data) else "m")


def test_a_code_spelled_as_a_string_is_a_code() -> None:
    assert read({"error": {"code": "131056"}}).error_class is ErrorClass.PAIR


def test_an_error_without_words_says_what_its_code_means() -> None:
    assert read({"error": {"code": 131047}}).details == "more than 24 hours since the person last wrote"


def test_a_code_nobody_knows_is_called_unknown() -> None:
    outcome = read({"error": {"code": 987654, "message": "new"}}, 500)
    assert outcome.error_class is ErrorClass.RETRY
    assert "does not know" in outcome.details
    assert "HTTP 500" in outcome.details


def test_details_are_capped_and_keep_the_trace_id() -> None:
    outcome = read({"error": {"code": 1, "message": "ä" * 100_000, "fbtrace_id": "Trace1"}})
    assert len(outcome.details) == MAX_DETAILS_CHARS
    assert outcome.details.endswith("… [fbtrace_id Trace1]")


def test_a_trace_id_that_is_none_is_left_out() -> None:
    assert "fbtrace" not in read({"error": {"code": 1, "message": "m", "fbtrace_id": "+65 8123 4567 \x1b"}}).details


@pytest.mark.parametrize(
    ("words", "masked"),
    [
        ("to +6581234567 now", "to …4567 now"),
        ("to 65 8123-4567", "to …4567"),
        ("call (+65) 8123.4567", "call (…4567"),
        ("+٦٥٨١٢٣٤٥٦٧", "…٤٥٦٧"),
        ("code 131056 stays", "code 131056 stays"),
        ("(#131056)", "(#131056)"),
        ("Bearer abc.def-ghi end", "Bearer [secret] end"),
        ("EAAGm0PX4ZCpsBA", "[secret]"),
        ("has s3cret-token inside", "has [secret] inside"),
        ("wamid.HBgLNjU4MTIzNDU2NxUCABEYEg== gone", "[message id] gone"),
        ("a\x00b\x1b[31mc\r\nd\u202ee\ud800f", "a b [31mc d e f"),
        ("  many   blanks ", "many blanks"),
    ],
)
def test_a_line_for_the_log_keeps_no_secret_and_no_whole_number(words: str, masked: str) -> None:
    """Promise P11."""
    assert mask(words, secrets=("s3cret-token",)) == masked


@given(st.text(max_size=3000))
def test_a_masked_line_is_one_line_of_bounded_length(words: str) -> None:
    masked = mask(words)
    assert len(masked) <= MAX_DETAILS_CHARS
    assert masked.isprintable()


@given(st.text("abc +-.()", max_size=30), st.integers(10**9, 10**15 - 1), st.text("xyz \n", max_size=2000))
def test_no_whole_number_survives_masking(before: str, number: int, after: str) -> None:
    assert str(number)[:-4] not in mask(f"{before}{number}{after}")


@pytest.mark.parametrize("padding", range(1960, 2000))
@pytest.mark.parametrize("canary", ["s3cret-token", "+65 8123 4567", "EAAcanaryTOKEN0123456789"])
def test_what_stands_at_the_cut_does_not_show_its_half(padding: int, canary: str) -> None:
    masked = mask("wamid." + "A" * (padding - 7) + " " + canary + " tail" * 100, secrets=("s3cret-token",))
    assert canary[:6] not in masked


def test_the_token_itself_is_masked_whatever_it_looks_like() -> None:
    """Promise P11."""
    for error in ({"code": 1, "message": "the s3cret-token"}, {"message": "the s3cret-token"}):
        assert "s3cret" not in read({"error": error}).details
