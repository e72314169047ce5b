"""`wa send`: one message for a subgroup, for some recipients, or a file of messages."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from wa_cli.cli.commands import NOUNS
from wa_cli.cli.grouped import Grouped
from wa_cli.cli.send_flags import ContentFlags, OrderFlags, PaceFlags, unfold_flags
from wa_cli.cli.session import Session, clean_text, session_of
from wa_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wa_cli.bootstrap import App
    from wa_cli.cli.spool import JsonSpool
    from wa_cli.cli.waiting import Waited
    from wa_cli.domain.message import Content
    from wa_cli.domain.subgroup import Subgroup
    from wa_cli.ports import Enqueued, Instance
    from wa_cli.services.enqueue import SendOrder, Tally
    from wa_cli.services.groups import Preflight
    from wa_cli.services.orders import Lines
    from wa_cli.sources.recipients import BadRow

ASK_ABOVE: Final = 50
BAD_ROWS_SHOWN: Final = 20
RESULTS_SHOWN: Final = 5

app = typer.Typer(no_args_is_help=True, help=NOUNS["send"])


@app.command("subgroup", cls=Grouped)
@unfold_flags
def subgroup(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The subgroup.")],
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="The message; - reads it from stdin.")] = None,
    *,
    pace: PaceFlags,
    content: ContentFlags,
    order: OrderFlags,
) -> None:
    """Queue one message for every member of a subgroup, spaced.

    Example: wa send subgroup vip "Doors open at six" --delay 3000
    """
    call = _Call(session_of(context), pace, order)
    from wa_cli.cli.content import read_words
    from wa_cli.services.content import build_content
    from wa_cli.services.orders import lines_to_subgroup

    found = call.app.subgroups.find(name)
    said = build_content(call.rules, read_words(text, content, region=call.region), files=call.files)
    lines = lines_to_subgroup(call.app.subgroups, found, said, call.rules)
    call.send(call.order("subgroup", subgroup=found), lines, target=f"to subgroup {found.name}", sample=said)


@app.command("to", cls=Grouped)
@unfold_flags
def to(
    context: typer.Context,
    recipients: Annotated[
        list[str], typer.Argument(metavar="RECIPIENT", help="Numbers like +6581234567, or group ids.")
    ],
    text: Annotated[
        str | None, typer.Option("--text", metavar="TEXT", help="The message; - reads it from stdin.")
    ] = None,
    *,
    pace: PaceFlags,
    content: ContentFlags,
    to_message: Annotated[
        str | None,
        typer.Option(
            "--to-message",
            metavar="ID",
            help="The message to react to: m42, or the platform's id.",
            rich_help_panel="A reaction",
        ),
    ] = None,
    emoji: Annotated[
        str | None,
        typer.Option("--emoji", metavar="EMOJI", help='The reaction; "" takes it back.', rich_help_panel="A reaction"),
    ] = None,
    order: OrderFlags,
) -> None:
    """Queue one message for each of some numbers or group ids.

    Example: wa send to +6581234567 --text "Your order is ready"
    """
    call = _Call(session_of(context), pace, order)
    from wa_cli.cli.content import read_reaction, read_words
    from wa_cli.domain.recipient import Recipient, parse_recipient
    from wa_cli.services.content import build_content
    from wa_cli.services.orders import lines_to_recipients

    words = read_words(text, content, region=call.region)
    good: dict[str, Recipient] = {}
    for word in recipients:
        try:
            recipient = parse_recipient(word, default_region=call.region)
        except UsageError as error:
            call.refuse(word, error.message, error.hint)
        else:
            good.setdefault(recipient.address, recipient)
    if not good:
        raise call.nothing_good()
    if to_message is not None or emoji is not None:
        words = replace(words, reaction=read_reaction(call.app, call.instance, to_message, emoji, addresses=good))
    said = build_content(call.rules, words, files=call.files)
    call.send(
        call.order("to"),
        lines_to_recipients(good.values(), said, call.rules),
        target="to 1 recipient" if len(good) == 1 else f"to {len(good)} recipients",
        sample=said,
    )


@app.command("batch")
@unfold_flags
def batch(
    context: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="CSV or JSON Lines of recipient and message; - is stdin.")
    ],
    *,
    pace: PaceFlags,
    encoding: Annotated[
        str | None, typer.Option("--encoding", metavar="NAME", help="When it is neither UTF-8 nor UTF-16, e.g. cp1252.")
    ] = None,
    order: OrderFlags,
) -> None:
    """Queue (recipient, message) rows from a CSV or JSON Lines file.

    Example: wa send batch orders.csv --delay 3000
    """
    call = _Call(session_of(context), pace, order)
    from wa_cli.cli.spool import rewindable
    from wa_cli.domain.message import Text
    from wa_cli.services.enqueue import hash_request
    from wa_cli.services.orders import Lines, Pair, groups_among, line_of_pair, parts_of_pair
    from wa_cli.sources.batch import read_batch
    from wa_cli.sources.recipients import BadRow

    region = call.region
    with rewindable(file) as open_source:

        def good_pairs() -> Iterator[Pair]:
            """Rows that can go in; the others are reported while the first pass reads them."""
            for row in read_batch(open_source(), default_region=region, encoding=encoding):
                if isinstance(row, BadRow):
                    yield_bad(row)
                    continue
                problem = call.rules.find_problem(Text(body=row.message))
                if problem is not None:
                    yield_bad(BadRow(line=row.line, text=row.recipient.address, reason=problem.message))
                    continue
                yield Pair(recipient=row.recipient, text=row.message, key=row.key)

        yield_bad: Callable[[BadRow], None] = call.refuse_row
        size = 0
        sample: Content | None = None
        groups: dict[str, None] = {}

        def parts() -> Iterator[str]:
            nonlocal size, sample
            for pair in good_pairs():
                size += 1
                groups.update(dict.fromkeys(groups_among([pair.recipient])))
                sample = sample or Text(body=pair.text)
                yield from parts_of_pair(pair)

        request_hash = hash_request("file", parts())
        if size == 0 or sample is None:
            raise call.nothing_good()
        yield_bad = _ignore
        lines = Lines(
            size=size,
            read=lambda: (line_of_pair(pair, call.rules) for pair in good_pairs()),
            request_hash=request_hash,
            are_unique=False,
            groups=lambda: list(groups),
        )
        call.send(
            call.order("file"),
            lines,
            target=f"from {Path(file).name if file != '-' else 'stdin'}",
            sample=sample,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refusal:
    line: int | None
    text: str
    reason: str


class _Call:
    """One call of the send family, from its flags to its report."""

    def __init__(self, session: Session, pace: PaceFlags, flags: OrderFlags) -> None:
        self.session = session
        self.is_dry_run = flags.dry_run
        self.app: App = session.open_app(create=True) if not flags.dry_run else session.open_dry_app()
        self.instance: Instance = self.app.find_instance(flags.instance)
        self.rules = self.app.rules(self.instance)
        self.region = session.settings.default_region()
        self.files = self.app.local_files(Path.cwd(), is_dry_run=flags.dry_run)
        self.now_ms = self.app.clock.wall_ms()
        self.refusals: list[_Refusal] = []
        self.refused = 0
        self.preflight: Preflight | None = None
        self._pace = pace
        self._flags = flags

    def refuse(self, text: str, reason: str, hint: str | None) -> None:
        self._note(_Refusal(line=None, text=text, reason=reason))
        if self.refused <= BAD_ROWS_SHOWN and not self.session.json:
            self.session.say(f"refused: {clean_text(reason)}" + (f" ({clean_text(hint)})" if hint else ""))

    def refuse_row(self, row: BadRow) -> None:
        self._note(_Refusal(line=row.line, text=row.text, reason=row.reason))
        if self.refused <= BAD_ROWS_SHOWN and not self.session.json:
            self.session.say(f"line {row.line}: {clean_text(row.reason)}")

    def _note(self, refusal: _Refusal) -> None:
        self.refused += 1
        if self.refused <= 10_000:  # a report, not a copy of the file
            self.refusals.append(refusal)

    def nothing_good(self) -> UsageError:
        if self.refusals:
            first = self.refusals[0]
            where = f"line {first.line}: " if first.line is not None else ""
            return UsageError(
                f"nothing to send: {where}{first.reason}",
                hint="numbers look like +6581234567; WA_DEFAULT_REGION lets you leave the country code out",
                code="invalid_recipient",
            )
        return UsageError("nothing to send: no rows", hint="a file has a header with recipient and message")

    def order(self, kind: str, *, subgroup: Subgroup | None = None) -> SendOrder:
        from wa_cli.services.orders import OrderWords, read_order

        pace, flags = self._pace, self._flags
        order, note = read_order(
            OrderWords(
                at=pace.at,
                delay=pace.delay,
                key=flags.key,
                again=flags.again,
                max_attempts=flags.max_attempts,
                expires=flags.expires,
                on_unknown=flags.on_unknown,
                immediate=flags.immediate,
                is_waited_for=flags.wait,
                is_dry_run=flags.dry_run,
            ),
            kind=kind,
            instance_id=self.instance.id,
            settings=self.session.settings,
            now_ms=self.now_ms,
            subgroup=subgroup,
            is_linked_device=self.app.provider(self.instance).capabilities.is_linked_device,
            pool=self.app.pool_terms(self.instance, now_ms=self.now_ms),
        )
        if note:
            self.session.say(f"note: {note}")
        return order

    def send(self, order: SendOrder, lines: Lines, *, target: str, sample: Content) -> None:
        """Ask where that is due, queue, report, and wait if told to."""
        from wa_cli.cli.spool import JsonSpool
        from wa_cli.services.enqueue import choose_delay_ms

        lines = self._look_at_groups(lines)
        size = lines.size
        delay_ms = choose_delay_ms(order, size)
        self._hint_about_delay(order, size, delay_ms)
        if size > ASK_ABOVE and not self.is_dry_run:
            self._ask(order, size=size, delay_ms=delay_ms, target=target, sample=sample)
        if order.is_waited_for and not self.is_dry_run:
            self.app.accounts.check(self.instance)
        with JsonSpool() if self.session.json else nullcontext() as spool:
            code = self._queue_and_report(order, lines, target=target, spool=spool)
        if code:
            raise typer.Exit(code)

    def _look_at_groups(self, lines: Lines) -> Lines:
        """Say what is known of the groups among the recipients; those that cannot be written to will be skipped."""
        self.preflight = self.app.look_at_groups(self.instance, lines.groups, is_dry_run=self.is_dry_run)
        if self.preflight is None:
            return lines
        if (warning := self.preflight.find_warning()) is not None:
            self.session.warn(warning)
        if not self.session.json and (words := self.preflight.describe()) is not None:
            self.session.say(words)
        return self.preflight.skip_unreachable(lines)

    def _queue_and_report(self, order: SendOrder, lines: Lines, *, target: str, spool: JsonSpool | None) -> int:
        from wa_cli.services.documents import enqueued_document
        from wa_cli.services.enqueue import enqueue

        skipped: list[Enqueued] = []

        def report(result: Enqueued) -> None:
            if spool is not None:
                spool.add(enqueued_document(result))
            elif result.outcome == "skipped" and len(skipped) < RESULTS_SHOWN:
                skipped.append(result)

        progress = self.session.progress("queueing", lines.size) if lines.size > 20_000 else None

        def report_all(result: Enqueued) -> None:
            report(result)
            if progress is not None:
                progress.advance()

        try:
            tally = enqueue(
                self.app.intake,
                order,
                lines.read(),
                size=lines.size,
                request_hash=lines.request_hash,
                lines_are_unique=lines.are_unique,
                now_ms=self.now_ms,
                report=report_all,
            )
        finally:
            if progress is not None:
                progress.close()
        code = 3 if self.refused or tally.skipped else 0
        if (warning := tally.find_warning()) is not None:
            self.session.warn(warning)
        if order.is_waited_for and not self.is_dry_run and tally.batch_id is not None and tally.queued:
            if spool is None:
                self._report(order, tally, skipped, target=target)
            waited = self._wait(tally)
            if spool is not None:
                self._report_json(order, tally, spool, waited=waited)
            if waited.trouble is not None:
                raise waited.trouble
            code = waited.exit_code or code
        elif spool is not None:
            self._report_json(order, tally, spool, waited=None)
        else:
            self._report(order, tally, skipped, target=target)
            self._say_who_sends(tally)
        if not self.refused and (refusal := tally.find_refusal()) is not None:
            raise refusal
        return code

    def _hint_about_delay(self, order: SendOrder, size: int, delay_ms: int) -> None:
        from wa_cli.domain.schedule import recommended_delay_ms

        low, high = recommended_delay_ms(size)
        if size > 1 and order.delay_ms is not None and delay_ms < low:
            self.session.hint(f"for {size} recipients {low} to {high} ms between messages is safer; --delay auto picks")

    def _ask(self, order: SendOrder, *, size: int, delay_ms: int, target: str, sample: Content) -> None:
        from wa_cli.domain.message import content_summary

        session = self.session
        last_ms = order.start_at_ms + (size - 1) * delay_ms
        session.say(f"{size} messages {target}, {_spacing(delay_ms)}")
        session.say(f"  says   {clean_text(content_summary(sample))[:200]}")
        session.say(f"  first  {session.describe_time(order.start_at_ms)}")
        session.say(f"  last   {session.describe_time(last_ms)} at the earliest")
        if session.yes:
            return
        if not session.can_ask():
            session.say(f"going on without a question: {size} recipients, and nobody to ask here")
            return
        session.confirm(f"Queue {size} messages?")

    def _report(self, order: SendOrder, tally: Tally, skipped: list[Enqueued], *, target: str) -> None:
        from wa_cli.domain.explanation import explain_rule
        from wa_cli.domain.message import format_batch_id, format_message_id

        session = self.session
        verb = "would queue" if self.is_dry_run else "queued"
        if tally.queued and tally.first and tally.last:
            batch = f" (batch {format_batch_id(tally.batch_id)})" if tally.batch_id else ""
            noun = "message" if tally.queued == 1 else "messages"
            spacing = f", {_spacing(tally.delay_ms)}" if tally.queued > 1 else ""
            session.show(f"{verb} {tally.queued} {noun} {target}{batch}{spacing}")
            ids = format_message_id(tally.first.message_id)
            if tally.queued > 1:
                ids += f" to {format_message_id(tally.last.message_id)}"
            if not self.is_dry_run:
                session.show(f"  ids    {ids}, position {tally.first.queue_position} in the queue")
            session.show(f"  first  {session.describe_time(tally.first.due_at_ms or self.now_ms)}")
            if tally.queued > 1:
                session.show(f"  last   {session.describe_time(tally.last.due_at_ms or self.now_ms)}")
        if tally.duplicates:
            states = ", ".join(f"{count} {state}" for state, count in sorted(tally.by_state.items()))
            noun = "duplicate" if tally.duplicates == 1 else "duplicates"
            session.show(f"{tally.duplicates} {noun} not queued again ({states})")
            first = tally.first_duplicate
            if first is not None:
                session.say(f"  {clean_text(first.address)}: {first.reason}")
            if order.key is None:
                session.hint("--again sends the same words once more")
        if tally.skipped:
            reasons = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in tally.by_reason.items())
            session.show(f"{tally.skipped} skipped ({reasons})")
            for result in skipped:
                session.say(f"  {clean_text(result.address)}: {clean_text(explain_rule(result.reason or ''))}")
            if tally.skipped > len(skipped):
                session.say(f"  … and {tally.skipped - len(skipped):,} more; `wa message list --state skipped`")
        if self.refused:
            session.show(f"{self.refused} refused")
            if self.refused > BAD_ROWS_SHOWN:
                session.say(f"  the first {BAD_ROWS_SHOWN} are above; --json lists more")
        if self.is_dry_run:
            session.say("dry run: nothing was written, nothing was sent")

    def _report_json(self, order: SendOrder, tally: Tally, spool: JsonSpool, *, waited: Waited | None) -> None:
        from wa_cli.services.documents import call_document, preflight_document

        fields: dict[str, Any] = {
            **call_document(order, tally, refused=self.refused),
            "refusals": [{"line": one.line, "text": one.text, "reason": one.reason} for one in self.refusals],
        }
        if self.preflight is not None:
            fields["preflight"] = preflight_document(self.preflight)
        if waited is not None:
            fields["waited"] = waited.counts
        spool.write_to_stdout(fields)

    def _say_who_sends(self, tally: Tally) -> None:
        if self.is_dry_run or not tally.queued:
            return
        from wa_cli.cli.waiting import say_who_sends

        say_who_sends(self.session, self.app, self.instance, count=tally.queued)

    def _wait(self, tally: Tally) -> Waited:
        from wa_cli.cli.waiting import send_and_wait

        assert tally.batch_id is not None
        return send_and_wait(self.session, self.app, self.instance, tally.batch_id, total=tally.queued)


def _spacing(delay_ms: int) -> str:
    if delay_ms == 0:
        return "as fast as the limits allow"
    return f"{delay_ms / 1000:g} s apart"


def _ignore(row: BadRow) -> None:
    """The second pass reads the same rows; they were reported in the first."""
