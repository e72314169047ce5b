"""The one reader of the environment and of `.env`: flag, then environment, then `.env`, then default."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from wa_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One name that may stand in the environment or in `.env`.

    default: as it would be typed; "" for none.  is_secret: its value is never shown.
    kind: `text`, `count` (a whole number from 0), `ms`, `ms:N` (N or more), `minutes`, `region`, `zone`, `url`,
    `choice:a,b`.
    """

    name: str
    default: str
    kind: str
    meaning: str
    is_secret: bool = False


SETTINGS: Final[tuple[Setting, ...]] = (
    Setting(
        name="WHATSAPP_API_URL",
        default="",
        kind="url",
        meaning="the whole messages URL: https://graph.facebook.com/v25.0/PHONE_NUMBER_ID/messages",
    ),
    Setting(name="WHATSAPP_ACCESS_TOKEN", default="", kind="text", meaning="the token that sends", is_secret=True),
    Setting(
        name="WHATSAPP_APP_SECRET",
        default="",
        kind="text",
        meaning="signs Meta's webhooks; old and new one, comma-separated, while it is changed",
        is_secret=True,
    ),
    Setting(name="WHATSAPP_VERIFY_TOKEN", default="", kind="text", meaning="answers Meta's check", is_secret=True),
    Setting(
        name="WHATSAPP_BUSINESS_ACCOUNT_ID",
        default="",
        kind="text",
        meaning="the account whose templates are read; default: the one that the number belongs to",
    ),
    Setting(
        name="WORKER_SECRET", default="", kind="text", meaning="lets a cron service run the worker", is_secret=True
    ),
    Setting(name="WA_DB", default="", kind="text", meaning="the database file; default: the user data directory"),
    Setting(
        name="WA_MEDIA_ROOTS",
        default="",
        kind="text",
        meaning=f"folders that local files are sent from, separated by {os.pathsep}; beside the working directory",
    ),
    Setting(
        name="WA_DEFAULT_REGION", default="", kind="region", meaning="country of numbers written without +, e.g. SG"
    ),
    Setting(name="WA_TIMEZONE", default="", kind="zone", meaning="zone of times without one; default: this computer's"),
    Setting(
        name="WA_ACCESSIBLE", default="0", kind="choice:0,1", meaning="1: words instead of plots and redrawn screens"
    ),
    Setting(name="WA_CONCURRENCY", default="0", kind="count", meaning="posts in flight an instance; 0 adapts"),
    Setting(name="WA_PROFILE", default="cloud", kind="choice:cloud,gateway", meaning="the named set of limits"),
    Setting(name="WA_READ_TIMEOUT_MS", default="60000", kind="ms", meaning="how long to wait for Meta's answer"),
    Setting(
        name="WA_LEASE_MS", default="30000", kind="ms:3000", meaning="when another host may take over a silent sender"
    ),
    Setting(name="WA_RETRY", default="ladder", kind="choice:ladder,exponential", meaning="when failures are retried"),
    Setting(
        name="WA_UNSIGNED_WEBHOOKS",
        default="refuse",
        kind="choice:refuse,loopback",
        meaning="loopback: without an app secret, take webhooks from this machine",
    ),
    Setting(name="WA_WEBHOOK_DAYS", default="30", kind="count", meaning="how long raw webhooks are kept; 0: for ever"),
    Setting(
        name="WA_WINDOW",
        default="warn",
        kind="choice:warn,refuse,ignore",
        meaning="free text to a person who has not written within 24 h",
    ),
    Setting(
        name="WA_STOP_WORDS",
        default="",
        kind="text",
        meaning="what opts a person out, comma-separated, beside the usual words",
    ),
    Setting(
        name="WA_START_WORDS",
        default="",
        kind="text",
        meaning="what opts a person in again, comma-separated, beside the usual words",
    ),
    Setting(name="WA_MAX_ATTEMPTS", default="5", kind="count", meaning="attempts before a message has failed"),
    Setting(
        name="WA_DUPLICATE_WINDOW_HOURS", default="24", kind="count", meaning="how long equal words are a duplicate"
    ),
    Setting(name="WA_KEY_DAYS", default="7", kind="count", meaning="how long a key given with --key is remembered"),
    Setting(name="WA_RESEND_UNKNOWN_MINUTES", default="15", kind="minutes", meaning="wait of --on-unknown resend"),
    Setting(name="RATE_LIMIT_MS", default="", kind="ms", meaning="least gap between two messages to one recipient"),
    Setting(
        name="MAX_SENDS_PER_MINUTE_PER_RECIPIENT",
        default="",
        kind="count",
        meaning="messages a minute to one recipient",
    ),
    Setting(name="MESSAGE_PROCESS_INTERVAL_MS", default="", kind="ms", meaning="least gap between two messages"),
    Setting(name="MAX_SENDS_PER_SECOND_PER_INSTANCE", default="", kind="count", meaning="messages a second"),
    Setting(name="MAX_SENDS_PER_MINUTE_PER_INSTANCE", default="", kind="count", meaning="messages a minute"),
    Setting(name="MAX_SENDS_PER_HOUR_PER_INSTANCE", default="", kind="count", meaning="messages an hour"),
    Setting(name="MAX_SENDS_PER_DAY_PER_INSTANCE", default="", kind="count", meaning="messages in 24 h"),
    Setting(
        name="MAX_NEW_CHATS_PER_DAY_PER_INSTANCE",
        default="",
        kind="count",
        meaning="strangers first written to in 24 h",
    ),
    Setting(
        name="MAX_UNANSWERED_PER_PERSON",
        default="",
        kind="count",
        meaning="messages in a row to a person who does not answer; needs webhooks",
    ),
    Setting(name="MAX_NEW_PEOPLE_PER_DAY_PER_INSTANCE", default="", kind="count", meaning="people written to in 24 h"),
    Setting(name="MAX_QUEUE_SIZE", default="0", kind="count", meaning="most messages that may wait"),
    Setting(name="RETRY_BASE_BACKOFF_MS", default="5000", kind="ms", meaning="first wait of the exponential retry"),
    Setting(name="RETRY_MAX_BACKOFF_MS", default="120000", kind="ms", meaning="longest wait of the exponential retry"),
    Setting(
        name="RETRY_INTERVAL_MS", default="120000", kind="ms", meaning="how often the daemon looks after the queue"
    ),
    Setting(name="SOFT_RESTART_TIMEOUT_MS", default="180000", kind="ms", meaning="of a gateway instance"),
    Setting(name="HARD_RESTART_TIMEOUT_MS", default="180000", kind="ms", meaning="of a gateway instance"),
    Setting(name="MAX_RESTARTS_PER_WINDOW", default="4", kind="count", meaning="of a gateway instance"),
    Setting(name="RESTART_WINDOW_MINUTES", default="10", kind="minutes", meaning="of a gateway instance"),
)
BY_NAME: Final[Mapping[str, Setting]] = {setting.name: setting for setting in SETTINGS}

