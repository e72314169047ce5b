"""A local WhatsApp: imitates the Cloud API, gateways of linked devices and their webhooks, for trying and testing.

All of them answer on one loopback port.

Knows nothing of the rest of `wa`.  Importing it loads the web server, so doors import it only when a
command needs it.
"""

from __future__ import annotations

from wa_cli.sandbox.deliveries import Delivery
from wa_cli.sandbox.faults import MAGIC_NUMBERS, Fault, FaultKind, MagicNumber, parse_chaos, parse_fault
from wa_cli.sandbox.ledger import LedgerEntry, summarise
from wa_cli.sandbox.runner import run_sandbox, serve_in_thread
from wa_cli.sandbox.server import Sandbox
from wa_cli.sandbox.settings import NumberState, SandboxSettings, SandboxTemplate, TemplateStatus

__all__ = [
    "MAGIC_NUMBERS",
    "Delivery",
    "Fault",
    "FaultKind",
    "LedgerEntry",
    "MagicNumber",
    "NumberState",
    "Sandbox",
    "SandboxSettings",
    "SandboxTemplate",
    "TemplateStatus",
    "parse_chaos",
    "parse_fault",
    "run_sandbox",
    "serve_in_thread",
    "summarise",
]
