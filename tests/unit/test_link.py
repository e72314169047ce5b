"""Short links: nobody can guess, forge or read a token, and every address of a plan has its number."""

from __future__ import annotations

import base64
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wa_cli.domain import link
from wa_cli.domain.link import (
    MOST_PERSONAL,
    Shortener,
    check_base,
    make_token,
    may_lead_to,
    own_number,
    own_numbers,
    owner_of,
    read_token,
)
from wa_cli.errors import UsageError

KEY = bytes(range(32))
BASE = "https://go.example.com"
SHOP = "https://shop.example.com/sale?size=m"

ids = st.integers(1, 2**53)
shared = st.integers(0, 2**53)
indexes = st.integers(0, MOST_PERSONAL - 1)


# --- tokens ---


@given(st.binary(min_size=32, max_size=32), ids, ids, shared, indexes, st.booleans())
def test_what_a_token_says_comes_back(
    key: bytes, plan: int, contact: int, number: int, index: int, is_own: bool
) -> None:
    """Issue 5, point 10."""
    if is_own:
        number = own_number(contact, index)
    assert read_token(key, make_token(key, plan, contact, number)) == (plan, contact, number)


@given(ids, ids, shared, st.data())
def test_a_token_with_any_bit_flipped_is_refused(plan: int, contact: int, number: int, data: st.DataObject) -> None:
    """Issue 5, point 10: of the bytes, and of the letters."""
    token = make_token(KEY, plan, contact, number)
    sealed = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    assert read_token(KEY, base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()) is None
    place = data.draw(st.integers(0, len(token) - 1))
    letter = chr(ord(token[place]) ^ 1 << data.draw(st.integers(0, 6)))
    assert read_token(KEY, token[:place] + letter + token[place + 1 :]) is None


def test_every_letter_of_a_token_counts() -> None:
    """Issue 5, point 10: there is one spelling, though base64 has several for the last letter."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for contact in (1, 200, 20_000, 2_000_000):
        token = make_token(KEY, 7, contact, 3)
        good = [letter for letter in alphabet if read_token(KEY, token[:-1] + letter) is not None]
        assert good == [token[-1]]


@given(st.text(max_size=60))
def test_what_nobody_has_made_is_refused(words: str) -> None:
    assert read_token(KEY, words) is None


@pytest.mark.parametrize("change", ["{}A", "A{}", "{}=", " {}", "{}\n", "{}\x00", "{}é"])
def test_more_than_a_token_is_none(change: str) -> None:
    assert read_token(KEY, change.format(make_token(KEY, 1, 2, 3))) is None


def test_a_token_of_another_database_is_refused() -> None:
    assert read_token(bytes(32), make_token(KEY, 1, 2, 3)) is None


def test_a_token_is_short() -> None:
    """Issue 5, point 10: it takes the place of words that the platform counts."""
    assert len(make_token(KEY, 1, 1, 1)) == 15
    assert len(make_token(KEY, 120, 1_000_000, 3)) == 18
    assert len(make_token(KEY, 120, 1_000_000, own_number(1_000_000, 3))) == 18


def test_a_token_says_nothing_to_whoever_reads_it() -> None:
    """Issue 5, point 10: neighbours in the list have nothing in common, so nobody sees who comes after whom."""
    sealed = [base64.urlsafe_b64decode(make_token(KEY, 12, contact, 1) + "==") for contact in range(1000, 1200)]
    assert len({one[:4] for one in sealed}) == len(sealed)
    same = sum(one[8 + at] == other[8 + at] for one, other in pairwise(sealed) for at in range(4))
    assert same < len(sealed) * 4 / 20  # by chance, one in 256 is


def test_nobody_gets_the_own_link_of_another() -> None:
    with pytest.raises(ValueError, match="another person"):
        make_token(KEY, 1, 2, own_number(3, 0))
    for numbers in ((0, 1, 1), (1, 0, 1), (1, 1, 2**63)):
        with pytest.raises(ValueError, match="from 1 on"):
            make_token(KEY, *numbers)


def test_own_numbers_are_told_apart_by_their_person() -> None:
    first, last = own_numbers(7)
    assert (owner_of(first), owner_of(last), owner_of(first - 1), owner_of(last + 1)) == (7, 7, 8, 6)
    assert owner_of(0) is owner_of(7) is None


# --- giving numbers ---


def read(words: str) -> tuple[int, int, int]:
    assert words.startswith(f"{BASE}/r/")
    found = read_token(KEY, words.removeprefix(f"{BASE}/r/"))
    assert found is not None
    return found


def test_each_person_has_a_token_of_their_own_for_an_address_that_is_stored_once_or_twice() -> None:
    """Issue 5, point 10: no row a recipient."""
    shortener = Shortener(BASE, KEY, 12)
    words = [shortener.shorten_for(contact)(SHOP) for contact in range(1, 501)]
    assert len(set(words)) == 500
    stored = dict(shortener.take_new())
    assert list(stored.values()) == [SHOP, SHOP]
    for contact, one in enumerate(words, start=1):
        plan, who, number = read(one)
        assert (plan, who, stored[number]) == (12, contact, SHOP)
    assert shortener.take_new() == []


def test_an_address_of_one_person_alone_has_a_number_that_is_theirs() -> None:
    """Issue 5, point 10: it can be forgotten with them."""
    shortener = Shortener(BASE, KEY, 12)
    for contact in (4, 5):
        shorten = shortener.shorten_for(contact)
        own = [shorten(f"{SHOP}&who={contact}"), shorten(f"{SHOP}&again={contact}"), shorten(f"{SHOP}&who={contact}")]
        assert own[0] == own[2] != own[1]
    numbers = [number for number, _url in shortener.take_new()]
    assert [owner_of(number) for number in numbers] == [4, 4, 5, 5]
    assert len(set(numbers)) == 4


def test_a_million_addresses_need_no_more_memory_than_some(monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 5, point 3: what is forgotten gets another number, and both lead there."""
    monkeypatch.setattr(link, "URLS_REMEMBERED", 10)
    shortener = Shortener(BASE, KEY, 1)
    stored: dict[int, str] = {}
    said: dict[str, str] = {}
    for contact in range(1, 200):
        shorten = shortener.shorten_for(contact)
        for url in (SHOP, f"{SHOP}&who={contact}", f"{SHOP}&day={contact % 30}"):
            said[shorten(url)] = url
        assert len(shortener._numbers) <= 10
        new = shortener.take_new()
        assert not stored.keys() & dict(new).keys()
        stored.update(new)
    assert len(said) == 199 * 3
    assert all(stored[read(words)[2]] == url for words, url in said.items())


