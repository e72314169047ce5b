"""Reading the templates of a WhatsApp Business account: a cold call, never on the way of a message."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from wa_cli.domain.template import StoredButton, StoredTemplate, find_places
from wa_cli.errors import NeedsPerson, Temporary, UsageError, WaError
from wa_cli.transports.cloud_api.account import (
    ApiUrl,
    Verdict,
    check_token,
    name_failure,
    parse_api_url,
    read_capped,
    read_error,
)
from wa_cli.transports.posting import is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import httpx

    from wa_cli.transports.cloud_api.account import AccountReport

PAGE_SIZE: Final = 50
MOST_PAGES: Final = 2_000  # Meta allows 6,000 templates, each in several languages
MOST_PAGE_BYTES: Final = 8_000_000
ACCOUNT_SETTING: Final = "WHATSAPP_BUSINESS_ACCOUNT_ID"

_FIELDS: Final = ("name", "language", "status", "category", "components")
_NEWER_FIELDS: Final = ("parameter_format", "quality_score", "rejected_reason")
_INVALID_PARAMETER: Final = 100
# Buttons that need more than a text in each message.
_BUTTONS_BEYOND_US: Final = frozenset({"mpm", "spm"})


def fetch_templates(
    api_url: str, token: str, *, business_account_id: str = "", timeout_seconds: float = 30.0
) -> list[StoredTemplate]:
    """All templates of the account behind a number, in all languages and states.

    business_account_id: asked for at the number itself when it is empty.
    timeout_seconds: for connecting, and again for each answer.
    Raises: UsageError for settings to mend, NeedsPerson for the account, Temporary for what may work later.
    """
    import httpx

    api = parse_api_url(api_url)
    secret = check_token(token)
    given = business_account_id.strip()
    if given and not re.fullmatch(r"\d{1,32}", given, re.ASCII):
        raise UsageError(
            f"{ACCOUNT_SETTING} is no id",
            hint="digits, as WhatsApp Manager shows them; or leave it out",
            code="setting",
        )
    headers = {"Authorization": f"Bearer {secret}", "Accept": "application/json", "User-Agent": "wa"}
    direct = is_loopback(urlsplit(api.base).hostname or "")
    try:
        # A redirect is an answer, never followed: it would carry the token along.
        with httpx.Client(
            headers=headers, timeout=timeout_seconds, follow_redirects=False, trust_env=not direct
        ) as client:
            asker = _Asker(client, secret, timeout_seconds)
            account = given or _find_account(asker, api)
            found = {
                (one.name, one.language): one
                for one in _read_pages(asker, api.object_url(account, "message_templates"))
            }
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        raise Temporary(
            f"{urlsplit(api.base).netloc} cannot be reached: {name_failure(error)}",
            hint="check the network, the proxy settings and WHATSAPP_API_URL, then try again",
            code="unreachable",
        ) from error
    return [found[key] for key in sorted(found)]


class _Refused(Exception):
    """An answer that holds an error."""

    def __init__(self, report: AccountReport) -> None:
        super().__init__(report.details)
        self.report = report


class _Asker:
    def __init__(self, client: httpx.Client, secret: str, timeout_seconds: float) -> None:
        self._client = client
        self._secret = secret
        self._timeout_seconds = timeout_seconds

    def ask(self, url: str, query: Mapping[str, str]) -> dict[str, Any]:
        """Raises: _Refused; Temporary for an answer that is none of Meta's."""
        with self._client.stream("GET", url, params=dict(query)) as response:
            body = read_capped(response, self._timeout_seconds, most_bytes=MOST_PAGE_BYTES)
        try:
            shape = json.loads(body)
        except (ValueError, RecursionError):
            shape = None
        if isinstance(shape, dict) and isinstance(error := shape.get("error"), dict):
            raise _Refused(read_error(error, response.status_code, response.headers, self._secret))
        if not isinstance(shape, dict) or not 200 <= response.status_code < 300:
            raise _unreadable(f"the answer (HTTP {response.status_code}) is not one of Meta's")
        return shape


def _find_account(asker: _Asker, api: ApiUrl) -> str:
    """The id of the account that the number belongs to: its health names every entity that it depends on."""
    advice = f"put the id that WhatsApp Manager shows for the account into {ACCOUNT_SETTING}"
    try:
        shape = asker.ask(api.number_url, {"fields": "health_status"})
    except _Refused as refused:
        if refused.report.error_code == _INVALID_PARAMETER and refused.report.verdict is Verdict.REFUSED:
            raise UsageError(
                "the platform does not tell to which account the number belongs",
                hint=advice,
                code="no_business_account",
            ) from refused
        raise _explain(refused.report, "the number") from refused
    health = shape.get("health_status")
    entities = health.get("entities") if isinstance(health, dict) else None
    for entity in entities if isinstance(entities, list) else ():
        if isinstance(entity, dict) and entity.get("entity_type") == "WABA":
            account = str(entity.get("id"))
            if re.fullmatch(r"\d{1,32}", account, re.ASCII):
                return account
    raise UsageError(
        "the platform does not tell to which account the number belongs", hint=advice, code="no_business_account"
    )


