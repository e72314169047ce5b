"""Names of subgroups and attributes of members, as plain decisions."""

from __future__ import annotations

import pytest

from wa_cli.domain.subgroup import check_subgroup_name, fold_name, merge_attributes, no_such_subgroup
from wa_cli.errors import UsageError


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("vip", "vip"),
        ("  Gold customers ", "Gold customers"),
        ("Cafe\u0301", "Caf\u00e9"),
        ("家族 👨‍👩‍👧", "家族 👨‍👩‍👧"),
        ("x" * 100, "x" * 100),
    ],
)
def test_a_name_is_stored_composed_and_without_blanks_around_it(typed: str, stored: str) -> None:
    assert check_subgroup_name(typed) == stored


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ("", "needs a name"),
        ("   ", "needs a name"),
        ("x" * 101, "101 characters"),
        ("-vip", "begins with '-'"),
        ("a\nb", "cannot be seen"),
        ("a\x1b[31m", "cannot be seen"),
        ("a\u202eb", "cannot be seen"),
        ("a\u200bb", "cannot be seen"),
        ("a\udcffb", "cannot be seen"),
        ("a\u2028b", "cannot be seen"),
    ],
)
def test_a_name_that_cannot_be_typed_or_seen_is_refused_with_the_reason(typed: str, reason: str) -> None:
    with pytest.raises(UsageError) as refused:
        check_subgroup_name(typed)
    assert reason in refused.value.message
    assert refused.value.hint
    assert refused.value.message.isprintable()


@pytest.mark.parametrize(
    ("one", "other"), [("VIP", "vip"), ("Ärzte", "ärzte"), ("STRASSE", "straße"), ("É", "e\u0301")]
)
def test_two_cases_of_one_name_fold_to_the_same(one: str, other: str) -> None:
    assert fold_name(one) == fold_name(other)


def test_a_name_that_was_mistyped_is_answered_with_the_nearest() -> None:
    error = no_such_subgroup("vpi", ["VIP", "staff", "gold", "silver"])
    assert error.message == "no subgroup named 'vpi'"
    assert error.hint == "did you mean 'VIP'? `wa subgroup list` shows all 4"


def test_a_name_without_any_like_it_is_answered_with_how_to_make_it() -> None:
    assert "`wa subgroup create NAME`" in (no_such_subgroup("vip", []).hint or "")
    assert "did you mean" not in (no_such_subgroup("vip", ["suppliers"]).hint or "")


def test_given_attributes_win_and_the_others_stay() -> None:
    assert merge_attributes('{"name":"Ann","city":"SG"}', {"city": "KL"}) == '{"name":"Ann","city":"KL"}'
    assert merge_attributes(None, {"name": "Ann"}) == '{"name":"Ann"}'
    assert merge_attributes('{"name":"Ann"}', {}) == '{"name":"Ann"}'
    assert merge_attributes(None, {}) is None
