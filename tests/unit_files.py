"""What systemd and cron make of the lines that `wa service` prints, by the rules of their own sources."""

from __future__ import annotations

# cunescape_one of systemd, as far as one sign stands for another.
ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "s": " "}


def read_unit(text: str) -> dict[str, dict[str, list[str]]]:
    """The raw values of a unit file, by section and key: comments skipped, blanks around values cut, lines joined."""
    sections: dict[str, dict[str, list[str]]] = {}
    here: dict[str, list[str]] = {}
    held = ""
    for piece in text.split("\n"):
        line = held + piece.lstrip(" \t") if held else piece.strip(" \t\r")
        held = ""
        if line.startswith(("#", ";")) or not line:
            continue
        if line.endswith("\\"):
            held = line[:-1] + " "
        elif line.startswith("["):
            here = sections.setdefault(line.strip("[]"), {})
        else:
            key, equals, value = line.partition("=")
            assert equals, line
            here.setdefault(key, []).append(value.strip(" \t\r"))
    assert not held
    return sections


def split_words(value: str, *, knows_escapes: bool) -> list[str]:
    """extract_first_word, as often as there is a word: with EXTRACT_UNQUOTE, and EXTRACT_CUNESCAPE if knows_escapes."""
    words: list[str] = []
    word: str | None = None
    quote = ""
    signs = iter(value)
    for sign in signs:
        if sign == "\\":
            following = next(signs)  # StopIteration: a backslash at the end is an error there, too
            if knows_escapes and following not in "\\\"'":
                following = ESCAPES[following]
            word = (word or "") + following
        elif quote and sign == quote:
            quote = ""
        elif quote:
            word = (word or "") + sign
        elif sign in "\"'":
            quote, word = sign, word or ""
        elif sign in " \t\n\r":
            if word is not None:
                words.append(word)
            word = None
        else:
            word = (word or "") + sign
    assert not quote, value
    return words if word is None else [*words, word]


def resolve_specifiers(text: str) -> str:
    """What is left when no specifier is meant: each percent sign stands there twice."""
    assert "%" not in text.replace("%%", ""), text
    return text.replace("%%", "%")


def read_command(value: str) -> list[str]:
    """The arguments that ExecStart= comes to, in an environment without a variable."""
    raw = split_words(value, knows_escapes=True)
    assert ";" not in value.split(" "), value  # there, a bare one begins another command
    first, *rest = map(resolve_specifiers, raw)
    path = first.lstrip("@-:+!|")
    prefix = first[: len(first) - len(path)]
    if ":" not in prefix:
        assert not any("$" in word for word in (path, *rest)), value  # a variable, which would be put in
    return [path, *rest]


def read_crontab_line(line: str) -> str:
    """What cron hands to the shell: the rest after five fields, with each escaped percent sign bare."""
    command = line.split(" ", 5)[5]
    assert "%" not in command.replace("\\%", ""), line  # a bare one ends the command
    return command.replace("\\%", "%")
