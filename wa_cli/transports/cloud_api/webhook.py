"""Meta's webhooks: whether a body is genuine, and what it says, as events in our words.

Pure: bytes in, events out.  Meta adds fields and types whenever it likes, so everything here is optional: what is not
known is named and ignored, and no JSON at all makes this fail.
"""

from __future__ import annotations

import hmac
import math
import re
from typing import TYPE_CHECKING, Any, Final

from wa_cli.domain.connection import Restriction, RestrictionScope
from wa_cli.domain.event import (
    AccountEvent,
    IgnoredEvent,
    InboundEvent,
    NumberChangedEvent,
    Person,
    PreferenceEvent,
    StatusEvent,
    TemplateEvent,
)
from wa_cli.domain.receipt import Receipt
from wa_cli.domain.retry import Stop
from wa_cli.transports.bodies import parse_body, unreadable
from wa_cli.transports.cloud_api.refusal import read_code, read_refusal
from wa_cli.transports.masking import mask
from wa_cli.transports.signatures import encode_keys, is_signed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from wa_cli.domain.event import Event
    from wa_cli.domain.outcome import Rejected
    from wa_cli.errors import UsageError

MAX_EVENTS: Final = 10_000  # ten times what Meta puts into one body
MAX_WORDS: Final = 4_096  # of one inbound message, as WhatsApp limits it
MAX_NAME: Final = 256

OBJECT: Final = "whatsapp_business_account"
_SIGNATURE: Final = re.compile(r"sha256=([0-9a-f]{64})")
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9]{1,256}")

_ID: Final = re.compile(r"[\x21-\x7e]{1,512}")
_TAG: Final = re.compile(r"[\x20-\x7e]{1,512}")
_NUMBER: Final = re.compile(r"\+?([1-9]\d{4,14})", re.ASCII)
_WORD: Final = re.compile(r"[A-Za-z0-9_]{1,48}", re.ASCII)
_TEMPLATE: Final = re.compile(r"[a-z0-9_]{1,512}", re.ASCII)
_LANGUAGE: Final = re.compile(r"[A-Za-z0-9_\-]{2,20}", re.ASCII)
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_SECONDS: Final = re.compile(r"\d{1,12}", re.ASCII)
_LATEST_SECONDS: Final = 10**10  # in 2286: later than any receipt
_LARGEST_ID: Final = 10**18

_RECEIPTS: Final[Mapping[Any, Receipt]] = {receipt.value: receipt for receipt in Receipt}
# Where each kind of message keeps its words.
_WORDS_AT: Final[Mapping[str, tuple[str, str]]] = {
    "text": ("text", "body"),
    "button": ("button", "text"),
    "image": ("image", "caption"),
    "video": ("video", "caption"),
    "document": ("document", "caption"),
    "order": ("order", "text"),
}
# Nobody wrote: a message was taken back, or the person opened the chat.
_NOT_WRITTEN: Final = frozenset(("revoke", "request_welcome"))

_HOUR_MS: Final = 3_600_000
_PAUSES_MS: Final[Mapping[str, int]] = {"FIRST_PAUSE": 3 * _HOUR_MS, "SECOND_PAUSE": 6 * _HOUR_MS}
# Only an approved template is sent.
_HELD: Final = frozenset(
    (
        "PAUSED", "DISABLED", "FLAGGED", "REJECTED", "LOCKED", "PENDING", "IN_APPEAL", "PENDING_DELETION", "DELETED",
        "LIMIT_EXCEEDED", "ARCHIVED",
    )
)  # fmt: skip
_LIFTED: Final = frozenset(("APPROVED", "UNPAUSED", "UNPAUSE", "REINSTATED", "UNARCHIVED", "UNLOCKED", "UNFLAGGED"))


