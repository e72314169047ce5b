"""`GET /metrics` for Prometheus.  Counts what is new since the last look, so a look is cheap on a file of any size.

Counters begin at 0 with the server, as Prometheus expects of a process.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.responses import Response

from wa_cli import __version__
from wa_cli.domain.message import State
from wa_cli.domain.receipt import Receipt, Standing, derive_standing
from wa_cli.services.instances import Standing as InstanceStanding
from wa_cli.web.health import look_at

if TYPE_CHECKING:
    import collections
    from collections.abc import Iterator

    from wa_cli.bootstrap import App
    from wa_cli.ports import Instance
    from wa_cli.store.sqlite.figures import AttemptFigure
    from wa_cli.web.clicks import ClickDoor
    from wa_cli.web.store import StoreThread
    from wa_cli.web.thrift import Thrift

ROWS_A_LOOK: Final = 5_000
LATENCIES: Final = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
LATENESS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0)


class Metrics:
    """The figures of one server.  requests: how often each (method, route, status) was answered."""

    def __init__(
        self,
        store: StoreThread,
        requests: collections.Counter[tuple[str, str, int]],
        thrift: Thrift,
        clicks: ClickDoor,
    ) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # theirs
        self._store = store
        self._turn = asyncio.Lock()  # two scrapes at once count the same rows otherwise
        self._registry = registry = CollectorRegistry()
        self._last_attempt_id: int | None = None
        self._last_receipt_id = 0
        self._last_click_id = 0
        self._open: set[int] = set()
        self._thrift = thrift
        Gauge("wa_build_info", "The version of wa", ("version",), registry=registry).labels(__version__).set(1)
        self._messages = self._gauge("wa_messages", "Messages by where they stand", "instance", "state")
        self._unknown = self._gauge("wa_unknown_messages", "Messages of unknown outcome", "instance")
        self._overdue = self._gauge("wa_oldest_due_seconds", "For how long the first waiting one is due", "instance")
        self._states = self._gauge("wa_instance_state", "1 for the state it is in", "instance", "state")
        self._sender = self._gauge("wa_instance_has_sender", "1 while somebody sends for it", "instance")
        self._left = self._gauge("wa_limit_left", "Messages that the limit lets out yet", "instance", "limit")
        self._webhooks = self._gauge("wa_webhooks_waiting", "Webhooks that wait to be read")
        self._attempts = Counter("wa_attempts", "Posts by what became of them", ("outcome", "code"), registry=registry)
        self._receipts = Counter("wa_receipts", "Receipts by what they say", ("status",), registry=registry)
        self._lateness = Histogram(
            "wa_lateness_seconds", "From when it was due to when its post began", buckets=LATENESS, registry=registry
        )
        self._latency = Histogram(
            "wa_post_latency_seconds", "From the start of a post to its answer", buckets=LATENCIES, registry=registry
        )
        self._clicks = Counter(
            "wa_clicks", "Uses of short links, by people and for previews", ("kind",), registry=registry
        )
        registry.register(_LostClicks(clicks))
        registry.register(_Requests(requests))
        ProcessCollector(registry=registry)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(name, meaning, labels, registry=self._registry)

    async def answer(self) -> Response:
        async with self._turn:
            while await self._store.run(self._count_new):  # in steps, so that others get their turn
                pass
            await self._store.run(self._look)
            body = generate_latest(self._registry)
        return Response(body, media_type=CONTENT_TYPE_PLAIN_0_0_4)

    # --- on the thread of the store ---

    def _count_new(self, app: App) -> bool:
        """Count some of what is new.  True: there is more."""
        if self._last_attempt_id is None:
            self._last_attempt_id, self._last_receipt_id = app.figures.newest_ids()
            self._last_click_id = app.links.newest_click_id()
            return False
        if self._open:
            for attempt in app.figures.read_these_attempts(self._open):
                self._note(attempt)
        attempts = app.figures.read_attempts(after_id=self._last_attempt_id, limit=ROWS_A_LOOK)
        for attempt in attempts:
            self._note(attempt)
        if attempts:
            self._last_attempt_id = attempts[-1].id
        before = self._last_receipt_id
        self._last_receipt_id, counts = app.figures.count_receipts(after_id=before, limit=ROWS_A_LOOK)
        for status, count in counts.items():
            self._receipts.labels(status).inc(count)
        before = self._last_click_id
        self._last_click_id, clicks = app.links.count_new_clicks(after_id=before, limit=ROWS_A_LOOK)
        for kind, count in clicks.items():
            self._clicks.labels(kind.value).inc(count)
        return ROWS_A_LOOK in (len(attempts), sum(counts.values()), sum(clicks.values()))

    def _note(self, attempt: AttemptFigure) -> None:
        if attempt.outcome is None:
            self._open.add(attempt.id)
            return
        self._open.discard(attempt.id)
        self._attempts.labels(attempt.outcome, attempt.error_code or "").inc()
        if attempt.latency_ms is not None:
            self._latency.observe(attempt.latency_ms / 1000)
        if attempt.outcome == "accepted" and attempt.late_ms is not None:
            self._lateness.observe(max(attempt.late_ms, 0) / 1000)

    def _look(self, app: App) -> None:
        now_ms = app.clock.wall_ms()
        instances = {one.id: one for one in app.instances.list_all()}
        counts = {(name.name, standing): 0 for name in instances.values() for standing in Standing}
        for instance_id, state, receipt, n in app.figures.read_standings():
            standing = derive_standing(State(state), Receipt(receipt) if receipt else None)
            counts[instances[instance_id].name, standing] += n
        for (name, standing), n in counts.items():
            self._messages.labels(name, standing.value).set(n)
            if standing is Standing.UNKNOWN:
                self._unknown.labels(name).set(n)
        for instance in instances.values():
            self._look_at(app, instance, now_ms=now_ms)
        self._webhooks.set(app.webhooks.count_waiting())

    def _look_at(self, app: App, instance: Instance, *, now_ms: int) -> None:
        report = look_at(app, instance, now_ms=now_ms)
        due = report.next_due_at_ms
        self._overdue.labels(instance.name).set(max(now_ms - due, 0) / 1000 if due is not None else 0)
        for standing in InstanceStanding:
            self._states.labels(instance.name, standing.value).set(int(report.standing is standing))
        self._sender.labels(instance.name).set(int(report.holder is not None))
        limits, figures = app.limits(instance), app.figures
        for name, limit, span_ms in (
            ("per_second", limits.per_second, 1_000),
            ("per_minute", limits.per_minute, 60_000),
            ("per_hour", limits.per_hour, 3_600_000),
        ):
            if limit:
                used = self._thrift.ask(
                    ("starts", instance.id, span_ms),
                    partial(figures.count_starts, instance.id, since_ms=now_ms - span_ms),
                )
                self._left.labels(instance.name, name).set(max(limit - used, 0))
        if limits.new_people_per_day:
            used = self._thrift.ask(
                ("people", instance.id), partial(figures.count_people, instance.id, since_ms=now_ms - 86_400_000)
            )
            self._left.labels(instance.name, "new_people_per_day").set(max(limits.new_people_per_day - used, 0))


class _Requests:
    """The answers of this server, as a collector."""

    def __init__(self, counts: collections.Counter[tuple[str, str, int]]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily("wa_http_requests", "Answers by route", labels=("method", "route", "status"))
        for (method, route, status), count in list(self._counts.items()):
            family.add_metric((method, route, str(status)), count)
        yield family


class _LostClicks:
    """The clicks that this server could not write down, as a collector."""

    def __init__(self, clicks: ClickDoor) -> None:
        self._clicks = clicks

    def collect(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily("wa_clicks_lost", "Clicks that could not be written down", value=self._clicks.lost)
