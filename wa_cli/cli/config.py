"""`wa config`: every setting, its value, where it comes from.  Secrets are never shown whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from wa_cli.cli.commands import NOUNS
from wa_cli.cli.session import session_of

if TYPE_CHECKING:
    from wa_cli.config import Setting, Settings

app = typer.Typer(no_args_is_help=True, help=NOUNS["config"])


@app.command("show")
def show(
    context: typer.Context,
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value comes from.")] = False,
) -> None:
    """Show every setting. A flag wins over the environment, that over .env, that over the default."""
    from wa_cli.config import SETTINGS
    from wa_cli.services.upkeep import suggest_setting

    session = session_of(context)
    settings = session.settings
    rows = [(setting, *read_shown_value(settings, setting)) for setting in SETTINGS]
    if session.json:
        session.show_json(
            {
                "settings": [
                    {
                        "name": setting.name,
                        "value": value,
                        "source": source,
                        "is_secret": setting.is_secret,
                        "meaning": setting.meaning,
                    }
                    for setting, value, source in rows
                ],
                "env_file": str(settings.env_file) if settings.env_file else None,
                "unknown": list(settings.unknown),
            }
        )
    elif origin:
        session.show_table(
            ("NAME", "VALUE", "ORIGIN"), [(setting.name, value, source) for setting, value, source in rows]
        )
    else:
        session.show_table(("NAME", "VALUE"), [(setting.name, value) for setting, value, _source in rows])
    for name in settings.unknown:
        meant = suggest_setting(name)
        session.warn(
            f"{name} in {settings.env_file} is not a setting of wa" + (f": did you mean {meant}?" if meant else "")
        )


def read_shown_value(settings: Settings, setting: Setting) -> tuple[str, str]:
    """The value in force, fit to be shown, and its source: flag, environment, a file, profile NAME, default."""
    from wa_cli.bootstrap import limits_of
    from wa_cli.config import LIMIT_SETTINGS
    from wa_cli.services.upkeep import mask_secret

    value, source = settings.text(setting.name), settings.origins[setting.name].source
    if setting.is_secret:
        return mask_secret(value), source
    if value:
        return (_mask_url(value) if setting.kind == "url" else value), source
    if setting.name in LIMIT_SETTINGS:
        return str(getattr(limits_of(settings), LIMIT_SETTINGS[setting.name])), f"profile {settings.text('WA_PROFILE')}"
    if setting.name == "WA_DB":
        return str(settings.database_path()), source
    if setting.name == "WA_TIMEZONE":
        return str(settings.zone()), "this computer" if source == "default" else source
    return value, source


def _mask_url(url: str) -> str:
    """The address without what may be secret in it: a password before the host, whatever follows a question mark."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "••••"
    if parts.username is None and not parts.query and not parts.fragment:
        return url
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{'••••@' if '@' in parts.netloc else ''}{host}{parts.path}" + (
        "?••••" if parts.query or parts.fragment else ""
    )