class CloudApiWebhooks:
    """Implements WebhookReader for the Cloud API."""

    def __init__(self, *, secrets: tuple[str, ...], verify_token: str | None) -> None:
        """secrets: the app's secret, or the old and the new one while it is changed.  verify_token: None refuses every
        check of the address."""
        self._secrets = tuple(secret for secret in secrets if secret)
        self._keys = encode_keys(self._secrets)
        self._verify_token = verify_token.encode("utf-8", "surrogatepass") if verify_token else None

    @property
    def has_secret(self) -> bool:
        return bool(self._keys)

    @property
    def signature_header(self) -> str:
        return "X-Hub-Signature-256"

    def is_genuine(self, body: bytes, signature: str | None) -> bool:
        found = _SIGNATURE.fullmatch(signature or "")
        return is_signed(body, found[1] if found else None, keys=self._keys, algorithm="sha256")

    def answer_challenge(self, query: Mapping[str, str]) -> str | None:
        challenge = query.get("hub.challenge", "")
        told = query.get("hub.verify_token", "").encode("utf-8", "surrogatepass")
        fits = self._verify_token is not None and hmac.compare_digest(told, self._verify_token)
        if not fits or query.get("hub.mode") != "subscribe" or not _CHALLENGE.fullmatch(challenge):
            return None
        return challenge

    def read(self, body: bytes) -> list[Event]:
        shape = parse_body(body, whose="Meta")
        if shape.get("object") != OBJECT:
            return [IgnoredEvent(what=f"object.{_word(shape.get('object'))}")]
        events: list[Event] = []
        for event in self._read_entries(shape):
            events.append(event)
            if len(events) > MAX_EVENTS:
                raise _unreadable(f"the body holds more than {MAX_EVENTS:,} events")
        return events

    def _read_entries(self, shape: dict[str, Any]) -> Iterator[Event]:
        for entry in _list(shape.get("entry")):
            for change in _list(entry.get("changes")):
                field, value = change.get("field"), change.get("value")
                read = _FIELDS.get(field) if isinstance(field, str) else None
                if read is None or not isinstance(value, dict):
                    yield IgnoredEvent(what=_word(field))
                else:
                    yield from read(_Change(entry, value, self._secrets))


class _Change:
    """One change with what stands around it."""

    __slots__ = ("_contacts", "account_id", "at_ms", "number_id", "secrets", "value")

    def __init__(self, entry: dict[str, Any], value: dict[str, Any], secrets: tuple[str, ...]) -> None:
        self.account_id = _id(entry.get("id")) or ""
        self.at_ms = _time(entry.get("time"))
        self.value = value
        metadata = value.get("metadata")
        self.number_id = (_id(metadata.get("phone_number_id")) or "") if isinstance(metadata, dict) else ""
        self.secrets = secrets
        self._contacts: dict[str, Person] | None = None

    def person(self, number: Any, user_id: Any) -> Person | None:
        """Who that is, with the name and the id that the contacts beside it tell; None when neither can be read."""
        address, known = _address(number), _id(user_id)
        if self._contacts is None:
            self._contacts = _read_contacts(self.value)
        name = None
        if self._contacts:
            told = self._contacts.get(address or "") or self._contacts.get(known or "")
            if told is not None:
                address, known, name = address or told.address, known or told.user_id, told.name
        return Person(address=address, user_id=known, name=name) if address or known else None


def _read_contacts(value: dict[str, Any]) -> dict[str, Person]:
    """The people beside a change, by each of their names."""
    people: dict[str, Person] = {}
    for contact in _list(value.get("contacts")):
        address, user_id = _address(contact.get("wa_id")), _id(contact.get("user_id"))
        name = _text(_dict(contact.get("profile")).get("name"), MAX_NAME)
        for key in (address, user_id):
            if key is not None:
                people[key] = Person(address=address, user_id=user_id, name=name)
    return people


# --- receipts and people -------------------------------------------------------------------------------------------


def _read_messages(change: _Change) -> Iterator[Event]:
    """The field `messages`: receipts, what people wrote, and problems that belong to no message."""
    value = change.value
    for status in _list(value.get("statuses")):
        yield _read_status(change, status)
    for message in _list(value.get("messages")):
        yield _read_message(change, message)
    for error in _list(value.get("errors")):
        # Not acted on: what hinders a send says so in the answer to the send, and names the message.
        code = read_code(error.get("code"))
        yield IgnoredEvent(what="errors.none" if code is None else f"errors.{code}")


