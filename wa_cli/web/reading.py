"""Reading a request: who asks, and what the body says, with a bound on everything that comes from outside."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from difflib import get_close_matches
from secrets import compare_digest
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from wa_cli.domain.api_key import Scope
from wa_cli.domain.recipient import show_text
from wa_cli.errors import Temporary, UsageError
from wa_cli.services.api_keys import find_key
from wa_cli.web.errors import Forbidden, Invalid, Unauthorized

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from wa_cli.bootstrap import App
    from wa_cli.web.store import StoreThread

API_BYTES: Final = 10_000_000
LARGE_BYTES: Final = 100_000
UNVOUCHED_BYTES: Final = 64_000_000
WEBHOOK_BYTES: Final = 3_000_000  # Meta's own bound
BODY_SECONDS: Final = 20.0
WEBHOOK_SECONDS: Final = 5.0
DEEPEST: Final = 32
PROBLEMS_SHOWN: Final = 3
LONGEST_ACTOR: Final = 200

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks.  key: the name of the key, which was checked.  user: whom its holder says to act for, which was not."""

    key: str
    user: str | None

    @property
    def actor(self) -> str:
        """How the caller is recorded beside what was asked for."""
        return f"key {self.key}" + (f" for '{self.user}'" if self.user else "")


# --- who -----------------------------------------------------------------------------------------------------------


async def identify(request: Request, store: StoreThread, scope: Scope, *others: Scope) -> Caller:
    """Whoever holds the bearer key of the request.  Before the body is read.

    Raises: Unauthorized (401) without a good key, Forbidden (403) when it has not the scope; Invalid (422) for a query
    that the route does not know: a misspelt filter must not look like an answer to it.
    """
    key = _bearer(request)
    if scope is Scope.WORKER and _is_worker_secret(store.app, key):
        _check_query(request)
        return _note_caller(request, Caller(key="WORKER_SECRET", user=_read_user(request)))

    def look(app: App) -> Caller:
        found = find_key(app.api_keys, key, now_ms=app.clock.wall_ms())
        if found is None:
            raise Unauthorized("the key is not one of this server's", hint="`wa serve key add NAME` makes one")
        if found.scopes.isdisjoint((scope, *others)):
            raise Forbidden(
                f"the key '{found.name}' has not the scope '{scope}'",
                hint=f"make another one: `wa serve key add NAME --scope {scope}`",
            )
        _check_query(request)
        return Caller(key=found.name, user=_read_user(request))

    return _note_caller(request, await store.run(look))


def _check_query(request: Request) -> None:
    dependant = getattr(request.scope.get("route"), "dependant", None)
    known = [field.alias for field in dependant.query_params] if dependant is not None else []
    for name in request.query_params:
        if name not in known:
            near = get_close_matches(name.lower(), [one.lower() for one in known], n=1)
            meant = next((one for one in known if one.lower() in near), None)
            raise Invalid(
                f"'{show_text(name)}' is nothing that this address can be asked",
                hint=f"did you mean {meant}?" if meant else f"it can be asked: {', '.join(known) or 'nothing'}",
            )


def _note_caller(request: Request, caller: Caller) -> Caller:
    request.scope["wa.caller"] = caller  # for the line in the log
    return caller


def _bearer(request: Request) -> str:
    given = request.headers.getlist("authorization")
    if len(given) > 1:
        raise Unauthorized("there are two Authorization headers", hint="send one: Authorization: Bearer wak_...")
    scheme, _blank, key = (given[0] if given else "").strip().partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Unauthorized(
            "this call needs a key: Authorization: Bearer wak_...", hint="`wa serve key add NAME` makes one"
        )
    return key.strip()


def _is_worker_secret(app: App, key: str) -> bool:
    """Row Q8: the secret of the settings opens the worker, and nothing else."""
    secret = app.settings.text("WORKER_SECRET")
    return bool(secret) and compare_digest(secret.encode(), key.encode("utf-8", "surrogateescape"))


def _read_user(request: Request) -> str | None:
    """Row Q9: recorded, never trusted."""
    user = request.headers.get("x-user-id", "").strip()
    if not user:
        return None
    if len(user) > LONGEST_ACTOR or not user.isprintable():
        raise Invalid(
            f"x-user-id has 1 to {LONGEST_ACTOR} printable characters", hint="it is recorded beside what you ask for"
        )
    return user


def read_idempotency_key(request: Request) -> str | None:
    """The caller's own key for a call that sends.  The same rules as --key."""
    given = request.headers.getlist("idempotency-key")
    if len(given) > 1:
        raise Invalid("there are two Idempotency-Key headers", hint="send one")
    return given[0].strip() if given else None


