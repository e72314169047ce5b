"""The ledger of a campaign adds up after every step of any life, and nobody is written to twice."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.campaigning import Office, open_office
from tests.world import accepted, address, ambiguous, not_sent, rejected
from wa_cli.domain.campaign import Reason
from wa_cli.domain.consent import Change, Source, Wish
from wa_cli.domain.event import StatusEvent
from wa_cli.domain.outcome import Accepted, Ambiguous, ErrorClass
from wa_cli.domain.receipt import Receipt
from wa_cli.errors import Conflict, Refused, UsageError
from wa_cli.services.receipts import apply_status
from wa_cli.services.resend import ResendOrder, resend
from wa_cli.store.sqlite.events import open_event_turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wa_cli.domain.campaign import Campaign, Run
    from wa_cli.domain.outcome import Outcome
    from wa_cli.domain.plan import Plan
    from wa_cli.ports import Post

PEOPLE = 9
HOUR_MS = 3_600_000
OUTCOMES = (
    *["accepted"] * 6,
    "dead",
    "ambiguous",
    "not_sent",
)
STEPS = (
    *["plan and apply", "send"] * 3,
    *["pause", "resume", "look after", "wait"] * 2,
    "plan",
    "apply",
    "cancel",
    "pause while it sends",
    "opt out while it sends",
    "opt out",
    "erase",
    "add somebody",
    "edit",
    "receipt",
    "late failure",
    "resend",
    "settle as not sent",
    "settle as sent",
)

shapes = st.fixed_dictionaries(
    {
        "vip": st.sets(st.integers(0, PEOPLE - 1), min_size=1),
        "crew": st.sets(st.integers(0, PEOPLE - 1)),
        "staff": st.sets(st.integers(0, PEOPLE - 1), max_size=2),
        "rows": st.lists(st.sampled_from([*range(PEOPLE), *"??"]), max_size=6),
        "opted_out": st.sets(st.integers(0, PEOPLE - 1), max_size=2),
        "erased": st.sets(st.integers(0, PEOPLE - 1), max_size=1),
        "variants": st.integers(1, 3),
        "canary": st.sampled_from([0, 0, 2, 20]),
        "expires": st.sampled_from([None, None, "1 min"]),
        "delay": st.sampled_from([0, 1_000]),
        "field": st.sampled_from(["", "{{ seat }} "]),
        "steps": st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 99)), min_size=4, max_size=14),
        "outcomes": st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=20),
    }
)


class Script(list[Any]):
    """Answers as drawn, round and round, and remembers who may have got something."""

    def __init__(self, life: Life, outcomes: list[str]) -> None:
        super().__init__([None])
        self._life = life
        self._outcomes = outcomes
        self._next = 0

    def pop(self, _index: Any = 0) -> Callable[[Post], Outcome]:  # type: ignore[override]
        word = self._outcomes[self._next % len(self._outcomes)]
        self._next += 1
        return lambda post: self._life.answer(word, post)


@dataclass(slots=True)
class Life:
    """One campaign of one draw, in an office that many of them share.  first: of its people.

    may_have: addresses that may have got their message.  is_held: it was paused or cancelled, and not resumed.
    """

    office: Office
    shape: dict[str, Any]
    first: int
    campaign: Campaign
    planned: Plan | None = None
    may_have: set[str] = field(default_factory=set)
    twice: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    is_held: bool = False
    edits: int = 0
    more: int = 0
    posts: int = 0
    in_flight: int = 0

    # --- the other side ---

    def answer(self, word: str, post: Post) -> Outcome:
        self.posts += 1
        if post.address in self.may_have:
            self.twice.append(post.address)
        match word:
            case "accepted":
                outcome: Outcome = accepted(10_000 * self.first + self.posts)
            case "dead":
                outcome = rejected(ErrorClass.DEAD_RECIPIENT, "131026")
            case "ambiguous":
                outcome = ambiguous()
            case _:
                outcome = not_sent()
        if isinstance(outcome, Accepted | Ambiguous):
            self.may_have.add(post.address)
        return outcome

    # --- steps ---

    def take(self, step: str, draw: int) -> None:
        office, campaign = self.office, self.campaign
        try:
            match step:
                case "plan and apply":
                    self.planned = None
                    self.planned = office.plan(campaign, **self.options())[0]
                    self.apply()
                case "plan":
                    self.planned = None
                    self.planned = office.plan(campaign, **self.options())[0]
                case "apply":
                    self.apply()
                case "send":
                    office.drain(whole_schedule=bool(draw % 2))
                case "pause":
                    office.pause(campaign)
                    self.is_held = True
                case "resume":
                    office.resume(campaign)
                    self.is_held = False
                case "cancel" if draw < 50:
                    office.cancel(campaign)
                    self.is_held = True
                case "look after":
                    office.look_after()
                case "wait":
                    office.clock.advance((draw % 5) * HOUR_MS / 8)
                case "pause while it sends":
                    self.send_and(draw % 4 + 1, self.pause_now)
                case "opt out while it sends":
                    self.send_and(draw % 4 + 1, lambda: self.opt_out(draw % PEOPLE))
                case "opt out":
                    self.opt_out(draw % PEOPLE)
                case "erase":
                    self.erase(draw % PEOPLE)
                case "add somebody":
                    self.more += 1
                    office.add_subgroup(f"vip-{self.first}", [address(self.first + PEOPLE + self.more)])
                case "edit":
                    self.edits += 1
                    office.write(f"c{self.first}.toml", self.text())
                case "receipt":
                    self.receive(draw, (Receipt.DELIVERED, Receipt.READ)[draw % 2])
                case "late failure":
                    self.receive(draw, Receipt.FAILED)
                case "resend":
                    order = ResendOrder(
                        message_ids=None, campaign=campaign.name, delay_ms=0, force=True, is_dry_run=False,
                        duplicate_window_ms=0,
                    )  # fmt: skip
                    resend(office.app.failures, order, now_ms=office.clock.wall_ms())
                case "settle as not sent" | "settle as sent":
                    self.settle(was_sent=step == "settle as sent")
        except (Conflict, Refused, UsageError):
            pass  # refused, with what to type instead; nothing may have changed

    def options(self) -> dict[str, Any]:
        return {"canary": self.shape["canary"], "hold_ms": HOUR_MS // 4} if self.shape["canary"] else {}

    def apply(self) -> None:
        if self.planned is not None:
            self.office.apply(self.campaign, self.planned)
            self.is_held = False

    def pause_now(self) -> None:
        self.office.pause(self.campaign)
        self.is_held = True
        runs = self.office.app.campaigns.list_runs(self.campaign.id)
        self.in_flight = sum(self.office.app.campaigns.count_sending(run.id) for run in runs) - 1  # this very post

    def send_and(self, count: int, act: Callable[[], None]) -> None:
        transport, until = self.office.world.transport, self.posts + count

        def on_post(_posted: object) -> None:
            if self.posts + 1 == until:
                with suppress(Conflict):
                    act()
            elif self.is_held and self.posts + 1 > until:
                self.in_flight -= 1
                if self.in_flight < 0:
                    self.late.append("posted after a pause")

        transport.on_post = on_post
        try:
            self.office.drain(whole_schedule=True)
        finally:
            transport.on_post = None

    def contact_id(self, person: int) -> int:
        rows = self.office.world.rows("SELECT id FROM contact WHERE address = ?", address(self.first + person))
        return int(rows[0][0]) if rows else 0

    def opt_out(self, person: int) -> None:
        now = self.office.clock.wall_ms()
        if contact_id := self.contact_id(person):
            with self.office.app.people.turn() as turn:
                turn.record_consent(contact_id, Change(wish=Wish.OPT_OUT, source=Source.PERSON, at_ms=now))

    def erase(self, person: int) -> None:
        if self.contact_id(person):
            self.office.app.erasure.erase(address(self.first + person), now_ms=self.office.clock.wall_ms())

    def messages(self, where: str) -> list[tuple[Any, ...]]:
        return self.office.world.rows(
            f"""SELECT m.id, c.address, (SELECT max(id) FROM attempt WHERE message_id = m.id) FROM message AS m
                JOIN run ON run.id = m.run_id JOIN contact AS c ON c.id = m.contact_id
            WHERE run.campaign_id = ? AND {where} ORDER BY m.id""",
            self.campaign.id,
        )

    def receive(self, draw: int, receipt: Receipt) -> None:
        sent = self.messages("m.state = 'sent' AND m.provider_message_id IS NOT NULL")
        if not sent:
            return
        _message_id, who, attempt_id = sent[draw % len(sent)]
        world = self.office.world
        install = world.database.read_install()
        event = StatusEvent(
            number_id="1",
            provider_message_id=f"wamid.{attempt_id}",
            receipt=receipt,
            at_ms=world.now_ms,
            tag=f"wa1.{install}.{attempt_id}",
            refusal=rejected(ErrorClass.DEAD_RECIPIENT, "131026") if receipt is Receipt.FAILED else None,
        )
        with open_event_turn(world.database) as turn:
            word, _posted = apply_status(turn, event, install=install, policy=world.policy, now_ms=world.now_ms)
        if receipt is Receipt.FAILED and word == "applied":
            self.may_have.discard(who)

    def settle(self, *, was_sent: bool) -> None:
        unknown = self.messages("m.state = 'unknown'")[:1]
        settled = self.office.app.failures.mark_unknown(
            [row[0] for row in unknown], was_sent=was_sent, note=None, now_ms=self.office.clock.wall_ms()
        )
        if settled and not was_sent:
            self.may_have.difference_update(row[1] for row in unknown)

    # --- the file ---

    def text(self) -> str:
        words = [f'[[variant]]\nname = "v{n}"\ntext = "{self.shape["field"]}hello {n} {self.edits}"' for n in range(3)]
        message = "\n".join(words[: self.shape["variants"]])
        files = f', {{ file = "{self.first}.csv" }}' if self.shape["rows"] else ""
        expires = f'expires = "{self.shape["expires"]}"\n' if self.shape["expires"] else ""
        return f"""{expires}{message}
