"""What a campaign's messages are, against what its instance can send, and the local files that they carry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wa_cli.domain.message import Media, MediaKind, find_media_kind, is_link, kind_of_type
from wa_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wa_cli.bootstrap import App
    from wa_cli.domain.campaign import Campaign, CampaignSpec, MessageSpec
    from wa_cli.domain.message import LocalFile


def is_local(message: MessageSpec) -> bool:
    """Whether a message carries a file of this machine: the same for everybody, so no variable is in its path."""
    return message.media is not None and "{" not in message.media and not is_link(message.media)


def take_files(app: App, campaign: Campaign, spec: CampaignSpec, *, keep: bool) -> Mapping[str, LocalFile]:
    """The local files of a campaign by the paths that stand in it, which begin where its file is.

    keep: take their bytes in, so that the plan has them whatever becomes of the files.
    Raises: UsageError for a kind of message, or a file, that the instance cannot send, naming the variant.
    """
    rules = app.rules(app.find_instance(spec.instance))
    door = app.local_files(Path(campaign.path).parent, is_dry_run=not keep)
    files: dict[str, LocalFile] = {}
    for message in spec.messages:
        owner = f"variant '{message.name}': " if len(spec.messages) > 1 else ""
        if is_local(message):
            assert message.media is not None
            found = door.look(message.media)
            problem = rules.find_problem(Media(kind=_choose_kind(message, found.file.mime_type), file=found.file))
            if problem is None and message.media not in files:
                files[message.media] = door.keep(found)
        else:
            problem = rules.find_lack(name_kind(message))
        if problem is not None:
            raise UsageError(f"{owner}{problem.message}", hint=problem.hint, code="content")
    return files


def name_kind(message: MessageSpec) -> str:
    """The type of message that a variant makes."""
    if message.kind is not None:
        return message.kind
    if message.template is not None:
        return "template"
    if message.media is not None:
        return message.media_type or find_media_kind(message.media).value
    return "text"


def _choose_kind(message: MessageSpec, mime_type: str) -> MediaKind:
    return MediaKind(message.media_type) if message.media_type else kind_of_type(mime_type)
