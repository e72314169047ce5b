"""kill -9 inside every step of a campaign: all of it leaves or nothing, the same step again works, nobody gets two.

And two processes at once: one of them does it, once, and the other says so.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.rig import CAMPAIGN_CUTS
from tests.campaigning import Office, open_office
from tests.world import FakeClock, address
from wa_cli import cuts
from wa_cli.errors import Conflict, WaError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wa_cli.domain.campaign import Campaign

PEOPLE = 2_100  # two transactions
FEW = 6
HOUR_MS = 3_600_000
PLAN_CUTS = ("plan_lines_after_commit:1", "plan_before_commit:1", "plan_after_commit:1")
APPLY_CUTS = (
    "apply_opened:1",
    "apply_before_commit:1",
    "apply_before_commit:2",
    "apply_after_commit:1",
    "apply_after_commit:2",
    "release_before_commit:1",
    "release_after_commit:1",
)
ANEW_CUTS = (
    "apply_opened:1",
    "take_back_after_commit:1",
    "apply_before_commit:1",
    "apply_after_commit:1",
    "release_before_commit:1",
)
CANCEL_CUTS = ("cancel_after_step:1", "cancel_after_commit:1")
CANARY_CUTS = ("canary_before_commit:1", "canary_after_commit:1")
OCCURRENCE_CUTS = (
    "occurrence_claimed:1",
    "plan_lines_after_commit:1",
    "plan_after_commit:1",
    "apply_after_commit:1",
    "release_before_commit:1",
    "release_after_commit:1",
)
GALA = '[message]\ntext = "Hi {{ name }}"\n[audience]\nfiles = ["people.csv"]\n'

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is killed here")


def test_every_cut_point_of_a_campaign_is_visited() -> None:
    """faults.md row 1: 100 % of the named points."""
    visited = PLAN_CUTS + APPLY_CUTS + ANEW_CUTS + CANCEL_CUTS + CANARY_CUTS + OCCURRENCE_CUTS
    assert {cut.partition(":")[0] for cut in visited} == set(CAMPAIGN_CUTS)


class Scene:
    """A folder in which one office is opened after another, each as a process of its own would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FakeClock()
        self.posts: Counter[str] = Counter()

    def enter(self, act: Callable[[Office, Campaign], None]) -> None:
        with open_office(self.folder, clock=self.clock) as office:
            office.app.database.connection.execute("PRAGMA synchronous = OFF")
            act(office, office.app.campaigns.find("gala"))
            self.posts.update(office.addresses)

    def write(self, count: int, *, text: str = GALA) -> None:
        """campaigns/gala.toml and its people, one of whom cannot be reached."""
        with open_office(self.folder, clock=self.clock) as office:
            rows = [{"name": f"P{index}", "phone": address(index)} for index in range(count)]
            office.write_people("people.csv", [*rows, {"name": "Nobody", "phone": "12"}])
            office.create("gala", text)

    def kill(self, cut: str, act: Callable[[Office, Campaign], object]) -> None:
        """Let a process do it that dies at the cut."""
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with open_office(self.folder, clock=self.clock) as office:
                    campaign = office.app.campaigns.find("gala")
                    cuts.arm(cut)
                    act(office, campaign)
                code = 0
            finally:
                os._exit(code)
        _pid, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, f"{cut} was not reached: {status}"

    def assert_adds_up(self, messages: int) -> None:
        """Promises P2, P10, P13: the ledger, `wa db check`, and what the other side has seen."""
        with open_office(self.folder, clock=self.clock) as office:
            office.look_after()
            assert office.world.find_faults() == []
            assert office.world.value("SELECT count(*) FROM message WHERE run_id IS NOT NULL") == messages
            assert office.world.value("SELECT count(*) FROM exclusion") == 1
            assert office.world.value("SELECT count(*) FROM batch WHERE released_at IS NULL") == 0
            assert office.world.value("SELECT count(*) FROM plan_line WHERE plan_id IN (SELECT plan_id FROM run)") == 0
        assert max(self.posts.values(), default=0) <= 1


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def plan_and_apply(office: Office, gala: Campaign) -> None:
    office.start(gala)


def apply_last(office: Office, gala: Campaign) -> None:
    """`wa campaign apply` with the id that was printed last."""
    plan_id = office.world.value("SELECT max(id) FROM plan WHERE finished_at IS NOT NULL")
    office.apply(gala, office.app.plans.read_plan(plan_id))


def drain(office: Office, _gala: Campaign) -> None:
    office.look_after()
    office.drain()
    office.look_after()