def _read_status(change: _Change, status: dict[str, Any]) -> Event:
    word = status.get("status")
    receipt = _RECEIPTS.get(word) if isinstance(word, str) else None
    message_id = _id(status.get("id"))
    if receipt is None or message_id is None:
        return IgnoredEvent(what=f"statuses.{_word(word)}")
    participant = _participant(status)
    is_group = participant != "" or status.get("recipient_type") == "group"
    tag = status.get("biz_opaque_callback_data")
    return StatusEvent(
        number_id=change.number_id,
        provider_message_id=message_id,
        receipt=receipt,
        at_ms=_time(status.get("timestamp")) or change.at_ms,
        tag=tag if isinstance(tag, str) and _TAG.fullmatch(tag) else None,
        person=None if is_group else change.person(status.get("recipient_id"), status.get("recipient_user_id")),
        participant=participant,
        refusal=_read_failure(status, change.secrets) if receipt is Receipt.FAILED else None,
    )


def _participant(status: dict[str, Any]) -> str:
    """Of which member of a group the status is; Meta's pages spell the field both ways."""
    number = status.get("recipient_participant_id") or status.get("participant_recipient_id")
    user_id = status.get("recipient_participant_user_id") or status.get("participant_recipient_user_id")
    return _address(number) or _id(user_id) or ""


def _read_failure(status: dict[str, Any], secrets: tuple[str, ...]) -> Rejected:
    errors = _list(status.get("errors"))
    coded = next((error for error in errors if read_code(error.get("code")) is not None), None)
    return read_refusal(coded or (errors[0] if errors else {}), http_status=0, headers={}, secrets=secrets)


def _read_message(change: _Change, message: dict[str, Any]) -> Event:
    kind = _word(message.get("type"))
    if kind == "system":
        return _read_system(change, message)
    message_id = _id(message.get("id"))
    person = change.person(message.get("from"), message.get("from_user_id"))
    if kind in _NOT_WRITTEN or message_id is None or person is None:
        return IgnoredEvent(what=f"messages.{kind}")
    if message.get("group_id"):
        return IgnoredEvent(what=f"messages.group_{kind}")  # said to the group: it opens no window with the person
    words, payload = _read_words(kind, message)
    context = _dict(message.get("reaction" if kind == "reaction" else "context"))
    return InboundEvent(
        number_id=change.number_id,
        provider_message_id=message_id,
        at_ms=_time(message.get("timestamp")) or change.at_ms,
        person=person,
        kind=kind,
        words=words,
        payload=payload,
        context_message_id=_id(context.get("message_id" if kind == "reaction" else "id")),
    )


def _read_words(kind: str, message: dict[str, Any]) -> tuple[str | None, str | None]:
    """What was written or tapped, and what the button carries."""
    if kind == "interactive":
        interactive = _dict(message.get("interactive"))
        reply = _dict(interactive.get("button_reply")) or _dict(interactive.get("list_reply"))
        if reply:
            return _text(reply.get("title"), MAX_WORDS), _text(reply.get("id"), MAX_WORDS)
        return _text(_dict(interactive.get("nfm_reply")).get("body"), MAX_WORDS), None
    place, key = _WORDS_AT.get(kind, ("", ""))
    part = _dict(message.get(place))
    return _text(part.get(key), MAX_WORDS), _text(part.get("payload"), MAX_WORDS) if kind == "button" else None


def _read_system(change: _Change, message: dict[str, Any]) -> Event:
    """What WhatsApp says in a person's chat.  Only a new number or a new id of the person matters here."""
    system = _dict(message.get("system"))
    what = _word(system.get("type"))
    old = change.person(message.get("from"), message.get("from_user_id"))
    if old is None or what not in ("user_changed_number", "user_changed_user_id"):
        return IgnoredEvent(what=f"system.{what}")
    address = _address(system.get("wa_id") or system.get("new_wa_id"))
    user_id = _id(system.get("user_id") or system.get("new_user_id"))
    if what == "user_changed_user_id":
        address = address or old.address
    new = Person(address=address, user_id=user_id, name=old.name)
    if (address, user_id) in ((None, None), (old.address, old.user_id), (old.address, None)):
        return IgnoredEvent(what=f"system.{what}")
    return NumberChangedEvent(
        number_id=change.number_id, at_ms=_time(message.get("timestamp")) or change.at_ms, old=old, new=new
    )


