"""Settings in, wired app out: the one place where adapters are chosen."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from wa_cli import cuts
from wa_cli.accounts import DEFAULT_INSTANCE, Accounts, is_of_environment
from wa_cli.domain.pacing import PROFILES
from wa_cli.errors import UsageError
from wa_cli.store.sqlite.database import Database
from wa_cli.store.sqlite.owners import Owner

if TYPE_CHECKING:
    import sqlite3
    from collections import Counter
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from wa_cli.config import Settings
    from wa_cli.domain.event import Event
    from wa_cli.domain.finding import Finding
    from wa_cli.domain.ladder import LadderTerms
    from wa_cli.domain.link import Shortener
    from wa_cli.domain.message import Content, LocalFile
    from wa_cli.domain.pacing import Limits
    from wa_cli.domain.pooling import PoolTerms
    from wa_cli.domain.retry import RetryPolicy
    from wa_cli.domain.template import StoredTemplate
    from wa_cli.ports import FoundFile, Instance, Pool, Problem, SendRules, Transport, WebhookReader
    from wa_cli.provider import Capabilities, Gateway, Provider
    from wa_cli.services.events import EventTerms
    from wa_cli.services.groups import Preflight
    from wa_cli.services.webhooks import ReadSums
    from wa_cli.store.sqlite.api_keys import SqliteApiKeys
    from wa_cli.store.sqlite.applying import SqliteApplying
    from wa_cli.store.sqlite.campaigns import SqliteCampaigns
    from wa_cli.store.sqlite.erasure import SqliteErasure
    from wa_cli.store.sqlite.failures import SqliteFailures
    from wa_cli.store.sqlite.figures import SqliteFigures
    from wa_cli.store.sqlite.groups import SqliteGroups
    from wa_cli.store.sqlite.instances import SqliteInstances
    from wa_cli.store.sqlite.intake import SqliteIntake
    from wa_cli.store.sqlite.leases import SqliteLeases
    from wa_cli.store.sqlite.links import SqliteLinks
    from wa_cli.store.sqlite.media import SqliteMedia
    from wa_cli.store.sqlite.messages import SqliteMessages
    from wa_cli.store.sqlite.numbers import SqliteNumbers
    from wa_cli.store.sqlite.people import SqlitePeople
    from wa_cli.store.sqlite.plans import SqlitePlans
    from wa_cli.store.sqlite.pools import SqlitePools
    from wa_cli.store.sqlite.pruning import SqlitePruning
    from wa_cli.store.sqlite.queue import SqliteQueue
    from wa_cli.store.sqlite.receipts import SqliteReceipts
    from wa_cli.store.sqlite.reports import SqliteReports
    from wa_cli.store.sqlite.subgroups import SqliteSubgroups
    from wa_cli.store.sqlite.templates import SqliteTemplates
    from wa_cli.store.sqlite.totals import SqliteTotals
    from wa_cli.store.sqlite.upkeep import SqliteUpkeep
    from wa_cli.store.sqlite.webhooks import SqliteWebhooks

T = TypeVar("T")

# A clock that goes on while a laptop sleeps: then a leap of the wall clock against it is somebody setting the time.
# Linux's plain monotonic clock stands still in sleep, macOS's does not; Windows has neither name.
STEADY_CLOCK: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


class SystemClock:
    """The machine's own clocks."""

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def steady_ms(self) -> float:
        return time.clock_gettime_ns(STEADY_CLOCK) / 1e6 if STEADY_CLOCK is not None else time.monotonic_ns() / 1e6


class OpenTurn(Protocol):
    """A transaction of the store that is open."""

    @property
    def connection(self) -> sqlite3.Connection: ...


