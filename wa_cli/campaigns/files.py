"""Campaign files: found by name, taken in, read again, cloned."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from wa_cli.domain.campaign import Campaign, check_campaign_name
from wa_cli.errors import Conflict, NotFound, Refused, UsageError

if TYPE_CHECKING:
    from wa_cli.bootstrap import App
    from wa_cli.domain.campaign import CampaignSpec

FOLDER: Final = "campaigns"


def find_file(word: str) -> Path | None:
    """The campaign file that a word names: its path, or its name in `campaigns/`; None when there is no such file."""
    path = Path(word)
    if path.suffix == ".toml":
        return path
    beside = Path(FOLDER) / f"{word}.toml"
    return beside if beside.is_file() else None


def create(app: App, path: Path, *, actor: str) -> tuple[Campaign, CampaignSpec, bool]:
    """Take a campaign file in, or its new text where it is known already.  True: it is new.

    Raises: UsageError naming everything that is wrong in the file; Conflict for a second file of one name, which would
    take the first one's campaign over.  A file that has moved is followed.
    """
    from wa_cli.sources.campaigns import read_campaign

    spec, source = read_campaign(path)
    check_campaign_name(spec.name)
    check_free(app, spec.name, path)
    campaign, is_new = app.campaigns.create(
        spec.name, path=str(path.resolve()), source=source, actor=actor, now_ms=app.clock.wall_ms()
    )
    return campaign, spec, is_new


def check_free(app: App, name: str, path: Path) -> None:
    """Raises: Conflict when a campaign of that name comes from another file, which is there still."""
    with suppress(NotFound):
        known = app.campaigns.find(name)
        if Path(known.path).is_file() and not _is_same(Path(known.path), path):
            raise Conflict(
                f"there is a campaign '{known.name}' already, from {known.path}",
                hint=f"a campaign is called as its file is: rename {path}",
                code="campaign_name_taken",
            )


def find(app: App, word: str, *, actor: str = "cli") -> Campaign:
    """The campaign of that name or file; a file that is not known yet is taken in.

    Raises: Conflict for a name that is known from elsewhere while a file of that name is here, too.
    """
    path = find_file(word)
    try:
        known = find_known(app, word)
    except NotFound:
        if path is None:
            raise
        return create(app, path, actor=actor)[0]
    if word.endswith(".toml"):
        if not _is_same(Path(known.path), Path(word)):  # another's, or one that has moved
            return create(app, Path(word), actor=actor)[0]
        return known
    if path is not None and Path(known.path).is_file() and not _is_same(Path(known.path), path):
        raise Conflict(
            f"'{known.name}' is two: the campaign from {known.path}, and {path} here",
            hint=f"say which: {known.path}; or rename {path}, because a campaign is called as its file is",
            code="campaign_name_taken",
        )
    return known


def find_known(app: App, word: str) -> Campaign:
    """The campaign of that name or file, which is not read.  Raises: NotFound with the nearest name."""
    return app.campaigns.find(Path(word).stem if word.endswith(".toml") else word)


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def read_again(campaign: Campaign) -> tuple[Campaign, CampaignSpec]:
    """The campaign with its file as it is now; what was let go of it stays as it was.

    Raises: UsageError when the file is gone or cannot be understood.
    """
    from wa_cli.sources.campaigns import read_campaign

    check_there(campaign)
    spec, source = read_campaign(Path(campaign.path))
    return replace(campaign, source=source), spec


def keep_text(app: App, campaign: Campaign, *, actor: str) -> None:
    """From now on the campaign goes by this text of its file: its stop rules, and its occurrences to come."""
    app.campaigns.create(
        campaign.name, path=campaign.path, source=campaign.source, actor=actor, now_ms=app.clock.wall_ms()
    )


def check_there(campaign: Campaign) -> None:
    """Raises: UsageError when a campaign's file is no longer where it was taken in from."""
    if not Path(campaign.path).exists():
        raise UsageError(
            f"the file of campaign '{campaign.name}' is not there any more: {campaign.path}",
            hint=f"put it back, or tell where it is now: `wa campaign create FOLDER/{campaign.name}.toml`",
            code="no_campaign_file",
        )


def read_kept(campaign: Campaign) -> CampaignSpec:
    """The campaign as it was let go, whatever has become of its file."""
    from wa_cli.sources.campaigns import parse_campaign

    return parse_campaign(campaign.source, name=campaign.name, file=campaign.path)


def clone(app: App, campaign: Campaign, name: str, *, actor: str) -> tuple[Campaign, Path]:
    """A new file beside the campaign's with its text, taken in as a draft.  Raises: Refused when one is there."""
    path = Path(campaign.path).with_name(f"{check_campaign_name(name)}.toml")
    source = Path(campaign.path).read_text(encoding="utf-8") if Path(campaign.path).is_file() else campaign.source
    try:
        with path.open("x", encoding="utf-8") as out:
            out.write(source)
    except FileExistsError:
        raise Refused(f"{path} is there already", hint="choose another name", code="file_exists") from None
    except OSError as problem:
        raise UsageError(f"{path} cannot be written: {problem.strerror}", hint="check the folder") from problem
    return create(app, path, actor=actor)[0], path
