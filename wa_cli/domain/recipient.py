"""Who a message is for: people by number, groups by id, every spelling of one of them made one address."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING

from wa_cli.errors import UsageError

if TYPE_CHECKING:
    from phonenumbers import PhoneMetadata, PhoneNumber, PhoneNumberDesc


class RecipientKind(StrEnum):
    PERSON = "person"
    GROUP = "group"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """address: E.164 with its plus (`+6581234567`) for a person, `1203...@g.us` for a group."""

    kind: RecipientKind
    address: str


class InvalidRecipient(UsageError):
    default_code = "invalid_recipient"


def parse_recipient(text: str, *, default_region: str | None) -> Recipient:
    """The one address behind a spelling of a number, a link, a chat id or a group id.

    default_region: the country (`SG`, any case) in which a number without a plus is read, or None: then such
    a number is refused.  Numbers must be valid for their country, not just of a possible length; landlines
    and toll-free numbers pass, since businesses register them.  Damage that loses nothing is repaired (a
    leading apostrophe, a trailing `.0`, other scripts' digits, invisible characters); what loses digits is
    refused.  Brazil's mobiles get their ninth digit, Mexico's lose their `1`, Argentina's get their `9`: see
    `_canonical_address`.

    Raises: InvalidRecipient with the reason and what to type; UsageError on an unknown default_region.
    """
    if _is_plainly_valid(text):
        return Recipient(kind=RecipientKind.PERSON, address=text)
    region = parse_region(default_region)
    if region is not None and (address := _plain_national_address(text, region)):
        return Recipient(kind=RecipientKind.PERSON, address=address)
    cleaned = _clean(text)
    if "@" in cleaned:
        return _parse_chat_id(cleaned)
    number = _number_in_link(cleaned)
    _refuse_what_is_no_single_number(number)
    return Recipient(kind=RecipientKind.PERSON, address=_parse_number(number, region))


def parse_region(text: str | None) -> str | None:
    """A country's two letters in upper case, None for None or blank.  Raises: UsageError on an unknown."""
    if text is None or not text.strip():
        return None
    region = text.strip().upper()
    if region not in _supported_regions():
        raise UsageError(
            f"'{show_text(text)}' is not a country code",
            hint="WA_DEFAULT_REGION takes two letters, such as SG, DE or BR",
            code="invalid_region",
        )
    return region


def mask_address(address: str) -> str:
    """An address for logs: `+65…4567`, `1203…@g.us`; at most four digits, and half of all."""
    person = re.fullmatch(r"\+(\d+)", address, re.ASCII)
    if person:
        digits = person[1]
        code = digits[: _calling_code_length(digits)]
        shown = min(4, (len(digits) - len(code)) // 2)
        return f"+{code}…{digits[len(digits) - shown :]}"
    group = re.fullmatch(r"(\d+)(-\d+)?@g\.us", address, re.ASCII)
    if group:
        return f"{group[1][: min(4, len(group[1]) // 2)]}…@g.us"
    return "…"


def show_text(text: str, *, limit: int = 60) -> str:
    """Foreign text for one line of a message: control and invisible characters as escapes, cut at `limit`."""
    if len(text) <= limit and text.isprintable():
        return text
    shown = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text[: limit + 1]
    )
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def count_cached() -> int:
    """How many rules of countries are held in memory; their number is bounded (row S11)."""
    return sum(cache.cache_info().currsize for cache in (_code_rule, _region_rule, _supported_regions))


# Reading the text

_EXAMPLE = "write it with its country code, such as +6581234567"
_TOO_SHORT = "is too short: short codes and local numbers have no WhatsApp"
_DIGIT_WORDS = re.compile(r"\d+", re.ASCII)


def _clean(text: str) -> str:
    """The text without what spreadsheets, web pages and other scripts put around a number."""
    if len(text) > 500:
        raise InvalidRecipient(f"'{show_text(text)}' is too long for a number or a group id", hint=_EXAMPLE)
    cleaned = text
    if not text.isascii():
        cleaned = "".join(_plain_character(character) for character in text)
    cleaned = cleaned.strip()
    formula = re.fullmatch(r'="([^"]*)"', cleaned)  # how spreadsheets are told to keep a cell as text
    if formula:
        cleaned = formula[1].strip()
    cleaned = cleaned.lstrip("'`").rstrip("'").strip()
    if not cleaned:
        raise InvalidRecipient("the recipient is empty", hint=_EXAMPLE)
    if re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", cleaned):
        raise InvalidRecipient(f"'{show_text(text)}' holds a control character", hint=_EXAMPLE)
    return cleaned


def _plain_character(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cf":  # soft hyphen, zero-width and bidi marks
        return ""
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if category in {"Zs", "Zl", "Zp"}:
        return " "
    if category == "Pd" or character == "−":
        return "-"
    if character in "‘’ʼ":
        return "'"
    folded = unicodedata.normalize("NFKC", character)  # full-width +, ( ) . @ and letters
    return folded if folded.isascii() else character


def _parse_chat_id(text: str) -> Recipient:
    local, _, server = text.partition("@")
    local = re.sub(r"^whatsapp:", "", local.strip(), flags=re.IGNORECASE)
    server = server.strip().lower()
    if server == "g.us":
        if re.fullmatch(r"\d{10,25}|\d{5,15}-\d{8,12}", local, re.ASCII):
            return Recipient(kind=RecipientKind.GROUP, address=f"{local}@g.us")
        raise InvalidRecipient(
            f"'{show_text(text)}' is not a whole group id", hint="group ids look like 120363025246125486@g.us"
        )
    if server in {"c.us", "s.whatsapp.net"}:
        person = re.fullmatch(r"\+?(\d+)(?:[.:]\d+)*", local, re.ASCII)  # after the number: the device
        if person:
            return Recipient(kind=RecipientKind.PERSON, address=_parse_international(f"+{person[1]}", text))
        raise InvalidRecipient(f"'{show_text(text)}' holds no number before the @", hint=_EXAMPLE)
    refused = {
        "lid": "a hidden id (LID), which only the account that saw it can write to",
        "newsletter": "a channel, which takes no messages from others",
        "broadcast": "the status feed" if local.lower() == "status" else "a broadcast list of one phone",
    }.get(server)
    if refused:
        raise InvalidRecipient(
            f"'{show_text(text)}' is {refused}", hint="use the person's number or a group id ending in @g.us"
        )
    raise InvalidRecipient(
        f"'{show_text(text)}' is neither a number nor a WhatsApp id",
        hint="numbers look like +6581234567, group ids like 120363025246125486@g.us",
    )


def _number_in_link(text: str) -> str:
    """The number inside `tel:`, `whatsapp:` and wa.me forms; the text itself when it is none of them."""
    if re.search(r"chat\.whatsapp\.com/|wa\.me/(message|qr|channel)/", text, re.IGNORECASE):
        raise InvalidRecipient(
            f"'{show_text(text)}' is an invitation, not a recipient",
            hint="give the number, or the group id ending in @g.us",
        )
    link = re.match(
        r"(?:https?://)?(?:www\.)?(?:wa\.me/|api\.whatsapp\.com/send/?\?(?:[^#]*&)?phone=|web\.whatsapp\.com/send/?\?"
        r"(?:[^#]*&)?phone=)(?:\+|%2B)?(\d+)(?:[/?&#].*)?$",
        text,
        re.IGNORECASE | re.ASCII,
    )
    if link:
        return f"+{link[1]}"
    return re.sub(r"^(?:whatsapp|tel|sms):(?://)?\s*", "", text, flags=re.IGNORECASE)


def _refuse_what_is_no_single_number(text: str) -> None:
    shown = show_text(text)
    if re.fullmatch(r"[+-]?\d+(?:[.,]\d+)?\s?e\s?\+?\d+", text, re.IGNORECASE | re.ASCII):
        raise InvalidRecipient(
            f"'{shown}' was shortened by a spreadsheet and its last digits are lost",
            hint="format the column as text in the spreadsheet, enter the numbers again and export once more",
        )
    if re.match(r"[\s(]*\+?[\s(]*\d.*(?:ext|extn|extension|x|доб|#)[\s.:=]*\d{1,9}\s*$", text, re.IGNORECASE):
        raise InvalidRecipient(
            f"'{shown}' has an extension, and WhatsApp knows none",
            hint="give the number without it if people write to the whole line",
        )
    if re.search(r"[*#]", text):
        raise InvalidRecipient(f"'{shown}' is a service code, not a number", hint=_EXAMPLE)
    parts = re.split(r"[/,;|&\n\r\t]|\b(?:and|or|und|oder|e|y|ou|o)\b", text, flags=re.IGNORECASE)
    # 0176/1234567 is one number: only parts long enough to be one count.
    numbers = [part for part in parts if sum(map(str.isdigit, part)) >= 7]
    if len(numbers) > 1 or len(re.findall(r"\+[\s(]*\d", text)) > 1:
        raise InvalidRecipient(f"'{shown}' holds more than one number", hint="put each number on a line of its own")
    if letters := re.search(r"[^\W\d_]+", text):
        raise InvalidRecipient(f"'{shown}' holds letters ('{show_text(letters[0])}')", hint=_EXAMPLE)
    if not re.search(r"\d", text, re.ASCII):
        raise InvalidRecipient(f"'{shown}' holds no digits", hint=_EXAMPLE)
    if strange := re.search(r"[^0-9+\s().\-/\[\],]", text):
        raise InvalidRecipient(f"'{shown}' holds '{show_text(strange[0])}', as no number does", hint=_EXAMPLE)
    if re.search(r"(?:\d.*|\+\s*)\+", text):
        raise InvalidRecipient(f"'{shown}' has a plus in a place where none belongs", hint=_EXAMPLE)
    if re.match(r"-", text):
        raise InvalidRecipient(f"'{shown}' is a negative number", hint=_EXAMPLE)


# Reading the number


def _parse_number(text: str, region: str | None) -> str:
    # 6581234567.0 is a whole number kept as a fraction by a spreadsheet; 415.555.2671 is a way to write one.
    whole = re.fullmatch(r"(\+?\d{6,})[.,]0{1,2}", text, re.ASCII)
    if whole:
        text = whole[1]
    if "," in text:
        raise InvalidRecipient(f"'{show_text(text)}' holds a comma", hint=f"{_EXAMPLE}, without separators")
    digits = "".join(_DIGIT_WORDS.findall(text))
    if "+" in text:
        # The (0) between country code and number is dropped in most countries and kept in Italy.
        without_zero = f"+{''.join(_DIGIT_WORDS.findall(text.replace('(0)', '', 1)))}"
        return _find_international(f"+{digits}") or _parse_international(without_zero, text)
    if region is not None:
        return _parse_national(digits, text, region)
    if len(digits) <= 6:
        raise InvalidRecipient(f"'{show_text(text)}' {_TOO_SHORT}", hint=_EXAMPLE)
    if digits.startswith("00"):
        return _parse_international(f"+{digits[2:]}", text)
    international = None if digits.startswith("0") else _find_international(f"+{digits}")
    if international:
        raise InvalidRecipient(
            f"'{show_text(text)}' is {international} without its plus, or some country's national number",
            hint=f"write {international}, or set WA_DEFAULT_REGION (such as SG) to read it as national",
        )
    if digits.startswith("011") and (abroad := _find_international(f"+{digits[3:]}")):
        raise InvalidRecipient(
            f"'{show_text(text)}' is {abroad} as dialled from North America, or a national number",
            hint=f"write {abroad}, or set WA_DEFAULT_REGION=US (or yours)",
        )
    raise InvalidRecipient(
        f"'{show_text(text)}' has no country code, and no default region is set",
        hint=f"{_EXAMPLE}, or set WA_DEFAULT_REGION (such as SG)",
    )


def _parse_national(digits: str, text: str, region: str) -> str:
    import phonenumbers

    national = _find_address(digits, region)
    code = str(phonenumbers.country_code_for_region(region))
    if national is None:
        if digits.startswith("00") and (abroad := _find_international(f"+{digits[2:]}")):
            return abroad
        other = None if digits.startswith("0") else _find_international(f"+{digits}")
        raise InvalidRecipient(
            f"'{show_text(text)}' {_reason(digits, region)}",
            hint=f"if {other} is meant, write it with its plus" if other else _EXAMPLE,
        )
    other = _find_international(f"+{digits}") if digits.startswith(code) else None
    if other is None or other == national:
        return national
    if _is_mobile(other) and not _is_mobile(national):
        return other  # a landline so long and without its trunk zero is written by nobody
    raise InvalidRecipient(
        f"'{show_text(text)}' is {national} when read as a national number and {other} otherwise",
        hint=f"write {national} or {other}",
    )


def _is_mobile(address: str) -> bool:
    import phonenumbers

    return phonenumbers.number_type(phonenumbers.parse(address)) == phonenumbers.PhoneNumberType.MOBILE


def _parse_international(number: str, text: str) -> str:
    address = _find_international(number)
    if address is None:
        if len(number) <= 7:
            reason = _TOO_SHORT
        elif len(number) > 16:
            reason = f"has {len(number) - 1} digits and no number has more than 15; it may be two numbers"
        else:
            reason = _reason(number, None)
        raise InvalidRecipient(f"'{show_text(text)}' {reason}", hint="check the country code and count the digits")
    return address


def _find_international(number: str) -> str | None:
    return _find_address(number, None) if len(number) <= 20 else None


def _find_address(number: str, region: str | None) -> str | None:
    """The canonical address of a number, None when it is not valid.

    Raises: InvalidRecipient on lines that nobody reads: premium, pager, voice mailbox.
    """
    import phonenumbers

    number = _repaired_mobile(number, region)
    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(parsed):
        return None
    kind = phonenumbers.number_type(parsed)
    refused = {
        phonenumbers.PhoneNumberType.PREMIUM_RATE: "a premium-rate line",
        phonenumbers.PhoneNumberType.PAGER: "a pager",
        phonenumbers.PhoneNumberType.VOICEMAIL: "a voice mailbox",
    }.get(kind)
    address = _canonical_address(parsed)
    if refused:
        raise InvalidRecipient(f"{address} is {refused}, which has no WhatsApp", hint=_EXAMPLE)
    return address


# Brazil and Mexico changed their plans; the old forms are valid no more, but WhatsApp ids and address books
# still hold them.
_BRAZIL_OLD = re.compile(r"\+?55([1-9]{2})([6-9]\d{7})", re.ASCII)
_BRAZIL_OLD_NATIONAL = re.compile(r"0?([1-9]{2})([6-9]\d{7})", re.ASCII)
_MEXICO_OLD = re.compile(r"\+?521(\d{10})", re.ASCII)
_MEXICO_OLD_NATIONAL = re.compile(r"(?:1|044|045)(\d{10})", re.ASCII)


def _repaired_mobile(number: str, region: str | None) -> str:
    patterns = [(_BRAZIL_OLD, r"+55\g<1>9\g<2>"), (_MEXICO_OLD, r"+52\g<1>")]
    if not number.startswith("+"):
        patterns = {
            "BR": [patterns[0], (_BRAZIL_OLD_NATIONAL, r"+55\g<1>9\g<2>")],
            "MX": [patterns[1], (_MEXICO_OLD_NATIONAL, r"+52\g<1>")],
        }.get(region or "", [])
    for pattern, replacement in patterns:
        if match := pattern.fullmatch(number):
            return match.expand(replacement)
    return number


def _canonical_address(parsed: PhoneNumber) -> str:
    """E.164, in the one form that all spellings of a person share.

    Brazil: with the ninth digit, the only form valid since 2016; WhatsApp finds older accounts by it.
    Mexico: without the `1` after 52, retired in 2019.
    Argentina: with the `9` after 54.  The nine marks a mobile and is often left away; no number is given out
    both with and without it, and WhatsApp's own ids of mobiles carry it.
    """
    import phonenumbers

    if parsed.country_code == 54:
        national = str(parsed.national_number)
        if len(national) == 10:
            mobile = phonenumbers.PhoneNumber(country_code=54, national_number=int(f"9{national}"))
            if phonenumbers.is_valid_number(mobile):
                return f"+549{national}"
    return str(phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164))


def _reason(number: str, region: str | None) -> str:
    """Why a number is not valid, as the end of a sentence."""
    import phonenumbers

    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException as problem:
        if problem.error_type == phonenumbers.NumberParseException.INVALID_COUNTRY_CODE:
            return "begins with no country's calling code"
        if problem.error_type == phonenumbers.NumberParseException.TOO_LONG:
            return "is too long for a number"
        return "is too short for a number"
    country = phonenumbers.region_code_for_country_code(parsed.country_code or 0)
    where = f"+{parsed.country_code}" if country in {"001", "ZZ"} else f"{country} (+{parsed.country_code})"
    verdict = phonenumbers.is_possible_number_with_reason(parsed)
    result = phonenumbers.ValidationResult
    if verdict == result.TOO_LONG:
        return f"has too many digits for {where}"
    if verdict in {result.TOO_SHORT, result.IS_POSSIBLE_LOCAL_ONLY}:
        return f"has too few digits for {where}"
    if verdict == result.INVALID_LENGTH:
        return f"has a number of digits that {where} does not use"
    return f"is not a number that exists in {where}"


# The short way for numbers that are already clean, an order of magnitude faster: the library's own patterns,
# asked directly.  It only ever says yes; whatever it does not know takes the long way.

_CLEAN = re.compile(r"\+[1-9]\d{6,14}", re.ASCII)
_CLEAN_NATIONAL = re.compile(r"[1-9]\d{5,13}", re.ASCII)
_TWO_DIGIT_CODE = re.compile(r"2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]")


def _calling_code_length(digits: str) -> int:
    if digits.startswith(("1", "7")):
        return 1
    return 2 if _TWO_DIGIT_CODE.match(digits) else 3


def _is_plainly_valid(text: str) -> bool:
    if _CLEAN.fullmatch(text) is None:
        return False
    length = _calling_code_length(text[1:4])
    rule = _code_rule(text[1 : 1 + length])
    return rule is not None and rule.fullmatch(text, 1 + length) is not None


def _plain_national_address(text: str, region: str) -> str | None:
    if _CLEAN_NATIONAL.fullmatch(text) is None:
        return None
    code, rule = _region_rule(region)
    if rule is None or text.startswith(code) or rule.fullmatch(text) is None:
        return None
    return f"+{code}{text}"


@lru_cache(maxsize=256)
def _code_rule(code: str) -> re.Pattern[str] | None:
    import phonenumbers

    # Of the regions behind one code the library asks this one first.
    region = phonenumbers.region_code_for_country_code(int(code))
    if code == "54" or region in {"001", "ZZ"}:
        return None
    metadata = phonenumbers.PhoneMetadata.metadata_for_region(region)
    return None if metadata is None else _compile_rule(metadata, dialled=False)


@lru_cache(maxsize=256)
def _region_rule(region: str) -> tuple[str, re.Pattern[str] | None]:
    import phonenumbers

    code = str(phonenumbers.country_code_for_region(region))
    metadata = phonenumbers.PhoneMetadata.metadata_for_region(region)
    if code == "54" or metadata is None or phonenumbers.region_code_for_country_code(int(code)) != region:
        return code, None
    return code, _compile_rule(metadata, dialled=True)


def _compile_rule(metadata: PhoneMetadata, *, dialled: bool) -> re.Pattern[str]:
    """A pattern for the national digits that certainly are an ordinary number of this country, as they stand.

    dialled: the digits come without their country code, so no international dialling prefix may match either.
    """
    never = [metadata.national_prefix_for_parsing, metadata.international_prefix if dialled else None]
    special = (metadata.premium_rate, metadata.pager, metadata.voicemail)
    ahead = [f"(?!(?:{prefix}))" for prefix in never if prefix]
    ahead += [f"(?!{_exactly(desc, metadata)}$)" for desc in special if desc and desc.national_number_pattern]
    if metadata.id == "BR":
        ahead.append(r"(?!\d\d[6-9]\d{7}$)")  # without the ninth digit; some of them still pass as valid
    ahead.append(f"(?={_exactly(metadata.general_desc, metadata)}$)")
    if metadata.leading_digits:
        ahead.append(f"(?=(?:{metadata.leading_digits}))")
    ordinary = [
        _exactly(desc, metadata)
        for desc in (metadata.fixed_line, metadata.mobile)
        if desc and desc.national_number_pattern
    ]
    return re.compile("".join(ahead) + f"(?:{'|'.join(ordinary) or '(?!)'})", re.ASCII)


def _exactly(desc: PhoneNumberDesc | None, metadata: PhoneMetadata) -> str:
    general = metadata.general_desc
    if desc is None or general is None or not desc.national_number_pattern:
        return "(?!)"
    lengths = desc.possible_length or general.possible_length
    wanted = "|".join(rf"\d{{{length}}}" for length in lengths if length > 0)
    return f"(?:(?=(?:{wanted})$)(?:{desc.national_number_pattern}))" if wanted else "(?!)"


@lru_cache(maxsize=1)
def _supported_regions() -> frozenset[str]:
    import phonenumbers

    return frozenset(phonenumbers.SUPPORTED_REGIONS)
