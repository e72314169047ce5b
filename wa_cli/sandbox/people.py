"""The people on the other side: who wrote when, who stopped marketing, what they are called."""

from __future__ import annotations

import hashlib
from typing import Any

WINDOW_SECONDS = 24 * 3600.0


def derive_user_id(number: str) -> str:
    """The business-scoped user id of a phone number: always the same one, and the number cannot be read from it."""
    return f"US.{int.from_bytes(hashlib.sha256(number.encode()).digest()[:7], 'big'):017}"


class People:
    """Known by number (digits) and by user id, which mean the same person."""

    def __init__(self) -> None:
        self._wrote_at: dict[tuple[str, str], float] = {}
        self._stopped: set[str] = set()
        self._names: dict[str, str] = {}
        self._user_ids: dict[str, str] = {}

    def note_name(self, number: str | None, user_id: str, name: str) -> None:
        """Remember what a person is called, and which user id goes with a number."""
        self._names[user_id] = name
        if number is not None:
            self._user_ids[number] = user_id

    def note_message(self, phone_number_id: str, user_id: str, at: float) -> None:
        """A person wrote to a number of the business at `at` (epoch seconds): 24 h begin."""
        self._wrote_at[phone_number_id, user_id] = at

    def is_window_open(self, phone_number_id: str, recipient: str, now: float) -> bool:
        """Whether the person wrote to this number within the last 24 h.  recipient: digits or user id."""
        if not self._wrote_at:
            return False
        wrote_at = self._wrote_at.get((phone_number_id, self.user_id_of(recipient)))
        return wrote_at is not None and now < wrote_at + WINDOW_SECONDS

    def note_preference(self, user_id: str, *, wants_marketing: bool) -> None:
        if wants_marketing:
            self._stopped.discard(user_id)
        else:
            self._stopped.add(user_id)

    def has_stopped(self, recipient: str) -> bool:
        """Whether the person told the platform to stop this business's marketing."""
        return bool(self._stopped) and self.user_id_of(recipient) in self._stopped

    def user_id_of(self, recipient: str) -> str:
        """recipient: digits, or a user id, which is its own answer."""
        if not recipient.isdigit():
            return recipient
        return self._user_ids.get(recipient) or derive_user_id(recipient)

    def describe(self, recipient: str) -> dict[str, Any]:
        """The person as `contacts` of a webhook shows them: without `wa_id` when only the user id is known."""
        user_id = self.user_id_of(recipient)
        contact: dict[str, Any] = {"profile": {"name": self._names.get(user_id) or f"Person {user_id[-4:]}"}}
        if recipient.isdigit():
            contact["wa_id"] = recipient
        contact["user_id"] = user_id
        return contact
