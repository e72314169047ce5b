"""Settings of the sandbox: what is refused, and what the flags of its process mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from wa_cli.errors import Refused, UsageError
from wa_cli.sandbox.__main__ import read_arguments
from wa_cli.sandbox.admin import describe_settings, list_magic, read_assignments, read_settings
from wa_cli.sandbox.faults import MAGIC_NUMBERS
from wa_cli.sandbox.graph_errors import KNOWN_ERRORS, GraphError, encode_error, status_of
from wa_cli.sandbox.ledger import LedgerEntry, summarise
from wa_cli.sandbox.settings import NumberState, SandboxSettings, SandboxTemplate, check_settings


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_a_loopback_address_is_allowed(host: str) -> None:
    check_settings(SandboxSettings(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "example.org", ""])
def test_an_address_others_can_reach_is_refused_unless_allowed(host: str) -> None:
    with pytest.raises(Refused, match="other machines") as raised:
        check_settings(SandboxSettings(host=host))
    assert "--allow-remote" in (raised.value.hint or "")
    check_settings(SandboxSettings(host=host, allow_remote=True))


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": -1},
        {"port": 65536},
        {"token": ""},
        {"token": "töken"},
        {"token": "a\nb"},
        {"throughput_per_second": -1},
        {"pair_seconds": float("nan")},
        {"latency_ms": -1},
        {"pair_burst": 0},
        {"throttle_http_status": 418},
        {"ledger_keep": -1},
        {"chaos": {"bang": 0.5}},
        {"webhook_url": ""},
        {"webhook_url": "ftp://127.0.0.1/x"},
        {"webhook_url": "http://"},
        {"webhook_url": "http://[::1"},
        {"webhook_url": "http://127.0.0.1:99999/x"},
        {"webhook_url": "http://name:word@127.0.0.1/x"},
        {"webhook_url": "http://127.0.0.1/a b"},
        {"app_secret": ""},
        {"verify_token": "a\nb"},
        {"sent_after_seconds": (2.0, 1.0)},
        {"read_after_seconds": (-1.0, 1.0)},
        {"read_share": 1.1},
        {"webhook_duplicates": float("nan")},
        {"undelivered_share": 0.6, "delivered_skipped_share": 0.6},
        {"ladder_speed": -1},
        {"webhook_batch": 0},
        {"webhook_batch": 1001},
        {"webhook_connections": 0},
        {"webhook_retry_seconds": 0},
        {"webhook_retry_factor": 0.5},
        {"deliveries_keep": -1},
    ],
)
def test_a_setting_that_cannot_work_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        check_settings(SandboxSettings(**wrong))


@pytest.mark.parametrize("url", ["http://example.org/hook", "https://192.168.1.7/x", "http://10.0.0.1:80/"])
def test_webhooks_stay_on_this_machine_unless_allowed(url: str) -> None:
    with pytest.raises(Refused, match="leave this machine") as raised:
        check_settings(SandboxSettings(webhook_url=url))
    assert "--allow-remote" in (raised.value.hint or "")
    check_settings(SandboxSettings(webhook_url=url, allow_remote=True))


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x?a=b", "https://localhost/x", "http://[::1]:8080/"])
def test_a_webhook_url_on_this_machine_is_allowed(url: str) -> None:
    check_settings(SandboxSettings(webhook_url=url))


def test_flags_without_values_are_the_defaults() -> None:
    assert read_arguments([]) == SandboxSettings()


def test_flags_reach_their_settings() -> None:
    flags = (
        "--port 8099 --token t --phone-number-id 7 --waba-id 8 --ledger l.jsonl --fsync --ledger-keep 5 --throughput 0 "
        "--pair-seconds 1.5 --pair-burst 3 --strict-pair --latency-ms 20 --chaos hang=0.1 --chaos lost:reset=0.2 "
        "--seed 9 --no-magic --strict-templates --state locked --token-expires-after 4 --throttle-http-status 400 "
        "--retry-after 3 --allow-remote --host 0.0.0.0 --webhook-url http://127.0.0.1:1/x --app-secret s "
        "--verify-token v --ladder-speed 50 --strict-window --set read_share=1 --set webhook_batch=7 "
        "--set verified_name=Shop --set keepalive_seconds=5"
    )
    assert read_arguments(flags.split()) == SandboxSettings(
        host="0.0.0.0",
        allow_remote=True,
        port=8099,
        token="t",
        phone_number_id="7",
        waba_id="8",
        ledger_path=Path("l.jsonl"),
        fsync_ledger=True,
        ledger_keep=5,
        throughput_per_second=0,
        pair_seconds=1.5,
        pair_burst=3,
        strict_pair=True,
        latency_ms=20.0,
        chaos={"hang": 0.1, "lost:reset": 0.2},
        seed=9,
        magic=False,
        strict_templates=True,
        number_state=NumberState.LOCKED,
        token_expires_after=4,
        throttle_http_status=400,
        retry_after_seconds=3,
        webhook_url="http://127.0.0.1:1/x",
        app_secret="s",
        verify_token="v",
        ladder_speed=50.0,
        strict_window=True,
        read_share=1.0,
        webhook_batch=7,
        verified_name="Shop",
        keepalive_seconds=5.0,
    )


@pytest.mark.parametrize(
    "pair", ["read_share", "read_share=often", "colour=red", "app_secret=s", "token=t", "read_share=7", "clock=1"]
)
def test_an_assignment_that_sets_nothing_is_refused(pair: str) -> None:
    """Fault 84: a secret has no place in a flag that shows in `ps`."""
    with pytest.raises(UsageError):
        check_settings(read_assignments(SandboxSettings(), [pair]))


def test_settings_shown_as_json_can_be_given_back_whole() -> None:
    settings = SandboxSettings(
        chaos={"hang": 0.5},
        allowed_recipients=frozenset({"1", "2"}),
        templates=(SandboxTemplate(name="a", body="{{1}}", header="IMAGE", buttons=({"type": "URL", "text": "x"},)),),
        webhook_url="http://127.0.0.1:1/x",
        read_after_seconds=(0.0, 0.5),
    )
    shown = json.loads(json.dumps(describe_settings(settings)))
    assert not {"token", "app_secret", "verify_token"} & set(shown)
    for name in ("host", "port", "allow_remote", "ledger_path", "fsync_ledger", "ledger_keep", "keepalive_seconds"):
        shown.pop(name)
    assert read_settings(settings, shown) == settings


@pytest.mark.parametrize(
    "changes",
    [
        [],
        {"colour": 1},
        {"clock": 1},
        {"port": 1},
        {"number_state": "asleep"},
        {"magic": "yes"},
        {"token": 5},
        {"throughput_per_second": "80"},
        {"throughput_per_second": 1.5},
        {"throughput_per_second": True},
        {"templates": [{"colour": 1}]},
        {"templates": 5},
        {"templates": [{"name": 5}]},
        {"templates": [{"name": "a", "buttons": ["x"]}]},
        {"templates": [{"name": "a", "status": "GONE"}]},
        {"chaos": ["hang"]},
        {"allowed_recipients": [1]},
        {"token_expires_after": "soon"},
        {"webhook_url": 5},
        {"app_secret": None},
        {"read_after_seconds": 5},
        {"read_after_seconds": [1, 2, 3]},
        {"read_share": "0.5"},
        {"webhook_batch": 1.5},
        {"strict_window": 1},
    ],
)
def test_a_change_of_another_type_is_refused(changes: object) -> None:
    with pytest.raises(UsageError):
        read_settings(SandboxSettings(), changes)


def test_every_published_code_is_a_refusal_that_parses() -> None:
    for code, (status, title, _) in KNOWN_ERRORS.items():
        error = json.loads(encode_error(GraphError(code=code)))["error"]
        assert error["code"] == code
        assert title in error["message"]
        assert len(error["fbtrace_id"]) == 23
        assert status_of(GraphError(code=code)) == status


def test_throttling_travels_under_400_when_asked() -> None:
    assert status_of(GraphError(code=130429)) == 429
    assert status_of(GraphError(code=130429), throttle_http_status=400) == 400
    assert status_of(GraphError(code=131056), throttle_http_status=429) == 400
    assert status_of(GraphError(code=999999)) == 400
    assert status_of(GraphError(code=217)) == 403


def test_the_magic_list_shows_every_ending() -> None:
    assert [row["ending"] for row in list_magic()] == [magic.ending for magic in MAGIC_NUMBERS]


def _entry(
    seq: int, at: float, to: str, verdict: str = "accepted", tag: str | None = None, content: str = "hi"
) -> LedgerEntry:
    return LedgerEntry(
        seq=seq, received_at=at, phone_number_id="1", to=to, type="text", content=content, tag=tag, verdict=verdict
    )


def test_the_summary_counts_what_a_sender_is_held_against() -> None:
    entries = [
        _entry(1, 10.0, "1", tag="a"),
        _entry(2, 10.5, "2", tag="b"),
        _entry(3, 10.9, "1", tag="a"),
        _entry(4, 12.0, "1", content="bye"),
        _entry(5, 12.0, "3", "rejected:131026"),
        _entry(6, 12.0, "3", "rejected:131026"),
        _entry(7, 12.0, "4", "lost"),
        _entry(8, 12.0, "4", "redirected"),
    ]
    counts = summarise(entries)
    assert counts["posts"] == 8
    assert counts["accepted"] == 4
    assert counts["rejected_by_code"] == {"131026": 2}
    assert (counts["lost"], counts["redirected"], counts["redirects_followed"]) == (1, 1, 0)
    assert counts["recipients"] == 2
    assert counts["tags_accepted_twice"] == ["a"]
    assert counts["contents_accepted_twice"] == 1
    assert counts["peak_accepted_per_second"] == 3
    assert counts["shortest_pair_gap_seconds"] == pytest.approx(0.9)


def test_the_summary_of_nothing_is_nothing() -> None:
    assert summarise([])["shortest_pair_gap_seconds"] is None
    assert summarise([])["peak_accepted_per_second"] == 0
