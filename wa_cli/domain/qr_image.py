"""A clean picture of a QR code, read back into its modules: for terminals that cannot show the picture.

Reads what programs draw, not what cameras see: a PNG with the code upright, dark on light, and nothing else in it.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_SIDE: Final = 4096  # pixels
MAX_BYTES: Final = 4_000_000
_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_GRAY: Final = 0
_RGB: Final = 2
_PALETTE: Final = 3
_GRAY_ALPHA: Final = 4
_RGB_ALPHA: Final = 6
_CHANNELS: Final = {_GRAY: 1, _RGB: 3, _PALETTE: 1, _GRAY_ALPHA: 2, _RGB_ALPHA: 4}
_SMALLEST, _LARGEST, _STEP = 21, 177, 4  # modules on a side of versions 1 to 40
_FINDER: Final = 7


def read_qr_matrix(png: bytes) -> list[list[bool]]:
    """The modules of a QR code, row by row, True for dark, without the quiet zone around it.

    png: greyscale, palette or true colour, of any bit depth, not interlaced; modules may differ by a pixel in size.
    Raises: ValueError when it is no such picture, or shows no whole QR code.
    """
    if len(png) > MAX_BYTES:
        raise ValueError("the picture is too large")
    rows = _read_pixels(png)
    top, bottom = _find_span([any(row) for row in rows])
    left, right = _find_span([any(row[x] for row in rows) for x in range(len(rows[0]))])
    height, width = bottom - top, right - left
    run = 0
    while run < width and rows[top][left + run]:
        run += 1
    guess = width * _FINDER / run
    for size in sorted(range(_SMALLEST, _LARGEST + 1, _STEP), key=lambda size: abs(size - guess))[:3]:
        if min(width, height) < size:
            continue
        columns = [left + int((x + 0.5) * width / size) for x in range(size)]
        lines = [top + int((y + 0.5) * height / size) for y in range(size)]
        modules = [[rows[y][x] for x in columns] for y in lines]
        if _is_qr(modules):
            return modules
    raise ValueError("the picture shows no QR code")


def _find_span(line: list[bool]) -> tuple[int, int]:
    """From the first dark one to behind the last."""
    if True not in line:
        raise ValueError("the picture is empty")
    return line.index(True), len(line) - line[::-1].index(True)


def _is_qr(modules: list[list[bool]]) -> bool:
    """Whether the three large squares and the two dotted lines between them are where they have to be."""
    size = len(modules)
    for top, left in ((0, 0), (0, size - _FINDER), (size - _FINDER, 0)):
        for y in range(_FINDER):
            for x in range(_FINDER):
                ring = max(abs(y - 3), abs(x - 3))
                if modules[top + y][left + x] is (ring == 2):
                    return False
    return all(
        modules[6][place] is modules[place][6] is (place % 2 == 0) for place in range(_FINDER + 1, size - _FINDER - 1)
    )


# --- the picture ---


def _read_pixels(png: bytes) -> list[list[bool]]:
    """Every pixel, True for dark; what is transparent is light."""
    header = packed = palette = alpha = b""
    for kind, body in _read_chunks(png):
        if kind == b"IHDR":
            header = body
        elif kind == b"PLTE":
            palette = body
        elif kind == b"tRNS":
            alpha = body
        elif kind == b"IDAT":
            packed += body
    try:
        width, height, depth, kind_of_colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    except struct.error:
        raise ValueError("the picture is no PNG") from None
    channels = _CHANNELS.get(kind_of_colour, 0)
    if not channels or depth not in (1, 2, 4, 8, 16) or interlaced or not 0 < max(width, height) <= MAX_SIDE:
        raise ValueError("the picture is of a kind that cannot be read here")
    if not width or not height:
        raise ValueError("the picture is empty")
    line_bytes = (width * channels * depth + 7) // 8
    wanted = (line_bytes + 1) * height
    try:
        raw = zlib.decompressobj().decompress(packed, wanted)
    except zlib.error:
        raise ValueError("the picture is damaged") from None
    if len(raw) != wanted:
        raise ValueError("the picture is cut short")
    lines = _undo_filters(raw, line_bytes, max(1, channels * depth // 8))
    most = (1 << depth) - 1
    if kind_of_colour == _PALETTE:
        dark = [
            _is_dark(palette[at * 3 : at * 3 + 3], 255, alpha[at] if at < len(alpha) else 255)
            for at in range(len(palette) // 3)
        ]
        dark += [False] * (most + 1 - len(dark))
        return [[dark[sample] for sample in _read_samples(line, depth, width)] for line in lines]
    colours = 1 if kind_of_colour in (_GRAY, _GRAY_ALPHA) else 3
    has_alpha = kind_of_colour in (_GRAY_ALPHA, _RGB_ALPHA)
    pictures: list[list[bool]] = []
    for line in lines:
        samples = _read_samples(line, depth, width * channels)
        pictures.append(
            [
                _is_dark(samples[at : at + colours], most, samples[at + colours] * 255 // most if has_alpha else 255)
                for at in range(0, width * channels, channels)
            ]
        )
    return pictures


def _is_dark(colour: bytes | list[int], most: int, alpha: int) -> bool:
    return alpha >= 128 and sum(colour) * 2 < most * len(colour)


def _read_chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    if not png.startswith(_SIGNATURE):
        raise ValueError("the picture is no PNG")
    at = len(_SIGNATURE)
    while at + 8 <= len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        at += 12 + length


def _read_samples(line: bytes, depth: int, count: int) -> list[int]:
    if depth == 8:
        return list(line[:count])
    if depth == 16:
        return [line[at] << 8 | line[at + 1] for at in range(0, count * 2, 2)]
    each, mask = 8 // depth, (1 << depth) - 1
    return [line[at // each] >> (8 - depth - at % each * depth) & mask for at in range(count)]


def _undo_filters(raw: bytes, line_bytes: int, step: int) -> list[bytes]:
    """The lines as they were before PNG's five filters.  step: bytes to the same sample of the pixel before."""
    lines: list[bytes] = []
    above = bytes(line_bytes)
    for start in range(0, len(raw), line_bytes + 1):
        method = raw[start]
        line = bytearray(raw[start + 1 : start + 1 + line_bytes])
        if method > 4:
            raise ValueError("the picture is damaged")
        if method:
            for at in range(line_bytes):
                left = line[at - step] if at >= step else 0
                corner = above[at - step] if at >= step else 0
                line[at] = (line[at] + _predict(method, left, above[at], corner)) & 0xFF
        above = bytes(line)
        lines.append(above)
    return lines


def _predict(method: int, left: int, up: int, corner: int) -> int:
    match method:
        case 1:
            return left
        case 2:
            return up
        case 3:
            return (left + up) // 2
        case _:
            near = left + up - corner
            away_left, away_up, away_corner = abs(near - left), abs(near - up), abs(near - corner)
            if away_left <= away_up and away_left <= away_corner:
                return left
            return up if away_up <= away_corner else corner
