"""GOWA's records of devices and groups, whatever they hold.  Issue 6; rows H9 and H10, the map of states."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wa_cli.domain.connection import Connection, ConnectionState, GroupInfo
from wa_cli.domain.outcome import Accepted, Ambiguous, NotSent, Rejected
from wa_cli.transports.gowa.answer import read_answer
from wa_cli.transports.gowa.connection import find_device, judge_device, read_flags
from wa_cli.transports.gowa.groups import read_groups, read_one

JID = "15550783881@s.whatsapp.net"
GROUP = "120363025982934543@g.us"


@pytest.mark.parametrize(
    ("state", "jid", "flags", "was_paired", "expected"),
    [
        ("logged_in", JID, (True, True), True, ConnectionState.READY),
        ("connected", JID, (True, True), False, ConnectionState.READY),
        ("logged_in", JID, None, True, ConnectionState.READY),  # its own status could not be had
        ("logged_in", JID, (False, False), True, ConnectionState.DISCONNECTED),  # the list is older than the status
        ("disconnected", JID, (False, False), True, ConnectionState.DISCONNECTED),
        ("disconnected", JID, (True, False), True, ConnectionState.CONNECTING),
        ("connecting", JID, (False, False), True, ConnectionState.CONNECTING),
        ("connecting", "", (False, False), False, ConnectionState.CONNECTING),
        ("connected", "", (True, False), False, ConnectionState.NEEDS_QR),
        ("disconnected", "", (False, False), False, ConnectionState.NEEDS_QR),
        ("disconnected", "", (False, False), True, ConnectionState.AUTH_FAILURE),
        ("connected", "", (True, False), True, ConnectionState.AUTH_FAILURE),
        ("brand_new", JID, (False, False), True, ConnectionState.ERROR),
    ],
)
def test_a_state_is_what_the_map_says(
    state: str, jid: str, flags: tuple[bool, bool] | None, was_paired: bool, expected: ConnectionState
) -> None:
    entry = find_device({"results": [{"id": "other"}, {"id": "a", "state": state, "jid": jid}]}, "a")

    assert entry is not None
    connection = judge_device(entry, flags, was_paired=was_paired)
    assert (connection.state, connection.address) == (expected, "+15550783881" if jid else None)


def member(**more: Any) -> dict[str, Any]:
    return {"JID": "1@lid", "PhoneNumber": "", "LID": "", "IsAdmin": False, "IsSuperAdmin": False, **more}


@pytest.mark.parametrize(
    ("record", "may_post"),
    [
        ({"IsAnnounce": False}, True),
        ({"IsAnnounce": True}, None),
        ({"IsAnnounce": True, "Participants": [member(PhoneNumber=JID)]}, False),
        ({"IsAnnounce": True, "Participants": [member(PhoneNumber=JID, IsAdmin=True)]}, True),
        ({"IsAnnounce": True, "Participants": [member(PhoneNumber=JID, IsSuperAdmin=True)]}, True),
        ({"IsAnnounce": False, "IsParent": True}, False),
        ({"IsAnnounce": False, "Suspended": True}, False),
        ({}, None),
    ],
)
def test_whether_the_device_may_post_is_told_where_it_can_be_known(
    record: dict[str, Any], may_post: bool | None
) -> None:
    group = read_one({"JID": GROUP, "Name": "Runners", **record}, "+15550783881")

    assert group is not None
    assert group.may_post is may_post


def test_members_who_hide_their_number_keep_the_other_id() -> None:
    group = read_one(
        {"JID": GROUP, "Participants": [member(JID="251556368777322@lid"), member(JID="15550100001:3@s.whatsapp.net")]},
        None,
    )

    assert group is not None
    assert (group.participants, group.size) == (("251556368777322@lid", "+15550100001"), 2)


def test_one_group_comes_in_the_other_spelling_too() -> None:
    record = {"group_id": GROUP, "name": "Runners", "participants": [{"jid": "1@x", "phone_number": JID}]}

    assert read_one(record, None) == GroupInfo(
        address=GROUP, name="Runners", size=1, may_post=None, participants=("+15550783881",)
    )


WORDS = st.sampled_from(
    ["results", "data", "id", "state", "jid", "JID", "Name", "Participants", "ParticipantCount", "PhoneNumber", "LID"]
)
VALUES = st.sampled_from(["a", "logged_in", JID, GROUP, "SUCCESS", "VALIDATION_ERROR", "WA_REACHOUT_TIMELOCK"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | VALUES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=8), inner, max_size=5),
    max_leaves=15,
)


@given(JSON)
def test_no_record_makes_it_fail(shape: Any) -> None:
    for group in read_groups({"results": {"data": shape}}, "+15550783881"):
        assert isinstance(group, GroupInfo)
    read_one(shape, None)
    entry = find_device({"results": shape}, "a")
    if entry is not None:
        assert isinstance(judge_device(entry, read_flags({"results": shape}), was_paired=True), Connection)


@given(st.sampled_from([200, 400, 401, 404, 429, 500, 503]), VALUES | st.text(max_size=10), JSON, JSON)
def test_no_answer_makes_it_fail(status: int, code: str, message: Any, results: Any) -> None:
    body = json.dumps({"code": code, "message": message, "results": results}).encode("utf-8", "surrogatepass")

    assert isinstance(read_answer(status, {}, body), Accepted | Rejected | Ambiguous)
    assert not isinstance(read_answer(status, {}, body[:-1]), Accepted | NotSent)


@given(st.text(max_size=60), st.sampled_from(["expires in ", "expires after 1h", "temporarily banned: ", "error 463 "]))
def test_no_words_make_it_fail(words: str, known: str) -> None:
    body = json.dumps({"code": "WA_REACHOUT_TIMELOCK", "message": known + words, "results": {"until": words}}).encode()

    assert isinstance(read_answer(429, {"Retry-After": words}, body), Rejected)