def _read_calls(change: _Change) -> Iterator[Event]:
    """The field `calls`: who calls us opens the window as who writes does, whether or not anybody answers.

    Told by the call's first step alone: its end has a later time, and opens nothing.
    """
    calls = _list(change.value.get("calls"))
    if not calls:
        yield IgnoredEvent(what="calls")
    for call in calls:
        call_id, step = _id(call.get("id")), _word(call.get("event"))
        is_begun_by_them = step == "connect" and call.get("direction") == "USER_INITIATED"
        person = change.person(call.get("from"), call.get("from_user_id")) if is_begun_by_them else None
        if call_id is None or person is None:
            yield IgnoredEvent(what=f"calls.{step}")
            continue
        yield InboundEvent(
            number_id=change.number_id,
            provider_message_id=call_id,
            at_ms=_time(call.get("timestamp")) or change.at_ms,
            person=person,
            kind="call",
        )


def _read_preferences(change: _Change) -> Iterator[Event]:
    for preference in _list(change.value.get("user_preferences")):
        word, category = preference.get("value"), _word(preference.get("category"))
        choice = word.lower() if isinstance(word, str) else ""
        person = change.person(preference.get("wa_id"), preference.get("user_id"))
        # Whatever somebody stops is an opt-out; only marketing that is resumed is an opt-in.
        is_known = choice == "stop" or (choice == "resume" and category in ("marketing_messages", "none"))
        if person is None or not is_known:
            yield IgnoredEvent(what=f"user_preferences.{_word(word)}")
            continue
        detail = preference.get("detail")
        said = mask(detail, secrets=change.secrets) if isinstance(detail, str) else ""
        yield PreferenceEvent(
            number_id=change.number_id,
            at_ms=_time(preference.get("timestamp")) or change.at_ms,
            person=person,
            wants=choice == "resume",
            wording=said or f"{category}: {choice}",
        )


# --- templates and the account -------------------------------------------------------------------------------------


def _read_template(change: _Change) -> Iterator[Event]:
    value = change.value
    event, info = _word(value.get("event")), _dict(value.get("other_info"))
    title = _word(info.get("title"))
    name, language = value.get("message_template_name"), value.get("message_template_language")
    is_lifted = event in _LIFTED or (event not in _HELD and title in _LIFTED)
    if not (isinstance(name, str) and _TEMPLATE.fullmatch(name)) or not (
        isinstance(language, str) and _LANGUAGE.fullmatch(language)
    ):
        yield IgnoredEvent(what="message_template_status_update")
        return
    if not is_lifted and event not in _HELD:
        yield IgnoredEvent(what=f"message_template_status_update.{event}")
        return
    told = title if title in _PAUSES_MS else _word(value.get("reason"))
    pause_ms = _PAUSES_MS.get(told) if event == "PAUSED" and change.at_ms else None
    words = [word for word in (title, _word(value.get("reason"))) if word.lower() not in ("none", event.lower())]
    description = info.get("description")
    reason = ": ".join((event, *dict.fromkeys(words), *([description] if isinstance(description, str) else [])))
    yield TemplateEvent(
        account_id=change.account_id,
        name=name,
        language=language,
        at_ms=change.at_ms,
        held=not is_lifted,
        reason=mask(reason, secrets=change.secrets, limit=200),
        until_ms=change.at_ms + pause_ms if pause_ms is not None else None,
    )


def _read_account(change: _Change) -> Iterator[Event]:
    """The field `account_update`.  Only what keeps the account from sending, or lets it send again."""
    value = change.value
    event = _word(value.get("event"))
    stop: Stop | None = None
    restriction: Restriction | None = None
    match event:
        case "ACCOUNT_RESTRICTION":
            infos = _list(value.get("restriction_info"))
            touching = [one for one in infos if "MESSAGING" in _word(one.get("restriction_type"))]
            if infos and not touching:
                yield IgnoredEvent(what=f"account_update.{event}")
                return
            restriction = _read_restriction(value, touching)
            if restriction.scope is RestrictionScope.EVERYTHING and restriction.until_ms is None:
                stop, restriction = Stop(code=restriction.code, reason=restriction.reason), None
        case "DISABLED_UPDATE":
            ban = _dict(value.get("ban_info"))
            state, when = _word(ban.get("waba_ban_state")), _describe_day(ban.get("waba_ban_date"))
            if state == "SCHEDULE_FOR_DISABLE":
                stop = Stop(code="account_disabled", reason=f"Meta is going to disable the account{when}")
            elif state == "DISABLE":
                stop = Stop(code="account_disabled", reason=f"Meta has disabled the account{when}")
            elif state != "REINSTATE":
                yield IgnoredEvent(what=f"account_update.{event}.{state}")
                return
        case "ACCOUNT_DELETED":
            stop = Stop(code="account_deleted", reason="the business account was deleted")
        case "ACCOUNT_OFFBOARDED":
            stop = Stop(code="account_deleted", reason="the number was taken off the Cloud API")
        case "ACCOUNT_RECONNECTED":
            pass
        case _:
            yield IgnoredEvent(what=f"account_update.{event}")
            return
    yield AccountEvent(
        account_id=change.account_id,
        at_ms=change.at_ms,
        stop=stop,
        restriction=restriction,
        words=stop.reason if stop else restriction.reason if restriction else "Meta has released the account",
    )


