"""The calls that send: to a subgroup, to one recipient, a batch, a campaign.  They queue and answer (row S1)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import JSONResponse

from wa_cli.domain.message import (
    ContactCard,
    ListRow,
    ListSection,
    Location,
    Poll,
    Reaction,
    ReplyButton,
    TemplateButton,
    TemplateHeader,
    TemplateParameter,
    Text,
    format_batch_id,
)
from wa_cli.domain.recipient import RecipientKind, parse_recipient
from wa_cli.errors import UsageError
from wa_cli.services.content import ContentWords, Menu, build_content, find_reaction_target
from wa_cli.services.documents import call_document, enqueued_document, preflight_document
from wa_cli.services.enqueue import check_content, enqueue, hash_request
from wa_cli.services.orders import (
    OrderWords,
    Pair,
    judge_outcome,
    lines_of_pairs,
    lines_to_recipients,
    lines_to_subgroup,
    read_order,
)
from wa_cli.services.subgroups import find_by_name_or_id
from wa_cli.web.errors import name_fields
from wa_cli.web.reading import invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from wa_cli.bootstrap import App
    from wa_cli.domain.message import Content
    from wa_cli.domain.recipient import Recipient
    from wa_cli.domain.subgroup import Subgroup
    from wa_cli.ports import ContentRules, Enqueued, Instance
    from wa_cli.services.enqueue import SendOrder, Tally
    from wa_cli.services.groups import Preflight
    from wa_cli.services.orders import Lines
    from wa_cli.web.models import (
        Addressed,
        ContactPart,
        ListPart,
        LocationPart,
        Options,
        SendBatch,
        SendCampaign,
        SendMessage,
        SendToSubgroup,
    )
    from wa_cli.web.reading import Caller
    from wa_cli.web.store import StoreThread

MEANINGS: Final[Mapping[str, str]] = {
    "immediate": "queued, with nothing ahead of it",
    "queued": "queued",
    "duplicate": "not queued again: the same message is known already",
    "skipped": "skipped: it cannot be sent",
}


def send_to_subgroup(
    app: App, name: str, asked: SendToSubgroup, *, caller: Caller, key: str | None, looked: Looked | None = None
) -> JSONResponse:
    """Rows R1, R2, R3 over HTTP."""
    instance = app.find_instance(asked.instance)
    rules = app.rules(instance)
    found = find_by_name_or_id(app.subgroups, name)
    content = read_words(app, instance, asked, rules, addresses=())
    queued = put_in(
        app,
        instance,
        lines_to_subgroup(app.subgroups, found, content, rules),
        kind="subgroup",
        words=read_options(asked, caller=caller, key=key),
        subgroup=found,
        looked=looked,
    )
    return answer_call(queued)


def send_message(
    app: App, asked: SendMessage, *, caller: Caller, key: str | None, looked: Looked | None = None
) -> JSONResponse:
    """Rows S1, S3, T2: one message, with its outcome and its place in the queue."""
    instance = app.find_instance(asked.instance)
    rules = app.rules(instance)
    recipient = read_recipient(app, need_number(asked, place=""))
    content = read_words(app, instance, asked, rules, addresses=(recipient.address,))
    queued = put_in(
        app,
        instance,
        lines_to_recipients([recipient], content, rules),
        kind="to",
        words=read_options(asked, caller=caller, key=key),
        looked=looked,
    )
    (result,) = queued.results
    outcome = result["outcome"]
    was_taken = outcome in ("immediate", "queued")
    return _answer(
        queued,
        {
            "success": outcome != "skipped",
            "message": "would be queued" if was_taken and asked.dry_run else MEANINGS[outcome],
            **result,
            "immediate": outcome == "immediate",
            "queued": was_taken,
            "duplicate": outcome == "duplicate",
            "queuePosition": result["queue_position"],
            "batch_id": format_batch_id(queued.tally.batch_id) if queued.tally.batch_id else None,
        },
    )


def send_batch(
    app: App, asked: SendBatch, *, caller: Caller, key: str | None, looked: Looked | None = None
) -> JSONResponse:
    """Rows S4, T3: each recipient with their own words.  A bad line never stops a good one (promise P12)."""
    instance = app.find_instance(asked.instance)
    rules = app.rules(instance)
    pairs: list[Pair] = []
    refusals: list[dict[str, Any]] = []
    for index, line in enumerate(asked.messages):
        place = f"messages.{index}"
        number = need_number(line, place=place)
        text = only_one(place, message=line.message, body=line.body, text=line.text)
        try:
            recipient = read_recipient(app, number)
            check_content(Text(body=text or ""), rules)
        except UsageError as error:
            refusals.append({"index": index, "text": number, "reason": error.message})
        else:
            pairs.append(Pair(recipient=recipient, text=text or "", key=line.key))
    if not pairs:
        raise nothing_good(refusals)
    queued = put_in(
        app,
        instance,
        lines_of_pairs(pairs, rules),
        kind="file",
        words=read_options(asked, caller=caller, key=key),
        looked=looked,
    )
    return answer_call(queued, refusals=refusals)


def send_campaign(
    app: App, asked: SendCampaign, *, caller: Caller, key: str | None, looked: Looked | None = None
) -> JSONResponse:
    """Rows Q2, Q9: the recipients of a campaign, each once, in the words of the platform."""
    instance = app.find_instance(asked.instance)
    rules = app.rules(instance)
    content = app.read_payload(instance, asked.messageType, asked.payload)
    check_content(content, rules)
    good: dict[str, Recipient] = {}
    merged = 0
    refusals: list[dict[str, Any]] = []
    for index, word in enumerate(asked.recipients):
        try:
            recipient = read_recipient(app, word)
        except UsageError as error:
            refusals.append({"index": index, "text": word, "reason": error.message})
            continue
        merged += recipient.address in good
        good.setdefault(recipient.address, recipient)
    if not good:
        raise nothing_good(refusals)
    campaign = str(asked.campaignId)
    lines = lines_to_recipients(good.values(), content, rules)
    queued = put_in(
        app,
        instance,
        # A key stands for this campaign alone.
        replace(lines, request_hash=hash_request("campaign", (campaign, lines.request_hash.hex()))),
        kind="to",
        words=read_options(asked, caller=caller, key=key, campaign=campaign),
        looked=looked,
    )
    return answer_call(queued, refusals=refusals, campaignId=asked.campaignId, merged=merged)


# --- from the body to an order ---


def read_options(asked: Options, *, caller: Caller, key: str | None, campaign: str | None = None) -> OrderWords:
    """When and how, in the words that the command line has for it."""
    at = None if asked.send_immediately or asked.send_at is None else str(asked.send_at)
    return OrderWords(
        at=at,
        delay=None if asked.rate_limit_delay is None else str(asked.rate_limit_delay),
        key=key,
        again=asked.again,
        max_attempts=asked.max_attempts,
        expires=asked.expires,
        on_unknown=asked.on_unknown,
        immediate=asked.immediate,
        is_dry_run=asked.dry_run,
        campaign=campaign,
        actor=caller.actor,
    )


def read_words(
    app: App,
    instance: Instance,
    asked: SendMessage | SendToSubgroup,
    rules: ContentRules,
    *,
    addresses: Collection[str],
) -> Content:
    """What the message says.  addresses: whom it is for, empty for a subgroup.  Raises: UsageError."""
    parameters = asked.parameters or []
    words = ContentWords(
        text=only_one("", body=asked.body, message=asked.message, text=asked.text),
        kind=asked.type,
        media=asked.media,
        caption=asked.caption,
        filename=asked.filename,
        template=asked.template,
        language=asked.language,
        parameters=tuple(TemplateParameter(name=name, value=value) for name, value in parameters.items())
        if isinstance(parameters, dict)
        else tuple(TemplateParameter(value=value) for value in parameters),
        header=TemplateHeader(kind=asked.header.kind, value=asked.header.value) if asked.header else None,
        buttons=tuple(
            TemplateButton(index=button.index, sub_type=button.sub_type, value=button.value)
            for button in asked.buttons or ()
        ),
        link_preview=asked.link_preview,
        location=_read_location(asked.location) if asked.location else None,
        contact=_read_contact(app, asked.contact) if asked.contact else None,
        poll=Poll(question=asked.poll.question, options=tuple(asked.poll.options), max_answers=asked.poll.max_answers)
        if asked.poll
        else None,
        reaction=Reaction(
            message_id=find_reaction_target(app.messages, asked.reaction.to_message, addresses, instance),
            emoji=asked.reaction.emoji,
        )
        if asked.reaction
        else None,
        reply_buttons=tuple(ReplyButton(id=one.id, title=one.title) for one in asked.reply_buttons or ()),
        menu=_read_menu(asked.menu) if asked.menu else None,
        footer=asked.footer,
    )
    # Callers are outside: they get at the folders alone that the server's keeper has named for it.
    return build_content(rules, words, files=app.local_files(None, is_dry_run=asked.dry_run))


def _read_location(asked: LocationPart) -> Location:
    latitude, longitude = (f"{word}".removesuffix(".0") for word in (asked.latitude, asked.longitude))
    return Location(latitude=latitude, longitude=longitude, name=asked.name, address=asked.address)


def _read_contact(app: App, asked: ContactPart) -> ContactCard:
    recipient = read_recipient(app, asked.phone)
    if recipient.kind is not RecipientKind.PERSON:
        raise invalid([("contact.phone", "is no number")])
    return ContactCard(name=asked.name, phone=recipient.address, organization=asked.organization)


def _read_menu(asked: ListPart) -> Menu:
    sections = tuple(
        ListSection(
            title=section.title,
            rows=tuple(ListRow(id=row.id, title=row.title, description=row.description) for row in section.rows),
        )
        for section in asked.sections
    )
    return Menu(button=asked.button, sections=sections)


def only_one(place: str, **given: str | None) -> str | None:
    """The one of several names for the same thing that was used, or None.  Raises: Invalid for two of them."""
    values = {name: value for name, value in given.items() if value is not None}
    if len(values) > 1:
        names = f"{place}: {' and '.join(values)}".removeprefix(": ")
        raise invalid([(names, "give one of them, they mean the same")])
    return next(iter(values.values()), None)


def need_number(asked: Addressed, *, place: str) -> str:
    """Raises: Invalid without a number, or with two."""
    number = only_one(place, phoneNumber=asked.phoneNumber, to=asked.to, recipient=asked.recipient)
    if number is None:
        raise invalid([(f"{place}.phoneNumber".removeprefix("."), "field required")])
    return number


def read_recipient(app: App, word: str) -> Recipient:
    return parse_recipient(word, default_region=app.settings.default_region())


# --- from an order to the answer ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """What became of a call: the order as it was understood, the counts, and each line."""

    order: SendOrder
    tally: Tally
    results: list[dict[str, Any]]
    warnings: list[str]
    preflight: Preflight | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """Groups have been looked at for a call, whatever came of it."""

    preflight: Preflight | None


class LookFirst(Exception):
    """No error: a call is for groups of which the store does not know enough; nothing of it has been queued."""

    def __init__(self, instance: Instance, addresses: Sequence[str], *, is_dry_run: bool) -> None:
        super().__init__()
        self.instance = instance
        self.addresses = addresses
        self.is_dry_run = is_dry_run

    def look(self, app: App) -> Looked:
        """Ask the gateway, on an app of the calling thread's own."""
        return Looked(
            preflight=app.look_at_groups(
                self.instance, lambda: self.addresses, counts_members=self.is_dry_run, is_dry_run=self.is_dry_run
            )
        )