def test_links_are_stored_as_they_come_and_the_last_ones_at_the_end() -> None:
    """Issue 5, point 3: an address for each of a million people is not held in memory until all are there."""
    saved: list[list[tuple[int, str]]] = []
    shortener = Shortener(BASE, KEY, 1, save=saved.append)
    words = [shortener.shorten_for(contact)(f"{SHOP}&who={contact}") for contact in range(1, 2_501)]
    assert [len(some) for some in saved] == [1_000, 1_000]
    shortener.finish()
    shortener.finish()
    assert [len(some) for some in saved] == [1_000, 1_000, 500]
    stored = {number: url for some in saved for number, url in some}
    assert [stored[read(one)[2]] for one in words] == [f"{SHOP}&who={contact}" for contact in range(1, 2_501)]


def test_what_is_no_page_of_the_web_or_short_already_stays_as_it_is() -> None:
    shorten = Shortener(f"{BASE}/", KEY, 1).shorten_for(1)
    short = shorten(SHOP)
    for words in (short, "mailto:ann@example.com", "javascript:alert(1)", "https://", "http://a:b/", "https://a b"):
        assert shorten(words) == words


def test_a_person_with_more_links_than_a_message_holds_gets_them_all() -> None:
    shortener = Shortener(BASE, KEY, 1)
    shorten = shortener.shorten_for(1)
    words = {shorten(f"{SHOP}&n={n}") for n in range(MOST_PERSONAL + 5)}
    assert len(words) == len(shortener.take_new()) == MOST_PERSONAL + 5


# --- where they lead, and where they live ---


@pytest.mark.parametrize("url", [SHOP, "http://127.0.0.1:8080/x", "https://例え.jp/ü?q=é#top", "HTTPS://EXAMPLE.COM"])
def test_a_link_leads_to_pages_of_the_web(url: str) -> None:
    assert may_lead_to(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://a.b/",
        "//evil.example",
        "/path",
        "https:///x",
        "https://a.b/\r\nSet-Cookie: a",
        "https://[::1",
        "data:,",
    ],
)
def test_and_to_nothing_else(url: str) -> None:
    """Issue 5, point 10: no open redirect, no header of anybody else's."""
    assert not may_lead_to(url)


@pytest.mark.parametrize(
    ("base", "kept"),
    [
        ("https://go.example.com/", BASE),
        (" https://example.com/go// ", "https://example.com/go"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://localhost", "http://localhost"),
        ("http://[::1]:80/", "http://[::1]:80"),
    ],
)
def test_a_base_is_https_or_this_machine(base: str, kept: str) -> None:
    assert check_base(base) == kept


@pytest.mark.parametrize(
    "base",
    ["", "go.example.com", "http://go.example.com", "http://127.evil.example", "https://go.example.com/?a=b",
     "https://go.example.com/#a", "https://me:word@go.example.com", "ftp://a.b"],
)  # fmt: skip
def test_a_base_that_would_not_work_is_refused_with_what_would(base: str) -> None:
    with pytest.raises(UsageError) as caught:
        Shortener(base, KEY, 1)
    assert "https://go.example.com" in (caught.value.hint or "")
