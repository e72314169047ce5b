"""Short links: everybody comes to where the message meant, and clicks of people are counted."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import pytest
from door import ADA, BEN

from tests.cli.stored import enqueue
from wa_cli.domain.click import AGAIN_MS, Clicks
from wa_cli.domain.link import make_token
from wa_cli.errors import StorageFull
from wa_cli.web import clicks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import httpx
    from door import Api

    from wa_cli.domain.click import Click

PHONE = {
    "User-Agent": "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 "
    "Mobile Safari/537.36"
}
SHOP = "https://shop.example.com/sale?size=m&to=a%20b#top"


class FullStore:
    """A way in for clicks whose disk is full, until `trouble` is taken away."""

    def __init__(self, api: Api) -> None:
        self._links = api.app.open_beside().links
        self.trouble: StorageFull | None = StorageFull("the disk is full", hint="make room")
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._links, name)

    def record(self, some: Sequence[Click]) -> int:
        self.asked += 1
        if self.trouble is not None:
            raise self.trouble
        return self._links.record(some)


class Links:
    """A run with links for two people, and the way through the door."""

    def __init__(self, api: Api, *urls: str) -> None:
        self.api = api
        enqueue(api.app, ADA, BEN)
        self.ada, self.ben = (api.app.people.find(who).id for who in (ADA, BEN))
        with api.app.database.write() as connection:
            connection.execute(
                """INSERT INTO campaign (id, name, folded_name, path, source, created_at, changed_at)
                VALUES (1, 'sale', 'sale', 'sale.toml', '', 0, 0)"""
            )
            connection.execute(
                "INSERT INTO plan (id, campaign_id, source, inputs, created_at) VALUES (7, 1, '', '', 0)"
            )
            connection.execute(
                "INSERT INTO run (id, campaign_id, plan_id, state, created_at) VALUES (1, 1, 7, 'running', 0)"
            )
        shortener = api.app.shortener(api.server.url, 7)
        self.short = {
            who: [shortener.shorten_for(who)(url).removeprefix(api.server.url) for url in urls or (SHOP,)]
            for who in (self.ada, self.ben)
        }
        shortener.finish()
        self.key = api.app.links.take_key()

    def click(self, who: int, *, method: str = "GET", more: str = "", **headers: str) -> httpx.Response:
        return self.api.client.request(
            method, self.short[who][0] + more, headers={**PHONE, **headers}, follow_redirects=False
        )

    def counts(self, *expected: int) -> Clicks:
        """The counts, once they are what is expected; clicks are written down after their answers."""
        deadline = time.monotonic() + 60
        while True:
            found = self.api.app.links.count_clicks(1)
            if (found.people, found.clicks, found.previews) == expected or time.monotonic() > deadline:
                return found
            time.sleep(0.01)


def test_a_short_link_leads_to_the_stored_address_and_is_counted(api: Api) -> None:
    """Issue 5, point 10: nobody keeps the answer, and the page it leads to does not learn the token."""
    links = Links(api)
    answer = links.click(links.ada)
    assert answer.status_code == 302
    assert answer.headers["Location"] == SHOP
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert "Set-Cookie" not in answer.headers
    assert answer.content == b""
    assert links.counts(1, 1, 0) == Clicks(people=1, clicks=1)
    assert api.value("SELECT agent FROM click") is None
    links.click(links.ben)
    assert links.counts(2, 2, 0) == Clicks(people=2, clicks=2)


def test_nothing_in_the_call_says_where_it_leads(api: Api) -> None:
    """Issue 5, point 10: no open redirect; and what messengers add to a link does no harm."""
    links = Links(api)
    answer = links.click(links.ada, more="?fbclid=abc&url=https://evil.example", Host="evil.example", Referer="//evil")
    assert (answer.status_code, answer.headers["Location"]) == (302, SHOP)


def test_an_address_in_other_letters_is_spelled_for_the_header(api: Api) -> None:
    links = Links(api, "https://bücher.example/größe?q=é")
    assert links.click(links.ada).headers["Location"] == "https://b%C3%BCcher.example/gr%C3%B6%C3%9Fe?q=%C3%A9"


def test_a_forged_or_unknown_token_gets_a_short_page(api: Api) -> None:
    """Issue 5, point 10: the same one for all of them."""
    links = Links(api)
    good = links.short[links.ada][0]
    pages = set()
    for path in (
        good[:-1] + ("A" if good[-1] != "A" else "B"),
        f"/r/{make_token(bytes(32), 7, links.ada, 1)}",
        f"/r/{make_token(links.key, 7, links.ada, 99)}",
        f"/r/{make_token(links.key, 8, links.ada, 1)}",
        "/r/x",
        "/r/%2e%2e",
        "/r/https:%2f%2fevil.example",
    ):
        answer = api.client.get(path, headers=PHONE, follow_redirects=False)
        if path.endswith("evil.example"):  # its slashes make it another address
            assert answer.status_code == 404
            continue
        assert answer.status_code == 404, path
        assert answer.headers["Content-Type"].startswith("text/html")
        assert "Location" not in answer.headers
        pages.add(answer.text)
    assert len(pages) == 1
    assert len(pages.pop()) < 600
    assert links.counts(0, 0, 0) == Clicks()


def test_where_no_link_was_ever_made_there_is_none_and_no_key(api: Api) -> None:
    token = make_token(bytes(32), 1, 1, 1)
    assert api.client.get(f"/r/{token}").status_code == 404
    assert api.app.links.find_key() is None
    links = Links(api)  # the server runs already when the first campaign is planned
    assert links.click(links.ada).status_code == 302


@pytest.mark.parametrize("url", ["javascript:alert(1)", "//evil.example/", "https://a.example/\r\nX: y", "file:///etc"])
def test_what_is_no_page_of_the_web_is_led_to_by_nothing(url: str, api: Api) -> None:
    """Issue 5, point 10: whatever somebody wrote into the file."""
    links = Links(api)
    with api.app.database.write() as connection:
        connection.execute("UPDATE link SET url = ?", (url,))
    answer = links.click(links.ada)
    assert answer.status_code == 404
    assert "X" not in answer.headers


def test_a_look_with_head_counts_nothing(api: Api) -> None:
    """Issue 5, point 10."""
    links = Links(api)
    answer = links.click(links.ada, method="HEAD")
    assert (answer.status_code, answer.headers["Location"]) == (302, SHOP)
    assert api.client.head("/r/nobody").status_code == 404
    links.click(links.ben)
    while not api.rows("SELECT 1 FROM click WHERE contact_id = ?", links.ben):
        time.sleep(0.005)
    assert api.app.links.count_clicks(1) == Clicks(people=1, clicks=1)  # what came first is written down first


def test_a_fetch_for_a_preview_is_led_on_and_is_nobodys_click(api: Api) -> None:
    """Issue 5, point 10: messengers by their names, browsers that load ahead by their word for it."""
    links = Links(api)
    for headers in ({"User-Agent": "WhatsApp/2.23.20.0 A"}, {"Sec-Purpose": "prefetch;prerender"}):
        who = links.ben if "Sec-Purpose" in headers else links.ada
        assert links.click(who, **headers).headers["Location"] == SHOP
    assert links.counts(0, 0, 2) == Clicks(previews=2)
    assert api.rows("SELECT agent FROM click ORDER BY id") == [("WhatsApp",), ("a browser, ahead of time",)]
    links.click(links.ada)
    assert links.counts(1, 1, 2) == Clicks(people=1, clicks=1, previews=2)


def test_one_who_taps_twice_has_clicked_once(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 5, point 10."""
    assert AGAIN_MS < 60_000
    for place in ("wa_cli.web.clicks", "wa_cli.store.sqlite.links"):
        monkeypatch.setattr(f"{place}.AGAIN_MS", 600_000)  # however slowly the taps come here
    links = Links(api)
    for _tap in range(5):
        assert links.click(links.ada).status_code == 302
    links.click(links.ben)
    assert links.counts(2, 2, 0) == Clicks(people=2, clicks=2)


