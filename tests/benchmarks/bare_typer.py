"""The smallest Typer app that has sub-commands and a flag: what `wa --help` is held against."""

from __future__ import annotations

import typer

app = typer.Typer()


@app.command()
def greet(name: str, loudly: bool = False) -> None:
    """Greet somebody."""
    typer.echo(f"HELLO {name}" if loudly else f"hello {name}")


@app.command()
def part(name: str) -> None:
    """Say good-bye."""
    typer.echo(f"bye {name}")


if __name__ == "__main__":
    app()