@dataclass(slots=False, kw_only=True)
class App:
    """The wired pieces.  Each part of the store is made when it is first used."""

    settings: Settings
    database: Database
    clock: SystemClock
    owner: Owner

    def close(self) -> None:
        self.owner.close()
        self.database.close()

    def open_beside(self) -> App:
        """The same on a second connection, for another thread.  Whoever opens it closes its database alone."""
        return replace(self, database=self.open_reader())

    def open_again(self) -> App:
        """The same app on a connection of its own, for another thread."""
        database = Database.open(self.database.path, create=False)
        return App(settings=self.settings, database=database, clock=self.clock, owner=Owner(database.path))

    def open_reader(self) -> Database:
        """A second connection to the same file, for looking at it from another thread."""
        return Database.open(self.database.path, create=False)

    @cached_property
    def queue(self) -> SqliteQueue:
        from wa_cli.store.sqlite.queue import SqliteQueue

        return SqliteQueue(self.database)

    @cached_property
    def receipts(self) -> SqliteReceipts:
        from wa_cli.store.sqlite.receipts import SqliteReceipts

        return SqliteReceipts(self.database)

    @cached_property
    def webhooks(self) -> SqliteWebhooks:
        from wa_cli.store.sqlite.webhooks import SqliteWebhooks

        return SqliteWebhooks(self.database)

    def read_webhooks(self, *, limit: int) -> ReadSums:
        """Read the webhooks that wait, at most `limit` of them, and let them take effect."""
        from wa_cli.services.webhooks import read_waiting

        now_ms, terms = self.clock.wall_ms(), self.read_event_terms()
        sums = read_waiting(
            self.webhooks,
            self.find_webhook_readers(),
            partial(self.settle_events, terms=terms, now_ms=now_ms),
            numbers=terms.numbers,
            now_ms=now_ms,
            limit=limit,
        )
        if terms.linked and sums.effects["unmatched"]:
            from wa_cli.services.receipts import FRESH_MS

            self.look_after_receipts(posts_of_ms=FRESH_MS)
        return sums

    def replay_webhooks(self, only: Sequence[int], *, came_from_provider: bool) -> tuple[ReadSums, dict[str, int]]:
        """Read these webhooks, which wait.  Returns the sums and what has changed.

        came_from_provider: False for bodies from somewhere else, which do not prove that webhooks come.
        """
        from wa_cli.services.webhooks import replay

        now_ms, terms = self.clock.wall_ms(), self.read_event_terms()
        return replay(
            self.webhooks,
            self.find_webhook_readers(),
            partial(self.settle_events, terms=terms, now_ms=now_ms),
            only=only,
            numbers=terms.numbers if came_from_provider else {},
            now_ms=now_ms,
        )

    def find_webhook_readers(self) -> Callable[[int | None], WebhookReader | None]:
        """What reads the bodies of each instance, by its id; None: those of the address that `default` has.

        Looks at the instances now: inside a transaction that cannot be done.
        """
        known = {instance.id: instance for instance in self.instances.list_all()}
        shared = next((one for one in known.values() if one.name == DEFAULT_INSTANCE), None)
        accounts = {instance.id: self.accounts.find(instance) for instance in known.values()}
        readers: dict[int, WebhookReader] = {}

        def find(instance_id: int | None) -> WebhookReader | None:
            instance = shared if instance_id is None else known.get(instance_id)
            if instance is None:
                return None
            if instance.id not in readers:
                readers[instance.id] = self.provider(instance).webhook_reader(accounts[instance.id])
            return readers[instance.id]

        return find

    def read_event_terms(self) -> EventTerms:
        """What the events of webhooks are judged by now: instances come and go while a server runs."""
        from wa_cli.domain.consent import parse_words
        from wa_cli.provider import URL, number_id_of
        from wa_cli.services.events import EventTerms

        numbers: dict[str, int] = {}
        accounts: dict[int, str] = {}
        linked: set[int] = set()
        for instance in self.instances.list_all():
            if instance.transport != "cloud_api":
                linked.add(instance.id)
                numbers[number_id_of(instance.id)] = instance.id
                continue
            from wa_cli.transports.cloud_api.account import parse_api_url
            from wa_cli.transports.cloud_api.provider import BUSINESS_ACCOUNT

            values = self.accounts.read_settings(instance)
            if values.get(URL):
                numbers[parse_api_url(values[URL]).phone_number_id] = instance.id
            if values.get(BUSINESS_ACCOUNT):
                accounts[instance.id] = values[BUSINESS_ACCOUNT]
        return EventTerms(
            install=self.install,
            policy=self.retry_policy(),
            numbers=numbers,
            accounts=accounts,
            linked=frozenset(linked),
            stop_words=parse_words(self.settings.text("WA_STOP_WORDS")),
            start_words=parse_words(self.settings.text("WA_START_WORDS")),
        )

    def settle_events(self, turn: OpenTurn, events: Sequence[Event], *, terms: EventTerms, now_ms: int) -> Counter[str]:
        """Let the events of a webhook take effect inside that transaction.  Returns how often what happened."""
        from wa_cli.services.events import settle
        from wa_cli.store.sqlite.events import SqliteEventTurn

        return settle(SqliteEventTurn(turn.connection), events, terms=terms, now_ms=now_ms)

    def bury_dead(self, *, now_ms: int) -> int:
        """Turn what dead senders left on its way into unknowns, and settle those whose receipt has come already.

        Returns how many were buried.
        """
        buried = self.leases.bury_dead(now_ms=now_ms)
        if buried:
            self.look_after_receipts()
        return buried

    def look_after_numbers(self) -> list[str]:
        """Upkeep: pause the numbers whose posts are taken and never acknowledged.  Returns their names."""
        from datetime import datetime

        from wa_cli.services.guard import look_after_numbers

        zone = self.settings.zone()
        return look_after_numbers(
            self.instances,
            self.receipts,
            capabilities_of=self._find_capabilities,
            describe_time=lambda at_ms: f"{datetime.fromtimestamp(at_ms / 1000, zone):%Y-%m-%d %H:%M}",
            now_ms=self.clock.wall_ms(),
        )

    def _find_capabilities(self, instance: Instance) -> Capabilities | None:
        try:
            return self.provider(instance).capabilities
        except UsageError:  # one of a newer wa: it says so itself when somebody sends through it
            return None

    def look_after_receipts(self, *, posts_of_ms: int | None = None) -> int:
        """Upkeep: apply the receipts that waited for a record or a match.  Returns how many.

        posts_of_ms: how far back to look for posts that a receipt without a tag is of; None for as far as it makes
        sense.
        """
        from wa_cli.services.receipts import MATCHED_FOR_MS, look_after
        from wa_cli.store.sqlite.events import open_event_turn

        return look_after(
            self.receipts,
            lambda: open_event_turn(self.database),
            policy=self.retry_policy(),
            now_ms=self.clock.wall_ms(),
            posts_of_ms=MATCHED_FOR_MS if posts_of_ms is None else posts_of_ms,
        )

    @cached_property
    def leases(self) -> SqliteLeases:
        from wa_cli.store.sqlite.leases import SqliteLeases

        return SqliteLeases(self.database, self.owner, lease_ms=self.settings.count("WA_LEASE_MS"))

    @cached_property
    def instances(self) -> SqliteInstances:
        from wa_cli.store.sqlite.instances import SqliteInstances

        return SqliteInstances(self.database)

    @cached_property
    def pools(self) -> SqlitePools:
        from wa_cli.store.sqlite.pools import SqlitePools

        return SqlitePools(self.database)

    @cached_property
    def intake(self) -> SqliteIntake:
        from wa_cli.store.sqlite.intake import SqliteIntake

        return SqliteIntake(self.database, self.owner)

    @cached_property
    def messages(self) -> SqliteMessages:
        from wa_cli.store.sqlite.messages import SqliteMessages

        return SqliteMessages(self.database)

    @cached_property
    def failures(self) -> SqliteFailures:
        from wa_cli.store.sqlite.failures import SqliteFailures

        return SqliteFailures(self.database)

    @cached_property
    def subgroups(self) -> SqliteSubgroups:
        from wa_cli.store.sqlite.subgroups import SqliteSubgroups

        return SqliteSubgroups(self.database)

    @cached_property
    def campaigns(self) -> SqliteCampaigns:
        from wa_cli.store.sqlite.campaigns import SqliteCampaigns

        return SqliteCampaigns(self.database, self.owner)

    @cached_property
    def plans(self) -> SqlitePlans:
        from wa_cli.store.sqlite.plans import SqlitePlans

        return SqlitePlans(self.database, self.owner)

    @cached_property
    def applying(self) -> SqliteApplying:
        from wa_cli.store.sqlite.applying import SqliteApplying

        return SqliteApplying(self.database, self.owner)

    @cached_property
    def people(self) -> SqlitePeople:
        from wa_cli.store.sqlite.people import SqlitePeople

        return SqlitePeople(self.database)

    @cached_property
    def api_keys(self) -> SqliteApiKeys:
        from wa_cli.store.sqlite.api_keys import SqliteApiKeys

        return SqliteApiKeys(self.database)

    @cached_property
    def links(self) -> SqliteLinks:
        from wa_cli.store.sqlite.links import SqliteLinks

        return SqliteLinks(self.database)

    def shortener(self, base: str, plan_id: int) -> Shortener:
        """What makes the short links of a plan, and stores them as it goes; `finish` stores the last of them.

        Raises: UsageError for a base that would not work.
        """
        from wa_cli.domain.link import Shortener

        links = self.links
        return Shortener(base, links.take_key(), plan_id, save=partial(links.save, plan_id))

    @cached_property
    def erasure(self) -> SqliteErasure:
        from wa_cli.store.sqlite.erasure import SqliteErasure

        return SqliteErasure(self.database)

    @cached_property
    def figures(self) -> SqliteFigures:
        from wa_cli.store.sqlite.figures import SqliteFigures

        return SqliteFigures(self.database)

    @cached_property
    def reports(self) -> SqliteReports:
        from wa_cli.store.sqlite.reports import SqliteReports

        return SqliteReports(self.database)

    @cached_property
    def totals(self) -> SqliteTotals:
        from wa_cli.store.sqlite.totals import SqliteTotals

        return SqliteTotals(self.database)

    @cached_property
    def templates(self) -> SqliteTemplates:
        from wa_cli.store.sqlite.templates import SqliteTemplates

        return SqliteTemplates(self.database)

    def fetch_templates(self, instance: Instance) -> list[StoredTemplate]:
        """The templates of the instance's account, asked of the platform.  Nothing is sent, nothing stored."""
        provider = self.provider(instance)
        if "template" not in provider.capabilities.kinds:
            raise UsageError(
                f"'{instance.name}' sends through {provider.title}, which has no templates",
                hint="templates belong to numbers on Meta's Cloud API",
                code="no_templates",
            )
        self.accounts.check(instance)
        from wa_cli.provider import KEY, URL
        from wa_cli.transports.cloud_api.provider import BUSINESS_ACCOUNT
        from wa_cli.transports.cloud_api.templates import fetch_templates

        account = self.accounts.find(instance)
        return fetch_templates(
            account.value(URL), account.value(KEY), business_account_id=account.value(BUSINESS_ACCOUNT)
        )

    @cached_property
    def upkeep(self) -> SqliteUpkeep:
        from wa_cli.store.sqlite.upkeep import SqliteUpkeep

        return SqliteUpkeep(self.database)

    @cached_property
    def install(self) -> str:
        """The random name of this database, part of every tag."""
        return self.database.read_install()

    def list_senders(self) -> list[Instance]:
        """Every instance that has what it needs to send.  Raises: UsageError when there is none."""
        known = self.instances.list_all()
        senders = [one for one in known if not self.accounts.find_missing(one)]
        if not senders:
            self.accounts.check(known[0])
        return senders

    @cached_property
    def media(self) -> SqliteMedia:
        from wa_cli.store.sqlite.media import SqliteMedia

        return SqliteMedia(self.database)

    def local_files(self, base: Path | None, *, is_dry_run: bool = False) -> LocalFiles:
        """The local files that a door may take.

        base: the folder in which relative paths begin, and from which files are taken beside WA_MEDIA_ROOTS.  None, for
        callers from outside: those of WA_MEDIA_ROOTS alone, and errors say nothing of what is where.
        """
        return LocalFiles(self, base, is_dry_run=is_dry_run)

    def provider(self, instance: Instance) -> Provider:
        """What the instance's transport can do, and what opens it."""
        from wa_cli.transports.providers import find_provider

        return find_provider(instance.transport, instance=instance.name)

    @cached_property
    def accounts(self) -> Accounts:
        return Accounts(self)

    def find_instance(self, name: str | None = None) -> Instance:
        """The instance of that name.  None: the default one, or the only other one where `default` has no account."""
        if name is not None:
            pool = self.pools.find(name)
            return self.instances.find(name) if pool is None else self._stand_in(pool)
        instances = self.instances.list_all()
        default = next((one for one in instances if one.name == DEFAULT_INSTANCE), None)
        others = [one for one in instances if one.name != DEFAULT_INSTANCE]
        if others and (default is None or self.accounts.find_missing(default)):
            if len(others) == 1:
                return others[0]
            raise UsageError(
                "there are several instances and none is the default",
                hint=f"say which with --instance NAME: {', '.join(one.name for one in others)}",
                code="which_instance",
            )
        return default or self.instances.find(DEFAULT_INSTANCE)

    def _stand_in(self, pool: Pool) -> Instance:
        """The member that stands for a pool: the first that can send.  Raises: UsageError for a pool without any."""
        members = [self.instances.find(name) for name in pool.members]
        if not members:
            raise UsageError(
                f"the pool '{pool.name}' has no instances",
                hint=f"`wa pool add {pool.name} INSTANCE` gives it one",
                code="pool_empty",
            )
        chosen = next((one for one in members if not self.accounts.find_missing(one)), members[0])
        return replace(chosen, pool=pool)

    def list_members(self, instance: Instance) -> list[Instance]:
        """Those who send for an instance: itself, or the members of the pool for which it stands."""
        return [instance] if instance.pool is None else [self.instances.find(name) for name in instance.pool.members]

    def pool_terms(self, instance: Instance, *, now_ms: int) -> PoolTerms | None:
        """How the numbers of the pool stand for which the instance stands; None when it stands for itself."""
        if instance.pool is None:
            return None
        from wa_cli.services.pools import read_terms

        return read_terms(self, instance.pool, now_ms=now_ms)

    def look_after_pools(self) -> int:
        """Upkeep: give what waits for numbers that cannot send to others of their pool.  Returns how many."""
        pools = self.pools.list_all()
        if not pools:
            return 0
        from wa_cli.services.pools import move_from_ill

        return move_from_ill(self, pools, now_ms=self.clock.wall_ms())

    def rules(self, instance: Instance) -> SendRules:
        """What the instance's transport accepts; for a pool, what all of them do."""
        if instance.pool is not None:
            from wa_cli.services.pools import CommonRules

            return CommonRules([self.rules(one) for one in self.list_members(instance)])
        from wa_cli.services.kinds import KindRules

        return KindRules(self.provider(instance), lambda kind: self._find_others(instance, kind))

    def _find_others(self, instance: Instance, kind: str) -> list[str]:
        """The names of the other instances that can send a kind of message, or `FILES`."""
        from wa_cli.services.kinds import FILES

        found = []
        for other in self.instances.list_all():
            if other.id != instance.id:
                capabilities = self.provider(other).capabilities
                if capabilities.takes_files if kind == FILES else kind in capabilities.kinds:
                    found.append(other.name)
        return found

    def read_payload(self, instance: Instance, kind: str, payload: Mapping[str, Any]) -> Content:
        """What a message says that a caller has written in the words of Meta's Cloud API (row Q2)."""
        from wa_cli.transports.cloud_api.payload import read_payload

        return read_payload(kind, payload)

    def transport(self, instance: Instance) -> Transport:
        """The connection that posts for the instance.  Raises: UsageError when its account is not set up."""
        self.accounts.check(instance)
        return self.provider(instance).open_transport(self.accounts.find(instance))

    def gateway(self, instance: Instance) -> Gateway:
        """What steers the linked device of the instance.  Raises: UsageError when it has none, or no account."""
        self.accounts.check(instance)
        return self.provider(instance).open_gateway(self.accounts.find(instance))

    def ask_gateway(self, instance: Instance, work: Callable[[Gateway], Awaitable[T]], *, seconds: float | None) -> T:
        """What the work returns, done on the instance's gateway.  seconds: None for as long as it takes.

        Raises: what `gateway` and the gateway itself do; Temporary (code `gateway_down`) when the time is over.
        """
        from wa_cli.services.gateways import ask

        return ask(lambda: self.gateway(instance), work, seconds=seconds)

    @cached_property
    def groups(self) -> SqliteGroups:
        from wa_cli.store.sqlite.groups import SqliteGroups

        return SqliteGroups(self.database)

    @cached_property
    def pruning(self) -> SqlitePruning:
        from wa_cli.store.sqlite.pruning import SqlitePruning

        return SqlitePruning(self.database)

    @cached_property
    def numbers(self) -> SqliteNumbers:
        from wa_cli.store.sqlite.numbers import SqliteNumbers

        return SqliteNumbers(self.database)

    def look_at_groups(
        self,
        instance: Instance,
        list_addresses: Callable[[], Sequence[str]],
        *,
        asks: bool = True,
        counts_members: bool = True,
        is_dry_run: bool = False,
    ) -> Preflight | None:
        """What is known of groups before they are written to; None where there is none, or no gateway behind.

        asks: whether the gateway is asked about what is not known.  counts_members: find out who is in several of them,
        where the gateway tells.  is_dry_run: remember nothing of its answer.
        """
        members = [instance]
        if instance.pool is not None:
            members = [self.instances.find(name) for name in instance.pool.members]
        able = [one for one in members if self.provider(one).capabilities.groups]
        if not able or not (addresses := list_addresses()):
            return None
        from wa_cli.services.groups import join_preflights

        looks = {
            one.id: self._look_at_groups(
                one, addresses, asks=asks, counts_members=counts_members, is_dry_run=is_dry_run
            )
            for one in able
        }
        unable = [one.id for one in members if one not in able]
        return join_preflights(looks, addresses, unable=unable) if len(members) > 1 else looks[able[0].id]

    def _look_at_groups(
        self, instance: Instance, addresses: Sequence[str], *, asks: bool, counts_members: bool, is_dry_run: bool
    ) -> Preflight:
        from wa_cli.services.groups import look_at_groups

        return look_at_groups(
            addresses,
            self.groups,
            partial(self.ask_gateway, instance) if asks else None,
            instance_id=instance.id,
            instance=instance.name,
            own_address=instance.address,
            reads_members=counts_members and self.provider(instance).capabilities.lists_group_members,
            is_dry_run=is_dry_run,
            now_ms=self.clock.wall_ms(),
        )

    def ladder_terms(self, instance: Instance) -> LadderTerms:
        """How the linked device of the instance may be restarted (row H11)."""
        from wa_cli.domain.ladder import LadderTerms

        settings = self.settings
        return LadderTerms(
            soft_timeout_ms=settings.count("SOFT_RESTART_TIMEOUT_MS"),
            hard_timeout_ms=settings.count("HARD_RESTART_TIMEOUT_MS"),
            restarts_at_most=settings.count("MAX_RESTARTS_PER_WINDOW"),
            window_ms=settings.count("RESTART_WINDOW_MINUTES") * 60_000,
            kinds=self.provider(instance).capabilities.restarts,
        )

    def webhook_reader(self, instance: Instance) -> WebhookReader:
        """What reads the webhooks of the instance's provider.  Without a secret no body is genuine to it."""
        return self.provider(instance).webhook_reader(self.accounts.find(instance))

    def explain_error(self, code: str) -> Problem | None:
        """What an error code means and what a person can do about it, or None for one that nobody knows."""
        from wa_cli.domain.explanation import OWN_CODES
        from wa_cli.ports import Problem

        if code in OWN_CODES:
            meaning, fix = OWN_CODES[code]
            return Problem(message=meaning, hint=fix)
        if not (code.isascii() and code.isdigit()):
            from wa_cli.transports.gowa.codes import CODES

            explained = CODES.get(code)
            return Problem(message=explained[0], hint=explained[1]) if explained else None
        from wa_cli.transports.cloud_api.error_table import find_rule

        rule = find_rule(int(code))
        return Problem(message=rule.title, hint=rule.fix) if rule else None

    def limits(self, instance: Instance | None = None) -> Limits:
        """The limits in force for an instance: its profile, the general settings over it, its own over both.

        A young number's warm-up tightens them.  None: those of an instance that says nothing of its own.
        """
        if instance is None:
            return limits_of(self.settings)
        limits = self.pace(instance)
        return limits(self.clock.wall_ms()) if callable(limits) else limits

    def pace(self, instance: Instance) -> Limits | Callable[[int], Limits]:
        """The same for a send loop, which outlives the day: what tells them for a moment where they change."""
        limits = limits_of(self.settings, profile=self.profile(instance)).override(instance.limits)
        since_ms = instance.warm_up_since_ms
        if since_ms is None:
            return limits
        from wa_cli.domain.warm_up import warm_up

        return lambda now_ms: warm_up(limits, since_ms=since_ms, now_ms=now_ms)

    def profile(self, instance: Instance) -> str:
        """The name of the limits that an instance starts from."""
        if instance.profile:
            return instance.profile
        if is_of_environment(instance):
            return self.settings.text("WA_PROFILE")
        if (
            self.settings.origins["WA_PROFILE"].source == "default"
            and self.provider(instance).capabilities.is_linked_device
        ):
            return "gateway"
        return self.settings.text("WA_PROFILE")

    def concurrency(self) -> int | None:
        """Posts in flight, or None to adapt."""
        return self.settings.count("WA_CONCURRENCY") or None

    def retry_policy(self) -> RetryPolicy:
        from wa_cli.domain.retry import RetryKind, RetryPolicy

        settings = self.settings
        return RetryPolicy(
            kind=RetryKind(settings.text("WA_RETRY")),
            base_seconds=settings.count("RETRY_BASE_BACKOFF_MS") / 1000,
            cap_seconds=settings.count("RETRY_MAX_BACKOFF_MS") / 1000,
            resend_unknown_seconds=settings.count("WA_RESEND_UNKNOWN_MINUTES") * 60.0,
        )


