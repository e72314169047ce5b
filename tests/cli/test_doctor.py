"""`wa doctor`: each fault with its fix, and an exit code that says where to begin."""

from __future__ import annotations

import http.server
import json
import sqlite3
import threading
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest
from stored import ACCEPTED, ADA, UNREADABLE, enqueue, send, take_lease

from wa_cli.domain.retry import Stop
from wa_cli.sandbox.runner import serve_in_thread
from wa_cli.sandbox.settings import NumberState, SandboxSettings
from wa_cli.services.upkeep import check_versions
from wa_cli.store.sqlite.upkeep import inspect_surroundings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Result, Wa

    from wa_cli.bootstrap import App
    from wa_cli.sandbox.server import Sandbox

CANARY = "EAAcanaryTOKENcanary0123456789"


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A running sandbox, with the account of the environment pointing at it."""
    with serve_in_thread(SandboxSettings(token=CANARY)) as running:
        monkeypatch.setenv("WHATSAPP_API_URL", running.messages_url)
        monkeypatch.setenv("WHATSAPP_ACCESS_TOKEN", CANARY)
        yield running


def checks(result: Result, level: str) -> dict[str, dict[str, Any]]:
    """The checks of that level, by group and name."""
    document = result.json()
    assert document["ok"] == (result.exit == 0)
    assert document["exit"] == result.exit
    return {f"{check['group']}.{check['name']}": check for check in document["checks"] if check["level"] == level}


def test_an_installation_that_can_send_passes(wa: Wa, app: App, sandbox: Sandbox) -> None:
    assert wa("init", "--region", "SG").exit == 0
    result = wa("doctor", "--json")
    assert result.exit == 0
    assert checks(result, "fail") == {}
    assert set(checks(result, "warn")) <= {"versions.sqlite", "store.file_system"}  # they belong to this computer
    assert {"account.reachable", "clock.offset", "store.integrity", "daemon.running"} <= set(checks(result, "ok"))


def test_every_finding_that_is_not_ok_has_a_fix_and_fits_80_columns(wa: Wa) -> None:
    wa.write(".env", "WA_DEFUALT_REGION=SG\nMAX_QUEUE_SIZE=lots\nnonsense\nWA_RETRY=never\n")
    document = wa("doctor", "--offline", "--json").json()
    assert all(check["fix"] for check in document["checks"] if check["level"] != "ok")
    screen = wa("doctor", "--offline").out
    for words in ("WA_DEFAULT_REGION", "MAX_QUEUE_SIZE", "WA_RETRY", "line 3", "wa init"):
        assert words in screen
    # A path is one word: it is never cut, and this folder's is long.
    assert max(len(line) for line in screen.splitlines() if str(wa.folder) not in line) <= 80


# --- exit codes: where to begin ---


def test_no_database_is_mended_by_a_call(wa: Wa, sandbox: Sandbox) -> None:
    result = wa("doctor", "--json")
    assert result.exit == 2
    assert "wa init" in checks(result, "fail")["store.opens"]["fix"]
    assert not wa.db.exists()


def test_a_dead_token_needs_a_person(wa: Wa, app: App, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHATSAPP_ACCESS_TOKEN", "EAAanotherTOKENanother")
    result = wa("doctor", "--json")
    assert result.exit == 4
    assert "account.token_dead" in checks(result, "fail")
    assert wa("doctor", "--offline").exit == 0


def test_an_account_nobody_answers_for_may_answer_later(
    wa: Wa, app: App, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHATSAPP_API_URL", "http://127.0.0.1:9/v25.0/106540352242922/messages")
    result = wa("doctor", "--json")
    assert result.exit == 8
    assert "127.0.0.1:9" in checks(result, "fail")["account.unreachable"]["message"]


@pytest.mark.parametrize(
    "url", ["https://graph.facebook.com/v25.0/PHONE_NUMBER_ID/messages", "http://example.com/1/messages"]
)
def test_an_address_that_cannot_be_meant_is_a_setting_to_mend(
    wa: Wa, app: App, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("WHATSAPP_API_URL", url)
    result = wa("doctor", "--json")
    assert result.exit == 2
    assert "account.settings" in checks(result, "fail")


def test_an_ended_version_of_the_platform_is_a_warning(
    wa: Wa, app: App, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHATSAPP_API_URL", sandbox.messages_url.replace("v25.0", "v18.0"))
    assert "account.version" in checks(wa("doctor", "--json"), "warn")


def test_an_instance_the_platform_stopped_needs_a_person(wa: Wa, app: App, sandbox: Sandbox) -> None:
    instance_id = app.find_instance().id
    with app.queue.turn() as turn:
        turn.apply_effect(instance_id, Stop(code="131031", reason="locked"), now_ms=app.clock.wall_ms())
    result = wa("doctor", "--offline", "--json")
    assert result.exit == 4
    assert "wa instance resume default" in checks(result, "fail")["queue.paused"]["fix"]


def test_a_damaged_file_is_graver_than_a_wrong_setting(wa: Wa, app: App) -> None:
    app.close()
    wa.write(".env", "MAX_QUEUE_SIZE=lots\n")
    wa.db.write_bytes(b"")
    result = wa("doctor", "--offline", "--json")
    assert result.exit == 9
    assert {"store.opens", "settings.value"} <= set(checks(result, "fail"))


def test_a_file_given_with_env_file_that_is_missing_is_a_finding(wa: Wa) -> None:
    result = wa("doctor", "--offline", "--env-file", "nowhere.env", "--json")
    assert result.exit == 2
    assert "settings.file" in checks(result, "fail")


# --- settings ---


def test_a_misspelt_setting_is_named_with_the_one_that_was_meant(wa: Wa, app: App, sandbox: Sandbox) -> None:
    """Fault 87."""
    wa.write(".env", "WA_DEFUALT_REGION=SG\nWHATSAPP_WIDGET_COLOUR=blue\nWA_RETRY=ladder\nWA_RETRY=exponential\n")
    result = wa("doctor", "--offline", "--json")
    assert result.exit == 2
    assert "WA_DEFAULT_REGION" in checks(result, "fail")["settings.unknown"]["fix"]
    assert "WHATSAPP_WIDGET_COLOUR" in checks(result, "warn")["settings.unknown"]["message"]
    assert "WA_RETRY" in checks(result, "warn")["settings.duplicate"]["message"]


def test_a_secret_that_others_can_read_is_a_fault(wa: Wa, app: App, sandbox: Sandbox) -> None:
    """Fault 85."""
    path = wa.write(".env", f"WHATSAPP_ACCESS_TOKEN={CANARY}\n")
    path.chmod(0o644)
    result = wa("doctor", "--offline", "--json")
    assert result.exit == 2
    assert checks(result, "fail")["settings.modes"]["fix"] == f"chmod 600 {path}"
    path.chmod(0o600)
    assert wa("doctor", "--offline").exit == 0


def test_a_database_that_others_can_read_is_a_warning_with_its_fix(wa: Wa, app: App, sandbox: Sandbox) -> None:
    """Fault 85."""
    wa.db.chmod(0o644)
    warning = checks(wa("doctor", "--offline", "--json"), "warn")["store.modes"]
    assert warning["fix"].startswith(f"chmod 600 {wa.db}")


@pytest.mark.parametrize("command", ["doctor", "config show --origin", "config show", "init", "status"])
@pytest.mark.parametrize("flag", ["--json", "--verbose"])
def test_no_secret_is_ever_printed(wa: Wa, app: App, sandbox: Sandbox, command: str, flag: str) -> None:
    """Promise P11; fault 84."""
    wa.write(".env", f"WHATSAPP_APP_SECRET={CANARY}\nWORKER_SECRET='{CANARY}'\nWHATSAPP_VERIFY_TOKEN={CANARY}")
    result = wa(*command.split(), flag)
    assert CANARY not in result.out + result.err
    assert CANARY[:12] not in result.out + result.err


# --- versions, store, clock ---


def test_an_old_sqlite_is_named_with_the_reason() -> None:
    """Fault 25."""
    old, new = (
        {finding.name: finding for finding in check_versions((3, 12, 1), version, safe_sqlite=(3, 51, 3))}
        for version in ((3, 51, 2), (3, 51, 3))
    )
    assert old["sqlite"].level == "warn"
    assert "3.51.3" in (old["sqlite"].fix or "")
    assert new["sqlite"].level == "ok"


def test_a_log_that_has_grown_too_large_is_a_warning(wa: Wa) -> None:
    """Fault 20."""
    path = wa.write("big.db", b"")
    with (wa.folder / "big.db-wal").open("wb") as log:
        log.truncate(65 * 1024 * 1024)
    findings = {finding.name: finding for finding in inspect_surroundings(path, is_own_folder=False)}
    assert findings["wal"].level == "warn"
    assert "65 MB" in findings["wal"].message


def test_a_clock_behind_what_is_stored_is_a_fault(wa: Wa, app: App, sandbox: Sandbox) -> None:
    """Fault 32."""
    enqueue(app, ADA, now_ms=app.clock.wall_ms() + 86_400_000)
    result = wa("doctor", "--offline", "--json")
    assert result.exit == 9
    assert "clock.stored" in checks(result, "fail")


@contextmanager
def platform_whose_clock_says(moment: datetime) -> Iterator[str]:
    """The address of a platform that answers for the number with this Date."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"id": "1", "health_status": {"can_send_message": "BLOCKED"}}).encode()
            self.send_response_only(200)
            self.send_header("Date", format_datetime(moment, usegmt=True))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v25.0/106540352242922/messages"
        finally:
            server.shutdown()
            serving.join()


