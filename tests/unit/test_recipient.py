"""Every spelling of a recipient becomes one address, or a reason."""

from __future__ import annotations

import random

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wa_cli.domain.recipient import (
    InvalidRecipient,
    Recipient,
    RecipientKind,
    mask_address,
    parse_recipient,
    parse_region,
    show_text,
)
from wa_cli.errors import UsageError


def address_of(text: str, region: str | None = None) -> str:
    recipient = parse_recipient(text, default_region=region)
    assert recipient.kind is RecipientKind.PERSON
    return recipient.address


def refusal(text: str, region: str | None = None) -> InvalidRecipient:
    with pytest.raises(InvalidRecipient) as caught:
        parse_recipient(text, default_region=region)
    return caught.value


@pytest.mark.parametrize(
    "text",
    [
        "+6581234567",
        " +65 8123 4567 ",
        "+65-8123-4567",
        "(+65) 8123.4567",
        "+65 (0)8123 4567",
        "006581234567",
        "'+6581234567",
        "’+6581234567",
        '="+6581234567"',
        "+6581234567.0",
        "+6581234567,00",
        "+६५८१२३४५६७",
        "＋６５８１２３４５６７",
        "+٦٥٨١٢٣٤٥٦٧",
        "+65\u00a08123\u00ad4567\u200b",
        "\u202a+65\u20118123\u20124567\u202c",
        "\ufeff+6581234567",
        "whatsapp:+6581234567",
        "tel:+65-8123-4567",
        "wa.me/6581234567",
        "https://wa.me/6581234567?text=hi+there",
        "https://api.whatsapp.com/send?phone=6581234567&text=x",
        "https://api.whatsapp.com/send/?text=x&phone=%2B6581234567",
        "6581234567@c.us",
        "6581234567@s.whatsapp.net",
        "6581234567:12@S.WhatsApp.net",
        "whatsapp:6581234567@c.us",
    ],
)
def test_every_spelling_of_a_person_is_one_address(text: str) -> None:
    """Row S6."""
    assert parse_recipient(text, default_region=None) == Recipient(kind=RecipientKind.PERSON, address="+6581234567")
    assert parse_recipient(text, default_region="SG").address == "+6581234567"


@pytest.mark.parametrize(
    ("text", "region", "expected"),
    [
        ("81234567", "SG", "+6581234567"),
        ("81234567.0", "sg", "+6581234567"),
        ("6581234567", "SG", "+6581234567"),
        ("0176 12345678", "DE", "+4917612345678"),
        ("0176/12345678", "DE", "+4917612345678"),
        ("4917612345678", "DE", "+4917612345678"),
        ("0044 20 7946 0018", "DE", "+442079460018"),
        ("011 44 20 7946 0018", "US", "+442079460018"),
        ("0049 176 12345678", "US", "+4917612345678"),
        ("(415) 555-2671", "US", "+14155552671"),
        ("1 415 555 2671", "US", "+14155552671"),
        ("89161234567", "RU", "+79161234567"),
        ("8 701 123 45 67", "KZ", "+77011234567"),
        ("09876543210", "IN", "+919876543210"),
        ("919876543210", "IN", "+919876543210"),
        ("9198765432", "IN", "+919198765432"),
        ("20 12 34", "NC", "+687201234"),
    ],
)
def test_a_national_number_is_read_in_the_default_region(text: str, region: str, expected: str) -> None:
    assert address_of(text, region) == expected


@pytest.mark.parametrize(
    "text",
    ["+77011234567", "+79161234567", "+18005551234", "+6561234567", "+390669812345", "+80012345678", "+2250712345678"],
)
def test_landlines_toll_free_numbers_and_shared_codes_are_people(text: str) -> None:
    assert address_of(text) == text


def test_the_zero_after_the_code_of_italy_is_kept() -> None:
    assert address_of("+39 (0)6 698 12345") == "+390669812345"
    assert address_of("+44 (0)20 7946 0018") == "+442079460018"


