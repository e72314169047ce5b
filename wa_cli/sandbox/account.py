"""The reading side of the Graph API: the number, the account, its templates, the token.  Shapes only, no state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wa_cli.sandbox.settings import NumberState
from wa_cli.sandbox.template_checks import list_templates

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wa_cli.sandbox.settings import SandboxSettings

# What `status` of the number reads while the account is in trouble.
_STATUS: dict[NumberState, str] = {
    NumberState.CONNECTED: "CONNECTED",
    NumberState.UNREGISTERED: "PENDING",
    NumberState.LOCKED: "BANNED",
    NumberState.BLOCKED: "RESTRICTED",
    NumberState.MAINTENANCE: "CONNECTED",
}


def find_object(
    settings: SandboxSettings, parts: Sequence[str], query: Mapping[str, str], *, address: str = ""
) -> dict[str, Any] | None:
    """What a GET of `/{version}/{parts}` shows, or None when there is no such object.

    parts: the path after the version.  query: `fields` chooses keys, `input_token` is what debug_token
    judges.  address: the URL asked, without its query.
    """
    numbers = (settings.phone_number_id, *settings.other_phone_number_ids)
    match list(parts):
        case ["debug_token"]:
            return {"data": _describe_token(settings, query.get("input_token"))}
        case [number] if number in numbers:
            return _choose_fields(_describe_number(settings, number), query)
        case [account] if account == settings.waba_id:
            return _choose_fields({"id": account, "name": settings.verified_name, "status": "ACTIVE"}, query)
        case [account, "phone_numbers"] if account == settings.waba_id:
            return {"data": [_choose_fields(_describe_number(settings, number), query) for number in numbers]}
        case [account, "message_templates"] if account == settings.waba_id:
            return list_templates(settings.templates, query, address=address)
        case _:
            return None


def _describe_token(settings: SandboxSettings, token: str | None) -> dict[str, Any]:
    scopes = ["whatsapp_business_management"]
    if settings.may_send:
        scopes.append("whatsapp_business_messaging")
    return {
        "is_valid": token == settings.token and settings.token_expires_after != 0,
        "type": "SYSTEM_USER",
        "expires_at": 0,
        "scopes": scopes,
    }


def _describe_number(settings: SandboxSettings, number: str) -> dict[str, Any]:
    can_send = settings.may_send and settings.number_state is NumberState.CONNECTED
    health = "AVAILABLE" if can_send else "BLOCKED"
    return {
        "id": number,
        "display_phone_number": settings.display_phone_number,
        "verified_name": settings.verified_name,
        "quality_rating": "GREEN",
        "whatsapp_business_manager_messaging_limit": "TIER_2K",
        "messaging_limit_tier": "TIER_2K",
        "throughput": {"level": "STANDARD"},
        "code_verification_status": "VERIFIED",
        "name_status": "APPROVED",
        "status": _STATUS[settings.number_state],
        "platform_type": "CLOUD_API",
        "account_mode": "SANDBOX",
        "is_official_business_account": False,
        "health_status": {
            "can_send_message": health,
            "entities": [
                {"entity_type": "PHONE_NUMBER", "id": number, "can_send_message": health},
                {"entity_type": "WABA", "id": settings.waba_id, "can_send_message": "AVAILABLE"},
            ],
        },
    }


def _choose_fields(shape: dict[str, Any], query: Mapping[str, str]) -> dict[str, Any]:
    wanted = {field for field in query.get("fields", "").split(",") if field}
    if not wanted:
        return shape
    return {key: value for key, value in shape.items() if key == "id" or key in wanted}
