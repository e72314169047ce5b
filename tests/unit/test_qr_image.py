"""Reading a picture of a QR code back into its modules.  Issue 6: pairing on the command line."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
import segno

from wa_cli.domain.qr_image import read_qr_matrix

# As long as what WhatsApp puts into its codes.
TEXT = "2@" + "kX9/abcdefghijklmnopqrstuvwxyz0123456789+ABCDEFGH" * 5 + ",1"


def make_modules(text: str) -> list[list[bool]]:
    return [[bool(module) for module in row] for row in segno.make(text, error="m", micro=False).matrix]


def draw(modules: list[list[bool]], *, side: int, quiet: int = 4, depth: int = 1, kind: int = 0) -> bytes:
    """A PNG of a fixed size whose pixels take the nearest module, so that modules differ by a pixel."""
    whole = len(modules) + 2 * quiet
    lines = []
    for y in range(side):
        row = int(y * whole / side) - quiet
        bits = []
        for x in range(side):
            column = int(x * whole / side) - quiet
            bits.append(0 <= row < len(modules) and 0 <= column < len(modules) and modules[row][column])
        lines.append(bits)
    return encode(lines, depth=depth, kind=kind)


def encode(lines: list[list[bool]], *, depth: int, kind: int, method: int = 0) -> bytes:
    raw = b""
    for bits in lines:
        if kind == 3:
            samples = [1 if dark else 0 for dark in bits]  # the palette below: 0 is white
        elif kind == 0:
            samples = [0 if dark else (1 << depth) - 1 for dark in bits]
        else:
            samples = [part for dark in bits for part in ((0, 0, 0, 255) if dark else (255, 255, 255, 255))]
        if depth == 8:
            line = bytes(samples)
        else:
            each = 8 // depth
            samples += [0] * (-len(samples) % each)
            line = bytes(
                sum(samples[at + place] << (8 - depth - place * depth) for place in range(each))
                for at in range(0, len(samples), each)
            )
        raw += bytes((method,)) + line

    def chunk(name: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")

    header = struct.pack(">IIBBBBB", len(lines[0]), len(lines), depth, kind, 0, 0, 0)
    palette = chunk(b"PLTE", b"\xff\xff\xff\x00\x00\x00") if kind == 3 else b""
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + palette
        + chunk(b"IDAT", zlib.compress(raw))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("depth", "kind"), [(1, 0), (8, 0), (1, 3), (8, 3), (8, 6)])
def test_a_picture_of_512_pixels_is_read_whatever_its_colours(depth: int, kind: int) -> None:
    modules = make_modules(TEXT)

    assert read_qr_matrix(draw(modules, side=512, depth=depth, kind=kind)) == modules


@pytest.mark.parametrize("length", [1, 20, 60, 120, 200, 300, 500])
def test_codes_of_every_usual_size_are_read_though_their_modules_are_uneven(length: int) -> None:
    modules = make_modules("x" * length)

    assert read_qr_matrix(draw(modules, side=512)) == modules


@pytest.mark.parametrize(("scale", "border"), [(1, 4), (3, 0), (8, 4)])
def test_what_another_program_draws_is_read(scale: int, border: int) -> None:
    code = segno.make(TEXT, micro=False)
    drawn = io.BytesIO()
    code.save(drawn, kind="png", scale=scale, border=border)

    assert read_qr_matrix(drawn.getvalue()) == [[bool(module) for module in row] for row in code.matrix]


def test_every_filter_of_png_is_undone() -> None:
    modules = make_modules("filters")
    side = len(modules) + 8
    pixels = [
        [4 <= y < side - 4 and 4 <= x < side - 4 and modules[y - 4][x - 4] for x in range(side)] for y in range(side)
    ]
    plain = [bytes(0 if dark else 255 for dark in row) for row in pixels]
    raw = b""
    for y, line in enumerate(plain):
        above = plain[y - 1] if y else bytes(side)
        method = y % 5
        raw += bytes((method,)) + bytes(
            (line[x] - predict(method, line[x - 1] if x else 0, above[x], above[x - 1] if x else 0)) & 255
            for x in range(side)
        )
    png = encode(pixels, depth=8, kind=0)
    at = png.index(b"IDAT") - 4
    packed = zlib.compress(raw)
    made = png[:at] + len(packed).to_bytes(4, "big") + b"IDAT" + packed + b"\x00\x00\x00\x00"

    assert read_qr_matrix(made) == modules


def predict(method: int, left: int, up: int, corner: int) -> int:
    near = left + up - corner
    paeth = min((left, up, corner), key=lambda one: abs(near - one))
    return (0, left, up, (left + up) // 2, paeth)[method]


@pytest.mark.parametrize(
    "png",
    [
        b"",
        b"GIF89a",
        b"\x89PNG\r\n\x1a\n",
        draw(make_modules("cut"), side=64)[:90],
        encode([[False] * 32] * 32, depth=1, kind=0),
        encode([[True] * 32] * 32, depth=1, kind=0),
        encode([[True, False] * 16] * 32, depth=1, kind=0),
    ],
)
def test_what_shows_no_code_is_refused_in_words(png: bytes) -> None:
    with pytest.raises(ValueError, match="the picture"):
        read_qr_matrix(png)


def test_a_picture_that_unpacks_to_more_than_it_says_costs_nothing() -> None:
    bomb = zlib.compress(bytes(50_000_000))
    header = struct.pack(">IIBBBBB", 21, 21, 8, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        len(body).to_bytes(4, "big") + name + body + bytes(4) for name, body in ((b"IHDR", header), (b"IDAT", bomb))
    )

    with pytest.raises(ValueError, match="the picture"):
        read_qr_matrix(png)