class LocalFiles:
    """Looks at local files and keeps them, for one door."""

    def __init__(self, app: App, base: Path | None, *, is_dry_run: bool) -> None:
        self._app = app
        self._base = base
        self._is_dry_run = is_dry_run

    def look(self, word: str) -> FoundFile:
        """Raises: UsageError for a path that leads to no file, or out of the folders that files are taken from."""
        from wa_cli.sources.media import look_at_file

        roots = self._app.settings.media_roots()
        if self._base is not None:
            return look_at_file(word, base=self._base, roots=[self._base, *roots])
        if not roots:
            raise UsageError(
                "files of the server cannot be sent: it names no folder for them",
                hint="give a public https link, or set WA_MEDIA_ROOTS on the server",
                code="media_outside",
            )
        return look_at_file(word, base=roots[0], roots=roots, shows_paths=False)

    def keep(self, found: FoundFile) -> LocalFile:
        """Take its bytes as they are now; in a dry run they are only read."""
        from wa_cli.store.sqlite.media import hash_file

        size, mime_type = found.file.size, found.file.mime_type
        if self._is_dry_run:
            return hash_file(found.path, name=found.name, mime_type=mime_type, size=size)
        return self._app.media.keep(
            found.path, name=found.name, mime_type=mime_type, size=size, now_ms=self._app.clock.wall_ms()
        )