@pytest.mark.parametrize("cut", PLAN_CUTS)
def test_a_plan_that_was_killed_leaves_nothing_and_is_made_again(cut: str, scene: Scene) -> None:
    """Issue 5, point 4; row 1."""
    scene.write(FEW)
    scene.kill(cut, lambda office, gala: office.plan(gala))
    scene.enter(drain)
    assert not scene.posts
    scene.enter(plan_and_apply)
    scene.enter(drain)
    scene.assert_adds_up(FEW)
    assert len(scene.posts) == FEW
    with open_office(scene.folder, clock=scene.clock) as office:
        assert office.world.rows("SELECT count(*), (SELECT count(*) FROM plan_line) FROM plan") == [(1, 0)]


@pytest.mark.parametrize("cut", APPLY_CUTS)
def test_an_apply_that_was_killed_sends_all_of_it_or_nothing(cut: str, scene: Scene) -> None:
    """Issue 5, point 4; promises P1, P10, P13; row 1."""
    scene.write(PEOPLE)
    scene.enter(lambda office, gala: office.plan(gala) and None)
    scene.kill(cut, apply_last)
    if cut == "release_after_commit:1":
        with pytest.raises(Conflict, match="applied already"):
            scene.enter(apply_last)
    else:
        scene.enter(drain)
        assert not scene.posts
        scene.enter(apply_last)
    scene.enter(drain)
    assert len(scene.posts) == PEOPLE
    scene.assert_adds_up(PEOPLE)


@pytest.mark.parametrize("cut", ANEW_CUTS)
def test_a_new_plan_whose_apply_was_killed_holds_everything_until_it_is_applied(cut: str, scene: Scene) -> None:
    """Issue 5, points 3 and 6; promises P2, P7, P13; row 1."""
    scene.write(FEW, text=GALA + "[pacing]\ndelay = 1000\n")
    scene.enter(plan_and_apply)

    def send_two(office: Office, gala: Campaign) -> None:
        office.world.transport.on_post = lambda _posted: office.pause(gala) if len(office.addresses) == 2 else None
        office.drain(whole_schedule=True)

    scene.enter(send_two)
    scene.write(FEW + 1, text=GALA.replace("Hi", "Dear"))
    scene.enter(lambda office, gala: office.plan(gala) and None)
    scene.kill(cut, apply_last)
    scene.clock.advance(HOUR_MS)
    scene.enter(lambda office, _gala: office.add_subgroup("other", [address(900)]))  # others go on beside it
    scene.enter(lambda office, _gala: office.world.send_later("another thing") and None)
    scene.enter(drain)
    assert sum(scene.posts.values()) == 3
    scene.posts.clear()
    if cut == "apply_opened:1":  # nothing was touched yet: it goes on as it was
        scene.enter(lambda office, gala: office.resume(gala))
        scene.enter(drain)
        assert len(scene.posts) == FEW - 2
        scene.assert_adds_up(FEW)
        return
    with pytest.raises(Conflict, match="only a part") as caught:
        scene.enter(lambda office, gala: office.resume(gala))
    assert "wa campaign apply gala --plan p" in (caught.value.hint or "")
    scene.enter(apply_last)
    scene.enter(drain)
    assert len(scene.posts) == FEW + 1 - 2
    scene.assert_adds_up(FEW + 1)


@pytest.mark.parametrize("cut", CANCEL_CUTS)
def test_a_cancel_that_was_killed_is_finished_by_whoever_looks(cut: str, scene: Scene) -> None:
    """Issue 5, point 6; promise P7; row 1."""
    scene.write(FEW)
    scene.enter(plan_and_apply)
    scene.kill(cut, lambda office, gala: office.cancel(gala))
    scene.enter(drain)
    assert not scene.posts

    def look(office: Office, gala: Campaign) -> None:
        assert office.counts(gala) == {"cancelled": FEW}
        assert office.cancel(gala).count == 0  # the same command again

    scene.enter(look)
    scene.assert_adds_up(FEW)


@pytest.mark.parametrize("cut", CANARY_CUTS)
def test_the_rest_of_a_sample_leaves_once_though_its_judge_was_killed(cut: str, scene: Scene) -> None:
    """Issue 5, point 6; row 1."""
    scene.write(FEW)
    scene.enter(lambda office, gala: office.start(gala, canary=2, hold_ms=1_000) and None)
    scene.enter(drain)
    assert len(scene.posts) == 2
    scene.clock.advance(HOUR_MS)
    scene.kill(cut, lambda office, _gala: office.look_after())
    scene.enter(drain)
    scene.enter(drain)
    assert len(scene.posts) == FEW
    scene.assert_adds_up(FEW)


def reach_occurrence(office: Office, gala: Campaign) -> None:
    due = office.app.campaigns.read(gala.id).next_occurrence_at_ms
    assert due is not None
    office.clock.advance(due - office.clock.wall_ms() + 500)


