"""What Meta's refusals look like: every code an answer can carry, and the JSON they travel in.

Rows follow the published error tables; where those disagree about the HTTP status the newer reading stands
here and `throttle_http_status` in the settings flips the throttling ones.
"""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass

# Codes whose HTTP status is 429 in new tables and 400 in old ones.
THROTTLE_CODES = frozenset({4, 17, 80007, 130429, 131048, 131064, 131208, 133016})

TRANSIENT_CODES = frozenset({1, 2, 4, 17, 80007, 130429, 131000, 131016, 131056, 131057, 133004})

# code: (HTTP status, title in our words, subcode or None)
KNOWN_ERRORS: dict[int, tuple[int, str, int | None]] = {
    0: (401, "Could not authenticate the app user", None),
    1: (400, "Unknown API error", None),
    2: (503, "Service temporarily unavailable", None),
    3: (500, "Capability or permission missing", None),
    4: (429, "Application request limit reached", None),
    10: (403, "Permission denied", None),
    17: (429, "User request limit reached", 2446079),
    32: (400, "Page request limit reached", None),
    33: (400, "Parameter value is not usable", None),
    100: (400, "Invalid parameter", None),
    104: (401, "An access token is required", None),
    190: (401, "Access token has expired", 463),
    200: (403, "API permission missing", None),
    368: (403, "Temporarily blocked for policy violations", None),
    613: (400, "Custom rate limit reached", None),
    80007: (429, "Business account rate limit reached", None),
    130403: (403, "The business has blocked this person", None),
    130429: (429, "Rate limit hit", None),
    130472: (400, "The person is part of an experiment", None),
    130497: (403, "The business may not message this country", None),
    131000: (500, "Something went wrong", None),
    131005: (403, "Access denied", None),
    131008: (400, "Required parameter is missing", None),
    131009: (400, "Parameter value is not valid", None),
    131016: (503, "Service unavailable", None),
    131020: (400, "The group has no other participant", None),
    131021: (400, "Recipient cannot be sender", None),
    131026: (400, "Message undeliverable", None),
    131030: (400, "Recipient phone number not in allowed list", None),
    131031: (403, "Account has been locked", None),
    131037: (400, "Display name has not been approved", None),
    131041: (400, "Unknown group", None),
    131042: (400, "Business eligibility or payment issue", None),
    131044: (400, "Business eligibility or payment issue for calls", None),
    131045: (500, "Phone number registration is incorrect", None),
    131047: (400, "Re-engagement message", None),
    131048: (429, "Spam rate limit hit", None),
    131049: (400, "Not delivered, to keep the person's attention healthy", None),
    131050: (400, "The person has stopped marketing messages from this business", None),
    131051: (400, "Unsupported message type", None),
    131052: (400, "Media download error", None),
    131053: (400, "Media upload error", None),
    131055: (400, "Method not allowed", None),
    131056: (400, "(Business Account, Consumer Account) pair rate limit hit", 2494055),
    131057: (500, "Account in maintenance mode", None),
    131059: (400, "Bad paging cursor", None),
    131061: (400, "The template needs the Marketing Messages API", None),
    131062: (400, "A business-scoped user id cannot receive this message", None),
    131063: (400, "Marketing templates are switched off on this endpoint", None),
    131064: (429, "Limited after template misclassification", None),
    131201: (206, "Some participants failed", None),
    131202: (400, "Duplicate participant", None),
    131203: (400, "A participant has not accepted the terms", None),
    131204: (400, "The group is full", None),
    131207: (403, "The group is suspended", None),
    131208: (429, "Too many group operations", None),
    131209: (400, "The group picture is not square", None),
    131210: (400, "The group picture is too small", None),
    131211: (400, "Too many groups", None),
    131212: (400, "Not a participant of the group", None),
    131213: (400, "No such join request", None),
    131214: (400, "Group creation is switched off for now", None),
    131215: (400, "The number is not eligible for groups", None),
    132000: (400, "Number of parameters does not match the template", None),
    132001: (404, "Template name does not exist in the translation", None),
    132005: (400, "Translated text too long", None),
    132007: (400, "Template format character policy violated", None),
    132008: (400, "Template parameter value is not valid", None),
    132012: (400, "Parameter format does not match the template", None),
    132015: (400, "Template is paused", None),
    132016: (400, "Template is disabled", None),
    132018: (400, "Template parameters are not valid", None),
    132068: (400, "Flow is blocked", None),
    132069: (400, "Flow is throttled", None),
    133000: (500, "Deregistration is incomplete", None),
    133004: (503, "Server is temporarily unavailable", None),
    133005: (400, "Two-step verification PIN is wrong", None),
    133006: (400, "Phone number must be verified again", None),
    133008: (400, "Too many PIN guesses", None),
    133009: (400, "PIN guesses come too fast", None),
    133010: (400, "Phone number not registered", None),
    133015: (400, "Phone number was deleted a moment ago", None),
    133016: (429, "Too many registration attempts", None),
    134011: (404, "Payments terms have not been accepted", None),
    134100: (400, "Only marketing templates are supported here", None),
    134101: (400, "Template is still being synchronised", None),
    134102: (500, "Template cannot be used here", None),
    135000: (400, "Generic user error", None),
    137000: (400, "Recipient identity key hash does not match", None),
    139000: (400, "Flow integrity", None),
    139001: (400, "Flow cannot be updated", None),
    139002: (400, "Flow cannot be published", None),
    139003: (400, "Flow cannot be deprecated", None),
    139004: (400, "Flow cannot be deleted", None),
    139100: (400, "Some people could not be blocked", None),
    139101: (400, "Block list is full", None),
    139102: (400, "Block list was changed at the same time", None),
    139103: (500, "Block list failed", None),
    139200: (400, "Sending without a template is not allowed", None),
    141006: (400, "Payment method is missing", None),
    141010: (400, "Business is not verified", None),
    2388019: (400, "Template quota reached", None),
    2388024: (400, "Template name and language exist already", None),
    2494100: (400, "Phone number is in maintenance", None),
}
UNKNOWN_TITLE = "An error outside the published table"


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphError:
    """One refusal.  http_status and subcode are the table's own unless given; details is for people."""

    code: int
    details: str = ""
    message: str | None = None
    subcode: int | None = None
    http_status: int | None = None


