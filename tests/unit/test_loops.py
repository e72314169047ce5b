"""The event loop that sends."""

from __future__ import annotations

import asyncio
import sys

import pytest

from wa_cli.daemon.loops import find_loop_factory, run_in_loop


async def name_of_loop() -> str:
    return type(asyncio.get_running_loop()).__module__


def test_what_is_sent_is_sent_on_uvloop_where_it_is_installed() -> None:
    pytest.importorskip("uvloop")
    assert run_in_loop(name_of_loop()).startswith("uvloop")


def test_without_uvloop_the_loop_of_asyncio_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert find_loop_factory() is None
    assert run_in_loop(name_of_loop()).startswith("asyncio")
