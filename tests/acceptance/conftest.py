"""Fixtures of the acceptance tests: each test has its own sandbox process and its own database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from rig import Household, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def make_home(tmp_path: Path) -> Iterator[Callable[..., Household]]:
    """`make_home("--latency-ms", "200", WA_CONCURRENCY="4")`: flags of the sandbox, settings of wa."""
    homes: list[Household] = []

    def make(*sandbox_flags: str, **settings: Any) -> Household:
        homes.append(Household(tmp_path, Sandbox(tmp_path, *sandbox_flags), **settings))
        return homes[-1]

    yield make
    for home in homes:
        home.end()


@pytest.fixture
def home(make_home: Callable[..., Household]) -> Household:
    """A database and a sandbox that behave."""
    return make_home()
