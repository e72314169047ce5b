"""What can go wrong on purpose: faults, how they are spelled, and the numbers that always meet one.

A fault is written `kind`, `kind:argument` or `lost:kind`, for example `reject:131026`, `slow:2.5`,
`lost:reset`. Faults that leave the client in the dark count as accepted (the ledger has the message, the
client does not know) unless `lost:` stands in front: then the post vanished before anybody accepted it, and
looks the same from outside.

    reject:CODE        refused with that code in the usual JSON; `reject:131000@200` under another HTTP status,
                       `reject:100/33` with a subcode
    throttle           refused: 130429, the number is too fast
    pair               refused: 131056, too fast for this person
    500_131000         refused: HTTP 500 with a JSON error
    flaky:N            the first N posts to a recipient are refused as 500_131000, later ones are accepted
    slow:SECONDS       accepted, answered late
    hang               accepted, never answered
    reset              accepted, connection reset before the first byte of an answer
    cut_headers        accepted, connection closed in the middle of the answer's head
    cut_body:BYTES     accepted, closed after that many bytes of the announced body (half of it without a number)
    html_200           accepted, answered 200 with a page of HTML
    empty_200          accepted, answered 200 with nothing
    503_empty          accepted, answered 503 with nothing, as an edge does whose back end went on alone
    redirect           not accepted: 307 to another path, where anything that arrives is a client's mistake

The rest needs a webhook URL to be noticed: the post is accepted and answered as usual, the matter is what comes after.

    later:CODE         fails by webhook with that code and nothing else; `later:131026@sent` fails after a `sent`,
                       `@delivered` after a `delivered`, where a receiver has to leave the message as it is
    until:STATUS       no status after that one comes: `none`, `sent`, `delivered`, or `read`, which is all of them
    stop               delivered, then the person answers STOP; `stop:button` taps a button that says so,
                       `stop:preferences` stops marketing messages in the menu of the chat
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from wa_cli.errors import UsageError

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Mapping


class FaultKind(StrEnum):
    REJECT = "reject"
    THROTTLE = "throttle"
    PAIR = "pair"
    ERROR_500 = "500_131000"
    FLAKY = "flaky"
    SLOW = "slow"
    HANG = "hang"
    RESET = "reset"
    CUT_HEADERS = "cut_headers"
    CUT_BODY = "cut_body"
    HTML_200 = "html_200"
    EMPTY_200 = "empty_200"
    EMPTY_503 = "503_empty"
    REDIRECT = "redirect"
    LATER = "later"
    UNTIL = "until"
    STOP = "stop"


# What a message may have come to before it fails, how far it may come, and how a person says stop.
LATER_AFTER = ("sent", "delivered")
UNTIL_WHAT = ("none", "sent", "delivered", "read")
STOP_HOW = ("button", "preferences")

REFUSING = frozenset({FaultKind.REJECT, FaultKind.THROTTLE, FaultKind.PAIR, FaultKind.ERROR_500, FaultKind.FLAKY})
MAY_BE_LOST = frozenset(
    {
        FaultKind.HANG,
        FaultKind.RESET,
        FaultKind.CUT_HEADERS,
        FaultKind.CUT_BODY,
        FaultKind.HTML_200,
        FaultKind.EMPTY_200,
        FaultKind.EMPTY_503,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong.  Build it with `parse_fault`, which checks that kind and argument fit.

    code, http_status, subcode: of `reject`; code also of `later`.  seconds: of `slow`.  times: of `flaky`.
    cut_at: bytes of the body that `cut_body` lets through, None for half.  word: after what `later` fails, how
    far `until` goes, how `stop` is said.  is_lost: the post vanishes instead of being accepted.
    """

    kind: FaultKind
    code: int | None = None
    http_status: int | None = None
    subcode: int | None = None
    seconds: float | None = None
    times: int | None = None
    cut_at: int | None = None
    word: str | None = None
    is_lost: bool = False

    def __str__(self) -> str:
        text = self.kind.value
        if self.code is not None:
            text += f":{self.code}"
            if self.subcode is not None:
                text += f"/{self.subcode}"
            if self.http_status is not None:
                text += f"@{self.http_status}"
            if self.word is not None:
                text += f"@{self.word}"
        elif self.seconds is not None:
            text += f":{self.seconds:g}"
        elif self.times is not None:
            text += f":{self.times}"
        elif self.cut_at is not None:
            text += f":{self.cut_at}"
        elif self.word is not None:
            text += f":{self.word}"
        return f"lost:{text}" if self.is_lost else text