@pytest.mark.parametrize(
    ("spellings", "address"),
    [
        (
            [
                ("+5511987654321", None),
                ("+551187654321", None),
                ("551187654321@c.us", None),
                ("11 8765-4321", "BR"),
                ("011 98765-4321", "BR"),
                ("551187654321", "BR"),
            ],
            "+5511987654321",
        ),
        ([("+553876102305", None), ("38 7610-2305", "BR"), ("+5538976102305", None)], "+5538976102305"),
        (
            [
                ("+525512345678", None),
                ("+5215512345678", None),
                ("5215512345678@s.whatsapp.net", None),
                ("1 55 1234 5678", "MX"),
                ("044 55 1234 5678", "MX"),
                ("55 1234 5678", "MX"),
            ],
            "+525512345678",
        ),
        (
            [
                ("+5491123456789", None),
                ("+541123456789", None),
                ("+54 11 15 2345 6789", None),
                ("011 15-2345-6789", "AR"),
                ("11 2345-6789", "AR"),
                ("5491123456789@c.us", None),
            ],
            "+5491123456789",
        ),
    ],
    ids=["Brazil", "Brazil, old sevens", "Mexico", "Argentina"],
)
def test_two_national_spellings_of_one_mobile_are_one_address(
    spellings: list[tuple[str, str | None]], address: str
) -> None:
    """Fault 88."""
    assert {address_of(text, region) for text, region in spellings} == {address}


def test_a_brazilian_landline_gets_no_ninth_digit() -> None:
    assert address_of("+551133334444") == "+551133334444"


@pytest.mark.parametrize("text", ["120363025246125486@g.us", " 120363025246125486@G.US", "6581234567-1458233943@g.us"])
def test_a_group_id_is_a_group(text: str) -> None:
    assert parse_recipient(text, default_region=None) == Recipient(
        kind=RecipientKind.GROUP, address=text.strip().lower()
    )


@pytest.mark.parametrize(
    ("text", "region", "reason"),
    [
        ("", None, "empty"),
        ("  \u200b ", None, "empty"),
        ("'", None, "empty"),
        ("+", None, "no digits"),
        ("-", "SG", "no digits"),
        ("hello", None, "letters ('hello')"),
        ("1-800-FLOWERS", "US", "letters ('FLOWERS')"),
        ("+65 8l23 4567", None, "letters ('l')"),
        ("+1 (415) 555-2671 ext. 9", None, "extension"),
        ("+1 415 555 2671 x9", None, "extension"),
        ("+1 415 555 2671;ext=9", None, "extension"),
        ("+1 415 555 2671 #9", None, "extension"),
        ("9.19877E+11", None, "last digits are lost"),
        ("9,19877e11", "IN", "last digits are lost"),
        ("+6581234567 / +6582345678", None, "more than one number"),
        ("81234567, 82345678", "SG", "more than one number"),
        ("81234567\n82345678", "SG", "more than one number"),
        ("+6581234567+6582345678", None, "more than one number"),
        ("81234567 or 82345678", "SG", "more than one number"),
        ("81234567 82345678", "SG", "too many digits for SG (+65)"),
        ("+65812345678901234", None, "it may be two numbers"),
        ("6,581,234,567", None, "comma"),
        ("*100#", None, "service code"),
        ("12345", None, "too short"),
        ("+12345", None, "too short"),
        ("999", "SG", "too few digits"),
        ("+65812345", None, "too few digits for SG (+65)"),
        ("+141555526711", None, "too many digits for US (+1)"),
        ("+10014155552671", None, "too many digits for US (+1)"),
        ("+6521234567", None, "not a number that exists in SG (+65)"),
        ("+999123456789", None, "no country's calling code"),
        ("+0123456789", None, "no country's calling code"),
        ("+19005551234", None, "premium-rate"),
        ("++6581234567", None, "plus in a place"),
        ("65+81234567", None, "plus in a place"),
        ("-81234567", "SG", "negative"),
        ("+6581234567\x00", None, "control character"),
        ("+65_8123_4567", None, "holds '_'"),
        ("1" * 501, None, "too long"),
        ("123@lid", None, "hidden id"),
        ("123@newsletter", None, "channel"),
        ("status@broadcast", None, "status feed"),
        ("123@broadcast", None, "broadcast list"),
        ("bob@example.com", None, "neither a number nor a WhatsApp id"),
        ("bob@c.us", None, "no number before the @"),
        ("999123456789@c.us", None, "no country's calling code"),
        ("12@g.us", None, "not a whole group id"),
        ("x-y@g.us", None, "not a whole group id"),
        ("https://chat.whatsapp.com/AbCdEf", None, "invitation"),
        ("https://wa.me/message/ABCDEF", None, "invitation"),
        ("919876543210", "SG", "too many digits for SG (+65)"),
    ],
)
def test_what_is_no_recipient_is_refused_with_its_reason(text: str, region: str | None, reason: str) -> None:
    """Promise P12."""
    error = refusal(text, region)
    assert reason in error.message
    assert error.hint
    assert error.exit_code == 2
    assert error.code == "invalid_recipient"
    assert error.message.isprintable()


def test_a_national_number_without_region_names_the_setting_and_an_example() -> None:
    error = refusal("81234567")
    assert "no default region" in error.message
    assert error.hint is not None
    assert "WA_DEFAULT_REGION" in error.hint
    assert "+6581234567" in error.hint


