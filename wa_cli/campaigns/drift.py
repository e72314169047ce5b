"""What has changed since a plan was made."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wa_cli.campaigns.kinds import is_local
from wa_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wa_cli.bootstrap import App
    from wa_cli.domain.campaign import AudienceSource, Campaign, CampaignSpec
    from wa_cli.domain.plan import Plan

# Names of people who came into a list since it was planned, in a refusal.
NAMED_AT_MOST: Final = 5
DIFF_LINES: Final = 20


def read_inputs(app: App, campaign: Campaign, spec: CampaignSpec) -> dict[str, Any]:
    """What a plan depends on beside the time, as digests: compared when it is applied."""
    inputs: dict[str, Any] = {
        "file": _digest(campaign.source),
        "instance": spec.instance,
        "limits": _digest(_describe_limits(app, spec)),
        "zone": app.settings.zone().key,
        "region": app.settings.text("WA_DEFAULT_REGION"),
    }
    audience = spec.audience
    for source in (*audience.any_of, *audience.all_of, *audience.none_of):
        if source.kind == "subgroup":
            size, digest = app.plans.digest_subgroup(app.subgroups.find(source.name).id)
            inputs[f"subgroup {source.name}"] = [size, digest]
        elif source.kind == "contacts":
            size, digest = app.plans.digest_contacts(source.match)
            inputs[_name_contacts(source)] = [size, digest]
        else:
            inputs[f"file {source.name}"] = _digest_file(Path(campaign.path).parent / source.name)
    for message in spec.messages:
        if is_local(message):
            inputs[f"media {message.media}"] = _digest_file(Path(campaign.path).parent / str(message.media))[1]
    if spec.rates:
        inputs[f"file {spec.rates}"] = _digest_file(Path(campaign.path).parent / spec.rates)
    return inputs


def _describe_limits(app: App, spec: CampaignSpec) -> str:
    """The limits of whoever sends it: for a pool, those of each of its numbers."""
    instance = app.find_instance(spec.instance)
    if instance.pool is None:
        return repr(app.limits(instance))
    return repr([(one.name, app.limits(one)) for one in app.list_members(instance)])


def _name_contacts(source: AudienceSource) -> str:
    match = ", ".join(f"{name} = {value}" for name, value in source.match)
    return f"contacts with {match}" if match else "all contacts"


def find_drift(app: App, campaign: Campaign, spec: CampaignSpec, planned: Plan) -> list[str]:
    """What has changed since a plan was made, a line each; empty when nothing has."""
    now = read_inputs(app, campaign, spec)
    then = {name: value for name, value in planned.inputs.items() if name != "options"}
    lines: list[str] = []
    for name in dict.fromkeys([*then, *now]):
        old, new = then.get(name), now.get(name)
        if old == new:
            continue
        if name == "file":
            lines += _diff(planned.source, campaign.source, name=Path(campaign.path).name)
        elif isinstance(old, list) and isinstance(new, list):
            lines.append(_describe_list(app, name, planned, old=old, new=new))
        elif old is None or new is None:
            lines.append(f"{name}: {'was not part of it then' if old is None else 'is not part of it any more'}")
        elif name.startswith("media "):
            lines.append(f"{name} is another file now")
        elif name == "limits":
            pool = app.find_instance(spec.instance).pool
            lines.append(
                "the limits of the instance are others now (`wa config show`)"
                if pool is None
                else f"the pool '{pool.name}' has other numbers, or others' limits, now (`wa pool list`)"
            )
        else:
            lines.append(f"{name}: was {old or 'not set'}, is {new or 'not set'}")
    return lines


def _describe_list(app: App, name: str, planned: Plan, *, old: Sequence[Any], new: Sequence[Any]) -> str:
    unit = "rows" if name.startswith("file ") else "people"
    sizes = f"{new[0]:,} {unit}, planned with {old[0]:,}" if old[0] != new[0] else f"{new[0]:,} {unit}, with changes"
    if name.startswith("subgroup "):
        subgroup_id = app.subgroups.find(name.removeprefix("subgroup ")).id
        joined = app.plans.find_joined(planned.id, subgroup_id, limit=NAMED_AT_MOST + 1)
        if joined:
            more = " and more" if len(joined) > NAMED_AT_MOST else ""
            return f"{name}: {sizes}; new since then: {', '.join(joined[:NAMED_AT_MOST])}{more}"
    return f"{name}: {sizes}"


def _diff(old: str, new: str, *, name: str) -> list[str]:
    from difflib import unified_diff

    lines = [
        line.rstrip("\n")
        for line in unified_diff(old.splitlines(), new.splitlines(), "planned", "now", n=0, lineterm="")
        if not line.startswith(("---", "+++", "@@"))
    ]
    more = [f"  … and {len(lines) - DIFF_LINES} more lines"] if len(lines) > DIFF_LINES else []
    return [f"{name} has been edited:", *(f"  {line}" for line in lines[:DIFF_LINES]), *more]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _digest_file(path: Path) -> list[Any]:
    digest, lines = hashlib.sha256(), 0
    try:
        # A pipe would be waited for, and what came out of it would be gone.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UsageError(f"{path} is no file", hint="check the path in the campaign file", code="no_file")
            while block := file.read(1 << 20):
                digest.update(block)
                lines += block.count(b"\n")
    except OSError as problem:
        raise UsageError(
            f"{path} cannot be read: {problem.strerror}", hint="check the path in the campaign file", code="no_file"
        ) from problem
    return [lines, digest.hexdigest()]
