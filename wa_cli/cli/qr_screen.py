"""A QR code in the terminal, two modules a line, and as a picture beside it."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, Final

from wa_cli.cli.private_file import replace_private_bytes
from wa_cli.cli.session import clean_text

if TYPE_CHECKING:
    from pathlib import Path

    from wa_cli.cli.session import Session
    from wa_cli.domain.connection import PairingQr

Matrix = list[list[bool]]

# Four modules of white around it is what scanners may expect; two still work, and are better than a code cut off.
QUIET_ZONES: Final = (4, 2)
# Black on white by number: the sixteen named colours are whatever a theme makes of them, and a code that is light on
# dark is not read by every phone.
INK: Final = "\x1b[38;5;16;48;5;231m"
PLAIN: Final = "\x1b[0m"
HALVES: Final = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}
SCALE: Final = 8  # pixels a module, in pictures that we draw


def read_matrix(qr: PairingQr) -> Matrix | None:
    """The modules of a code, True for dark; None for a picture that cannot be read back."""
    if qr.text is not None:
        import segno

        # The least error correction: a screen has no dirt on it, and every size less fits one more terminal.
        made = segno.make(qr.text, error="l", boost_error=False, micro=False)
        return [[bool(module) for module in row] for row in made.matrix]
    from wa_cli.domain.qr_image import read_qr_matrix

    try:
        return read_qr_matrix(qr.png or b"")
    except ValueError:
        return None


def draw_picture(qr: PairingQr) -> bytes:
    """A PNG of the code: the gateway's own, or one made of its text."""
    if qr.png is not None:
        return qr.png
    import io

    import segno

    picture = io.BytesIO()
    made = segno.make(qr.text or "", error="l", boost_error=False, micro=False)
    made.save(picture, kind="png", scale=SCALE, border=QUIET_ZONES[0])
    return picture.getvalue()


def draw_lines(matrix: Matrix, *, quiet: int) -> list[str]:
    """The code with its quiet zone, a character for two modules one above the other."""
    side = len(matrix) + 2 * quiet
    empty = [False] * side
    rows = [
        *[empty] * quiet,
        *([False] * quiet + row + [False] * quiet for row in matrix),
        *[empty] * quiet,
    ]
    if len(rows) % 2:
        rows.append(empty)
    return [
        "".join(HALVES[upper, lower] for upper, lower in zip(rows[place], rows[place + 1], strict=True))
        for place in range(0, len(rows), 2)
    ]


class QrScreen:
    """Shows codes to whoever runs the command: drawn on a terminal, else as a file.

    picture: where the PNG goes.
    """

    def __init__(self, session: Session, *, picture: Path) -> None:
        self._session = session
        self._picture = picture
        self._draws = sys.stderr.isatty() and not session.is_spoken and os.environ.get("TERM") != "dumb"
        self._above = 0  # lines of the code that stands above the countdown
        self._has_status = False
        self._was_shown = False

    def show_qr(self, qr: PairingQr) -> None:
        replace_private_bytes(self._picture, draw_picture(qr))
        matrix = read_matrix(qr) if self._draws else None
        columns, rows = shutil.get_terminal_size((80, 24))
        lines: list[str] = []
        if matrix is not None:
            fitting = [quiet for quiet in QUIET_ZONES if len(matrix) + 2 * quiet <= columns]
            lines = draw_lines(matrix, quiet=fitting[0]) if fitting else []
        if not self._was_shown:
            self._say("On the phone: WhatsApp > Settings > Linked devices > Link a device, then scan the code.")
            if lines and len(lines) + 1 > rows:
                self._say(f"The code needs {len(lines) + 1} lines: enlarge the window, or open {self._picture}")
            else:
                self._say(f"The code is in {self._picture}, too" if lines else f"The code is in {self._picture}")
        elif not lines:
            self._say(f"A new code is in {self._picture}")
        self._was_shown = True
        if lines:
            self._draw(lines, rows=rows)

    def show_code(self, code: str) -> None:
        self._was_shown = True
        self._say("On the phone: WhatsApp > Settings > Linked devices > Link with phone number, then type the code.")
        self._session.show(clean_text(code))
        sys.stdout.flush()

    def count_down(self, seconds: float, *, is_code: bool) -> None:
        if not self._draws or self._session.quiet:
            return
        words = f"valid for {seconds:.0f} s more" if is_code else f"waiting for the phone, {seconds:.0f} s more"
        sys.stderr.write(f"\r\x1b[K{words}  (Ctrl-C ends this)")
        sys.stderr.flush()
        self._has_status = True

    def close(self) -> None:
        """Leave the terminal as it was: on a line of its own."""
        if self._has_status:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._has_status = False

    def _say(self, line: str) -> None:
        self.close()
        self._session.say(line)

    def _draw(self, lines: list[str], *, rows: int) -> None:
        self.close()
        # Over the one before, where all of that is still in sight.
        up = f"\x1b[{self._above}A\x1b[J" if 0 < self._above < rows else ""
        sys.stderr.write(up + "".join(f"{INK}{line}{PLAIN}\n" for line in lines))
        sys.stderr.flush()
        self._above = len(lines)
