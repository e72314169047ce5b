"""The error table: every documented code has a class, and waits follow what the answer says."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wa_cli.domain.outcome import ErrorClass
from wa_cli.transports.cloud_api.error_table import (
    ERROR_RANGES,
    ERROR_TABLE,
    RETRY_AFTER_CAP_SECONDS,
    USAGE_WAIT_CAP_SECONDS,
    Scope,
    classify,
    find_rule,
    read_retry_after,
    read_usage_wait,
)

RETRY, THROTTLE, PAIR, HOURS = ErrorClass.RETRY, ErrorClass.THROTTLE, ErrorClass.PAIR, ErrorClass.HOURS
RESTRICTED = ErrorClass.RESTRICTED
DEAD_R, DEAD_M, STOP = ErrorClass.DEAD_RECIPIENT, ErrorClass.DEAD_MESSAGE, ErrorClass.STOP

# Written out a second time from the reference, by class, so that a slip in the table shows.
BY_CLASS = {
    RETRY: [1, 2, 131000, 131016, 131052, 131059, 133000, 133004, 134101, 135000, 139102, 139103, 2494100],
    THROTTLE: [4, 17, 32, 613, 80007, 130429, 131057, 131208],
    PAIR: [131056],
    RESTRICTED: [131048],
    HOURS: [131049, 131214, 132015, 132069, 133016],
    DEAD_R: [
        130403, 130472, 130497, 131020, 131021, 131026, 131030, 131041, 131050, 131062, 131201, 131203, 131207,
        137000,
    ],
    DEAD_M: [
        100, 130501, 131008, 131009, 131047, 131051, 131053, 131055, 131061, 131202, 131204, 131209, 131210, 131211,
        131212, 131213, 132000, 132001, 132005, 132007, 132008, 132012, 132016, 132018, 132068, 134100, 134102,
        139000, 139001, 139002, 139003, 139004, 139100, 139101, 200005, 200006, 200007, 2388019, 2388024, 2388039,
        2388040, 2388047, 2388072, 2388073, 2388293, 2388299, 2593107, 2593108,
    ],
    STOP: [
        0, 3, 10, 33, 104, 190, 368, 131005, 131031, 131037, 131042, 131044, 131045, 131063, 131064, 131215,
        133005, 133006, 133008, 133009, 133010, 133015, 134011, 139200, 2388012, 2388091, 2388093, 2388103,
    ],
}  # fmt: skip
RANGED = {200: STOP, 299: STOP, 138000: DEAD_M, 138018: DEAD_M, 141000: STOP, 141006: STOP, 147001: DEAD_M,
          147005: DEAD_M, 2388999: DEAD_M, 2494164: DEAD_M, 2494179: DEAD_M}  # fmt: skip


@pytest.mark.parametrize(("error_class", "code"), [(k, code) for k, codes in BY_CLASS.items() for code in codes])
def test_every_documented_code_has_its_class(error_class: ErrorClass, code: int) -> None:
    rule = find_rule(code)
    assert rule is not None
    assert (rule.code, rule.error_class, rule.known) == (code, error_class, True)


@pytest.mark.parametrize(("code", "error_class"), RANGED.items())
def test_every_documented_range_has_its_class(code: int, error_class: ErrorClass) -> None:
    rule = find_rule(code)
    assert rule is not None
    assert (rule.code, rule.error_class) == (code, error_class)


def test_the_table_holds_no_code_the_reference_does_not() -> None:
    assert set(ERROR_TABLE) == {code for codes in BY_CLASS.values() for code in codes}


def test_every_row_reads_as_one_line_and_a_stop_says_what_to_do() -> None:
    for rule in [*ERROR_TABLE.values(), *(find_rule(span.first) for span in ERROR_RANGES)]:
        assert rule is not None
        assert rule.title
        assert "\n" not in rule.title
        assert not rule.title.endswith(".")
        assert len(rule.title) <= 72
        assert rule.fix is None or (len(rule.fix) <= 110 and not rule.fix.endswith("."))
        if rule.error_class in (STOP, RESTRICTED):
            assert rule.fix, rule.code
        assert (rule.error_class is RESTRICTED) == (rule.restricts is not None)
        if rule.error_class is HOURS:
            assert rule.wait_seconds


def test_no_code_stands_in_two_ranges() -> None:
    spans = sorted((span.first, span.last) for span in ERROR_RANGES)
    assert all(earlier[1] < later[0] for earlier, later in itertools.pairwise(spans))


@pytest.mark.parametrize(
    ("code", "wait_seconds", "max_attempts"),
    [
        (130429, 2.0, None),
        (131056, None, None),
        (131057, 60.0, None),
        (131049, 86400.0, 2),
        (132015, 10800.0, None),
        (132069, 3600.0, None),
        (134101, 600.0, None),
        (133016, 259200.0, None),
        (131000, None, 3),
        (135000, None, 2),
        (1, None, 3),
        (4, 60.0, None),
        (80007, 60.0, None),
    ],
)
def test_waits_and_caps_are_those_of_the_code(code: int, wait_seconds: float | None, max_attempts: int | None) -> None:
    """Rows T5, H8."""
    rule = classify(code, None, 400, None, {})
    assert (rule.wait_seconds, rule.max_attempts) == (wait_seconds, max_attempts)


@pytest.mark.parametrize("status", [200, 400, 403, 429, 500, 503])
@pytest.mark.parametrize("is_transient", [None, True, False])
def test_a_known_code_is_judged_by_the_code_alone(status: int, is_transient: bool | None) -> None:
    assert classify(131056, 2494055, status, is_transient, {}).error_class is PAIR
    assert classify(131026, None, status, is_transient, {}).error_class is DEAD_R


def test_an_unknown_number_id_stops_although_its_code_is_that_of_any_parameter() -> None:
    assert classify(100, None, 400, None, {}).error_class is DEAD_M
    rule = classify(100, 33, 400, None, {})
    assert (rule.code, rule.error_class) == (100, STOP)


def test_a_long_subcode_of_100_is_looked_up_itself() -> None:
    rule = classify(100, 2388024, 400, None, {})
    assert (rule.code, rule.title) == (100, "a template of that name and language exists")


@pytest.mark.parametrize("subcode", [458, 459, 460, 463, 464, 467, 492])
def test_a_dead_token_says_why(subcode: int) -> None:
    rule = classify(190, subcode, 401, None, {})
    assert rule.error_class is STOP
    assert rule.title != ERROR_TABLE[190].title
    assert rule.fix == ERROR_TABLE[190].fix


@pytest.mark.parametrize(
    ("status", "is_transient", "error_class"),
    [
        (400, None, DEAD_M),
        (404, False, DEAD_M),
        (400, True, RETRY),
        (401, None, STOP),
        (403, None, STOP),
        (429, None, THROTTLE),
        (500, None, RETRY),
        (503, False, RETRY),
        (200, None, DEAD_M),
    ],
)
def test_an_unknown_code_is_judged_by_the_http_family(
    status: int, is_transient: bool | None, error_class: ErrorClass
) -> None:
    rule = classify(999_999, None, status, is_transient, {})
    assert (rule.error_class, rule.known) == (error_class, False)
    assert f"HTTP {status}" in rule.title


@pytest.mark.parametrize(
    ("details", "error_class"),
    [
        ("Parameter value is not valid: param 'to' is wrong", DEAD_R),
        ("Recipient is not a valid phone number", DEAD_R),
        ("The given phone number is not valid", DEAD_R),
        ("message_id is too old to react to", DEAD_M),
        ("", DEAD_M),
    ],
)
def test_a_bad_value_is_the_recipients_fault_when_it_is_the_recipients(details: str, error_class: ErrorClass) -> None:
    assert classify(131009, None, 400, None, {}, details=details).error_class is error_class


NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("17", 17.0),
        (" 17 ", 17.0),
        ("Sun, 22 Nov 2026 12:00:30 GMT", 30.0),
        ("Sun, 22 Nov 2026 12:00:30", 30.0),
        ("Wed, 19 Nov 2036 12:00:00 GMT", RETRY_AFTER_CAP_SECONDS),
        ("315360000", RETRY_AFTER_CAP_SECONDS),
        ("9" * 60, RETRY_AFTER_CAP_SECONDS),
        ("9" * 6000, None),
        (None, None),
        ("", None),
        ("0", None),
        ("-5", None),
        ("Sun, 22 Nov 2026 11:59:00 GMT", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("Sun, 99 Nov 2026 12:00:30 GMT", None),
        ("\x00", None),
    ],
)
def test_retry_after_is_honoured_up_to_a_cap_and_never_trusted_blindly(
    value: str | None, seconds: float | None
) -> None:
    """Row 52 of the faults."""
    assert read_retry_after(value, now=NOW) == seconds


@given(st.text(max_size=80))
def test_any_header_gives_a_sane_wait_or_none(value: str) -> None:
    for seconds, cap in (
        (read_retry_after(value, now=NOW), RETRY_AFTER_CAP_SECONDS),
        (read_usage_wait(value), USAGE_WAIT_CAP_SECONDS),
    ):
        assert seconds is None or 0 < seconds <= cap


def _usage(minutes: object) -> str:
    return json.dumps({"102290129340398": [{"type": "whatsapp", "estimated_time_to_regain_access": minutes}]})


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (_usage(19), 1140.0),
        (_usage(0), None),
        (_usage(-3), None),
        (_usage("19"), None),
        (_usage(True), None),
        (_usage(10**9), USAGE_WAIT_CAP_SECONDS),
        (_usage(float("nan")), None),
        ("[]", None),
        ('{"a":7}', None),
        ('{"a":[7]}', None),
        ("not json", None),
        ("[" * 100_000, None),
        (None, None),
    ],
)
def test_the_usage_header_is_read_in_minutes(value: str | None, seconds: float | None) -> None:
    assert read_usage_wait(value) == seconds


def test_a_call_quota_waits_as_long_as_the_usage_header_says() -> None:
    headers = {"X-Business-Use-Case-Usage": _usage(19)}
    assert classify(80007, None, 429, None, headers).wait_seconds == 1140.0
    assert classify(130429, None, 429, None, headers).wait_seconds == 2.0


def test_retry_after_replaces_our_wait_but_never_shortens_hours_nor_revives_the_dead() -> None:
    headers = {"Retry-After": "30"}
    assert classify(130429, None, 429, None, headers).wait_seconds == 30.0
    assert classify(131056, None, 400, None, headers).wait_seconds == 30.0
    assert classify(131016, None, 503, None, headers).wait_seconds == 30.0
    assert classify(131049, None, 400, None, headers).wait_seconds == 86400.0
    assert classify(131026, None, 400, None, headers).wait_seconds is None
    assert classify(190, None, 401, None, headers).wait_seconds is None


def test_codes_outside_a_send_are_marked_as_such() -> None:
    assert ERROR_TABLE[131026].scope is Scope.DELIVERY
    assert ERROR_TABLE[2388024].scope is Scope.MANAGEMENT
    assert ERROR_TABLE[2593107].scope is Scope.OUT_OF_SCOPE
    assert ERROR_TABLE[131056].scope is Scope.SEND