# Limits that a setting overrides, by their name in `domain.pacing.Limits`.
LIMIT_SETTINGS: Final[Mapping[str, str]] = {
    "RATE_LIMIT_MS": "recipient_gap_ms",
    "MAX_SENDS_PER_MINUTE_PER_RECIPIENT": "recipient_per_minute",
    "MESSAGE_PROCESS_INTERVAL_MS": "gap_ms",
    "MAX_SENDS_PER_SECOND_PER_INSTANCE": "per_second",
    "MAX_SENDS_PER_MINUTE_PER_INSTANCE": "per_minute",
    "MAX_SENDS_PER_HOUR_PER_INSTANCE": "per_hour",
    "MAX_SENDS_PER_DAY_PER_INSTANCE": "per_day",
    "MAX_NEW_PEOPLE_PER_DAY_PER_INSTANCE": "new_people_per_day",
    "MAX_NEW_CHATS_PER_DAY_PER_INSTANCE": "new_chats_per_day",
    "MAX_UNANSWERED_PER_PERSON": "unanswered_per_person",
}

LARGEST_COUNT: Final = 10**10  # so many days in milliseconds still fit into a column


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a value came from: `flag`, `environment`, the path of a `.env`, or `default`."""

    value: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting with its origin, checked when it is read.

    variables: all that stands in the environment and in `.env`, whatever its name: instances name their secrets there.
    """

    origins: Mapping[str, Origin]
    env_file: Path | None = None
    unknown: tuple[str, ...] = field(default=())
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)

    def text(self, name: str) -> str:
        return self.origins[name].value

    def count(self, name: str) -> int:
        return _parse_count(name, self.text(name))

    def variable(self, name: str) -> str:
        """The value of a variable of any name, from the environment or else from `.env`; "" when it is not set."""
        return self.variables.get(name, "").strip()

    def secrets(self) -> list[str]:
        """The values that must never be shown, each of a list by itself."""
        texts = (self.text(setting.name) for setting in SETTINGS if setting.is_secret)
        return [part.strip() for text in texts for part in (text, *text.split(",")) if part.strip()]

    def limit_overrides(self) -> dict[str, int]:
        """The limits that were set, by their name in `Limits`."""
        return {field_name: self.count(name) for name, field_name in LIMIT_SETTINGS.items() if self.text(name) != ""}

    def database_path(self) -> Path:
        """`--db`, else WA_DB, else the user data directory."""
        given = self.text("WA_DB")
        if given:
            return Path(given).expanduser().absolute()
        from platformdirs import user_data_path

        return user_data_path("wa", appauthor=False) / "wa.db"

    def media_roots(self) -> list[Path]:
        """The folders that local files may be sent from."""
        words = self.text("WA_MEDIA_ROOTS").split(os.pathsep)
        return [Path(word).expanduser() for word in words if word.strip()]

    def default_region(self) -> str | None:
        return self.text("WA_DEFAULT_REGION").upper() or None

    def zone(self) -> ZoneInfo:
        """The zone in which times are read and shown."""
        from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

        name = self.text("WA_TIMEZONE")
        if not name:
            from tzlocal import get_localzone_name

            name = get_localzone_name() or "UTC"
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise UsageError(
                f"WA_TIMEZONE is '{name}', which is no time zone",
                hint="write it like Europe/Berlin or UTC",
                code="setting",
            ) from error