def parse_fault(text: str) -> Fault:
    """The fault that a spelling such as `reject:131026`, `slow:2` or `lost:hang` means.

    Raises: UsageError on an unknown kind, a missing or impossible argument, or `lost:` before a fault that
    never accepts.
    """
    spelling = text.strip()
    is_lost = spelling.startswith("lost:")
    name, separator, argument = spelling.removeprefix("lost:").partition(":")
    try:
        kind = FaultKind(name)
    except ValueError:
        known = ", ".join(kind.value for kind in FaultKind)
        raise UsageError(f"'{text}' is not a fault of the sandbox", hint=f"one of: {known}") from None
    if is_lost and kind not in MAY_BE_LOST:
        raise UsageError(
            f"'{text}' cannot be lost: {kind.value} does not leave the client in the dark",
            hint="lost: goes with " + ", ".join(sorted(kind.value for kind in MAY_BE_LOST)),
        )
    try:
        match kind:
            case FaultKind.REJECT:
                head, at, status = argument.partition("@")
                code, slash, subcode = head.partition("/")
                fault = Fault(
                    kind=kind,
                    code=_read_int(code, 0, 9_999_999),
                    subcode=_read_int(subcode, 0, 9_999_999) if slash else None,
                    http_status=_read_int(status, 200, 599) if at else None,
                )
            case FaultKind.FLAKY:
                fault = Fault(kind=kind, times=_read_int(argument, 1, 1_000_000))
            case FaultKind.SLOW:
                seconds = float(argument)
                if not math.isfinite(seconds) or not 0 <= seconds <= 3600:
                    raise ValueError(argument)
                fault = Fault(kind=kind, seconds=seconds)
            case FaultKind.CUT_BODY:
                fault = Fault(kind=kind, cut_at=_read_int(argument, 0, 10_000) if separator else None, is_lost=is_lost)
            case FaultKind.LATER:
                code, at, word = argument.partition("@")
                fault = Fault(
                    kind=kind, code=_read_int(code, 0, 9_999_999), word=_read_word(word, LATER_AFTER) if at else None
                )
            case FaultKind.UNTIL:
                fault = Fault(kind=kind, word=_read_word(argument, UNTIL_WHAT))
            case FaultKind.STOP:
                fault = Fault(kind=kind, word=_read_word(argument, STOP_HOW) if separator else None)
            case _:
                if separator:
                    raise ValueError(argument)
                fault = Fault(kind=kind, is_lost=is_lost)
    except ValueError:
        raise UsageError(
            f"'{text}' is not a fault of the sandbox: its argument does not fit",
            hint="write it like reject:131026, flaky:2, slow:1.5, cut_body:20, later:131026, until:sent, hang",
        ) from None
    return fault


def _read_int(text: str, lowest: int, highest: int) -> int:
    number = int(text)
    if not lowest <= number <= highest:
        raise ValueError(text)
    return number


def _read_word(text: str, known: tuple[str, ...]) -> str:
    if text not in known:
        raise ValueError(text)
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class MagicNumber:
    """Recipients whose number ends with `ending` always meet `fault`."""

    ending: str
    fault: Fault
    meaning: str


def _magic(ending: str, fault: str, meaning: str) -> MagicNumber:
    return MagicNumber(ending=ending, fault=parse_fault(fault), meaning=meaning)