async def queue_after_a_look(store: StoreThread, work: Callable[[App, Looked | None], JSONResponse]) -> JSONResponse:
    """What the work answers.

    Where it has to know more of groups, their gateway is asked while others use the store.
    """
    try:
        return await store.run(lambda app: work(app, None))
    except LookFirst as first:
        looked = await asyncio.to_thread(_look_beside, store.app, first)
    return await store.run(lambda app: work(app, looked))


def _look_beside(app: App, first: LookFirst) -> Looked:
    own = app.open_again()
    try:
        return first.look(own)
    finally:
        own.close()


def put_in(
    app: App,
    instance: Instance,
    lines: Lines,
    *,
    kind: str,
    words: OrderWords,
    subgroup: Subgroup | None = None,
    looked: Looked | None = None,
) -> Queued:
    """Queue the lines.

    looked: at the groups among the recipients, or None to do with what is known of them.
    Raises: Refused when nobody of the call may be written to; LookFirst when too little is known of its groups.
    """
    if looked is None:
        preflight = app.look_at_groups(instance, lines.groups, asks=False)
        if preflight is not None and (words.is_dry_run or not preflight.is_settled):
            raise LookFirst(instance, lines.groups(), is_dry_run=words.is_dry_run)
    else:
        preflight = looked.preflight
    if preflight is not None:
        lines = preflight.skip_unreachable(lines)
    now_ms = app.clock.wall_ms()
    order, note = read_order(
        words,
        kind=kind,
        instance_id=instance.id,
        settings=app.settings,
        now_ms=now_ms,
        subgroup=subgroup,
        is_linked_device=app.provider(instance).capabilities.is_linked_device,
        pool=app.pool_terms(instance, now_ms=now_ms),
    )
    results: list[dict[str, Any]] = []

    def report(result: Enqueued) -> None:
        results.append({**enqueued_document(result), "outcome": judge_outcome(order, result, now_ms=now_ms)})

    tally = enqueue(
        app.intake,
        order,
        lines.read(),
        size=lines.size,
        request_hash=lines.request_hash,
        lines_are_unique=lines.are_unique,
        now_ms=now_ms,
        report=report,
    )
    if (refusal := tally.find_refusal()) is not None:
        raise refusal
    unchecked = preflight.find_warning() if preflight is not None else None
    warnings = [words for words in (note, tally.find_warning(), unchecked) if words is not None]
    return Queued(order=order, tally=tally, results=results, warnings=warnings, preflight=preflight)


