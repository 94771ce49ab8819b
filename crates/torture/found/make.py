"""Writes the files of this folder with Pillow 13: files for which libraries panicked, ran out of memory or wrote long messages.

    python3 make.py

When a fault that `cargo xtask torture` has found is fixed, a minimal file that shows it is added here, made of a synthetic image.
All other valid files from which mutations start are goldens of the crates `data` and `interchange`, or written by `src/seeds.rs`.
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
    """Returns a TIFF with one directory. A value of None is the offset after the directory."""
    offset = 8 + 2 + 12 * len(entries) + 4
    directory = struct.pack("<H", len(entries))
    for tag, kind, count, value in entries:
        directory += struct.pack("<HHII", tag, kind, count, offset if value is None else value)
    return b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<I", 0) + data


# The crate png 0.18.1 panics for a palette whose length is not a multiple of three.
write("png-palette-of-four-bytes", png((1, 1, 8, 3, 0, 0, 0), (b"PLTE", b"\1\2\3\4"), (b"IDAT", zlib.compress(b"\0\0"))))

# The crate libjpeg-turbo-rs 0.9.0 panics for a progressive CMYK JPEG whose components have different resolutions.
drawn = io.BytesIO()
Image.linear_gradient("L").resize((33, 21)).convert("CMYK").save(drawn, "JPEG", progressive=True)
jpeg = bytearray(drawn.getvalue())
frame = jpeg.index(b"\xff\xc2")
for component, sampling in enumerate((0x22, 0x11, 0x11, 0x22)):
    jpeg[frame + 11 + 3 * component] = sampling
write("jpeg-progressive-inks-sampled", jpeg)

# The crate tiff 0.11.3 lists thousands of numbers in its message, and prints to stderr for a text longer than its limit.
SIZE = [(256, 3, 1, 1), (257, 3, 1, 1)]
write("tiff-many-samples", tiff(SIZE + [(258, 3, 3000, None), (262, 3, 1, 2), (277, 3, 1, 3000)], b"\1\0" * 3000))
write("tiff-long-text", tiff(SIZE + [(270, 2, 1 << 30, None), (262, 3, 1, 1), (273, 4, 1, 8), (279, 4, 1, 1)], b"text"))

# An image with a side of 65,536 pixels or more in few bytes: the tables for resizing grow with the side, not with the number of
# pixels.
rows = zlib.compressobj(9)
write("png-one-long-row", png((1 << 26, 1, 1, 0, 0, 0, 0), (b"IDAT", rows.compress(bytes(1 + (1 << 23))) + rows.flush())))
