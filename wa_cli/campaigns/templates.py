"""Whether a campaign's messages fit the account's templates, as they were last read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wa_cli.domain.template import find_template_problems
from wa_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wa_cli.bootstrap import App
    from wa_cli.domain.campaign import CampaignSpec
    from wa_cli.domain.template import StoredTemplate


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateLook:
    """What a look at the templates of a campaign found.

    stored: the template of each variant, by the variant's place, where it is known.  problems: what the platform would
    refuse, each with what to do.  warnings: what is worth a second look.
    """

    stored: Mapping[int, StoredTemplate]
    problems: Sequence[UsageError]
    warnings: Sequence[str]


def look_at_templates(app: App, spec: CampaignSpec) -> TemplateLook:
    """Compare each variant with the template that it names.  Asks nobody."""
    stored: dict[int, StoredTemplate] = {}
    problems: list[UsageError] = []
    warnings: dict[str, None] = {}
    if any(message.template is not None for message in spec.messages):
        members = app.list_members(app.find_instance(spec.instance))
        now_ms = app.clock.wall_ms()
        for instance in members:  # of a pool, anybody may get theirs from any of them
            synced = app.templates.last_synced_at_ms(instance.id) is not None
            known = app.templates.list_all(instance.id, now_ms=now_ms)
            whose = f"{instance.name}: " if len(members) > 1 else ""
            for place, message in enumerate(spec.messages):
                found = [one for one in known if one.name == message.template]
                for one in found:
                    if one.language == message.language:
                        stored.setdefault(place, one)
                owner = f"variant '{message.name}': " if len(spec.messages) > 1 else ""
                for problem in find_template_problems(message, found, synced=synced, names=[one.name for one in known]):
                    if problem.is_warning:
                        warnings[f"{whose}{problem.message}; {problem.hint}"] = None  # once, not for each variant
                    else:
                        words = f"{whose}{owner}{problem.message}"
                        problems.append(UsageError(words, hint=problem.hint, code="template"))
    return TemplateLook(stored=stored, problems=problems, warnings=list(warnings))


def check_templates(app: App, spec: CampaignSpec) -> TemplateLook:
    """The same.  Raises: UsageError for the first problem, saying how many more there are."""
    look = look_at_templates(app, spec)
    if look.problems:
        first, more = look.problems[0], len(look.problems) - 1
        words = f" (and {more:,} more; `wa campaign validate {spec.name}` lists all)" if more else ""
        raise UsageError(f"{first.message}{words}", hint=first.hint, code=first.code)
    return look