def answer_call(queued: Queued, *, refusals: list[dict[str, Any]] | None = None, **more: Any) -> JSONResponse:
    """What a call of many messages answers."""
    refusals = refusals or []
    return _answer(
        queued,
        {
            "success": not refusals,
            "message": describe_call(queued.order, queued.tally, refused=len(refusals)),
            **call_document(queued.order, queued.tally, refused=len(refusals)),
            "rate_limit_delay": queued.tally.delay_ms,
            "messages": queued.results,
            "refusals": refusals,
            **more,
        },
    )


def _answer(queued: Queued, document: dict[str, Any]) -> JSONResponse:
    """202 when anything was queued, 200 when nothing had to be; a repeated key says that it was one."""
    order, tally = queued.order, queued.tally
    if queued.preflight is not None:
        document["preflight"] = preflight_document(queued.preflight)
    is_replay = order.key is not None and not tally.queued and tally.duplicates > 0
    return JSONResponse(
        {**document, "warnings": [name_fields(words) for words in queued.warnings]},
        status_code=202 if tally.queued and not order.is_dry_run else 200,
        headers={"Idempotency-Replayed": "true"} if is_replay else None,
    )


def describe_call(order: SendOrder, tally: Tally, *, refused: int) -> str:
    """One sentence, as the source systems have it in their answers."""
    verb = "would be queued" if order.is_dry_run else "queued"
    parts = [f"{tally.queued} {'message' if tally.queued == 1 else 'messages'} {verb} with {tally.delay_ms}ms delay"]
    if tally.duplicates:
        parts.append(f"{tally.duplicates} not queued again")
    if tally.skipped:
        parts.append(f"{tally.skipped} skipped")
    if refused:
        parts.append(f"{refused} refused")
    return ", ".join(parts)


def nothing_good(refusals: list[dict[str, Any]]) -> UsageError:
    """The error of a call none of whose lines could go in."""
    first = refusals[0]
    return UsageError(
        f"nothing to send: {first['reason']}",
        hint="numbers look like +6581234567; WA_DEFAULT_REGION lets you leave the country code out",
        code="invalid_recipient",
    )
