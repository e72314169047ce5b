"""Help of commands with many options: those of one matter stand together, under its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typer.core import TyperArgument, TyperCommand

if TYPE_CHECKING:
    from collections.abc import Iterable


class Grouped(TyperCommand):
    """Shows the options in the panels that they name, after those that name none."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        arguments: list[tuple[str, str]] = []
        panels: dict[str, list[tuple[str, str]]] = {"Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            if isinstance(parameter, TyperArgument):
                arguments.append(record)
            else:
                panels.setdefault(getattr(parameter, "rich_help_panel", None) or "Options", []).append(record)
        for title, records in _with_content({"Arguments": arguments, **panels}):
            with formatter.section(title):
                formatter.write_dl(records)


def _with_content(panels: dict[str, list[tuple[str, str]]]) -> Iterable[tuple[str, list[tuple[str, str]]]]:
    return ((title, records) for title, records in panels.items() if records)
