"""An office for tests of campaigns: a folder with campaign files, the wired app, and a WhatsApp that is scripted.

Time is the world's: it moves when told, and when a send loop would wait.
"""

from __future__ import annotations

import csv
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.world import FakeClock, FakeTransport, World
from wa_cli.bootstrap import App, open_app
from wa_cli.campaigns import files, planning, standing, starting, upkeep
from wa_cli.config import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from wa_cli.domain.campaign import Campaign, Run
    from wa_cli.domain.plan import Plan, PlanSummary

TEXT = "Hi {{ name }}, doors open at six"


@dataclass(slots=True, kw_only=True)
class Office:
    """Made by `open_office`."""

    folder: Path
    app: App
    world: World

    @property
    def clock(self) -> FakeClock:
        return self.world.clock

    # --- putting in ---

    def write(self, name: str, text: str) -> Path:
        """A file in the campaigns' folder."""
        path = self.folder / "campaigns" / name
        path.write_text(text, encoding="utf-8")
        return path

    def write_people(self, name: str, people: Iterable[Mapping[str, str]]) -> Path:
        rows = list(people)
        path = self.folder / "campaigns" / name
        with path.open("w", encoding="utf-8", newline="") as out:
            writer = csv.DictWriter(out, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return path

    def add_subgroup(self, name: str, addresses: Iterable[str]) -> None:
        from wa_cli.domain.recipient import parse_recipient
        from wa_cli.domain.subgroup import NewMember

        subgroup, _is_new = self.app.subgroups.create(name, now_ms=self.clock.wall_ms())
        self.app.subgroups.add_members(
            subgroup.id,
            [NewMember(recipient=parse_recipient(one, default_region=None), attributes={}) for one in addresses],
            now_ms=self.clock.wall_ms(),
        )

    def create(self, name: str, body: str) -> Campaign:
        """A campaign from a file of that text."""
        return files.create(self.app, self.write(f"{name}.toml", body), actor="tester")[0]

    # --- its life ---

    def plan(self, campaign: Campaign, **options: Any) -> tuple[Plan, PlanSummary]:
        fresh, spec = files.read_again(campaign)
        spec = planning.with_options(spec, options)
        return planning.plan(self.app, fresh, spec, planning.next_turn(self.app, spec), options=options)

    def apply(self, campaign: Campaign, planned: Plan) -> Run | None:
        return starting.apply(self.app, campaign, planned, actor="tester")

    def start(self, campaign: Campaign, **options: Any) -> Run | None:
        return self.apply(campaign, self.plan(campaign, **options)[0])

    def pause(self, campaign: Campaign) -> None:
        from wa_cli.domain.campaign import CampaignState

        self.app.campaigns.step(
            campaign.id, CampaignState.PAUSED, actor="tester", reason=None, now_ms=self.clock.wall_ms()
        )

    def resume(self, campaign: Campaign) -> None:
        standing.resume(self.app, campaign, actor="tester", reason=None)

    def cancel(self, campaign: Campaign) -> standing.Ended:
        return standing.cancel(self.app, campaign, actor="tester", reason=None)

    def look_after(self) -> int:
        return upkeep.look_after(self.app)

    def drain(self, **options: Any) -> None:
        self.world.drain(**options)

    # --- looking ---

    def state(self, campaign: Campaign) -> str:
        return str(self.app.campaigns.read(campaign.id).state)

    def run_of(self, campaign: Campaign, occurrence: str = "") -> Run:
        run = self.app.campaigns.find_run(campaign.id, occurrence)
        assert run is not None
        return run

    def counts(self, campaign: Campaign, occurrence: str = "") -> dict[str, int]:
        """How many of a run stand in which state, those that are nowhere left out."""
        counts: dict[str, int] = {}
        for (state, _receipt), n in self.app.campaigns.count_run(self.run_of(campaign, occurrence).id).items():
            counts[state] = counts.get(state, 0) + n
        return {state: n for state, n in counts.items() if n}

    def excluded(self, campaign: Campaign) -> dict[str, int]:
        """People and rows of a run that were left out, by reason."""
        return dict(
            self.world.rows(
                "SELECT reason, count(*) FROM exclusion WHERE run_id = ? GROUP BY reason", self.run_of(campaign).id
            )
        )

    @property
    def bodies(self) -> list[str]:
        return self.world.transport.bodies

    @property
    def addresses(self) -> list[str]:
        return self.world.transport.addresses


@contextmanager
def open_office(folder: Path, *, clock: FakeClock | None = None, **settings: str) -> Iterator[Office]:
    """An office in that folder.  clock: of another one there, as a second process has it."""
    (folder / "campaigns").mkdir(exist_ok=True)
    flags = {"WA_DB": str(folder / "wa.db"), "WA_TIMEZONE": "Asia/Singapore", "MAX_SENDS_PER_SECOND_PER_INSTANCE": "0"}
    app = open_app(load_settings({**flags, **settings}), create=True)
    clock = clock or FakeClock()
    app.clock = clock  # type: ignore[assignment]
    world = World(folder=folder, clock=clock, database=app.database, owner=app.owner, transport=FakeTransport(clock))
    try:
        yield Office(folder=folder, app=app, world=world)
    finally:
        app.close()
