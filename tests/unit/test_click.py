"""Who follows a link: a person with a browser, or a program that draws a preview."""

from __future__ import annotations

import pytest

from wa_cli.domain.click import ClickKind, judge_fetch

PHONE = (
    "Mozilla/5.0 (Linux; Android 14; {}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile Safari/537.36"
)
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.1 Mobile/15E148 Safari/604.1"
)


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        ("WhatsApp/2.23.20.0 A", "WhatsApp"),
        ("WhatsApp/2.2413.1 W", "WhatsApp"),
        ("facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)", "Facebook"),
        (f"{IPHONE} facebookexternalhit/1.1 Facebot Twitterbot/1.0", "Facebook"),
        ("meta-externalagent/1.1", "Facebook"),
        ("Twitterbot/1.0", "Twitter"),
        ("TelegramBot (like TwitterBot)", "Telegram"),
        ("Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)", "Slack"),
        ("Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)", "Discord"),
        ("LinkedInBot/1.0 (compatible; Mozilla/5.0; +http://www.linkedin.com)", "LinkedIn"),
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "Google"),
        ("Mozilla/5.0 (compatible; bingbot/2.0)", "Bing"),
        ("curl/8.5.0", "curl"),
        ("Wget/1.21", "Wget"),
        ("python-httpx/0.28.1", "Python"),
        ("Go-http-client/2.0", "Go"),
        ("okhttp/4.12.0", "Java"),
        ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 HeadlessChrome/131.0 Safari/537.36", "a headless browser"),
        ("SomeNewBot/1.0", "a robot"),
        ("acme link checker", "a robot"),
        ("", "a nameless program"),
        (None, "a nameless program"),
    ],
)
def test_a_program_that_draws_previews_is_no_person(agent: str | None, name: str) -> None:
    """Issue 5, point 10."""
    assert judge_fetch(agent) == (ClickKind.PREVIEW, name)


@pytest.mark.parametrize(
    "agent",
    [
        IPHONE,
        PHONE.format("Pixel 8"),
        PHONE.format("CUBOT X18 Plus"),
        PHONE.format("wv") + " WhatsApp/2.24",
        IPHONE + " [FBAN/FBIOS;FBAV/490.0]",
        IPHONE + " Instagram 350.0",
        IPHONE + " [Pinterest/iOS]",
        "Opera/9.80 (J2ME/MIDP; Opera Mini/9.80) Presto/2.5.25",
    ],
)
def test_a_browser_is_a_person_within_other_apps_too(agent: str) -> None:
    """Issue 5, point 10."""
    assert judge_fetch(agent) == (ClickKind.PERSON, None)


@pytest.mark.parametrize("purpose", ["prefetch", "prefetch;prerender", "preview", "Prefetch"])
def test_a_browser_that_loads_ahead_is_no_person_yet(purpose: str) -> None:
    """Issue 5, point 10."""
    assert judge_fetch(IPHONE, ["", purpose])[0] is ClickKind.PREVIEW
