"""Whether a campaign file could be sent as it is."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from wa_cli.campaigns.files import check_free, check_there, find_file
from wa_cli.campaigns.planning import Turn, assemble_pieces, next_turn, read_audience
from wa_cli.campaigns.templates import look_at_templates
from wa_cli.domain.campaign import Campaign, CampaignState
from wa_cli.errors import NotFound, WaError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wa_cli.bootstrap import App
    from wa_cli.domain.campaign import AudienceSource, CampaignSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """What a look at a campaign file found.  problems: why it cannot be sent as it is."""

    spec: CampaignSpec
    problems: Sequence[str]
    warnings: Sequence[str]
    hint: str


def validate(app: App, word: str) -> Validity:
    """Read a campaign file and look at all that it names.  Writes nothing.  Raises: UsageError for a wrong file."""
    from wa_cli.sources.campaigns import read_campaign

    path = find_file(word)
    if path is None:
        known = app.campaigns.find(word)
        check_there(known)
        path = Path(known.path)
    spec, source = read_campaign(path)
    now_ms = app.clock.wall_ms()
    campaign = Campaign(
        id=0, name=spec.name, path=str(path.resolve()), source=source, state=CampaignState.DRAFT, created_at_ms=now_ms,
        changed_at_ms=now_ms,
    )  # fmt: skip
    problems: list[str] = []
    warnings: list[str] = []
    hint = "correct the file, then `wa campaign validate` again"
    checks: tuple[Callable[[], object], ...] = (
        lambda: check_free(app, spec.name, path),
        lambda: app.find_instance(spec.instance),
        lambda: next_turn(app, spec),
        lambda: warnings.extend(assemble_pieces(app, campaign, spec, Turn(), now_ms=now_ms).filler.warnings),
        *(partial(_look_at, app, campaign, source, warnings) for source in _sources_of(spec)),
    )
    for check in checks:
        try:
            check()
        except WaError as error:
            if error.message not in problems:  # what is asked for twice is missing once
                problems.append(error.message)
                hint = error.hint or hint
    with suppress(NotFound):  # of the instance, which is told already
        look = look_at_templates(app, spec)
        warnings += look.warnings
        for problem in look.problems:
            problems.append(problem.message)
            hint = problem.hint or hint
    return Validity(spec=spec, problems=problems, warnings=warnings, hint=hint)


def _sources_of(spec: CampaignSpec) -> Sequence[AudienceSource]:
    return (*spec.audience.any_of, *spec.audience.all_of, *spec.audience.none_of)


def _look_at(app: App, campaign: Campaign, source: AudienceSource, warnings: list[str]) -> None:
    """Raises: UsageError, NotFound for a list that is not there."""
    if source.kind == "subgroup":
        app.subgroups.find(source.name)
    elif source.kind == "file":
        bad = [row.problem for row in read_audience(app, campaign, source) if row.recipient is None]
        if bad:
            more = f"; and {len(bad) - 1:,} more rows" if len(bad) > 1 else ""
            warnings.append(f"{source.name} {bad[0]}{more}")
