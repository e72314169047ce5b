"""A template message held against the account's own templates, and how those templates are listed."""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from wa_cli.sandbox.graph_errors import GraphError
from wa_cli.sandbox.settings import MEDIA_HEADERS, SandboxTemplate, TemplateStatus, find_placeholders

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BODY_LIMIT = 1024


def find_template(template: Mapping[str, Any], owned: Sequence[SandboxTemplate]) -> SandboxTemplate | None:
    """The account's own template that a well-formed `template` object names, or None."""
    name, language = template["name"], template["language"]["code"]
    return next((one for one in owned if one.name == name and one.language == language), None)


def find_template_error(
    template: Mapping[str, Any], owned: Sequence[SandboxTemplate], *, is_strict: bool
) -> GraphError | None:
    """Why a well-formed `template` object is refused, or None.

    is_strict: whether names the account does not own are refused; a known name in another language always is.
    """
    name, language = template["name"], template["language"]["code"]
    same_name = [candidate for candidate in owned if candidate.name == name]
    found = next((candidate for candidate in same_name if candidate.language == language), None)
    if found is None:
        if not same_name and not is_strict:
            return None
        return GraphError(code=132001, details=f"template name ({name}) does not exist in {language}")
    if found.status is TemplateStatus.PAUSED:
        return GraphError(code=132015, details=f"template {name} is paused for low quality")
    if found.status is TemplateStatus.DISABLED:
        return GraphError(code=132016, details=f"template {name} is disabled")
    if found.status is not TemplateStatus.APPROVED:
        return GraphError(code=132001, details=f"template {name} is not approved")
    return (
        _find_header_error(template, found)
        or _find_parameter_error(template, found)
        or _find_button_error(template, found)
    )


def _find_header_error(template: Mapping[str, Any], found: SandboxTemplate) -> GraphError | None:
    parameters = _list_parameters(template, "header")
    if found.header in MEDIA_HEADERS:
        kinds = [parameter["type"] for parameter in parameters]
        if kinds != [found.header.lower()]:
            given = ", ".join(kinds) or "nothing"
            return GraphError(code=132012, details=f"header: expected {found.header.lower()}, got {given}")
        return None
    expected = find_placeholders(found.header)
    if len(parameters) != len(expected):
        return _count_error("header", len(parameters), len(expected))
    return None


def _find_button_error(template: Mapping[str, Any], found: SandboxTemplate) -> GraphError | None:
    given = {
        str(component.get("index"))
        for component in template.get("components") or ()
        if component["type"].lower() == "button" and component.get("parameters")
    }
    for index, button in enumerate(found.buttons):
        if button.get("type") == "URL" and find_placeholders(str(button.get("url", ""))) and str(index) not in given:
            return GraphError(code=131008, details=f"buttons: the URL button at index {index} needs a parameter")
    return None


def _list_parameters(template: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = []
    for component in template.get("components") or ():
        if component["type"].lower() == kind:
            parameters.extend(component.get("parameters", ()))
    return parameters


def _count_error(part: str, given: int, expected: int) -> GraphError:
    return GraphError(
        code=132000,
        details=f"{part}: number of localizable_params ({given}) does not match the expected number of "
        f"params ({expected})",
    )


def _find_parameter_error(template: Mapping[str, Any], found: SandboxTemplate) -> GraphError | None:
    parameters = _list_parameters(template, "body")
    expected = found.placeholders
    if len(parameters) != len(expected):
        return _count_error("body", len(parameters), len(expected))
    names = [parameter.get("parameter_name") for parameter in parameters]
    values: dict[Any, str]
    if found.is_named:
        if set(names) != set(expected):
            return GraphError(code=132012, details=f"body: parameters are named {', '.join(expected)}")
        values = dict(zip(names, map(_filled, parameters), strict=True))
    else:
        if any(name is not None for name in names):
            return GraphError(code=132012, details="body: parameters are positional")
        values = dict(zip(sorted(expected, key=int), map(_filled, parameters), strict=True))
    filled = re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda match: values[match[1]], found.body)
    if len(filled) > BODY_LIMIT:
        return GraphError(code=132005, details=f"body: {len(filled)} characters once filled, at most {BODY_LIMIT}")
    return None


def _filled(parameter: Mapping[str, Any]) -> str:
    kind = parameter["type"]
    return str(parameter["text"]) if kind == "text" else str(parameter[kind]["fallback_value"])


def list_templates(owned: Sequence[SandboxTemplate], query: Mapping[str, str], *, address: str = "") -> dict[str, Any]:
    """One page of `GET /{waba_id}/message_templates`.

    query: name, name_or_content, status, language, category, quality_score filter; limit and after page; fields
    chooses keys (id is always there).  address: of this list, for the link to the next page, which never holds a
    token.
    """
    words = query.get("name_or_content", "")
    wanted = [
        template
        for template in owned
        if query.get("name", template.name) == template.name
        and query.get("status", template.status) == template.status
        and query.get("language", template.language) == template.language
        and query.get("category", template.category) == template.category
        and query.get("quality_score", template.quality) == template.quality
        and (words in template.name or words in template.body)
    ]
    start = _read_number(query.get("after"), 0)
    size = max(1, _read_number(query.get("limit"), 25))
    page = wanted[start : start + size]
    fields = {field for field in query.get("fields", "").split(",") if field}
    rows = [describe_template(template) for template in page]
    if fields:
        rows = [{key: value for key, value in row.items() if key == "id" or key in fields} for row in rows]
    answer: dict[str, Any] = {"data": rows}
    if rows:
        after = str(start + len(page))
        answer["paging"] = {"cursors": {"before": str(start), "after": after}}
        if start + len(page) < len(wanted):
            kept = {name: value for name, value in query.items() if name not in ("after", "access_token")}
            answer["paging"]["next"] = f"{address}?{urlencode({**kept, 'after': after})}"
    return answer


def describe_template(template: SandboxTemplate) -> dict[str, Any]:
    """A template as the platform lists it."""
    components: list[dict[str, Any]] = []
    if template.header in MEDIA_HEADERS:
        components.append({"type": "HEADER", "format": template.header})
    elif template.header:
        components.append({"type": "HEADER", "format": "TEXT", "text": template.header})
    body: dict[str, Any] = {"type": "BODY", "text": template.body}
    components.append(body)
    if template.footer:
        components.append({"type": "FOOTER", "text": template.footer})
    if template.buttons:
        components.append({"type": "BUTTONS", "buttons": [dict(button) for button in template.buttons]})
    if template.placeholders:
        if template.is_named:
            body["example"] = {
                "body_text_named_params": [{"param_name": name, "example": name} for name in template.placeholders]
            }
        else:
            body["example"] = {"body_text": [[f"value {name}" for name in template.placeholders]]}
    return {
        "id": str(594_000_000_000_000 + zlib.crc32(f"{template.name}/{template.language}".encode())),
        "name": template.name,
        "language": template.language,
        "status": template.status.value,
        "category": template.category,
        "parameter_format": "NAMED" if template.is_named else "POSITIONAL",
        "quality_score": {"score": template.quality},
        "rejected_reason": "INVALID_FORMAT" if template.status is TemplateStatus.REJECTED else "NONE",
        "components": components,
    }


def _read_number(text: str | None, otherwise: int) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else otherwise