@pytest.mark.parametrize(("minutes", "level"), [(0, "ok"), (1, "warn"), (-1, "warn"), (60, "fail")])
def test_the_clock_is_held_against_the_platforms(
    wa: Wa, app: App, monkeypatch: pytest.MonkeyPatch, minutes: int, level: str
) -> None:
    monkeypatch.setenv("WHATSAPP_ACCESS_TOKEN", CANARY)
    with platform_whose_clock_says(datetime.now(UTC) + timedelta(minutes=minutes)) as url:
        monkeypatch.setenv("WHATSAPP_API_URL", url)
        result = wa("doctor", "--json")
    assert "clock.offset" in checks(result, level)
    assert "account.health" in checks(result, "fail")  # the platform says that the number cannot send
    assert result.exit == (9 if level == "fail" else 4)


# --- queue ---


def test_what_waits_without_a_sender_and_what_cannot_be_known_are_warnings(wa: Wa, app: App, sandbox: Sandbox) -> None:
    send(app, ADA, outcome=UNREADABLE)
    enqueue(app, ADA, now_ms=app.clock.wall_ms() - 600_000)
    result = wa("doctor", "--offline", "--json")
    assert result.exit == 0
    warnings = checks(result, "warn")
    assert warnings["queue.unknown"]["fix"] == "wa reconcile"
    assert "10 min overdue and nobody sends" in warnings["queue.overdue"]["message"]
    assert "1 message waiting" in warnings["daemon.running"]["message"]