# --- trouble ---


def test_a_busy_store_keeps_nobody_waiting(make_api: Callable[..., Api], monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 5, point 10: the answer comes while another process holds the file, and the click when it lets go."""
    monkeypatch.setattr("wa_cli.store.sqlite.database.BUSY_TIMEOUT_MS", 200_000)  # whoever waits, waits long
    api = make_api()
    links = Links(api)
    with api.app.database.write():
        began = time.monotonic()
        assert links.click(links.ada).status_code == 302
        assert links.click(links.ben).status_code == 302
        assert time.monotonic() - began < 50
    assert links.counts(2, 2, 0) == Clicks(people=2, clicks=2)


def test_clicks_wait_for_a_disk_that_is_full(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Issue 5, point 10: they are counted when there is room again."""
    monkeypatch.setattr(clicks, "TROUBLE_SECONDS", 0.01)
    links = Links(api)
    store = FullStore(api)
    monkeypatch.setattr(api.server.app, "links", store)
    assert links.click(links.ada).headers["Location"] == SHOP
    while store.asked < 2:
        time.sleep(0.005)
    assert links.click(links.ben).headers["Location"] == SHOP
    assert "clicks wait to be counted, 1 so far: the disk is full" in caplog.text
    store.trouble = None
    assert links.counts(2, 2, 0) == Clicks(people=2, clicks=2)


def test_clicks_that_are_lost_are_counted_as_such(
    make_api: Callable[..., Api], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Issue 5, point 10: in the metrics while it runs, in the log when it ends."""
    monkeypatch.setitem(clicks.ClickDoor.__init__.__kwdefaults__, "most_waiting", 1)  # type: ignore[arg-type]
    monkeypatch.setattr(clicks, "TROUBLE_SECONDS", 600.0)  # it does not try again by itself
    api = make_api()
    links = Links(api)
    monkeypatch.setattr(api.server.app, "links", FullStore(api))
    links.click(links.ada)
    while "clicks wait to be counted" not in caplog.text:
        time.sleep(0.005)
    assert links.click(links.ben).headers["Location"] == SHOP
    assert "wa_clicks_lost_total 1.0" in api.get("/metrics").text
    api.server.stop()
    api.server.join()
    assert "clicks were not counted, 2 so far, though everybody came to where they wanted" in caplog.text


# --- what others see ---


def test_the_metrics_count_clicks_of_people_and_of_programs(api: Api) -> None:
    """Issue 5, point 10; row Q6."""
    links = Links(api)
    links.click(links.ada)
    links.counts(1, 1, 0)
    assert "wa_clicks_total{" not in api.get("/metrics").text  # it was before the first look
    links.click(links.ben)
    links.click(links.ben, **{"User-Agent": "curl/8.5.0"})
    links.counts(2, 2, 1)
    for _look in range(2):
        text = api.get("/metrics").text
        assert 'wa_clicks_total{kind="person"} 1.0' in text
        assert 'wa_clicks_total{kind="preview"} 1.0' in text
        assert "wa_clicks_lost_total 0.0" in text
    assert 'wa_http_requests_total{method="GET",route="/r/{token}",status="302"} 3.0' in text


def test_the_log_holds_no_token_and_no_address(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """Promise P11: its readers can click in nobody's name, and learn nothing from an address that holds a number."""
    caplog.set_level(logging.DEBUG)
    links = Links(api, f"{SHOP}&phone={ADA}")
    token = links.short[links.ada][0].removeprefix("/r/")
    links.click(links.ada)
    links.click(links.ada, method="HEAD")
    api.client.get(f"/r/{token}x")
    links.counts(1, 1, 0)
    while "GET /r/… 404" not in caplog.text:  # a line is written after the answer that it tells of
        time.sleep(0.005)
    assert "GET /r/… 302" in caplog.text
    own = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("wa"))
    assert token not in own
    assert "shop.example.com" not in own
    assert links.key.hex() not in own