def open_app(settings: Settings, *, create: bool) -> App:
    """Open the database and wire everything to it.  create: make the database if there is none."""
    cuts.arm(os.environ.get("WA_CUT"))
    database = Database.open(settings.database_path(), create=create)
    return App(settings=settings, database=database, clock=SystemClock(), owner=Owner(database.path))


def open_dry_app(settings: Settings) -> App:
    """The app for a dry run: on the database if it exists, else on an empty one in memory."""
    path = settings.database_path()
    database = Database.open(path, create=False) if path.exists() else Database.open_in_memory()
    return App(settings=settings, database=database, clock=SystemClock(), owner=Owner(database.path))


def limits_of(settings: Settings, *, profile: str | None = None) -> Limits:
    """The limits in force: the named profile, with what was set over it."""
    return PROFILES[profile or settings.text("WA_PROFILE")].override(settings.limit_overrides())


def sqlite_versions() -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The version of SQLite in use, and the first one that is free of the WAL-reset race."""
    import sqlite3

    from wa_cli.store.sqlite.database import SAFE_SQLITE_VERSION

    return sqlite3.sqlite_version_info, SAFE_SQLITE_VERSION


def inspect_store(settings: Settings) -> list[Finding]:
    """What can be found out about the database, which may be missing or damaged."""
    from wa_cli.store.sqlite.upkeep import inspect_file

    return inspect_file(settings.database_path(), is_own_folder=not settings.text("WA_DB"))


def read_schema_version(path: Path) -> int:
    """The schema version of a database, without changing it; 0 when nothing can be read there."""
    from wa_cli.store.sqlite.upkeep import peek_version

    return peek_version(path)


def back_up(database: Database, target: Path, *, force: bool) -> int:
    """Copy the database to a new file while others use it.  Returns the copy's size in bytes."""
    from wa_cli.store.sqlite.upkeep import back_up as copy

    return copy(database, target, force=force)
