"""`wa instance add` and `remove`: identities beside the environment's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from wa_cli.domain.pacing import PROFILES
from wa_cli.sandbox.runner import serve_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Wa

    from wa_cli.bootstrap import App
    from wa_cli.sandbox.server import Sandbox

ADA, BEN = "+6581230001", "+6581230002"
CLOUD = ("--transport", "cloud", "--key-from", "CLUB_TOKEN")


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with serve_in_thread() as running:
        yield running


@pytest.fixture
def club(wa: Wa, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("CLUB_TOKEN", sandbox.settings.token)
    assert wa("instance", "add", "club", *CLOUD, "--url", sandbox.messages_url).exit == 0
    return "club"


def test_an_added_instance_sends_with_its_own_account(wa: Wa, club: str, sandbox: Sandbox) -> None:
    """Issue 6, point 1."""
    assert wa("send", "to", ADA, "--text", "hello", "--instance", club).exit == 0
    assert wa("drain", "--instance", club, "--json").json()["sent"] == 1
    message = wa("message", "list", "--json").json()["messages"][0]
    assert (message["state"], message["instance"]) == ("sent", club)


def test_the_only_instance_that_can_send_needs_no_name(wa: Wa, club: str, sandbox: Sandbox) -> None:
    """Issue 6, point 1: `default` is there, but has no account."""
    assert wa("send", "to", ADA, "--text", "hello").exit == 0
    assert wa("message", "list", "--json").json()["messages"][0]["instance"] == club


def test_with_several_and_no_default_one_has_to_be_named(wa: Wa, club: str, sandbox: Sandbox) -> None:
    """Issue 6, point 1."""
    assert wa("instance", "add", "shop", *CLOUD, "--url", sandbox.messages_url).exit == 0
    refused = wa("send", "to", ADA, "--text", "hello", "--json")
    assert (refused.exit, refused.error()["code"]) == (2, "which_instance")
    assert "club, shop" in refused.error()["hint"]


def test_only_the_name_of_a_secret_is_stored(wa: Wa, club: str, sandbox: Sandbox) -> None:
    """Issue 6, point 1; promise P11."""
    stored = b"".join(path.read_bytes() for path in wa.folder.glob("wa.db*"))
    assert sandbox.settings.token.encode() not in stored
    assert b"CLUB_TOKEN" in stored


def test_a_secret_in_place_of_its_name_is_refused_and_not_repeated(wa: Wa) -> None:
    """Promise P11."""
    refused = wa("instance", "add", "club", "--transport", "cloud", "--url", "https://g.org/v25.0/1/messages",
                 "--key-from", "EAAB-zZ9:secret")  # fmt: skip
    assert refused.exit == 2
    assert "secret" in refused.err
    assert "zZ9" not in refused.out + refused.err


def test_a_missing_secret_is_named_and_the_instance_waits(wa: Wa) -> None:
    """Issue 6, point 1."""
    added = wa("instance", "add", "club", *CLOUD, "--url", "https://graph.facebook.com/v25.0/123/messages")
    assert added.exit == 0
    assert "CLUB_TOKEN is not set" in added.err
    shown = wa("instance", "show", "club", "--json").json()
    assert (shown["state"], shown["reason"]) == ("no_account", "CLUB_TOKEN is not set")
    assert wa("drain", "--instance", "club").exit in (0, 2)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("add", "12", *CLOUD, "--url", "https://g.org/v1.0/1/messages"), "usage"),
        (("add", "a b", *CLOUD, "--url", "https://g.org/v1.0/1/messages"), "usage"),
        (("add", "club", "--transport", "telegram"), "transport"),
        (("add", "club", *CLOUD), "setting_missing"),
        (("add", "club", "--transport", "cloud", "--url", "https://g.org/v25.0/1/messages"), "setting_missing"),
        (("add", "club", *CLOUD, "--url", "https://g.org/v25.0/1/messages", "--session", "a"), "setting"),
        (("add", "club", *CLOUD, "--url", "https://g.org/v25.0/1/messages", "--profile", "fast"), "profile"),
        (("add", "club", *CLOUD, "--url", "https://g.org/v25.0/1/messages", "--limit", "per_week=1"), "limit"),
        (("add", "club", *CLOUD, "--url", "https://g.org/v25.0/1/messages", "--limit", "per_hour=-1"), "limit"),
    ],
)
def test_what_cannot_be_meant_adds_nothing(words: tuple[str, ...], code: str, wa: Wa) -> None:
    """Issue 6, point 1."""
    refused = wa("instance", *words, "--json")
    assert (refused.exit, refused.error()["code"]) == (2, code)
    assert not wa.db.exists()


def test_a_name_is_taken_once(wa: Wa, club: str, sandbox: Sandbox) -> None:
    """Issue 6, point 1."""
    again = wa("instance", "add", club, *CLOUD, "--url", sandbox.messages_url, "--json")
    assert (again.exit, again.error()["code"]) == (7, "instance_exists")


def test_limits_come_from_the_profile_then_the_settings_then_the_instance(
    wa: Wa, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 6, point 1; row H1."""
    monkeypatch.setenv("CLUB_TOKEN", sandbox.settings.token)
    monkeypatch.setenv("MAX_SENDS_PER_HOUR_PER_INSTANCE", "100")
    monkeypatch.setenv("MAX_SENDS_PER_MINUTE_PER_INSTANCE", "9")
    limits = ("--profile", "gateway", "--limit", "per_minute=3", "--limit", "gap_ms=0")
    assert wa("instance", "add", "club", *CLOUD, "--url", sandbox.messages_url, *limits).exit == 0
    shown = {one["limit"]: one for one in wa("instance", "show", "club", "--json").json()["limits"]}
    assert (shown["per_minute"]["value"], shown["per_minute"]["origin"]) == (3, "instance")
    assert (shown["per_hour"]["value"], shown["per_hour"]["origin"]) == (100, "MAX_SENDS_PER_HOUR_PER_INSTANCE")
    assert shown["gap_ms"]["value"] == 0
    assert shown["recipient_gap_ms"]["value"] == PROFILES["gateway"].recipient_gap_ms
    assert shown["recipient_gap_ms"]["origin"] == "profile gateway"


