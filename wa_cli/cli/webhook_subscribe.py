"""`wa webhook subscribe`: have the gateway of a linked device post what it tells to this `wa`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import quote, urlsplit

import typer

from wa_cli.cli.session import clean_text, session_of
from wa_cli.errors import UsageError

if TYPE_CHECKING:
    from wa_cli.provider import Gateway

# Writing the settings of a session lets some gateways start it anew.
PATIENCE_SECONDS: Final = 60.0


def subscribe(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="INSTANCE", help="Whose gateway.")],
    url: Annotated[str, typer.Argument(metavar="URL", help="Where `wa serve` listens, as the gateway reaches it.")],
) -> None:
    """Have the gateway of an instance post to `wa serve`.

    Its receipts, replies and states, signed with the instance's webhook secret. Other receivers keep what they get.

    Example: wa webhook subscribe club http://127.0.0.1:8080
    """
    session = session_of(context)
    app_ = session.open_app()
    instance = app_.find_instance(name)
    address = find_address(url, instance.name)
    app_.ask_gateway(instance, partial(_subscribe, url=address), seconds=PATIENCE_SECONDS)
    if session.json:
        session.show_json({"instance": instance.name, "url": address})
        return
    session.say(f"the gateway of {clean_text(instance.name)} posts to {address}")
    session.hint("`wa serve` takes what comes, or `wa run --serve`; `wa webhook list` shows it")


async def _subscribe(gateway: Gateway, *, url: str) -> None:
    await gateway.subscribe(url)


def find_address(url: str, instance: str) -> str:
    """The whole address for the webhooks of one instance: its own path is added where the URL has none.

    Raises: UsageError for what is no address.
    """
    from wa_cli.web.webhooks import INSTANCES_PATH

    text = url.strip()
    try:
        parts = urlsplit(text)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if (
        not is_address
        or parts.query
        or parts.fragment
        or not (text.isascii() and text.isprintable() and " " not in text)
    ):
        raise UsageError(f"'{url}' is not where `wa serve` listens", hint="it looks like http://127.0.0.1:8080")
    if parts.username is not None or parts.password is not None:
        raise UsageError("the address must not hold a user or a password", hint="it looks like http://127.0.0.1:8080")
    if parts.path.strip("/"):
        return text
    return f"{text.rstrip('/')}{INSTANCES_PATH}{quote(instance, safe='')}"
