"""The calls that send: to a subgroup, to one recipient, a batch, a campaign.  They queue and answer (row S1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from wa_cli.domain.message import TemplateButton, TemplateHeader, TemplateParameter
from wa_cli.domain.recipient import parse_recipient
from wa_cli.errors import UsageError
from wa_cli.services.content import build_content
from wa_cli.services.documents import call_document, enqueued_document
from wa_cli.services.enqueue import enqueue
from wa_cli.services.orders import OrderWords, judge_outcome, lines_to_subgroup, read_order
from wa_cli.services.subgroups import find_by_name_or_id
from wa_cli.web.reading import invalid

if TYPE_CHECKING:
    from wa_cli.bootstrap import App
    from wa_cli.domain.message import Content
    from wa_cli.domain.recipient import Recipient
    from wa_cli.ports import ContentRules, Enqueued
    from wa_cli.services.enqueue import SendOrder, Tally
    from wa_cli.services.orders import Lines
    from wa_cli.web.models import Options, SendToSubgroup, Words
    from wa_cli.web.reading import Caller


def send_to_subgroup(app: App, name: str, asked: SendToSubgroup, *, caller: Caller, key: str | None) -> JSONResponse:
    """Rows R1, R2, R3 over HTTP."""
    instance = app.find_instance(asked.instance)
    rules = app.rules(instance)
    found = find_by_name_or_id(app.subgroups, name)
    lines = lines_to_subgroup(app.subgroups, found, read_words(asked, rules), rules)
    now_ms = app.clock.wall_ms()
    order, _note = read_order(
        read_options(asked, caller=caller, key=key),
        kind="subgroup",
        instance_id=instance.id,
        settings=app.settings,
        now_ms=now_ms,
        subgroup=found,
    )
    tally, results = put_in(app, order, lines, now_ms=now_ms)
    return answer_call(order, tally, results)


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


def read_words(asked: Words, rules: ContentRules) -> Content:
    """What the message says.  Raises: UsageError as the command line does."""
    parameters = asked.parameters or []
    return build_content(
        rules,
        text=only_one(body=asked.body, message=asked.message, text=asked.text),
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
    )


def only_one(**given: str | None) -> str | None:
    """The one of several names for the same thing that was used, or None.  Raises: Invalid for two of them."""
    values = {name: value for name, value in given.items() if value is not None}
    if len(values) > 1:
        raise invalid([(" and ".join(values), "give one of them, they mean the same")])
    return next(iter(values.values()), None)


def read_recipient(app: App, word: str) -> Recipient:
    return parse_recipient(word, default_region=app.settings.default_region())


# --- from an order to the answer ---


def put_in(app: App, order: SendOrder, lines: Lines, *, now_ms: int) -> tuple[Tally, list[dict[str, Any]]]:
    """Queue the lines; what became of each, in order."""
    results: list[dict[str, Any]] = []

    def note(result: Enqueued) -> None:
        results.append({**enqueued_document(result), "outcome": judge_outcome(order, result, now_ms=now_ms)})

    tally = enqueue(
        app.intake,
        order,
        lines.read(),
        size=lines.size,
        request_hash=lines.request_hash,
        lines_are_unique=lines.are_unique,
        now_ms=now_ms,
        report=note,
    )
    return tally, results


def answer_call(
    order: SendOrder,
    tally: Tally,
    results: list[dict[str, Any]],
    *,
    refusals: list[dict[str, Any]] | None = None,
    **more: Any,
) -> JSONResponse:
    """What a call of many messages answers: 202 when anything was queued, 200 when nothing had to be."""
    refusals = refusals or []
    return JSONResponse(
        {
            "success": bool(tally.queued or tally.duplicates) or not refusals,
            "message": describe_call(order, tally),
            **call_document(order, tally, refused=len(refusals)),
            "rate_limit_delay": tally.delay_ms,
            "messages": results,
            "refusals": refusals,
            **more,
        },
        status_code=status_of_call(order, tally),
    )


def status_of_call(order: SendOrder, tally: Tally) -> int:
    return 202 if tally.queued and not order.is_dry_run else 200


def describe_call(order: SendOrder, tally: Tally) -> str:
    """One sentence, as the source systems have it in their answers."""
    verb = "would be queued" if order.is_dry_run else "queued"
    parts = [f"{tally.queued} {'message' if tally.queued == 1 else 'messages'} {verb} with {tally.delay_ms}ms delay"]
    if tally.duplicates:
        parts.append(f"{tally.duplicates} not queued again")
    if tally.skipped:
        parts.append(f"{tally.skipped} skipped")
    return ", ".join(parts)


def nothing_good(refusals: list[dict[str, Any]]) -> UsageError:
    """The error of a call none of whose lines could go in."""
    first = refusals[0]
    return UsageError(
        f"nothing to send: {first['reason']}",
        hint="numbers look like +6581234567; WA_DEFAULT_REGION lets you leave the country code out",
        code="invalid_recipient",
    )
