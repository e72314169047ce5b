"""`wa template`: the account's templates, read from the platform and shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from wa_cli.sandbox.runner import serve_in_thread
from wa_cli.sandbox.settings import SandboxSettings, SandboxTemplate, TemplateStatus
from wa_cli.store.sqlite.events import open_event_turn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Wa

    from wa_cli.bootstrap import App
    from wa_cli.sandbox.server import Sandbox

TEMPLATES = (
    SandboxTemplate(
        name="sale",
        category="MARKETING",
        body="Hi {{first_name}},\n{{percent}} off \x1b[31mtoday",
        header="IMAGE",
        footer="STOP to leave",
        buttons=(
            {"type": "URL", "text": "Shop", "url": "https://example.org/{{1}}"},
            {"type": "QUICK_REPLY", "text": "Stop"},
        ),
        quality="GREEN",
    ),
    SandboxTemplate(name="sale", language="de", body="Hallo {{1}}", status=TemplateStatus.PAUSED),
    SandboxTemplate(name="order", body="Order {{1}} for {{2}}", status=TemplateStatus.REJECTED),
)


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A running sandbox with three templates, and the account of the environment pointing at it."""
    with serve_in_thread(SandboxSettings(templates=TEMPLATES)) as running:
        monkeypatch.setenv("WHATSAPP_API_URL", running.messages_url)
        monkeypatch.setenv("WHATSAPP_ACCESS_TOKEN", "sandbox-token")
        yield running


def test_a_sync_says_what_it_read_and_what_it_changed(wa: Wa, app: App, sandbox: Sandbox) -> None:
    """Issue 5, point 2: approved templates are read from the account."""
    first = wa("template", "sync")
    assert first.exit == 0
    assert first.out.splitlines() == [
        "3 templates read: 1 approved, 1 paused, 1 rejected",
        "  new: order (en_US), sale (de), sale (en_US)",
    ]
    again = wa("template", "sync", "--json").json()
    assert (again["templates"], again["by_status"]) == (3, {"approved": 1, "paused": 1, "rejected": 1})
    assert (again["added"], again["changed"], again["removed"]) == ([], [], [])
    assert again["synced_at"].endswith("Z")


def test_a_list_shows_what_each_takes(wa: Wa, app: App, sandbox: Sandbox) -> None:
    wa("template", "sync")
    listed = wa("template", "list")
    assert [line.split("\t") for line in listed.out.splitlines()] == [
        ["order", "en_US", "rejected", "utility", "2 by place"],
        ["sale", "de", "paused", "utility", "1 by place"],
        ["sale", "en_US", "approved", "marketing", "image header; first_name, percent; button 0"],
    ]
    document = wa("template", "list", "--json").json()
    assert document["count"] == 3
    assert document["templates"][2]["parameters"] == ["first_name", "percent"]
    assert wa("template", "list", "--status", "paused", "--json").json()["count"] == 1
    wrong = wa("template", "list", "--status", "pausd")
    assert wrong.exit == 2
    assert "did you mean paused?" in wrong.err


def test_a_template_is_shown_with_its_words_and_how_to_use_it(wa: Wa, app: App, sandbox: Sandbox) -> None:
    wa("template", "sync")
    shown = wa("template", "show", "sale", "--language", "en-us")
    assert shown.exit == 0
    assert shown.out.splitlines()[:9] == [
        "sale  en_US  approved, marketing",
        "  quality    green",
        "  header     (image)",
        "  body       Hi {{first_name}},",
        "             {{percent}} off \\e[31mtoday",  # fault 82
        "  footer     STOP to leave",
        "  button 0   Shop (url, takes a value) https://example.org/{{1}}",
        "  button 1   Stop (quick reply, takes a value)",
        "  values     image header; first_name, percent; button 0",
    ]
    assert shown.out.splitlines()[10:] == [
        '  in a file  template = "sale"',
        '             template_language = "en_US"',
        '             parameters = { first_name = "...", percent = "..." }',
        '             header = { image = "https://..." }',
        '             buttons = [{ index = 0, type = "url", value = "..." }]',
    ]
    document = wa("template", "show", "sale", "--json").json()
    assert [one["language"] for one in document["templates"]] == ["de", "en_US"]
    assert document["templates"][1]["buttons"][0]["needs_value"] is True
    assert document["templates"][0]["parameter_format"] == "positional"


def test_what_is_not_there_is_told_with_what_is(wa: Wa, app: App, sandbox: Sandbox) -> None:
    never = wa("template", "show", "sale")
    assert (never.exit, never.out) == (2, "")
    assert "wa template sync" in never.err
    empty = wa("template", "list")
    assert (empty.exit, empty.out) == (0, "")
    assert "wa template sync" in empty.err
    assert wa("template", "list", "--json").json() == {"templates": [], "count": 0, "synced_at": None}
    wa("template", "sync")
    assert "did you mean 'sale'?" in wa("template", "show", "sael").err
    assert "it is there in: de, en_US" in wa("template", "show", "sale", "--language", "fr").err


def test_a_held_template_is_shown_as_such_until_a_sync_calls_it_approved(wa: Wa, app: App, sandbox: Sandbox) -> None:
    wa("template", "sync")
    instance_id = app.find_instance().id
    with open_event_turn(app.database) as turn:
        turn.receipts.hold_template(
            instance_id,
            ("sale", "en_US"),
            at_ms=app.clock.wall_ms(),
            until_ms=None,
            reason="132015 paused for low quality",
        )
    assert wa("template", "list", "--status", "held", "--json").json()["templates"][0]["name"] == "sale"
    assert "held       132015 paused for low quality" in wa("template", "show", "sale").out
    assert "  no longer held: sale (en_US)" in wa("template", "sync").out.splitlines()
    assert wa("template", "list", "--status", "held").out == ""


def test_a_sync_without_an_account_says_what_is_missing(wa: Wa, app: App) -> None:
    answer = wa("template", "sync", "--json")
    assert answer.exit == 2
    assert answer.error()["code"] == "no_account"


def test_a_sync_that_is_refused_keeps_what_was_known(
    wa: Wa, app: App, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    wa("template", "sync")
    monkeypatch.setenv("WHATSAPP_ACCESS_TOKEN", "another")
    assert wa("template", "sync").exit == 4
    monkeypatch.setenv("WHATSAPP_ACCESS_TOKEN", "sandbox-token")
    monkeypatch.setenv("WHATSAPP_BUSINESS_ACCOUNT_ID", "12345")
    answer = wa("template", "sync", "--json")
    assert (answer.exit, answer.error()["code"]) == (2, "no_business_account")
    assert wa("template", "list", "--json").json()["count"] == 3


def test_a_campaign_that_does_not_fit_is_told_line_by_line(wa: Wa, app: App, sandbox: Sandbox) -> None:
    """Issue 5, point 2: every mismatch at once, each on a line of its own."""
    wa("template", "sync")
    wa.write("sale.toml", '[message]\ntemplate = "sale"\n[audience]\ncontacts = true\n')
    answer = wa("campaign", "validate", "sale.toml")
    assert answer.exit == 2
    assert answer.err.splitlines()[:4] == [
        "error: sale cannot be sent as it is",
        "  template 'sale' takes 2 values: {{first_name}}, {{percent}}; none is given",
        "  the header of template 'sale' is an image, and none is given",
        "  button 0 ('Shop') of template 'sale' needs a value, and none is given",
    ]
