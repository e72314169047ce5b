"""What the tests of the HTTP door share: a real server on loopback, on a database of the test's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wa_cli.domain.recipient import parse_recipient
from wa_cli.domain.subgroup import NewMember
from wa_cli.services.api_keys import make_key

if TYPE_CHECKING:
    import httpx

    from wa_cli.bootstrap import App
    from wa_cli.web.server import WebServer

ADA, BEN, EVA = "+6581230001", "+6581230002", "+6581230003"


@dataclass(slots=True, kw_only=True)
class Api:
    """A server, the app that the test looks through, and a client that holds a key with every scope."""

    app: App
    server: WebServer
    client: httpx.Client
    keys: dict[str, str] = field(default_factory=dict)

    def key(self, name: str = "shop", *scopes: str) -> str:
        """A key of that name; made when it is first asked for."""
        if name not in self.keys:
            self.keys[name], _stored = make_key(
                self.app.api_keys, name, scopes or ("send", "read", "worker"), now_ms=self.app.clock.wall_ms()
            )
        return self.keys[name]

    def call(self, method: str, path: str, *, key: str | None = "", **options: Any) -> httpx.Response:
        """One request.  key: "" for the test's own, None for none."""
        headers = dict(options.pop("headers", {}))
        if key is not None:
            headers["Authorization"] = f"Bearer {key or self.key()}"
        return self.client.request(method, path, headers=headers, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.call("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return self.call("POST", path, **({"json": body} if body is not None else {}), **options)

    def subgroup(self, name: str, *addresses: str) -> int:
        """A subgroup with these members; its id."""
        now_ms = self.app.clock.wall_ms()
        made, _is_new = self.app.subgroups.create(name, now_ms=now_ms)
        members = [NewMember(recipient=parse_recipient(address, default_region=None)) for address in addresses]
        self.app.subgroups.add_members(made.id, members, now_ms=now_ms)
        return made.id

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self.app.database.read() as connection:
            return connection.execute(statement, values).fetchall()

    def value(self, statement: str, *values: object) -> Any:
        return self.rows(statement, *values)[0][0]

    def close(self) -> None:
        self.client.close()
        self.server.stop()
        self.server.join()
        self.server.app.close()
        self.app.close()


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """The error of an answer, which has the one shape."""
    document = answer.json()
    assert list(document) == ["error"]
    error: dict[str, Any] = document["error"]
    assert {"code", "message", "hint"} <= error.keys() <= {"code", "message", "hint", "exit"}
    return error