# Four digits from 9001 up: lists of made-up numbers usually count from 0001 and stay below.  Where there is
# a code or an HTTP status to remember, its last digits are the ending; with 91 in front of them the same code
# comes later, by webhook.
MAGIC_NUMBERS: tuple[MagicNumber, ...] = (
    _magic("9001", "flaky:1", "fails once with 131000, then is accepted"),
    _magic("9002", "flaky:2", "fails twice with 131000, then is accepted"),
    _magic("9004", "flaky:4", "fails four times with 131000, then is accepted"),
    _magic("9009", "reject:131009", "the number is not a valid one"),
    _magic("9010", "reject:10", "the app may not send for this number"),
    _magic("9015", "reject:132015", "the template is paused"),
    _magic("9016", "reject:131016", "the service is unavailable"),
    _magic("9021", "reject:131021", "recipient and sender are the same"),
    _magic("9026", "reject:131026", "undeliverable: not on WhatsApp"),
    _magic("9030", "reject:131030", "not on a test number's allowed list"),
    _magic("9042", "reject:131042", "payment problem of the business"),
    _magic("9047", "reject:131047", "more than 24 h since the person wrote"),
    _magic("9048", "reject:131048", "the number is limited as spam"),
    _magic("9049", "reject:131049", "held back for the person's attention"),
    _magic("9050", "reject:131050", "the person stopped marketing messages"),
    _magic("9053", "reject:131053", "the media could not be used"),
    _magic("9056", "pair", "too many messages to this person"),
    _magic("9057", "reject:131057", "the number is in maintenance"),
    _magic("9115", "later:132015", "accepted, then dropped: the template is paused"),
    _magic("9126", "later:131026", "accepted, then undeliverable: not on WhatsApp"),
    _magic("9132", "reject:132001", "no such template in this language"),
    _magic("9142", "later:131042", "accepted, then a payment problem"),
    _magic("9147", "later:131047", "accepted, but 24 h since the person wrote are over"),
    _magic("9149", "later:131049", "accepted, then held back for the person's attention"),
    _magic("9150", "later:131050", "accepted, but the person stopped marketing messages"),
    _magic("9153", "later:131053", "accepted, then the media could not be fetched"),
    _magic("9172", "later:130472", "accepted, but the person is in an experiment"),
    _magic("9180", "later:131000@sent", "sent, then something went wrong"),
    _magic("9181", "later:131026@delivered", "delivered, and then reported as failed"),
    _magic("9190", "reject:190", "the token has expired"),
    _magic("9200", "html_200", "accepted, but a page of HTML comes back"),
    _magic("9204", "empty_200", "accepted, but an empty 200 comes back"),
    _magic("9206", "cut_body", "accepted, but the answer is cut in the middle"),
    _magic("9307", "redirect", "redirected, not accepted"),
    _magic("9331", "reject:131031", "the account is locked"),
    _magic("9368", "reject:368", "the business is blocked for policy"),
    _magic("9408", "hang", "accepted, but no answer ever comes"),
    _magic("9429", "throttle", "the number sends too fast"),
    _magic("9472", "reject:130472", "the person is in an experiment"),
    _magic("9499", "reset", "accepted, but the connection is reset"),
    _magic("9500", "500_131000", "HTTP 500 with an error in JSON"),
    _magic("9503", "503_empty", "accepted, but an empty 503 comes back"),
    _magic("9602", "slow:2", "accepted, answered after 2 s"),
    _magic("9610", "slow:10", "accepted, answered after 10 s"),
    _magic("9700", "stop", "delivered, then the person answers STOP"),
    _magic("9701", "stop:button", "delivered, then the person taps a stop button"),
    _magic("9702", "stop:preferences", "delivered, then the person stops marketing"),
    _magic("9710", "until:none", "accepted, and no status ever comes"),
    _magic("9711", "until:sent", "sent, and never delivered"),
    _magic("9712", "until:delivered", "delivered, and never read"),
    _magic("9713", "until:read", "always delivered and read"),
    _magic("9999", "reject:999999", "a code nobody has heard of"),
)