@pytest.mark.parametrize("cut", OCCURRENCE_CUTS)
def test_an_occurrence_whose_start_was_killed_is_sent_once(cut: str, scene: Scene) -> None:
    """Issue 5, point 5; rows 1 and 33."""
    scene.write(FEW, text=GALA + '[schedule]\nevery = "daily 09:00"\n')
    scene.enter(plan_and_apply)
    scene.enter(reach_occurrence)
    scene.kill(cut, lambda office, _gala: office.look_after())
    for _look in range(3):
        scene.enter(drain)
    assert len(scene.posts) == FEW
    scene.assert_adds_up(FEW)
    with open_office(scene.folder, clock=scene.clock) as office:
        gala = office.app.campaigns.find("gala")
        assert [run.state for run in office.app.campaigns.list_runs(gala.id)] == ["finished"]
        assert (gala.next_occurrence_at_ms or 0) > scene.clock.wall_ms()


# --- two at once ---


def meanwhile(first: Office, point: str, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Do something in another process when the first one passes a cut point.  Returns what came of it."""
    came: list[object] = []

    def at(name: str) -> None:
        if name == point and not came:
            came.append(None)
            try:
                came[0] = act()
            except WaError as error:
                came[0] = error

    for module in ("applying", "plans", "campaigns"):
        monkeypatch.setattr(f"wa_cli.store.sqlite.{module}.cut", at)
    return came


@pytest.mark.parametrize("point", ["apply_opened", "apply_after_commit"])
def test_of_two_applies_of_one_plan_one_sends_it_and_the_other_says_so(
    point: str, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 5, point 4; row 42."""
    scene.write(PEOPLE)
    with open_office(scene.folder, clock=scene.clock) as one, open_office(scene.folder, clock=scene.clock) as other:
        gala = one.app.campaigns.find("gala")
        planned, _summary = one.plan(gala)
        came = meanwhile(one, point, lambda: other.apply(gala, planned), monkeypatch)
        one.apply(gala, planned)
        assert isinstance(came[0], Conflict)
        assert came[0].code == "being_applied"
        with pytest.raises(Conflict, match="applied already"):
            other.apply(gala, planned)
        assert one.counts(gala) == {"queued": PEOPLE}
    scene.assert_adds_up(PEOPLE)


def test_a_plan_that_is_made_while_another_is_applied_takes_nothing_from_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 5, point 4; row 42."""
    scene.write(PEOPLE)
    with open_office(scene.folder, clock=scene.clock) as one, open_office(scene.folder, clock=scene.clock) as other:
        gala = one.app.campaigns.find("gala")
        planned, _summary = one.plan(gala)
        came = meanwhile(one, "apply_after_commit", lambda: other.plan(gala), monkeypatch)
        one.apply(gala, planned)
        assert isinstance(came[0], tuple)
        assert one.counts(gala) == {"queued": PEOPLE}
    scene.assert_adds_up(PEOPLE)


@pytest.mark.parametrize("stop", ["pause", "cancel"])
def test_a_stop_that_comes_while_an_occurrence_is_started_holds_it(
    stop: str, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 5, points 5 and 6; promise P7: whoever starts it does not undo the pause."""
    scene.write(FEW, text=GALA + '[schedule]\nevery = "daily 09:00"\n')
    scene.enter(plan_and_apply)
    scene.enter(reach_occurrence)
    with open_office(scene.folder, clock=scene.clock) as one, open_office(scene.folder, clock=scene.clock) as other:
        gala = one.app.campaigns.find("gala")
        act = {"pause": other.pause, "cancel": other.cancel}[stop]
        meanwhile(one, "apply_opened", lambda: act(gala), monkeypatch)
        one.look_after()
        one.drain()
        assert one.addresses == []
        assert one.state(gala) == ("paused" if stop == "pause" else "cancelled")
        assert one.world.find_faults() == []
        if stop == "pause":
            one.resume(gala)
            one.drain()
            assert len(one.addresses) == FEW


def test_a_daemon_and_a_drain_that_look_at_once_start_an_occurrence_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 5, point 5; rows 33 and 42."""
    scene.write(FEW, text=GALA + '[schedule]\nevery = "daily 09:00"\n')
    scene.enter(plan_and_apply)
    scene.enter(reach_occurrence)
    with open_office(scene.folder, clock=scene.clock) as one, open_office(scene.folder, clock=scene.clock) as other:
        gala = one.app.campaigns.find("gala")
        for point in ("occurrence_claimed", "plan_lines_after_commit", "apply_after_commit"):
            meanwhile(one, point, other.look_after, monkeypatch)
            one.look_after()
            other.look_after()
            one.drain()
            one.look_after()
            reach_occurrence(one, gala)
        assert Counter(one.addresses) == dict.fromkeys(map(address, range(FEW)), 3)
        assert len(one.app.campaigns.list_runs(gala.id)) == 3
        assert one.world.find_faults() == []
