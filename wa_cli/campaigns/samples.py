"""One message of a campaign, sent to whoever makes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wa_cli.campaigns.kinds import take_files
from wa_cli.campaigns.planning import Turn, assemble_pieces
from wa_cli.campaigns.templates import check_templates
from wa_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from wa_cli.bootstrap import App
    from wa_cli.domain.campaign import Campaign, CampaignSpec
    from wa_cli.domain.message import Content


@dataclass(frozen=True, slots=True, kw_only=True)
class SentSample:
    """A sample on its way.  like: whose fields filled it in."""

    message_id: int
    address: str
    like: str
    content: Content


def send_sample(
    app: App, campaign: Campaign, spec: CampaignSpec, *, to: str, variant: str | None, like: str | None
) -> SentSample:
    """Queue one message of a campaign for whoever made it, ahead of all that waits.  Raises: UsageError, Refused."""
    from wa_cli.domain.message import encode_content
    from wa_cli.domain.recipient import parse_recipient
    from wa_cli.services.enqueue import enqueue
    from wa_cli.services.orders import OrderWords, lines_to_recipients, read_order

    content, whose = fill_sample(app, campaign, spec, variant=variant, like=like)
    instance = app.find_instance(spec.instance)
    recipient = parse_recipient(to, default_region=app.settings.text("WA_DEFAULT_REGION") or None)
    now_ms = app.clock.wall_ms()
    order, _note = read_order(
        OrderWords(again=True, immediate=True),
        kind="to",
        instance_id=instance.id,
        settings=app.settings,
        pool=app.pool_terms(instance, now_ms=now_ms),
        now_ms=now_ms,
    )
    lines = lines_to_recipients([recipient], content, app.rules(instance))
    tally = enqueue(
        app.intake,
        order,
        lines.read(),
        size=lines.size,
        request_hash=lines.request_hash,
        lines_are_unique=lines.are_unique,
        now_ms=now_ms,
    )
    refusal = tally.find_refusal()
    if refusal is not None:
        raise refusal
    if tally.first is None:
        raise UsageError(
            f"{recipient.address} cannot be sent {encode_content(content)[:40]}", hint="another --to", code="unsendable"
        )
    return SentSample(message_id=tally.first.message_id, address=recipient.address, like=whose, content=content)


def fill_sample(
    app: App, campaign: Campaign, spec: CampaignSpec, *, variant: str | None, like: str | None
) -> tuple[Content, str]:
    """One message as somebody of the audience would get it, and whose it is.

    variant: its name, or None for the first.  like: whose fields fill it in, or None for the first who can be sent it.
    Raises: UsageError when nobody of the audience can be.
    """
    from wa_cli.domain.personal import CannotFill, Filler, MissingField
    from wa_cli.domain.recipient import parse_recipient

    names = [message.name for message in spec.messages]
    if variant is not None and variant not in names:
        one_of = ", ".join(filter(None, names))
        raise UsageError(
            f"there is no variant '{variant}'", hint=f"one of: {one_of}" if one_of else "its message has no variants"
        )
    index = names.index(variant) if variant is not None else 0
    check_templates(app, spec)
    filler = Filler(
        spec.messages,
        variables=spec.variables,
        fallbacks=spec.fallbacks,
        language=spec.language,
        files=take_files(app, campaign, spec, keep=True),
    )
    rules = app.rules(app.find_instance(spec.instance))
    wanted = None
    if like is not None:
        wanted = parse_recipient(like, default_region=app.settings.text("WA_DEFAULT_REGION") or None).address
    problem: str = "its audience is empty"
    for address, fields in _iterate_audience(app, campaign, spec):
        if wanted is not None and address != wanted:
            continue
        try:
            content = filler.fill(index, fields)
        except MissingField as missing:
            problem = f"{address} has no {missing.name}"
            continue
        except CannotFill as failed:
            problem = failed.details
            continue
        refused = rules.find_problem(content)
        if refused is None:
            return content, address
        problem = refused.message
    if wanted is not None and problem == "its audience is empty":
        problem = f"{wanted} is not in its audience"
    raise UsageError(f"there is no sample of '{campaign.name}': {problem}", hint="look at [audience] and [fallbacks]")


def _iterate_audience(app: App, campaign: Campaign, spec: CampaignSpec) -> Iterator[tuple[str, Mapping[str, str]]]:
    from wa_cli.services.planning import gather

    pieces = assemble_pieces(app, campaign, spec, Turn(), now_ms=app.clock.wall_ms())
    with app.plans.gather() as people:
        gather(pieces, people, spec, now_ms=app.clock.wall_ms())
        for person in people.iterate(None, instance_id=pieces.instance.id):
            yield person.address, person.fields
