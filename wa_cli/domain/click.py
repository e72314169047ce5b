"""A click on a short link: who made it, a person or a program that draws a preview, and how clicks are counted."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

# A page that loads slowly is tapped twice, and some browsers ask twice: within so long that is one click.
AGAIN_MS: Final = 5_000


class ClickKind(StrEnum):
    """Who has followed a link.  preview: whatever fetched it without anybody having tapped it."""

    PERSON = "person"
    PREVIEW = "preview"


@dataclass(frozen=True, slots=True, kw_only=True)
class Click:
    """One use of a link.  number: of the link within its plan.  agent: what fetched it for a preview, in a word."""

    plan_id: int
    contact_id: int
    number: int
    at_ms: int
    kind: ClickKind
    agent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Clicks:
    """How often links were followed.  people: different ones who clicked.  clicks: theirs.  previews: by programs."""

    people: int = 0
    clicks: int = 0
    previews: int = 0


# The words by which programs name themselves, each with what it is called here.  Messengers first: they are what a
# link in a message meets before anybody has seen it.  Apple's own previews claim to be Facebook's and Twitter's.
_FETCHERS: Final = (
    # WhatsApp's fetcher begins with its name; a phone's browser may mention it further on.
    ("WhatsApp", r"^whatsapp\b"),
    ("Facebook", r"facebookexternalhit|facebookcatalog|facebot|meta-external"),
    ("Telegram", r"telegrambot"),
    ("Twitter", r"twitterbot"),
    ("Slack", r"slackbot|slack-imgproxy"),
    ("Discord", r"discordbot"),
    ("LinkedIn", r"linkedinbot"),
    ("Skype", r"skypeuripreview"),
    ("Viber", r"^viber\b"),
    ("Google", r"googlebot|google-read-aloud|google-inspectiontool|googleimageproxy|apis-google|mediapartners-google"),
    ("Bing", r"bingbot|bingpreview|msnbot"),
    ("Apple", r"applebot"),
    ("Yandex", r"yandex\w*bot|yandeximages"),
    ("Yahoo", r"\bslurp\b"),
    ("Pinterest", r"pinterestbot|pinterest/\d"),
    ("VK", r"vkshare"),
    ("curl", r"^curl/"),
    ("Wget", r"^wget"),
    ("Python", r"python-requests|python-httpx|python-urllib|^aiohttp|^httpx"),
    ("Go", r"^go-http-client"),
    ("Java", r"^java/|^okhttp/|^apache-httpclient|^jakarta commons"),
    ("Node", r"^node-fetch|^axios/|^undici|^node$|^got "),
    ("a script", r"^(?:libwww-perl|lwp|ruby|php|guzzlehttp|postmanruntime|httpie|insomnia|dart|powershell)"),
    ("a headless browser", r"headlesschrome|phantomjs|puppeteer|playwright"),
    # Anything else that calls itself one.  There are telephones by the name of Cubot.
    ("a robot", r"(?<!cu)bot\b|crawl|spider|scrap(?:er|y)|preview|prefetch|\bembedly\b|iframely|urlscan|link ?check"),
)
_NAMED: Final = tuple((name, re.compile(pattern, re.IGNORECASE)) for name, pattern in _FETCHERS)
_AHEAD: Final = re.compile(r"prefetch|prerender|preview", re.IGNORECASE)
LONGEST_AGENT: Final = 1_000


def judge_fetch(agent: str | None, purposes: Iterable[str] = ()) -> tuple[ClickKind, str | None]:
    """Whether a person or a program asks, and what a program is called.

    agent: the header User-Agent.  purposes: the headers by which browsers say that they load ahead (Purpose,
    Sec-Purpose, X-Purpose, X-Moz).  A browser always says what it is, so whoever says nothing is a program.
    """
    if any(_AHEAD.search(purpose) for purpose in purposes):
        return ClickKind.PREVIEW, "a browser, ahead of time"
    words = (agent or "").strip()[:LONGEST_AGENT]
    if not words:
        return ClickKind.PREVIEW, "a nameless program"
    for name, pattern in _NAMED:
        if pattern.search(words):
            return ClickKind.PREVIEW, name
    return ClickKind.PERSON, None
