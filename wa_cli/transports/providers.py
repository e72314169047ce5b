"""Every provider that `wa` knows, by the name under which instances store it; each is loaded when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from wa_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wa_cli.provider import Provider

# The stored name, and the module whose PROVIDER it is.
MODULES: Final[Mapping[str, str]] = {
    "cloud_api": "wa_cli.transports.cloud_api.provider",
    "gowa": "wa_cli.transports.gowa.provider",
    "waha": "wa_cli.transports.waha.provider",
    "wwebjs_api": "wa_cli.transports.wwebjs.provider",
}
# What people type after --transport, and the stored name.
WORDS: Final[Mapping[str, str]] = {
    "cloud": "cloud_api",
    "gowa": "gowa",
    "waha": "waha",
    "wwebjs": "wwebjs_api",
}


def find_provider(name: str, *, instance: str) -> Provider:
    """The provider of that stored name.  instance: whose it is, for the error.  Raises: UsageError for another name."""
    module = MODULES.get(name)
    if module is None:
        raise UsageError(
            f"instance '{instance}' uses the transport '{name}', which this wa does not know",
            hint="install a newer wa",
        )
    provider: Provider = import_module(module).PROVIDER
    return provider


def parse_transport(word: str) -> str:
    """The stored name for what somebody typed.  Raises: UsageError naming what there is."""
    folded = word.strip().lower().replace("-", "_")
    if folded in MODULES:
        return folded
    if folded in WORDS:
        return WORDS[folded]
    raise UsageError(f"there is no transport '{word}'", hint=f"one of: {', '.join(WORDS)}", code="transport")