def _read_restriction(value: dict[str, Any], infos: list[dict[str, Any]]) -> Restriction:
    """What the parts of a restriction that touch messages come to: the widest, until the last end that is stated."""
    kinds = [_word(one.get("restriction_type")) for one in infos]
    ends_ms = max((_time(one.get("expiration")) for one in infos), default=0)
    is_one_way = bool(kinds) and all("BIZ_INITIATED" in kind for kind in kinds)
    return Restriction(
        code="account_restricted",
        reason=_describe_restriction(value, kinds, ends_ms),
        scope=RestrictionScope.OUTSIDE_WINDOW if is_one_way else RestrictionScope.EVERYTHING,
        until_ms=ends_ms or None,
    )


def _describe_restriction(value: dict[str, Any], kinds: list[str], ends_ms: int) -> str:
    from datetime import UTC, datetime

    until = f", until {datetime.fromtimestamp(ends_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC" if ends_ms else ""
    violation = _word(_dict(value.get("violation_info")).get("violation_type"))
    because = f" for {violation}" if violation != "none" else ""
    named = f" ({', '.join(dict.fromkeys(kinds))})" if kinds else ""
    return f"Meta has restricted the account{because}{until}{named}"[:300]


def _describe_day(value: Any) -> str:
    """A plain date as it is; anything else as foreign words."""
    if not isinstance(value, str) or not value:
        return ""
    return f", on {value if _DAY.fullmatch(value) else mask(value, limit=40)}"


_FIELDS: Final[Mapping[str, Callable[[_Change], Iterator[Event]]]] = {
    "messages": _read_messages,
    "calls": _read_calls,
    "user_preferences": _read_preferences,
    "message_template_status_update": _read_template,
    "account_update": _read_account,
}


# --- from JSON, whatever it is -------------------------------------------------------------------------------------


def _unreadable(message: str) -> UsageError:
    return unreadable(message, "Meta")


def _list(value: Any) -> list[dict[str, Any]]:
    """The objects of a list; everything in it that is none is left out."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _id(value: Any) -> str | None:
    """An id of Meta's: visible ASCII, or a number."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST_ID:
        return str(value)
    return value if isinstance(value, str) and _ID.fullmatch(value) else None


def _address(value: Any) -> str | None:
    """A number as WhatsApp spells it, with the plus; None for anything else, such as the id of a group."""
    found = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    return f"+{found[1]}" if found else None


def _time(value: Any) -> int:
    """Milliseconds since 1970 from seconds, spelled as a number or a string; 0 for what is no time."""
    if isinstance(value, str):
        if not _SECONDS.fullmatch(value):
            return 0
        seconds: float = int(value)
    elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        seconds = value
    else:
        return 0
    return int(seconds * 1000) if 0 < seconds < _LATEST_SECONDS else 0


def _word(value: Any) -> str:
    """A word of Meta's vocabulary, safe to show and to count by."""
    if value is None or value == "":
        return "none"
    return value if isinstance(value, str) and _WORD.fullmatch(value) else "unknown"


def _text(value: Any, limit: int) -> str | None:
    """Somebody's words, at most so many characters, without the halves of characters that no file can hold."""
    if not isinstance(value, str) or not value:
        return None
    words = value[:limit]
    return words if words.isascii() else words.encode("utf-8", "replace").decode()