# --- remove ---


def test_what_waits_is_moved_or_the_removal_is_refused(wa: Wa, club: str, sandbox: Sandbox, app: App) -> None:
    """Issue 6, point 1; promise P13: every message stays in the counts, in its place."""
    assert wa("instance", "add", "shop", *CLOUD, "--url", sandbox.messages_url).exit == 0
    assert wa("send", "to", ADA, BEN, "--text", "hello", "--instance", club, "--at", "in 2h").exit == 0
    refused = wa("--yes", "instance", "remove", club, "--json")
    assert (refused.exit, refused.error()["code"]) == (6, "instance_has_queue")
    before = wa("message", "list", "--json").json()["messages"]
    assert wa("--yes", "instance", "remove", club, "--move-to", "shop", "--json").json()["moved"] == 2
    after = wa("message", "list", "--json").json()["messages"]
    assert [(one["id"], one["due_at"]) for one in after] == [(one["id"], one["due_at"]) for one in before]
    assert {one["instance"] for one in after} == {"shop"}
    assert wa("instance", "show", "shop", "--json").json()["waiting"] == 2
    assert wa("instance", "show", club).exit == 2
    assert wa("db", "check").exit == 0
    again = wa("send", "to", ADA, "--text", "hello", "--instance", "shop", "--json").json()
    assert again["duplicates"] == 1  # who waits under the new name is not written to twice either


def test_the_history_of_a_removed_instance_stays_and_its_name_is_free(wa: Wa, club: str, sandbox: Sandbox) -> None:
    """Issue 6, point 1."""
    assert wa("send", "to", ADA, "--text", "hello", "--instance", club).exit == 0
    assert wa("drain", "--instance", club, "--json").json()["sent"] == 1
    assert wa("--yes", "instance", "remove", club).exit == 0
    assert wa("message", "list", "--json").json()["messages"][0]["instance"].startswith("club (removed")
    assert wa("instance", "add", club, *CLOUD, "--url", sandbox.messages_url).exit == 0
    assert wa("instance", "show", club, "--json").json()["waiting"] == 0


def test_the_environments_own_instance_is_not_removed(wa: Wa, club: str) -> None:
    """Issue 6, point 1."""
    refused = wa("--yes", "instance", "remove", "default", "--json")
    assert (refused.exit, refused.error()["code"]) == (6, "instance_default")


def test_a_removal_wants_to_be_confirmed(wa: Wa, club: str) -> None:
    """Exit 6 where nobody can be asked."""
    assert wa("instance", "remove", club).exit == 6
    assert wa("instance", "show", club).exit == 0


def test_a_young_number_shows_its_warm_up(wa: Wa, club: str) -> None:
    """Issue 6, points 6 and 8: the limits of the day, and where they come from."""
    wa("instance", "add", "young", "--transport", "waha", "--url", "http://127.0.0.1:1", "--warm-up", "--json")
    shown = {one["limit"]: one for one in wa("instance", "show", "young", "--json").json()["limits"]}
    assert (shown["new_chats_per_day"]["value"], shown["new_chats_per_day"]["origin"]) == (20, "warm-up, day 1")
    assert (shown["per_minute"]["value"], shown["gap_ms"]["origin"]) == (2, "profile gateway")