def _read_pages(asker: _Asker, url: str) -> Iterator[StoredTemplate]:
    """Page by page, by the cursors: the address of the next page that an answer holds is not trusted with the token."""
    fields: tuple[str, ...] = (*_FIELDS, *_NEWER_FIELDS)
    after: str | None = None
    for _page in range(MOST_PAGES):
        query = {"limit": str(PAGE_SIZE), "fields": ",".join(fields)} | ({"after": after} if after else {})
        try:
            shape = asker.ask(url, query)
        except _Refused as refused:
            # An unknown field refuses the whole call, so the fewest fields are the second try.
            is_about_fields = (
                refused.report.error_code == _INVALID_PARAMETER and refused.report.verdict is Verdict.REFUSED
            )
            if not is_about_fields or fields == _FIELDS:
                raise _explain(refused.report, "the account") from refused
            fields = _FIELDS
            continue
        rows = shape.get("data")
        if not isinstance(rows, list):
            raise _unreadable("the answer holds no list of templates")
        for row in rows:
            yield _read_template(row)
        before, after = after, _find_next(shape)
        if after is None:
            return
        if after == before or not rows:
            raise _unreadable("the list of templates goes round in a circle")
    raise _unreadable("the list of templates does not end")


def _find_next(shape: dict[str, Any]) -> str | None:
    """The cursor of the next page, or None on the last one."""
    paging = shape.get("paging")
    if not isinstance(paging, dict) or not paging.get("next"):
        return None
    cursors = paging.get("cursors")
    after = cursors.get("after") if isinstance(cursors, dict) else None
    if not isinstance(after, str) or not after:
        raise _unreadable("the list of templates has a next page and no cursor to it")
    return after


def _explain(report: AccountReport, asked: str) -> WaError:
    match report.verdict:
        case Verdict.TOKEN_DEAD | Verdict.RESTRICTED:
            return NeedsPerson(report.details, hint=report.fix, code=report.verdict.value)
        case Verdict.NO_PERMISSION:
            return NeedsPerson(
                report.details,
                hint="the token needs the permission whatsapp_business_management to read templates",
                code=report.verdict.value,
            )
        case Verdict.UNKNOWN_NUMBER if asked == "the account":
            return UsageError(
                "there is no such WhatsApp Business account, or the token may not see it",
                hint=f"compare {ACCOUNT_SETTING} with WhatsApp Manager; the token needs whatsapp_business_management",
                code="no_business_account",
            )
        case Verdict.UNKNOWN_NUMBER:
            return UsageError(report.details, hint=report.fix, code=report.verdict.value)
        case _:
            return Temporary(report.details, hint=report.fix or "try again later", code=report.verdict.value)


def _unreadable(message: str) -> Temporary:
    return Temporary(
        message, hint="check WHATSAPP_API_URL; a proxy or a login page may stand in between", code="unreadable"
    )


# --- one template --------------------------------------------------------------------------------------------------


def _read_template(row: Any) -> StoredTemplate:
    """Raises: Temporary for a template without a name, a language or a status: none is left out in silence."""
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("name", "language", "status")):
        raise _unreadable("the list holds a template without a name, a language or a status")
    header_kind = header_text = footer = None
    body = ""
    buttons: list[StoredButton] = []
    others: list[str] = []
    components = row.get("components")
    for part in components if isinstance(components, list) else ():
        if not isinstance(part, dict):
            continue
        match str(part.get("type")).upper():
            case "HEADER":
                header_kind = str(part.get("format", "TEXT")).lower()
                header_text = _text(part, "text") if header_kind == "text" else None
            case "BODY":
                body = _text(part, "text") or ""
            case "FOOTER":
                footer = _text(part, "text")
            case "BUTTONS":
                listed = part.get("buttons")
                buttons += [
                    _read_button(one) for one in (listed if isinstance(listed, list) else ()) if isinstance(one, dict)
                ]
            case other:
                others.append(other.lower())
    others += [f"{button.kind} button" for button in buttons if button.kind in _BUTTONS_BEYOND_US]
    quality = row.get("quality_score")
    score = quality.get("score") if isinstance(quality, dict) else None
    order = row.get("parameter_format")
    return StoredTemplate(
        name=row["name"],
        language=row["language"],
        status=row["status"].upper(),
        category=_text(row, "category"),
        is_named=(
            order.upper() == "NAMED"
            if isinstance(order, str)
            else any(not place.isdigit() for place in find_places(body))
        ),
        header_kind=header_kind,
        header_text=header_text,
        body=body,
        footer=footer,
        buttons=tuple(buttons),
        others=tuple(others),
        quality=score if score in ("GREEN", "YELLOW", "RED") else None,
        rejected_reason=reason if (reason := _text(row, "rejected_reason")) not in (None, "", "NONE") else None,
    )


def _read_button(button: dict[str, Any]) -> StoredButton:
    return StoredButton(
        kind=str(button.get("type")).lower(), text=_text(button, "text") or "", url=_text(button, "url")
    )


def _text(part: dict[str, Any], key: str) -> str | None:
    value = part.get(key)
    return value if isinstance(value, str) else None