[audience]
any_of = [{{ subgroup = "vip-{self.first}" }}, {{ subgroup = "crew-{self.first}" }}{files}]
none_of = [{{ subgroup = "staff-{self.first}" }}]
[pacing]
delay = {self.shape["delay"]}
"""

    # --- the claims ---

    def check(self, after: str) -> None:
        for run in self.office.app.campaigns.list_runs(self.campaign.id):
            self.check_run(run, after)
        assert (self.twice, self.late) == ([], []), after

    def check_run(self, run: Run, after: str) -> None:
        world = self.office.world
        rows = world.rows(
            "SELECT state, ifnull(receipt, ''), count(*) FROM message WHERE run_id = ? GROUP BY 1, 2", run.id
        )
        assert self.office.app.campaigns.count_run(run.id) == {(row[0], row[1]): row[2] for row in rows}, after
        both = world.value(
            """SELECT count(*) FROM exclusion AS e JOIN message AS m ON m.run_id = e.run_id
                AND m.contact_id = e.contact_id WHERE e.run_id = ?""",
            run.id,
        )
        assert both == 0, f"{after}: somebody is in the ledger twice"
        doubled = world.value(
            "SELECT count(contact_id) - count(DISTINCT contact_id) FROM exclusion WHERE run_id = ?", run.id
        )
        assert doubled == 0, f"{after}: somebody is left out twice"
        excluded = world.value("SELECT count(*) FROM exclusion WHERE run_id = ?", run.id)
        figures = self.office.app.reports.read_figures(run, now_ms=world.now_ms)
        assert figures.audience == sum(figures.buckets.values()) == sum(row[2] for row in rows) + excluded, after
        assert not world.value(
            "SELECT count(*) FROM exclusion WHERE run_id = ? AND reason = ?", run.id, Reason.ALREADY_WRITTEN
        )


class Shared:
    """An office for all draws, since opening one costs more than a draw.  The default repr: an example is printed."""

    def __init__(self, office: Office) -> None:
        self.office = office
        self.draws = 0


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    with open_office(tmp_path_factory.mktemp("ledger")) as office:
        office.app.database.connection.execute("PRAGMA synchronous = OFF")  # no power cut is part of this
        yield Shared(office)


def begin(office: Office, shape: dict[str, Any], number: int) -> Life:
    first = number * 100
    people = [address(first + one) for one in range(PEOPLE)]
    for name in ("vip", "crew", "staff"):
        office.add_subgroup(f"{name}-{first}", [people[one] for one in sorted(shape[name])])
    if shape["rows"]:
        rows = [
            {"phone": "12" if row == "?" else people[row], "seat": str(row) if place % 3 else ""}
            for place, row in enumerate(shape["rows"])
        ]
        office.write_people(f"{first}.csv", rows)
    life = Life(office=office, shape=shape, first=first, campaign=None)  # type: ignore[arg-type]
    life.campaign = office.create(f"c{first}", life.text())
    office.world.transport.script = Script(life, shape["outcomes"])
    for person in shape["opted_out"]:
        life.opt_out(person)
    for person in shape["erased"]:
        life.erase(person)
    return life


@settings(
    max_examples=int(os.environ.get("WA_LEDGER_DRAWS", "200")),
    derandomize=True,
    deadline=None,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(shape=shapes)
def test_the_audience_is_the_sum_of_the_buckets_after_every_step_and_nobody_is_written_to_twice(
    shared: Shared, shape: dict[str, Any]
) -> None:
    """Issue 5, conservation: 200 random campaigns.  Promises P2, P7, P13; faults 17, 34."""
    office = shared.office
    shared.draws += 1
    life = begin(office, shape, shared.draws)
    for step, draw in [("plan and apply", 0), *shape["steps"]]:
        posts = life.posts
        held_before = life.is_held
        life.take(step, draw)
        if held_before and life.is_held:
            assert life.posts == posts, f"{step}: something left after a pause or a cancel"
        life.check(step)
    office.world.transport.on_post = None
    try:
        office.cancel(life.campaign)
    except Conflict:
        office.drain(whole_schedule=True)
    office.look_after()
    life.check("the end")
    if shared.draws % 20 == 0:
        assert not office.world.find_faults()
