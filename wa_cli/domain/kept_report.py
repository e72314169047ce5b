"""The report of a run as text: what is kept of its figures when its messages are pruned."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from wa_cli.domain.report import (
    Answers,
    Bucket,
    FailureGroup,
    Part,
    ReadTimes,
    RunDetails,
    RunFigures,
    Series,
    Span,
    fill_buckets,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wa_cli.domain.message import State
    from wa_cli.domain.receipt import Receipt


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptReport:
    """What a run had come to at that moment.  figures: read deep.  lately: the sends of its end, minute by minute."""

    at_ms: int
    figures: RunFigures
    lately: Series | None

    @property
    def left_out(self) -> Mapping[str, int]:
        return self.figures.left_out

    @property
    def messages(self) -> int:
        """How many messages the run had."""
        return self.figures.audience - sum(self.left_out.values())

    def show(self, tally: Sequence[tuple[State, Receipt | None, int]], *, is_deep: bool) -> RunFigures:
        """The figures as a report shows them.

        tally: where its messages stand, those that are gone included: what has changed since then counts, and the
        parts, which cannot follow it, are left out.
        """
        buckets = fill_buckets(tally, self.left_out, held=0)
        is_same = buckets == self.figures.buckets
        return replace(
            self.figures,
            buckets=buckets,
            sends=self.figures.sends if is_deep else self.lately,
            details=self.figures.details if is_deep and is_same else None,
            pruned_at_ms=self.at_ms,
        )


def encode_report(kept: KeptReport) -> str:
    # The messages that stand for the failures are not there to be looked at any more.
    failures = tuple(replace(group, message_id=None) for group in kept.figures.failures)
    return json.dumps(asdict(replace(kept, figures=replace(kept.figures, failures=failures))), ensure_ascii=False)


def decode_report(text: str) -> KeptReport:
    """Raises: ValueError, KeyError or TypeError for what `encode_report` has not written."""
    document = json.loads(text)
    figures = document["figures"]
    details = figures["details"]
    return KeptReport(
        at_ms=document["at_ms"],
        lately=_read_series(document["lately"]),
        figures=RunFigures(
            **figures
            | {
                "buckets": _read_buckets(figures["buckets"]),
                "answers": Answers(**figures["answers"]),
                "failures": tuple(FailureGroup(**group) for group in figures["failures"]),
                "sends": _read_series(figures["sends"]),
                "details": None if details is None else _read_details(details),
            }
        ),
    )


def _read_buckets(document: Mapping[str, int]) -> dict[Bucket, int]:
    return {Bucket(name): count for name, count in document.items()}


def _read_series(document: Mapping[str, Any] | None) -> Series | None:
    return None if document is None else Series(**{**document, "counts": tuple(document["counts"])})


def _read_details(document: Mapping[str, Any]) -> RunDetails:
    times = document["read_times"]
    parts = {
        name: tuple(Part(**part | {"buckets": _read_buckets(part["buckets"])}) for part in document[name])
        for name in ("variants", "countries", "instances")
    }
    return RunDetails(
        **parts,
        unsent=document["unsent"],
        read_times=None
        if times is None
        else ReadTimes(**times | {"spans": tuple(Span(**span) for span in times["spans"])}),
    )