MINUTE = 60_000


@pytest.mark.parametrize(
    ("secret", "last_webhook", "last_sent", "level", "words"),
    [
        ("", None, None, "ok", "no webhooks come"),
        ("s", None, None, "warn", "no webhook has come yet"),
        ("s", 1, 30, "ok", "webhooks come"),
        ("", 1, 30, "warn", "are refused now"),
        ("s", 60, 15, "warn", "no webhook has come for 60 min"),
        ("s", 60, 55, "ok", "webhooks come"),  # nothing was sent since that could have a receipt
    ],
)
def test_the_way_back_is_examined_too(
    wa: Wa,
    app: App,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    secret: str,
    last_webhook: int | None,
    last_sent: int | None,
    level: str,
    words: str,
) -> None:
    """Issue 4, point 2.  Times are minutes ago."""
    monkeypatch.setenv("WHATSAPP_APP_SECRET", secret)
    now_ms = app.clock.wall_ms()
    if last_sent is not None:
        send(app, ADA, outcome=ACCEPTED)
        with app.database.write() as connection:
            connection.execute("UPDATE attempt SET started_at = ?", (now_ms - last_sent * MINUTE,))
    if last_webhook is not None:
        with app.database.write() as connection:
            connection.execute(
                "UPDATE instance SET webhooks_since = 0, last_webhook_at = ?", (now_ms - last_webhook * MINUTE,)
            )
    assert words in checks(wa("doctor", "--offline", "--json"), level)["webhooks.arrival"]["message"]