def test_a_national_number_without_region_names_both_readings() -> None:
    error = refusal("6581234567")
    assert "+6581234567 without its plus" in error.message
    assert "national number" in error.message
    error = refusal("011442079460018")
    assert "+442079460018 as dialled from North America" in error.message
    assert "national number" in error.message


def test_a_number_that_begins_like_its_own_country_code_names_both_readings() -> None:
    error = refusal("4921234567", "DE")
    assert "+494921234567" in error.message
    assert "+4921234567" in error.message


def test_a_foreign_number_without_its_plus_is_refused_with_the_plus_as_hint() -> None:
    error = refusal("919876543210", "SG")
    assert error.hint == "if +919876543210 is meant, write it with its plus"


def test_an_unknown_default_region_is_an_error_of_the_setting() -> None:
    with pytest.raises(UsageError, match="'SGP' is not a country code") as caught:
        parse_recipient("81234567", default_region="SGP")
    assert not isinstance(caught.value, InvalidRecipient)
    assert parse_region(" sg ") == "SG"
    assert parse_region("") is None
    assert parse_region(None) is None


@pytest.mark.parametrize(
    ("address", "masked"),
    [
        ("+6581234567", "+65…4567"),
        ("+14155552671", "+1…2671"),
        ("+2250712345678", "+225…5678"),
        ("+6834000", "+683…00"),
        ("120363025246125486@g.us", "1203…@g.us"),
        ("6581234567-1458233943@g.us", "6581…@g.us"),
        ("anything else", "…"),
    ],
)
def test_a_masked_address_shows_four_digits_at_most(address: str, masked: str) -> None:
    """Promise P11."""
    assert mask_address(address) == masked


def test_foreign_text_is_shown_on_one_line_without_escapes() -> None:
    """Faults 82, 83."""
    assert show_text("a\x1b[31m\nb\u202e") == "a\\x1b[31m\\nb\\u202e"
    assert show_text("\ud800") == "\\ud800"
    assert show_text("x" * 100) == "x" * 59 + "…"


def test_the_short_way_agrees_with_the_library_for_every_country() -> None:
    """Each country's example numbers, whole and damaged: an address comes out exactly when the library says valid."""
    draw = random.Random(20260101)
    dead = {
        phonenumbers.PhoneNumberType.PREMIUM_RATE,
        phonenumbers.PhoneNumberType.PAGER,
        phonenumbers.PhoneNumberType.VOICEMAIL,
    }
    tried = agreed = 0
    for region in sorted(phonenumbers.SUPPORTED_REGIONS - {"AR", "BR", "MX"}):
        code = phonenumbers.country_code_for_region(region)
        metadata = phonenumbers.PhoneMetadata.metadata_for_region(region)
        assert metadata is not None
        for desc in (metadata.fixed_line, metadata.mobile, metadata.premium_rate, metadata.pager, metadata.voip):
            if not desc or not desc.example_number:
                continue
            for damage in (0, 0, 1, 2, 3):
                digits = list(desc.example_number)
                for _ in range(damage):
                    digits[draw.randrange(len(digits))] = draw.choice("0123456789")
                text = f"+{code}{''.join(digits)}"
                number = phonenumbers.parse(text)
                valid = phonenumbers.is_valid_number(number) and phonenumbers.number_type(number) not in dead
                tried += 1
                try:
                    found: str | None = parse_recipient(text, default_region=None).address
                except InvalidRecipient:
                    found = None
                wanted = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164) if valid else None
                assert found == wanted, text
                agreed += valid
    assert tried > 3000
    assert agreed > 1500


PIECES = st.sampled_from(
    "+ 65 8123 4567 0 00 011 - ( ) / . .0 e11 x9 @ c.us g.us tel: wa.me/ ' , ; +54 +521 9 15 1234567 ٣".split()  # noqa: SIM905 - as a list it fills forty lines
)
INVISIBLE = st.sampled_from([" ", "\n", "\x00", "\u200b"])


@settings(max_examples=600, deadline=None)
@given(
    st.one_of(st.text(max_size=30), st.lists(PIECES | INVISIBLE, max_size=9).map("".join)),
    st.sampled_from([None, "SG", "US", "DE", "BR", "MX", "AR", "IT"]),
)
def test_any_text_is_an_address_or_an_invalid_recipient(text: str, region: str | None) -> None:
    try:
        recipient = parse_recipient(text, default_region=region)
    except InvalidRecipient:
        return
    assert parse_recipient(recipient.address, default_region=None) == recipient, "an address reads as itself"
    assert parse_recipient(recipient.address, default_region=region) == recipient
