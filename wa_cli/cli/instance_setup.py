"""`wa instance add` and `remove`: which identities there are, and what each of them is made of."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final

import typer

from wa_cli.cli.session import clean_text, session_of
from wa_cli.errors import Refused, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wa_cli.bootstrap import App
    from wa_cli.provider import Provider

NAME: Final = re.compile(r"(?!\d+\Z)[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it: letters, digits, dots, dashes.")],
    transport: Annotated[str, typer.Option("--transport", metavar="KIND", help="cloud, waha, gowa or wwebjs.")],
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="Where it is: of the gateway, or the messages URL.")
    ] = None,
    session_name: Annotated[
        str | None, typer.Option("--session", metavar="NAME", help="The gateway's name for the device.")
    ] = None,
    key_from: Annotated[
        str | None, typer.Option("--key-from", metavar="VARIABLE", help="The variable that holds the key or token.")
    ] = None,
    webhook_secret_from: Annotated[
        str | None,
        typer.Option("--webhook-secret-from", metavar="VARIABLE", help="The variable with the secret of webhooks."),
    ] = None,
    verify_token_from: Annotated[
        str | None,
        typer.Option("--verify-token-from", metavar="VARIABLE", help="The variable that answers Meta's check."),
    ] = None,
    business_account: Annotated[
        str | None, typer.Option("--business-account", metavar="ID", help="The account whose templates are read.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", metavar="NAME", help="The named set of limits to start from.")
    ] = None,
    limit: Annotated[
        list[str] | None, typer.Option("--limit", metavar="NAME=N", help="Replace one limit; 0 lifts it. Repeatable.")
    ] = None,
    warm_up: Annotated[
        bool, typer.Option("--warm-up", help="The number is young: begin slowly, over some weeks.")
    ] = False,
) -> None:
    """Add a WhatsApp identity. Secrets stay where they are: only the names of their variables are stored.

    Example: wa instance add club --transport waha --url http://127.0.0.1:3000 --key-from WAHA_API_KEY
    """
    from wa_cli.ports import NewInstance
    from wa_cli.transports.providers import find_provider, parse_transport

    session = session_of(context)
    check_name(name, "an instance")
    stored = parse_transport(transport)
    provider = find_provider(stored, instance=name)
    settings = _read_settings(provider, {"url": url, "session": session_name, "business_account_id": business_account})
    secrets = _read_secrets(
        provider, {"key": key_from, "webhook_secret": webhook_secret_from, "verify_token": verify_token_from}
    )
    provider.check({**settings, **{key: session.settings.variable(variable) for key, variable in secrets.items()}})
    profile, limits = _check_profile(profile), _read_limits(limit or [])
    opened = session.open_app(create=True)
    is_linked = provider.capabilities.is_linked_device
    from wa_cli.domain.connection import ConnectionState

    added = opened.instances.add(
        NewInstance(
            name=name,
            transport=stored,
            settings=settings,
            secrets=secrets,
            profile=profile,
            limits=limits,
            connection=ConnectionState.DISCONNECTED if is_linked else None,
            warm_up_since_ms=opened.clock.wall_ms() if warm_up else None,
        ),
        now_ms=opened.clock.wall_ms(),
    )
    missing = opened.accounts.find_missing(added)
    if session.json:
        session.show_json(
            {
                "name": added.name,
                "transport": added.transport,
                "settings": dict(settings),
                "secrets": dict(secrets),
                "profile": opened.profile(added),
                "limits": dict(added.limits),
                "missing": missing,
            }
        )
    else:
        session.show(clean_text(f"{name} is added: {provider.title}, limits of the profile {opened.profile(added)}"))
    for variable in missing:
        session.warn(clean_text(f"{variable} is not set yet; put it into the environment or into .env"))
    if is_linked:
        session.warn(
            "WhatsApp's terms do not allow linked devices to send like this, and it may block the number: "
            "write only to people who agreed to it"
        )
    if not session.json:
        session.hint(f"`wa instance pair {name}` links the phone" if is_linked else f"`wa instance show {name}`")


def check_name(name: str, what: str) -> None:
    """Raises: UsageError for a name that `what` (`an instance`) cannot have."""
    if not NAME.fullmatch(name):
        raise UsageError(
            f"'{name}' cannot be the name of {what}",
            hint="letters, digits, dots, dashes and underscores, with a letter among them; for example shop-1",
        )


def _read_settings(provider: Provider, given: Mapping[str, str | None]) -> dict[str, str]:
    """The settings that the provider knows, with its defaults.  Raises: UsageError for one too many or too few."""
    known = {one.name: one for one in provider.settings if not one.is_secret}
    for name, value in given.items():
        if value is not None and name not in known:
            raise UsageError(
                f"{provider.title} has no {name.replace('_', ' ')}", hint="leave that flag out", code="setting"
            )
    settings: dict[str, str] = {}
    for name, one in known.items():
        value = (given.get(name) or "").strip() or one.default
        if not value and not one.is_optional:
            raise UsageError(
                f"{provider.title} needs --{name.replace('_', '-')}", hint=one.meaning, code="setting_missing"
            )
        if value:
            settings[name] = value
    return settings


def _read_secrets(provider: Provider, given: Mapping[str, str | None]) -> dict[str, str]:
    """The names of the variables.  Raises: UsageError for what is no name, since it may be the secret itself."""
    known = {one.name: one for one in provider.settings if one.is_secret}
    secrets: dict[str, str] = {}
    for name, variable in given.items():
        if variable is None:
            continue
        flag = f"--{name.replace('_', '-')}-from"
        if name not in known:
            raise UsageError(f"{provider.title} does not use {flag}", hint="leave that flag out", code="setting")
        if not VARIABLE.fullmatch(variable):
            raise UsageError(
                f"{flag} wants the name of a variable, and this is none",
                hint=f"put the secret itself into .env, say as WAHA_API_KEY=..., and give {flag} WAHA_API_KEY",
                code="setting",
            )
        secrets[name] = variable
    for name, one in known.items():
        if name not in secrets and not one.is_optional:
            raise UsageError(
                f"{provider.title} needs --{name.replace('_', '-')}-from VARIABLE",
                hint=f"the name of the variable that holds {one.meaning}",
                code="setting_missing",
            )
    return secrets


def _check_profile(profile: str | None) -> str | None:
    from wa_cli.domain.pacing import PROFILES

    if profile is not None and profile not in PROFILES:
        raise UsageError(f"there is no profile '{profile}'", hint=f"one of: {', '.join(PROFILES)}", code="profile")
    return profile


def _read_limits(words: list[str]) -> dict[str, int]:
    from dataclasses import fields

    from wa_cli.domain.pacing import Limits

    names = [one.name for one in fields(Limits)]
    limits: dict[str, int] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in names or not (value.isascii() and value.isdigit() and len(value) <= 10):
            raise UsageError(f"--limit is '{word}'", hint=f"NAME=N with one of: {', '.join(names)}", code="limit")
        limits[name] = int(value)
    return limits


def remove(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The instance.")],
    move_to: Annotated[
        str | None, typer.Option("--move-to", metavar="NAME", help="The instance that takes over what waits.")
    ] = None,
) -> None:
    """Take an instance out of use. Its history stays; what waits must be moved or cancelled first."""
    session = session_of(context)
    opened = session.open_app()
    instance = opened.instances.find(name)
    if instance.id == 1:
        raise Refused(
            "'default' cannot be removed: it is what WHATSAPP_API_URL and WHATSAPP_ACCESS_TOKEN make",
            hint="take those out of .env, or `wa instance pause default`",
            code="instance_default",
        )
    target = opened.instances.find(move_to) if move_to is not None else None
    if target is not None and target.id == instance.id:
        raise UsageError("an instance cannot take over from itself", hint="name another one with --move-to")
    now_ms = opened.clock.wall_ms()
    opened.bury_dead(now_ms=now_ms)
    if target is not None:
        _check_target(opened, instance.id, target.name)
    session.confirm(f"remove the instance {name}?")
    moved = opened.instances.remove(instance.id, move_to=target.id if target else None, now_ms=now_ms)
    if session.json:
        session.show_json({"removed": name, "moved": moved, "moved_to": target.name if target and moved else None})
    else:
        what = f"; {moved:,} waiting messages are {target.name}'s now" if target and moved else ""
        session.show(clean_text(f"{name} is removed{what}"))


def _check_target(app: App, instance_id: int, target: str) -> None:
    """Raises: Refused when something that waits is nothing that the other transport can send."""
    rules = app.rules(app.instances.find(target))
    for kind, content in app.instances.list_waiting(instance_id):
        problem = rules.find_recipient_problem(kind) or (rules.find_problem(content) if content else None)
        if problem is not None:
            raise Refused(
                f"'{target}' cannot send all of what waits: {problem.message}",
                hint="choose another instance, or cancel those messages first",
                code="instance_unfit",
            )
