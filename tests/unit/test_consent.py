"""Which messages are a wish to leave or to come back, and which are not.  Issue 4, point 4."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wa_cli.domain import consent
from wa_cli.domain.consent import Source, Wish, fold_words, opted_out_since, parse_words, read_wish

STOPS = {
    "en": ("STOP", "stop.", "  Stop!!! ", "Stop promotions", "unsubscribe", "Opt-out", "CANCEL", "please stop"),
    "es": ("BAJA", "Parar", "no más mensajes", "no mas mensajes", "¡Basta!", "Cancelar suscripción"),
    "pt": ("PARAR", "Sair", "não quero mais receber", "nao quero mais receber", "descadastrar"),
    "fr": ("ARRÊT", "arret", "désabonner", "desabonner", "Stop SMS", "Arrêtez !"),
    "de": ("STOPP", "Abmelden", "Keine Werbung mehr!", "Aufhören", "aufhoren"),
    "it": ("Ferma", "Disiscrivimi", "Niente più messaggi", "BASTA"),
    "nl": ("Afmelden", "uitschrijven", "Geen berichten meer"),
    "id": ("BERHENTI", "unreg", "Berhenti langganan"),
    "ms": ("Hentikan", "nyahlanggan"),
    "hi": ("रोकें", "बंद करो", "स्टॉप", "band karo", "Mat bhejo!", "रोकें।"),
    "ar": ("إيقاف", "ايقاف", "إِيقَاف", "إلغاء الاشتراك", "توقف!", "ستوب"),
    "he": ("הסר", "עצור", "הסירו אותי", "די!"),
    "tr": ("DURDUR", "İPTAL", "IPTAL", "iptal", "Abonelikten çık", "abonelikten cik"),
    "ru": ("СТОП", "стоп.", "Отписаться", "Отмена"),
    "zh": ("停止", "退订", "退訂", "TD", "取消订阅", "停！"),
    "ja": ("停止", "配信停止", "ストップ", "ｽﾄｯﾌﾟ", "解除。"),
    "ko": ("중지", "수신거부", "수신 거부", "그만"),
    "th": ("หยุด", "ยกเลิก", "หยุดส่งข้อความ"),
    "vi": ("DỪNG", "Hủy đăng ký", "ngừng", "Hủy"),
    "sw": ("Sitisha", "niondoe", "Simama"),
}
STARTS = {
    "en": ("START", "unstop", "Subscribe", "Opt in"),
    "es": ("ALTA", "suscribirme"),
    "pt": ("Começar", "comecar"),
    "fr": ("Démarrer", "s’abonner", "S'ABONNER"),
    "de": ("Anmelden", "abonnieren"),
    "it": ("Iscrivimi",),
    "nl": ("Aanmelden",),
    "id": ("MULAI", "berlangganan"),
    "ms": ("Mula",),
    "hi": ("शुरू करें", "shuru karo"),
    "ar": ("ابدأ", "ابدا", "اشتراك"),
    "he": ("התחל",),
    "tr": ("Başla", "BAŞLAT", "basla"),
    "ru": ("СТАРТ", "Подписаться"),
    "zh": ("开始", "订阅"),
    "ja": ("再開", "開始"),
    "ko": ("시작", "수신동의"),
    "th": ("เริ่ม",),
    "vi": ("Đăng ký", "bắt đầu"),
    "sw": ("Anza", "jiunge"),
}


@pytest.mark.parametrize(("language", "words"), [(language, word) for language, all_ in STOPS.items() for word in all_])
def test_a_stop_word_alone_opts_out_in_every_language(language: str, words: str) -> None:
    assert read_wish(words) is Wish.OPT_OUT, language


@pytest.mark.parametrize(
    ("language", "words"), [(language, word) for language, all_ in STARTS.items() for word in all_]
)
def test_a_start_word_alone_opts_in_in_every_language(language: str, words: str) -> None:
    assert read_wish(words) is Wish.OPT_IN, language


@pytest.mark.parametrize(
    "words",
    [
        "Please stop by at six",
        "Don't stop!",
        "Can I cancel my order?",
        "cancel order 123",
        "When does the sale end?",
        "I cannot stop laughing 😂",
        "The bus stop is closed",
        "stopping",
        "nonstop",
        "Stop, I found it myself",
        "start at 9?",
        "No puedo parar de reír",
        "je ne peux pas m'arrêter",
        "Wo kann ich mich abmelden?",
        "Не пишите стоп",
        "मैं बंद करो फिल्म देख रहा हूँ",
        "停止营业了吗",
        "मत रोको",
        "acha",
        "ok",
        "Fine",
        "red",
        "Huy",
        "yes",
        "no",
        "👍",
        "🛑",
        "...",
        "",
        "   ",
        "đúng",
        "dùng",
        "หยด",
        "stop " + "x" * 200,
    ],
)
def test_a_sentence_that_holds_the_word_and_ordinary_words_wish_nothing(words: str) -> None:
    assert read_wish(words) is None


@pytest.mark.parametrize(
    "words",
    [
        "ＳＴＯＰ",
        "s\u200btop",
        "\u202estop\u202c",
        "STOP 🛑",
        "*STOP*",
        "“Stop”",
        "stop\n",
        "STOP STOP STOP",
        "\ufeffSTOP",
    ],
)
def test_case_punctuation_emoji_and_unseen_characters_change_nothing(words: str) -> None:
    assert read_wish(words) is Wish.OPT_OUT


@pytest.mark.parametrize(
    ("label", "payload", "wish"),
    [
        ("Stop promotions", "STOP", Wish.OPT_OUT),
        ("Stop promotions", "x91", Wish.OPT_OUT),
        ("No, thanks", "STOP", Wish.OPT_OUT),
        ("No, thanks", "stop_promotions", Wish.OPT_OUT),
        ("Detener promociones", "Detener promociones", Wish.OPT_OUT),
        ("Parar promoções", "", Wish.OPT_OUT),
        ("Unsubscribe", "OPT_IN", Wish.OPT_OUT),
        ("Resume promotions", "y", Wish.OPT_IN),
        ("Cancel", "cancel", None),
        ("Cancel", "order:17:cancel", None),
        ("End", "end", None),
        ("Start", "START", None),
        ("Yes", "y", None),
        (None, "STOP", Wish.OPT_OUT),
    ],
)
def test_a_button_counts_by_its_label_or_its_payload_where_it_can_mean_nothing_else(
    label: str | None, payload: str, wish: Wish | None
) -> None:
    assert read_wish(label, payload) is wish


def test_own_words_join_the_usual_ones_and_win_over_them() -> None:
    more = parse_words("Genug, ya no , ¡Adiós!،کافی")
    assert read_wish("genug!", stop_words=more) is Wish.OPT_OUT
    assert read_wish("YA NO", stop_words=more) is Wish.OPT_OUT
    assert read_wish("adiós", stop_words=more) is Wish.OPT_OUT
    assert read_wish("کافی", stop_words=more) is Wish.OPT_OUT
    assert read_wish("ya no vivo ahí", stop_words=more) is None
    assert read_wish("baja", start_words=parse_words("baja")) is Wish.OPT_IN
    assert parse_words(" , ") == frozenset()


def test_no_word_both_leaves_and_comes_back() -> None:
    assert not (consent.CLEAR_STOPS | consent.TYPED_STOPS) & (consent.CLEAR_STARTS | consent.TYPED_STARTS)


@given(st.text())
def test_any_text_is_read_without_an_error_and_folding_it_twice_is_folding_it_once(text: str) -> None:
    folded = fold_words(text)
    assert fold_words(folded) == folded
    assert read_wish(text) == read_wish(unicodedata.normalize("NFD", text)) or len(text) != len(
        unicodedata.normalize("NFD", text)
    )


@given(st.sampled_from(sorted(consent.CLEAR_STOPS | consent.TYPED_STOPS)), st.text("!.?… \n«»", max_size=5))
def test_every_stop_word_survives_decoration_and_decomposition(word: str, decoration: str) -> None:
    decorated = decoration + unicodedata.normalize("NFD", word.upper()) + decoration
    assert read_wish(word + decoration) is Wish.OPT_OUT
    if len(decorated) <= consent.LONGEST_WISH and word.upper().casefold() == word:
        assert read_wish(decorated) is Wish.OPT_OUT


def test_the_latest_word_counts_and_of_two_at_once_the_one_that_leaves() -> None:
    out, back = Wish.OPT_OUT, Wish.OPT_IN
    assert opted_out_since([]) is None
    assert opted_out_since([(out, 5)]) == 5
    assert opted_out_since([(out, 5), (back, 6)]) is None
    assert opted_out_since([(back, 6), (out, 5)]) is None
    assert opted_out_since([(back, 5), (out, 5)]) == 5


def test_what_comes_from_whatsapp_is_the_persons_own_word() -> None:
    assert {source for source in Source if source.is_own} == {Source.MESSAGE, Source.PREFERENCE, Source.REFUSAL}
