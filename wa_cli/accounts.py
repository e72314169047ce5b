"""What the instances have of their accounts: by settings of their own, by the variables that their secrets are named
after, and, for `default`, by the environment alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

from wa_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wa_cli.config import Settings
    from wa_cli.domain.finding import Finding
    from wa_cli.ports import Instance
    from wa_cli.provider import Account, Provider
    from wa_cli.store.sqlite.media import SqliteMedia

DEFAULT_INSTANCE: Final = "default"
# What an account of the Cloud API is made of, and the settings that say it for `default`.
DEFAULT_VALUES: Final = {
    "url": "WHATSAPP_API_URL",
    "key": "WHATSAPP_ACCESS_TOKEN",
    "webhook_secret": "WHATSAPP_APP_SECRET",
    "verify_token": "WHATSAPP_VERIFY_TOKEN",
    "business_account_id": "WHATSAPP_BUSINESS_ACCOUNT_ID",
}


class Instances(Protocol):
    def list_all(self) -> Sequence[Instance]: ...


class Parts(Protocol):
    """What this needs of the app."""

    @property
    def settings(self) -> Settings: ...

    @property
    def instances(self) -> Instances: ...

    @property
    def media(self) -> SqliteMedia: ...

    @property
    def install(self) -> str: ...

    def provider(self, instance: Instance) -> Provider: ...

    def concurrency(self) -> int | None: ...


class Accounts:
    """The accounts of the instances.  Only `inspect` asks anybody outside, and nothing is ever sent."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def find(self, instance: Instance) -> Account:
        """The instance's account, with its secrets.  What is not set is missing from its values."""
        from wa_cli.provider import Account

        parts, settings = self._parts, self._parts.settings
        named = {name: settings.variable(variable) for name, variable in instance.secrets.items()}
        values = {**self.read_settings(instance), **named}
        return Account(
            instance_id=instance.id,
            instance=instance.name,
            values={name: value for name, value in values.items() if value},
            install=parts.install,
            concurrency=parts.concurrency() or 256,
            read_timeout_seconds=settings.count("WA_READ_TIMEOUT_MS") / 1000,
            files=parts.media,
            uploads=parts.media.uploads(instance.id),
        )

    def read_settings(self, instance: Instance) -> dict[str, str]:
        """What is known without its named secrets; all of `default` by the environment, where what is not set is ""."""
        if not is_of_environment(instance):
            return dict(instance.settings)
        return {name: self._parts.settings.text(setting) for name, setting in DEFAULT_VALUES.items()}

    def find_missing(self, instance: Instance) -> list[str]:
        """The variables and settings that the instance needs and that are not set."""
        if is_of_environment(instance):
            told = self.read_settings(instance)
            return [DEFAULT_VALUES[name] for name in ("url", "key") if not told[name]]
        values = self.find(instance).values
        return [
            instance.secrets.get(one.name, one.name)
            for one in self._parts.provider(instance).settings
            if not (one.is_optional or one.default or values.get(one.name))
        ]

    def check(self, instance: Instance) -> None:
        """Raises: UsageError naming what is missing to send."""
        missing = self.find_missing(instance)
        if missing and instance.name == DEFAULT_INSTANCE:
            raise UsageError(
                f"no WhatsApp account is set up: {' and '.join(missing)} missing",
                hint="`wa init` asks for them; `wa sandbox` gives you a local WhatsApp to try with",
                code="no_account",
            )
        if missing:
            raise UsageError(
                f"instance '{instance.name}' cannot send: {' and '.join(missing)} missing",
                hint="set it in the environment or in .env",
                code="no_account",
            )

    def list_secrets(self) -> list[str]:
        """Every value that may appear nowhere, those of all instances too."""
        settings = self._parts.settings
        named = [
            settings.variable(variable)
            for instance in self._parts.instances.list_all()
            for variable in instance.secrets.values()
        ]
        return [*settings.secrets(), *(value for value in named if value)]

    def inspect(self, *, online: bool) -> list[Finding]:
        """What can be found out about each instance that was added, under `instance NAME`; not by the environment.

        online: ask the platforms too; nothing is sent.  Not inside a running event loop.
        """
        from wa_cli.domain.finding import FIX_CALL, fail

        parts = self._parts
        findings: list[Finding] = []
        for instance in parts.instances.list_all():
            if is_of_environment(instance):
                continue
            # A secret that may be left out is missed all the same once a variable was named for it.
            empty = [variable for variable in instance.secrets.values() if not parts.settings.variable(variable)]
            missing = list(dict.fromkeys((*self.find_missing(instance), *empty)))
            if missing:
                words = f"{' and '.join(missing)} not set"
                found = [fail("account", "settings", words, "set what is missing, then try again", exit_code=FIX_CALL)]
            else:
                found = list(parts.provider(instance).inspect(self.find(instance), online=online))
            findings += [replace(one, group=f"instance {instance.name}") for one in found]
        return findings


def is_of_environment(instance: Instance) -> bool:
    """Whether it is `default` without a further set-up: the environment says all of its account."""
    return instance.name == DEFAULT_INSTANCE and not instance.settings and not instance.secrets


def inspect_account(settings: Settings, *, online: bool) -> list[Finding]:
    """What can be found out about the account the settings name.  online: ask the platform too; nothing is sent."""
    from wa_cli.transports.cloud_api.findings import inspect

    return inspect(settings.text("WHATSAPP_API_URL"), settings.text("WHATSAPP_ACCESS_TOKEN"), online=online)


def check_account_words(*, api_url: str | None = None, token: str | None = None) -> None:
    """Raises: UsageError for an address or a token that cannot be meant.  Asks nobody."""
    from wa_cli.transports.cloud_api.account import check_token, parse_api_url

    if api_url is not None:
        parse_api_url(api_url)
    if token is not None:
        check_token(token)
