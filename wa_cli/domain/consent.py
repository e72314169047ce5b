"""What people wish: the words and buttons by which they leave, and come back, and who has the last word.

A wish is read from a whole message, never from a word inside a sentence: somebody who writes "please stop by at six"
stays.  Where the two mistakes differ in price, this module chooses the cheap one: many words lead out, few lead back.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Wish(StrEnum):
    """A change of mind, as the ledger calls it."""

    OPT_OUT = "opt_out"
    OPT_IN = "opt_in"


class Source(StrEnum):
    """Where a change of mind came from.

    message, preference, refusal: from the person, by WhatsApp.  person: typed by somebody here.
    """

    MESSAGE = "message"
    PREFERENCE = "preference"
    REFUSAL = "refusal"
    PERSON = "person"
    IMPORT = "import"
    API = "api"

    @property
    def is_own(self) -> bool:
        """Whether the person said it themselves."""
        return self in (Source.MESSAGE, Source.PREFERENCE, Source.REFUSAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One row of the ledger.  at_ms: when the person said it, not when we heard.  wording: in their words.

    evidence: names the event it was read from, so that the same event counts once; None for what was typed.
    """

    wish: Wish
    source: Source
    at_ms: int
    wording: str | None = None
    actor: str | None = None
    evidence: str | None = None


def opted_out_since(changes: Iterable[tuple[Wish, int]]) -> int | None:
    """Since when a person is opted out, or None.  changes: (wish, its time), in any order.

    The latest word counts; of two at the same time the opt-out does.
    """
    latest = max(((at_ms, wish is Wish.OPT_OUT) for wish, at_ms in changes), default=None)
    return latest[0] if latest is not None and latest[1] else None


def read_wish(
    words: str | None,
    payload: str | None = None,
    *,
    stop_words: frozenset[str] = frozenset(),
    start_words: frozenset[str] = frozenset(),
) -> Wish | None:
    """What a message wishes, or None for all ordinary ones.

    words: the text, or the label of the button that was tapped.  payload: what that button carries; None for text.
    stop_words, start_words: more of them, from `parse_words`; they win over the usual ones.
    A button counts by either of its two texts, but only for what can mean nothing else: "Cancel" and "Start" are on
    the buttons of every second menu, and as typed text they count.
    """
    said = [fold for text in (words, payload) if text and (fold := fold_words(text))]
    is_typed = payload is None
    for folded in said:
        if folded in stop_words:
            return Wish.OPT_OUT
        if folded in start_words:
            return Wish.OPT_IN
    if any(folded in CLEAR_STOPS or (is_typed and folded in TYPED_STOPS) for folded in said):
        return Wish.OPT_OUT
    if any(folded in CLEAR_STARTS or (is_typed and folded in TYPED_STARTS) for folded in said):
        return Wish.OPT_IN
    return None


def parse_words(text: str) -> frozenset[str]:
    """The words of WA_STOP_WORDS or WA_START_WORDS, folded.  Commas of all scripts part them."""
    return frozenset(folded for part in re.split("[,،、，;\n]", text) if (folded := fold_words(part)))


LONGEST_WISH: Final = 80  # characters; what is longer is a sentence


def fold_words(text: str) -> str:
    """What all spellings of a short message share: no case, no punctuation, no emoji, single spaces.

    "" for what is too long to be a wish.  A word said several times is said once: "STOP STOP!!" is "stop".
    """
    if len(text) > LONGEST_WISH:
        return ""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    # Turkish: a capital dotted I leaves its dot behind, and many type the undotted one without it.
    folded = folded.replace("i\u0307", "i").replace("ı", "i")
    folded = "".join(map(_fold_character, unicodedata.normalize("NFC", folded)))
    parts = folded.split()
    if len(set(parts)) == 1:
        return parts[0]
    return " ".join(parts)


# Arabic and Hebrew write the marks of their vowels, or not; an alef may carry a hamza or have lost it.
_ALEFS: Final[Mapping[str, str]] = {"أ": "ا", "إ": "ا", "آ": "ا", "ٱ": "ا", "ى": "ي"}
_SILENT: Final = re.compile("[\u0640\u064b-\u065f\u0670\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\ufe0e\ufe0f]")


def _fold_character(character: str) -> str:
    if character.isascii():
        return character if character.isalnum() else "" if character == "'" else " "
    if character in _ALEFS:
        return _ALEFS[character]
    category = unicodedata.category(character)
    if category == "Cf" or _SILENT.match(character) or character == "’":
        return ""
    return " " if category[0] in "PSZC" else character


# The words, by language.  Where people leave accents away both spellings are taken, except in Vietnamese, in which
# they tell words apart.  The labels that Meta puts on its own opt-out buttons are among the clear ones.

