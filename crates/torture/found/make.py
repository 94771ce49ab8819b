"""Makes the files of this folder with Pillow 13: what libraries once panicked at, ran out of memory with, or said at length.

    python3 make.py

A file that `cargo xtask torture` finds is made here from a drawn image, as small as it can be, when its fault is repaired. All other
sound files that mutations begin with are goldens of the crates `data` and `interchange`, or made by `src/seeds.rs`.
"""

import io
import struct
import zlib
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent


def write(name, data):
    (HERE / name).write_bytes(data)


def png(header, *chunks):
    file = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", struct.pack(">IIBBBBB", *header)), *chunks, (b"IEND", b"")):
        file += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return file


def tiff(entries, data):
    """One directory; a value of None is the place behind it."""
    place = 8 + 2 + 12 * len(entries) + 4
    directory = struct.pack("<H", len(entries))
    for tag, kind, count, value in entries:
        directory += struct.pack("<HHII", tag, kind, count, place if value is None else value)
    return b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<I", 0) + data


# The crate png 0.18.1 panics at a palette whose length is no multiple of three.
write("png-palette-of-four-bytes", png((1, 1, 8, 3, 0, 0, 0), (b"PLTE", b"\1\2\3\4"), (b"IDAT", zlib.compress(b"\0\0"))))

# The crate libjpeg-turbo-rs 0.9.0 panics at inks of different resolution in a progressive JPEG.
drawn = io.BytesIO()
Image.linear_gradient("L").resize((33, 21)).convert("CMYK").save(drawn, "JPEG", progressive=True)
jpeg = bytearray(drawn.getvalue())
frame = jpeg.index(b"\xff\xc2")
for component, sampling in enumerate((0x22, 0x11, 0x11, 0x22)):
    jpeg[frame + 11 + 3 * component] = sampling
write("jpeg-progressive-inks-sampled", jpeg)

# The crate tiff 0.11.3 lists thousands of numbers in its message, and prints to stderr at a text longer than its limit.
SIZE = [(256, 3, 1, 1), (257, 3, 1, 1)]
write("tiff-many-samples", tiff(SIZE + [(258, 3, 3000, None), (262, 3, 1, 2), (277, 3, 1, 3000)], b"\1\0" * 3000))
write("tiff-long-text", tiff(SIZE + [(270, 2, 1 << 30, None), (262, 3, 1, 1), (273, 4, 1, 8), (279, 4, 1, 1)], b"text"))

# 65,536 and more pixels a side in few bytes: tables for resizing grow with a side, not with the pixels.
rows = zlib.compressobj(9)
write("png-one-long-row", png((1 << 26, 1, 1, 0, 0, 0, 0), (b"IDAT", rows.compress(bytes(1 + (1 << 23))) + rows.flush())))