def load_settings(
    environment: Mapping[str, str] | None = None,
    *,
    env_file: Path | None = None,
    flags: Mapping[str, str] | None = None,
    problems: list[UsageError] | None = None,
) -> Settings:
    """Read every setting once.

    environment: os.environ unless given.  env_file: a `.env` named by --env-file, which must exist; otherwise the one
    in the working directory is read if there is one.  flags: values given on the command line, by setting name.
    problems: where errors are collected instead of raised, one a setting; its default stands in.
    Raises: UsageError for a value that does not fit its setting, naming it and what would.
    """
    environment = os.environ if environment is None else environment
    path, from_file = _read_env_file(env_file)
    origins: dict[str, Origin] = {}
    for setting in SETTINGS:
        name = setting.name
        if flags and name in flags:
            origin = Origin(value=flags[name], source="flag")
        elif environment.get(name, "") != "":
            origin = Origin(value=environment[name].strip(), source="environment")
        elif from_file.get(name, "") != "":
            origin = Origin(value=from_file[name].strip(), source=str(path))
        else:
            origin = Origin(value=setting.default, source="default")
        try:
            _check(setting, origin)
        except UsageError as error:
            if problems is None:
                raise
            problems.append(error)
            origin = Origin(value=setting.default, source="default")
        origins[name] = origin
    unknown = tuple(
        name for name in from_file if name not in BY_NAME and name.startswith(("WA_", "WHATSAPP_", "MAX_", "RETRY_"))
    )
    return Settings(origins=origins, env_file=path, unknown=unknown, variables={**from_file, **environment})


def _read_env_file(env_file: Path | None) -> tuple[Path | None, dict[str, str]]:
    if env_file is not None and not env_file.is_file():
        raise UsageError(f"there is no file {env_file}", hint="give --env-file the path of a .env", code="no_env_file")
    path = env_file or Path.cwd() / ".env"
    if not path.is_file():
        return None, {}
    from dotenv import dotenv_values

    try:
        values = dotenv_values(path, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the file {path} cannot be read: {error}", hint="save it as UTF-8 text", code="env_file"
        ) from error
    return path, {name: value for name, value in values.items() if value is not None}


def _check(setting: Setting, origin: Origin) -> None:
    name, value = setting.name, origin.value
    if value == "":
        return
    if setting.kind in ("count", "ms", "minutes"):
        _parse_count(name, value)
    elif setting.kind.startswith("ms:"):
        least = int(setting.kind.removeprefix("ms:"))
        if _parse_count(name, value) < least:
            raise UsageError(f"{name} is {value} ms, which is too short", hint=f"{least} or more", code="setting")
    elif setting.kind == "region":
        if not (len(value) == 2 and value.isascii() and value.isalpha()):
            raise UsageError(
                f"{name} is '{value}'", hint="write a country's two letters, like SG or DE", code="setting"
            )
    elif setting.kind.startswith("choice:"):
        choices = setting.kind.removeprefix("choice:").split(",")
        if value not in choices:
            raise UsageError(f"{name} is '{value}'", hint=f"write one of: {', '.join(choices)}", code="setting")
    elif setting.kind == "url" and not value.startswith(("https://", "http://")):
        raise UsageError(f"{name} is not a URL", hint=setting.meaning, code="setting")


def _parse_count(name: str, value: str) -> int:
    digits = value.replace("_", "")
    if digits.isascii() and digits.isdigit() and int(digits) <= LARGEST_COUNT:
        return int(digits)
    raise UsageError(
        f"{name} is '{value}', which is not a whole number from 0", hint=f"{name}=0 lifts a limit", code="setting"
    )
