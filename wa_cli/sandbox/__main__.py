"""`python -m wa_cli.sandbox`: a sandbox as a process of its own, for tests and foreign clients.

When it listens, one JSON line on stdout says where:
{"url", "messages_url", "token", "phone_number_id", "waba_id", "webhook_url", "app_secret", "verify_token", "pid"}.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from wa_cli.errors import WaError
from wa_cli.sandbox.admin import read_assignments
from wa_cli.sandbox.faults import parse_chaos
from wa_cli.sandbox.runner import run_sandbox
from wa_cli.sandbox.settings import NumberState, SandboxSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wa_cli.sandbox.server import Sandbox


def read_arguments(arguments: Sequence[str]) -> SandboxSettings:
    """The settings that flags mean.  Raises: SystemExit on bad flags, UsageError on bad chaos or a bad --set."""
    standard = SandboxSettings()
    parser = argparse.ArgumentParser(
        prog="python -m wa_cli.sandbox", description="A local WhatsApp Cloud API, WAHA and GOWA."
    )
    add = parser.add_argument
    add("--host", default=standard.host)
    add("--port", type=int, default=standard.port, help="0 takes a free one")
    add("--allow-remote", action="store_true", help="permit an address that other machines can reach")
    add("--token", default=standard.token)
    add("--phone-number-id", default=standard.phone_number_id)
    add("--waba-id", default=standard.waba_id)
    add("--ledger", type=Path, metavar="FILE", help="append every post to this file, one JSON line each")
    add("--fsync", action="store_true", help="sync the ledger file before each answer")
    add("--ledger-keep", type=int, metavar="N", help="entries held in memory; all without it")
    add(
        "--throughput",
        type=int,
        default=standard.throughput_per_second,
        metavar="N",
        help="a second; 0 lifts it",
    )
    add("--pair-seconds", type=float, default=standard.pair_seconds, help="0 lifts the pair limit")
    add("--pair-burst", type=int, default=standard.pair_burst)
    add("--strict-pair", action="store_true", help="no burst towards one person")
    add("--latency-ms", type=float, default=standard.latency_ms)
    add("--chaos", action="append", default=[], metavar="FAULT=P", help="a fault by chance, cut_body=0.01")
    add("--seed", type=int, default=standard.seed, help="of the chaos")
    add("--no-magic", action="store_true", help="numbers such as ...9408 mean nothing")
    add("--strict-templates", action="store_true", help="refuse templates the account does not own")
    add("--state", choices=[state.value for state in NumberState], default=standard.number_state.value)
    add("--token-expires-after", type=int, metavar="N", help="posts until the token has expired")
    add("--throttle-http-status", type=int, choices=(400, 429), default=standard.throttle_http_status)
    add("--retry-after", type=int, metavar="SECONDS", help="send Retry-After when throttling")
    add("--webhook-url", metavar="URL", help="post statuses and events there; on this machine")
    add("--app-secret", default=standard.app_secret, help="signs the webhooks")
    add("--verify-token", default=standard.verify_token, help="what the receiver is asked to know")
    add("--gateway-key", default=standard.gateway_key, help="what the gateways of linked devices want to be shown")
    add("--ladder-speed", type=float, default=standard.ladder_speed, help="times faster than life; 0 waits for nothing")
    add("--strict-window", action="store_true", help="free text needs an answer of the person within 24 h (131047)")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="any other setting, webhook_duplicates=0.1")
    given = parser.parse_args(arguments)
    settings = SandboxSettings(
        host=given.host,
        port=given.port,
        allow_remote=given.allow_remote,
        token=given.token,
        phone_number_id=given.phone_number_id,
        waba_id=given.waba_id,
        ledger_path=given.ledger,
        fsync_ledger=given.fsync,
        ledger_keep=given.ledger_keep,
        throughput_per_second=given.throughput,
        pair_seconds=given.pair_seconds,
        pair_burst=given.pair_burst,
        strict_pair=given.strict_pair,
        latency_ms=given.latency_ms,
        chaos=parse_chaos(given.chaos),
        seed=given.seed,
        magic=not given.no_magic,
        strict_templates=given.strict_templates,
        number_state=NumberState(given.state),
        token_expires_after=given.token_expires_after,
        throttle_http_status=given.throttle_http_status,
        retry_after_seconds=given.retry_after,
        webhook_url=given.webhook_url,
        app_secret=given.app_secret,
        verify_token=given.verify_token,
        gateway_key=given.gateway_key,
        ladder_speed=given.ladder_speed,
        strict_window=given.strict_window,
    )
    return read_assignments(settings, given.set)


def describe_address(sandbox: Sandbox) -> dict[str, str | int | None]:
    """What a client needs to know, as JSON."""
    return {
        "url": sandbox.url,
        "messages_url": sandbox.messages_url,
        "token": sandbox.settings.token,
        "phone_number_id": sandbox.settings.phone_number_id,
        "waba_id": sandbox.settings.waba_id,
        "webhook_url": sandbox.settings.webhook_url,
        "app_secret": sandbox.settings.app_secret,
        "verify_token": sandbox.settings.verify_token,
        "pid": os.getpid(),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until a signal.  Returns the exit code."""
    try:
        settings = read_arguments(sys.argv[1:] if arguments is None else arguments)
        run_sandbox(settings, announce=_print_address)
    except WaError as error:
        sys.stderr.write(f"error: {error.message}\n" + (f"hint: {error.hint}\n" if error.hint else ""))
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def _print_address(sandbox: Sandbox) -> None:
    sys.stdout.write(json.dumps(describe_address(sandbox)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