def status_of(error: GraphError, *, throttle_http_status: int = 429) -> int:
    """The HTTP status a refusal travels under.  Codes outside the table: 403 for 200-299, otherwise 400."""
    if error.http_status is not None:
        return error.http_status
    if error.code in THROTTLE_CODES:
        return throttle_http_status
    known = KNOWN_ERRORS.get(error.code)
    if known is not None:
        return known[0]
    return 403 if 200 <= error.code <= 299 else 400


def encode_error(error: GraphError) -> bytes:
    """The refusal as Meta writes it: `{"error": {message, type, code, error_data, fbtrace_id, ...}}`."""
    known = KNOWN_ERRORS.get(error.code)
    title = error.message or (known[1] if known else UNKNOWN_TITLE)
    shape: dict[str, object] = {
        "message": f"(#{error.code}) {title}",
        "type": "OAuthException",
        "code": error.code,
    }
    subcode = error.subcode if error.subcode is not None else (known[2] if known else None)
    if error.code in (0, 104, 190):
        # Token faults come from Graph itself: no number in front, no messaging product.
        shape["message"] = f"Error validating access token: {title}"
    else:
        shape["error_data"] = {"messaging_product": "whatsapp", "details": error.details or title}
    if subcode is not None:
        shape["error_subcode"] = subcode
    if error.code in TRANSIENT_CODES:
        shape["is_transient"] = True
    shape["fbtrace_id"] = draw_trace_id()
    return json.dumps({"error": shape}, separators=(",", ":")).encode()


def draw_trace_id() -> str:
    """A fresh `fbtrace_id`: `A` and 22 characters of base64url."""
    return "A" + base64.urlsafe_b64encode(os.urandom(17))[:22].decode()
