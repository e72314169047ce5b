"""GOWA's codes in words: what each means for a message, and what a person can do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_RECONCILE: Final = "`wa reconcile` settles it; a receipt that comes later settles it too"
# The code, its meaning, and what to type or do.
CODES: Final[Mapping[str, tuple[str, str | None]]] = {
    "VALIDATION_ERROR": ("GOWA found the message malformed", "its own words say what is wrong"),
    "INVALID_JID": (
        "WhatsApp does not know the number, or could not look it up",
        "`wa contact check NUMBER` asks again; correct the number if it stays so",
    ),
    "DEVICE_ID_REQUIRED": ("GOWA does not know which device is meant", "give the instance its session"),
    "DEVICE_NOT_FOUND": ("GOWA has no such device", "`wa instance pair NAME` makes it, and pairs it with a phone"),
    "AUTHENTICATION_ERROR": ("the device was not connected to WhatsApp", "`wa instance show NAME` tells why"),
    "DEVICE_MANAGER_UNAVAILABLE": ("GOWA was still starting", None),
    "GATEWAY_TIMEOUT": ("GOWA gave up after 45 s, and WhatsApp may have had the message by then", _RECONCILE),
    "INTERNAL_SERVER_ERROR": ("GOWA broke down over the message, which may have gone out", _RECONCILE),
    "UPLOAD_MEDIA_ERROR": ("GOWA broke down over the message's file, and says no more", _RECONCILE),
    "INVALID_WA_CLI": ("GOWA lost its connection over the message, which may have gone out", _RECONCILE),
    "gateway_key": (
        "the gateway refuses our user and password, or our key",
        "correct the variable of the instance's key",
    ),
    "gateway_url": (
        "the gateway has no such route",
        "correct the instance's url; it ends with the gateway's base path if that has one",
    ),
    "too_large": ("the file is larger than the gateway takes", "make it smaller, or send a link to it as text"),
    "unsupported_type": ("the gateway has no message of this type", "write it as text"),
}