# --- what ----------------------------------------------------------------------------------------------------------


class Budget:
    """How many bytes of bodies that nobody vouches for yet may be in memory at once, whoever sends them (fault 73)."""

    def __init__(self, most_bytes: int = UNVOUCHED_BYTES) -> None:
        self._left = most_bytes

    def spend(self, size: int) -> None:
        """Raises: Temporary (503) when it is used up: a genuine sender comes again."""
        if size > self._left:
            raise Temporary("too many bodies are on their way in", hint="send it again a little later", code="crowded")
        self._left -= size

    def give_back(self, size: int) -> None:
        self._left += size


async def read_body(request: Request, *, most: int, seconds: float, budget: Budget | None = None) -> bytes:
    """The raw body.  budget: what it is held to while it comes; given back when it is here or refused.

    Raises: UsageError `too_large` (413) before more than `most` bytes are held, `timeout` (408).
    """
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared) > most:
        _refuse_size(most)
    parts: list[bytes] = []
    size = spent = 0
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    _refuse_size(most)
                if budget is not None:
                    budget.spend(len(part))
                    spent += len(part)
                parts.append(part)
    except TimeoutError as error:
        raise UsageError(
            f"the body did not come within {seconds:g} s", hint="send it in one go", code="timeout"
        ) from error
    finally:
        if budget is not None:
            budget.give_back(spent)
    return b"".join(parts)


def _refuse_size(most: int) -> NoReturn:
    raise UsageError(
        f"the body is larger than {most // 1_000_000} MB", hint="split the call into several", code="too_large"
    )


async def read_model(request: Request, model: type[Model], *, may_be_empty: bool = False) -> Model:
    """The body as the model says.  may_be_empty: no body at all stands for the defaults.

    Raises: UsageError for what is no JSON (400) and for what does not fit (422).
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if may_be_empty and not kind and not await read_body(request, most=API_BYTES, seconds=BODY_SECONDS):
        return model()
    if kind != "application/json":
        raise UsageError(
            f"the body is '{kind[:60]}'" if kind else "the request does not say what its body is",
            hint="send JSON, with the header Content-Type: application/json",
            code="media_type",
        )
    body = await read_body(request, most=API_BYTES, seconds=BODY_SECONDS)
    if len(body) > LARGE_BYTES:  # a second of parsing must not keep a webhook waiting for its answer
        return await asyncio.to_thread(_parse_model, body, model)
    return _parse_model(body, model)


def _parse_model(body: bytes, model: type[Model]) -> Model:
    document = parse_json(body)
    try:
        return model.model_validate(document)
    except ValidationError as error:
        problems = [
            (".".join(str(part) for part in one["loc"]), one["msg"])
            for one in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        raise invalid(problems, model) from None


def invalid(problems: Sequence[tuple[str, str]], model: type[BaseModel] | None = None) -> Invalid:
    """The error for fields that do not fit.  problems: (place, what is wrong)."""
    shown = [f"{place or 'the body'}: {_lower(words)}" for place, words in problems[:PROBLEMS_SHOWN]]
    if len(problems) > PROBLEMS_SHOWN:
        shown.append(f"and {len(problems) - PROBLEMS_SHOWN} more")
    known = sorted(field.alias or name for name, field in model.model_fields.items()) if model else []
    hint = f"the fields are {', '.join(known)}" if known else "/openapi.json says what fits"
    return Invalid("; ".join(shown), hint=hint)


def _lower(words: str) -> str:
    return words[:1].lower() + words[1:]


def parse_json(body: bytes) -> Any:
    """The document.  Raises: UsageError `json` for anything that is not plain JSON in UTF-8, or nests too deeply."""
    try:
        document = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:  # of the bytes, of the JSON, or of a number with thousands of digits
        raise UsageError(f"the body is not JSON: {error}", hint="JSON in UTF-8", code="json") from error
    _check(document)
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def _too_deep() -> UsageError:
    return UsageError(f"the body nests deeper than {DEEPEST} levels", hint="no call needs that", code="too_deep")


def _check(document: Any) -> None:
    """Bound the depth, and refuse halves of characters: no text may hold one, and no store takes it."""
    waiting: list[tuple[Any, int]] = [(document, 1)]
    while waiting:
        part, depth = waiting.pop()
        if isinstance(part, str):
            if not part.isascii():
                _check_text(part)
        elif isinstance(part, dict | list):
            if depth > DEEPEST:
                raise _too_deep()
            inner = [*part, *part.values()] if isinstance(part, dict) else part
            waiting += [(one, depth + 1) for one in inner]


def _check_text(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(
            "a text of the body holds half of a character (a lone surrogate)", hint="write it as UTF-8", code="json"
        ) from error