_MAGIC_BY_ENDING: dict[str, Fault] = {magic.ending: magic.fault for magic in MAGIC_NUMBERS}


def find_magic_fault(recipient: str) -> Fault | None:
    """The fault that a recipient's last four digits stand for, or None."""
    return _MAGIC_BY_ENDING.get(recipient[-4:])


class ScriptedFaults:
    """Faults queued for the next posts: those for one recipient first, then those for anybody, each in order."""

    def __init__(self) -> None:
        self._for_anybody: deque[Fault] = deque()
        self._for_recipient: dict[str, deque[Fault]] = {}

    def add(self, fault: Fault, *, times: int, recipient: str | None) -> None:
        """Queue a fault for the next `times` posts that would have been accepted.

        recipient: digits as the API knows them, or None for anybody.  `flaky:N` means N refusals each time.
        Raises: UsageError when times is below 1.
        """
        if times < 1:
            raise UsageError(f"a fault cannot happen {times} times", hint="times is 1 or more")
        if fault.kind is FaultKind.FLAKY:
            times *= fault.times or 1
            fault = Fault(kind=FaultKind.ERROR_500)
        queue = self._for_anybody if recipient is None else self._for_recipient.setdefault(recipient, deque())
        queue.extend([fault] * times)

    def take(self, recipient: str) -> Fault | None:
        """The next fault for this recipient, used up, or None."""
        if self._for_recipient:
            queue = self._for_recipient.get(recipient)
            if queue:
                fault = queue.popleft()
                if not queue:
                    del self._for_recipient[recipient]
                return fault
        return self._for_anybody.popleft() if self._for_anybody else None

    def clear(self) -> None:
        self._for_anybody.clear()
        self._for_recipient.clear()

    def __len__(self) -> int:
        return len(self._for_anybody) + sum(len(queue) for queue in self._for_recipient.values())


class Chaos:
    """Faults by chance, each with its own probability, drawn from one seeded source.

    The same seed over the same sequence of posts gives the same faults.
    """

    def __init__(self, odds: Mapping[str, float]) -> None:
        """odds: spelling of a fault to its probability, 0 to 1; together at most 1.  Raises: UsageError."""
        self._steps: list[tuple[float, Fault]] = []
        reached = 0.0
        for spelling, probability in odds.items():
            fault = parse_fault(spelling)
            if fault.kind is FaultKind.FLAKY:
                raise UsageError("flaky cannot happen by chance", hint="use 500_131000, which is one such refusal")
            if not 0 <= probability <= 1:
                raise UsageError(f"chaos {spelling}={probability} is not a probability", hint="0 to 1, such as 0.01")
            reached += probability
            if probability:
                self._steps.append((reached, fault))
        if reached > 1 + 1e-9:
            raise UsageError(f"chaos adds up to {reached:g}", hint="all probabilities together are at most 1")

    def draw(self, source: random.Random) -> Fault | None:
        """The fault of this post, or None.  Draws nothing when there is no chaos."""
        if not self._steps:
            return None
        drawn = source.random()
        for step, fault in self._steps:
            if drawn < step:
                return fault
        return None


def parse_chaos(pairs: Iterable[str]) -> dict[str, float]:
    """Odds from spellings such as `cut_body=0.01`.  Raises: UsageError."""
    odds: dict[str, float] = {}
    for pair in pairs:
        spelling, separator, number = pair.rpartition("=")
        try:
            probability = float(number)
        except ValueError:
            separator = ""
        if not separator:
            raise UsageError(f"'{pair}' does not say how likely it is", hint="write FAULT=PROBABILITY, cut_body=0.01")
        odds[spelling] = probability
    return odds