def test_webhooks_that_are_not_read_are_a_warning(wa: Wa, app: App, sandbox: Sandbox) -> None:
    """Issue 4, point 2."""
    with app.database.write() as connection:
        connection.execute(
            """INSERT INTO webhook_logs (received_at, provider, is_signed, body, status)
            VALUES (0, 'cloud_api', 1, x'7b', 'failed')"""
        )
    warning = checks(wa("doctor", "--offline", "--json"), "warn")["webhooks.reading"]
    assert (warning["message"], warning["fix"]) == ("1 webhook could not be read", "wa webhook list --status failed")


def test_a_daemon_is_named_with_its_process(wa: Wa, app: App, sandbox: Sandbox) -> None:
    take_lease(app, role="daemon")
    assert "pid" in checks(wa("doctor", "--offline", "--json"), "ok")["daemon.running"]["message"]


def test_a_locked_number_needs_a_person_and_is_not_spelt_out(wa: Wa, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_in_thread(SandboxSettings(token=CANARY, number_state=NumberState.LOCKED)) as running:
        monkeypatch.setenv("WHATSAPP_API_URL", running.messages_url)
        monkeypatch.setenv("WHATSAPP_ACCESS_TOKEN", CANARY)
        result = wa("doctor", "--json")
    assert result.exit == 4
    assert "…" in json.dumps(result.json(), ensure_ascii=False)  # the number itself is masked
    assert "15550783881" not in result.out


def test_doctor_changes_nothing_in_a_sound_database(wa: Wa, app: App, sandbox: Sandbox) -> None:
    enqueue(app, ADA, in_ms=60_000)
    with closing(sqlite3.connect(wa.db)) as connection:
        before = "\n".join(connection.iterdump())
        assert wa("doctor").exit == 0
        assert "\n".join(connection.iterdump()) == before


def test_an_added_instance_is_looked_at_where_it_lives(wa: Wa, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 6, points 1 and 8: its gateway, its session, its secret; and `default` is no fault where nobody set it."""
    for name in ("WHATSAPP_API_URL", "WHATSAPP_ACCESS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLUB_KEY", CANARY)
    with serve_in_thread(SandboxSettings(gateway_key=CANARY)) as sandbox:
        added = wa("instance", "add", "club", "--transport", "waha", "--url", sandbox.url, "--key-from", "CLUB_KEY")
        assert added.exit == 0, added.err
        result = wa("doctor", "--json")
        assert "WAHA answers" in checks(result, "ok")["instance club.reachable"]["message"]
        assert "instance club.webhook_secret" in checks(result, "warn")
        session = checks(result, "fail")["instance club.session"]
        assert session["fix"] == "`wa instance restart club`"
        assert not any(name.startswith("account.") for name in checks(result, "fail"))
        monkeypatch.delenv("CLUB_KEY")
        unset = checks(wa("doctor", "--json"), "fail")
        assert unset["instance club.settings"]["message"] == "CLUB_KEY not set"
    monkeypatch.setenv("CLUB_KEY", CANARY)
    down = wa("doctor", "--json")
    assert "instance club.unreachable" in checks(down, "fail")
    assert CANARY not in down.out + down.err
    offline = wa("doctor", "--offline", "--json")
    assert "instance club.settings" in checks(offline, "ok")