_CLEAR_STOPS: Final[Mapping[str, str]] = {
    "en": "stop|stop all|stopall|stop it|stop this|stop now|stop please|please stop|stop promotions|stop promotion"
    "|stop marketing|stop messages|stop messaging|stop messaging me|stop messaging me please|stop sending messages"
    "|stop sending me messages|stop texting me|stop texting|stop writing to me|unsubscribe|unsubscribe me"
    "|unsubscribe please|please unsubscribe|unsubscribe all|opt out|optout|opt me out|remove me|remove me please"
    "|please remove me|remove me from this list|remove me from your list|take me off your list|no more messages"
    "|no more promotions|do not message me|dont message me|do not contact me|dont contact me",
    "es": "parar|pare|detener|detenganse|deténganse|basta ya|no mas mensajes|no más mensajes|baja|dar de baja"
    "|darme de baja|dame de baja|quiero darme de baja|deme de baja|cancelar suscripcion|cancelar suscripción"
    "|cancelar la suscripción|desuscribir|desuscribirme|desuscribirse|anular suscripción|detener promociones"
    "|parar promociones|no enviar mas mensajes|no enviar más mensajes|no quiero mas mensajes|no quiero más mensajes",
    "pt": "parar|pare|para de mandar mensagem|pare de enviar mensagens|parar promoções|interromper promoções"
    "|parar mensagens|sair da lista|descadastrar|descadastre me|descadastro|cancelar inscrição|cancelar assinatura"
    "|me remova|remova me|não quero mais receber|não quero mais mensagens|não quero receber mensagens"
    "|não receber mais|desinscrever|cancelar subscrição",
    "fr": "stop pub|stop sms|arrêt|arrêter|arrêtez|arrête|désabonner|désabonnement|se désabonner|me désabonner"
    "|désabonnez moi|désinscription|désinscrire|me désinscrire|désinscrivez moi|arrêter les promotions"
    "|plus de messages|ne plus recevoir|retirez moi de la liste",
    "de": "stopp|stoppen|abbestellen|mich abmelden|bitte abmelden|newsletter abbestellen"
    "|bitte austragen|keine nachrichten|keine nachrichten mehr|keine weiteren nachrichten|keine werbung"
    "|keine werbung mehr|werbung stoppen|stopp bitte|bitte stopp|stop bitte|bitte stop",
    "it": "ferma|fermati|fermare|smetti|smettila|smettetela|disiscrivimi|disiscriviti|disiscrivermi|disiscrizione"
    "|cancellami|cancellatemi|cancella iscrizione|annulla iscrizione|niente più messaggi|basta messaggi"
    "|basta pubblicità|interrompi promozioni|non voglio più messaggi|rimuovimi",
    "nl": "stoppen|meld me af|schrijf me uit|mij afmelden|mij uitschrijven|geen berichten meer"
    "|geen reclame meer|stop alsjeblieft|stop aub|stop a u b|promoties stoppen|verwijder mij",
    "id": "berhenti|henti|hentikan|stop promo|stop pesan|berhenti berlangganan|berhenti langganan|batal langganan"
    "|jangan kirim lagi|jangan kirim pesan lagi|unreg|hentikan promosi|berhenti promosi|keluar dari daftar",
    "ms": "berhenti|hentikan|henti|nyahlanggan|berhenti melanggan|jangan hantar lagi|hentikan promosi|tidak mahu mesej",
    "hi": "रोकें|रोको|रुको|रुकें|बंद करो|बंद करें|बन्द करो|बन्द करें|मत भेजो|मैसेज मत भेजो|संदेश मत भेजो|स्टॉप|सदस्यता समाप्त करें"
    "|सदस्यता समाप्त|सदस्यता रद्द करें|प्रमोशन बंद करें|अनसब्सक्राइब|roko|rokein|ruko|band karo|band kare|band karein"
    "|band kar do|bandh karo|mat bhejo|message mat bhejo|msg mat bhejo|message band karo|msg band karo",
    "ar": "ايقاف|إيقاف|أوقف|اوقف|توقف|توقفوا|أوقفوا|وقف|قف|ستوب|الغاء الاشتراك|إلغاء الاشتراك|ألغ الاشتراك"
    "|الغي الاشتراك|الغ الاشتراك|ايقاف الرسائل|إيقاف العروض|ايقاف العروض الترويجية|إيقاف الإعلانات|لا ترسل"
    "|لا ترسلوا|لا أريد رسائل|لا اريد رسائل|كفى",
    "he": "עצור|עצרו|הסר|הסירו|הסר אותי|הסירו אותי|להסיר|הסרה|הסירו אותי מהרשימה|הסר אותי מהרשימה|בטל מינוי|ביטול מינוי"
    "|ביטול רישום|די|להפסיק|הפסק|הפסיקו|תפסיקו|סטופ|הפסק מבצעים",
    "tr": "dur|durdur|durdurun|dursun|abonelikten çık|aboneliği iptal et|abonelik iptal|aboneliğimi iptal et"
    "|listeden çıkar|beni listeden çıkar|listeden çık|mesaj atma|mesaj atmayın|mesaj göndermeyin|ret|stop yaz"
    "|promosyonları durdur",
    "ru": "стоп|остановить|остановите|остановись|отписаться|отпишите|отпишите меня|отписка|отписать|отписать меня"
    "|отказ от рассылки|отменить подписку|не пишите|не пишите мне|больше не пишите|не присылайте"
    "|прекратите|хватит|удалите меня|остановить рассылку|отключить рассылку",
    "uk": "стоп|зупинити|зупиніть|відписатися|відпишіть|відпишіть мене|відмовитися|не пишіть|не пишіть мені",
    "zh": "停止|退订|退訂|取消订阅|取消訂閱|停止订阅|停止訂閱|不要再发|不要再發|不要再发了|不要再發了|别发了|別發了"
    "|别再发了|別再發了|不要发了|不要發了|拒收|停止推广|停止推廣|停止促销|停止促銷|td|回复td|退订td|拒绝接收",
    "ja": "停止|ストップ|配信停止|配信停止希望|購読解除|登録解除|配信解除|退会|やめて|やめてください|止めて"
    "|止めてください|送らないで|送らないでください|受信拒否|プロモーションを停止|配信を停止|配信を停止してください",
    "ko": "중지|정지|중단|스톱|스탑|수신거부|수신 거부|구독취소|구독 취소|구독해지|구독 해지|그만|그만 보내세요"
    "|그만보내세요|그만 보내|보내지 마세요|보내지마세요|광고 거부|광고거부|프로모션 중지",
    "th": "หยุด|หยุดส่ง|หยุดส่งข้อความ|ยกเลิกการรับข้อความ|ยกเลิกการรับข่าวสาร|ยกเลิกการสมัคร|เลิกติดตาม|ไม่รับข้อความ|ไม่ต้องส่ง"
    "|ไม่ต้องส่งมา|ไม่ต้องส่งอีก|เลิกส่ง|สต็อป|สตอป|หยุดโปรโมชั่น|หยุดโปรโมชัน",
    "vi": "dừng|dừng lại|ngừng|ngưng|ngừng gửi|ngưng gửi|dừng gửi|hủy đăng ký|huỷ đăng ký|hủy đăng kí|huỷ đăng kí"
    "|huy dang ky|huy dang ki|đừng gửi nữa|đừng nhắn nữa|dừng khuyến mãi|không nhận tin|ngung gui",
    "sw": "acheni|simama|sitisha|koma|komesha|jiondoe|jitoe|niondoe|niondoeni|ondoa mimi|acha kutuma"
    "|acha kutuma ujumbe|usitume tena|sitaki ujumbe|sitaki tena|ghairi usajili|sitisha matangazo",
    "pl": "zatrzymaj|wypisz|wypisz mnie|rezygnuję|wypisuję się|nie pisz|nie piszcie|anuluj subskrypcję",
    "fa": "توقف|لغو اشتراک|نفرستید|پیام ندهید|لغو عضویت",
    "ur": "بند کرو|بند کریں|روکو|روکیں|مت بھیجو",
    "bn": "বন্ধ করুন|বন্ধ করো|থামুন|থামান|আনসাবস্ক্রাইব",
}
# As a button these are something else; as a whole message they leave, also by law in places.
_TYPED_STOPS: Final[Mapping[str, str]] = {
    "en": "cancel|end|quit|revoke|leave me alone",
    "es": "cancelar|salir|basta|no molestar|deja de escribirme|dejen de escribirme",
    "pt": "remover|cancelar|sair|chega|basta|para",
    "fr": "annuler|ça suffit",
    "de": "abmelden|abmeldung|austragen|widerruf|widerrufen|halt|ende|aufhören|hör auf|hören sie auf|schluss|kündigen",
    "it": "annulla|basta|esci|cancella",
    "nl": "afmelden|uitschrijven|annuleren|einde|ophouden|hou op",
    "id": "batal|keluar",
    "ms": "batal|keluar",
    "hi": "रद्द|रद्द करें|बस करो|bas karo",
    "ar": "الغاء|إلغاء",
    "he": "בטל|ביטול",
    "tr": "iptal|çık|yeter|bitir",
    "ru": "отказ|отказаться|прекратить|отмена|отменить|конец|выход",
    "zh": "停|取消|拒绝|拒絕|结束|結束",
    "ja": "解除|キャンセル|取消|取り消し|終了|もういい",
    "ko": "거부|해지|취소|종료|끝",
    "th": "ยกเลิก|เลิก",
    "vi": "từ chối|tu choi|hủy|huỷ|kết thúc|thôi",
    "sw": "ondoa|ghairi|futa|ondoka",
}
_CLEAR_STARTS: Final[Mapping[str, str]] = {
    "en": "unstop|opt in|optin|opt me in|subscribe|subscribe me|resubscribe|start promotions|resume promotions"
    "|start messages|resume messages|undo stop",
    "es": "suscribir|suscribirme|suscribirse|dar de alta|darme de alta|reanudar promociones",
    "pt": "me inscrever|inscrever me|retomar promoções|voltar a receber",
    "fr": "s'abonner|m'abonner|abonner|abonnez moi|réabonner|reprendre les promotions",
    "de": "abonnieren|wieder anmelden|werbung fortsetzen",
    "it": "iscrivimi|iscrivermi|iscriviti|riprendi promozioni",
    "nl": "abonneren|promoties hervatten",
    "id": "berlangganan|langganan|daftar lagi|lanjutkan promosi",
    "ms": "langgan|melanggan|sambung promosi",
    "hi": "सदस्यता लें|फिर से शुरू करें|phir se shuru karo",
    "ar": "اشتراك|اشترك|الاشتراك|استئناف العروض",
    "he": "לחדש",
    "tr": "abone ol|abone olmak istiyorum|promosyonları sürdür",
    "ru": "подписаться|подпишите меня|возобновить|возобновить рассылку",
    "uk": "підписатися|підпишіть мене|відновити",
    "zh": "订阅|訂閱|重新订阅|重新訂閱|恢复订阅|恢復訂閱|恢复推广",
    "ja": "購読|配信再開|再開|配信希望",
    "ko": "구독|수신동의|수신 동의|다시 받기|재개",
    "th": "สมัครรับข้อความ|สมัครรับข่าวสาร|รับข้อความ|เริ่มใหม่",
    "vi": "đăng ký lại|nhận tin",
    "sw": "jiunge",
}
_TYPED_STARTS: Final[Mapping[str, str]] = {
    "en": "start",
    "es": "alta|empezar|iniciar|comenzar|reanudar",
    "pt": "assinar|inscrever|cadastrar|começar|iniciar|retomar",
    "fr": "s'inscrire|commencer|démarrer|reprendre",
    "de": "anmelden|starten|fortsetzen",
    "it": "inizia|iniziare|riprendi|avvia",
    "nl": "aanmelden|inschrijven|starten|beginnen|hervatten",
    "id": "mulai",
    "ms": "mula|sambung",
    "hi": "शुरू|शुरू करो|शुरू करें|चालू करो|चालू करें|स्टार्ट|shuru|shuru karo|shuru kare|shuru karein|chalu karo",
    "ar": "ابدأ|ابدا|بدء|ستارت|استئناف",
    "he": "הרשמה|הירשם|הצטרף|הצטרפות|התחל|התחילו|להתחיל|סטארט",
    "tr": "başla|başlat",
    "ru": "старт|начать",
    "uk": "старт|почати",
    "zh": "开始|開始|恢复|恢復",
    "ja": "登録|開始|スタート",
    "ko": "시작|스타트",
    "th": "เริ่ม|สตาร์ท",
    "vi": "đăng ký|dang ky|đăng kí|bắt đầu",
    "sw": "jisajili|sajili|jiandikishe|anza",
}


def _fold_all(words: Mapping[str, str]) -> frozenset[str]:
    folded = set()
    for language, listed in words.items():
        for word in listed.split("|"):
            folded.add(fold_words(word))
            if language != "vi":
                folded.add(fold_words(_without_accents(word)))
    return frozenset(folded - {""})


def _without_accents(word: str) -> str:
    """Latin, Greek and Cyrillic letters without their accents; the marks of all other scripts stay."""
    bare = re.sub("[\u0300-\u036f]", "", unicodedata.normalize("NFD", word))
    return unicodedata.normalize("NFC", bare)


CLEAR_STOPS: Final = _fold_all(_CLEAR_STOPS)
TYPED_STOPS: Final = _fold_all(_TYPED_STOPS)
CLEAR_STARTS: Final = _fold_all(_CLEAR_STARTS)
TYPED_STARTS: Final = _fold_all(_TYPED_STARTS)
