"""Makes the images of this folder with Pillow 13: small drawn ones, of every kind that Pillow writes.

    python3 make.py

Other starting points of the mutations are made by `src/seeds.rs`, or are goldens of the crate `interchange`.
"""

import io
import struct
import zlib
from pathlib import Path

from PIL import Image, ImageDraw

HERE = Path(__file__).parent
EXIF = Image.Exif()
EXIF[274] = 6
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="8"/></x:xmpmeta>'


def drawn(width, height):
    image = Image.linear_gradient("L").resize((width, height)).convert("RGB")
    draw = ImageDraw.Draw(image)
    draw.ellipse((2, 2, width - 5, height - 4), fill=(200, 40, 90), outline=(20, 220, 30))
    draw.line((0, height, width, 0), fill=(10, 20, 250), width=3)
    return image


RGB = drawn(33, 21)
GREY = RGB.convert("L")
PALETTE = RGB.quantize(13)
RGBA = RGB.copy()
RGBA.putalpha(GREY)
BITS = GREY.convert("1")
LA = Image.merge("LA", (GREY, GREY))
SIXTEEN = GREY.convert("I").point(lambda v: v * 257).convert("I;16")


def save(name, image, **options):
    path = HERE / name
    path.parent.mkdir(exist_ok=True)
    image.save(path, **options)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(name, width, height, depth, colour, interlace, rows, extra=b""):
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (HERE / "png" / name).write_bytes(b"\x89PNG\r\n\x1a\n" + body)


for quality, sampling in ((30, 0), (75, 1), (90, 2)):
    save(f"jpeg/{sampling}.jpg", RGB, quality=quality, subsampling=sampling)
save("jpeg/progressive.jpg", RGB, progressive=True, exif=EXIF)
save("jpeg/grey.jpg", GREY, restart_marker_blocks=2)
save("jpeg/cmyk.jpg", RGB.convert("CMYK"))
save("jpeg/cmyk_progressive.jpg", RGB.convert("CMYK"), progressive=True)
save("jpeg/restart.jpg", RGB, restart_marker_rows=1, xmp=XMP, comment="drawn")

for name, image in (("rgb", RGB), ("grey", GREY), ("rgba", RGBA), ("la", LA), ("bits", BITS), ("sixteen", SIXTEEN)):
    save(f"png/{name}.png", image)
save("png/palette.png", PALETTE, transparency=bytes(range(13)), exif=EXIF)
save("png/palette4.png", RGB.quantize(5), bits=4)
save("png/animated.png", RGB, save_all=True, append_images=[RGB.rotate(90)])
png("interlaced.png", 9, 9, 8, 2, 1, b"".join(
    bytes(row * (1 + 3 * columns)) for columns, row in ((2, 2), (1, 2), (3, 1), (2, 3), (5, 2), (4, 5), (9, 4))))
png("two_bits.png", 9, 3, 2, 0, 0, b"\0\x1b\xe4\0" * 3)
png("sixteen_rgb.png", 3, 2, 16, 2, 0, (b"\4" + bytes(range(18))) * 2, chunk(b"tRNS", bytes(6)))

save("gif/one.gif", PALETTE, transparency=3)
save("gif/animated.gif", PALETTE, save_all=True, append_images=[PALETTE.rotate(180)], duration=50, disposal=2)
save("gif/interlaced.gif", drawn(17, 19).quantize(4), interlace=1)
save("webp/lossless.webp", RGBA, lossless=True)
save("webp/lossy.webp", RGB, quality=40, exif=EXIF)
save("webp/lossy_alpha.webp", RGBA, quality=60, xmp=XMP)
save("webp/animated.webp", RGBA, save_all=True, append_images=[RGBA.rotate(180)], lossless=True)

for name, image in (("rgb", RGB), ("rgba", RGBA), ("grey", GREY), ("palette", PALETTE), ("bits", BITS)):
    save(f"bmp/{name}.bmp", image)


def bmp(name, bits, compression, data, colours=b"", masks=b""):
    header = struct.pack("<IiiHHIIiiII", 40, 7, 5, 1, bits, compression, len(data), 0, 0, len(colours) // 4, 0)
    place = 14 + len(header) + len(masks) + len(colours)
    file = b"BM" + struct.pack("<IHHI", place + len(data), 0, 0, place) + header + masks + colours + data
    (HERE / "bmp" / name).write_bytes(file)


COLOURS = bytes(range(64))
bmp("rle8.bmp", 8, 1, b"\7\1\0\0\0\3\1\2\3\0\4\5\0\0\0\2\3\1\2\6\0\0\7\2\0\1", COLOURS)
bmp("rle4.bmp", 4, 2, b"\7\x12\0\0\0\5\x12\x34\x50\0\2\x11\0\0\0\2\1\1\3\x56\0\1", COLOURS)
bmp("bitfields.bmp", 16, 3, bytes(range(16)) * 5, masks=struct.pack("<III", 0xF800, 0x7E0, 0x1F))

for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
    save(f"tiff/{compression}.tif", RGB, compression=compression)
for compression in ("group3", "group4", "tiff_ccitt"):
    save(f"tiff/{compression}.tif", BITS, compression=compression)
for name, image in (("grey", GREY), ("rgba", RGBA), ("la", LA), ("palette", PALETTE), ("sixteen", SIXTEEN),
                    ("float", GREY.convert("F")), ("cmyk", RGB.convert("CMYK")), ("ycbcr", RGB.convert("YCbCr"))):
    save(f"tiff/{name}.tif", image)
save("tiff/turned.tif", RGB, tiffinfo={274: 6}, compression="zstd")
save("tiff/big.tif", GREY, big_tiff=True)
save("tiff/strips.tif", RGB, compression="tiff_lzw", strip_size=300, tiffinfo={317: 2})

for name, image in (("rgb.ppm", RGB), ("grey.pgm", GREY), ("bits.pbm", BITS), ("sixteen.pgm", SIXTEEN)):
    save(f"pnm/{name}", image)
for name, text in (("p1.pbm", "P1\n# drawn\n4 2\n1 0 1 0\n0101\n"), ("p2.pgm", "P2 3 2 15\n0 3 7 15 9 1\n"),
                   ("p3.ppm", "P3\n2 2\n1023\n0 1 2 1023 4 5 6 7 8 9 10 11\n")):
    (HERE / "pnm" / name).write_text(text)
(HERE / "pnm" / "p5_100.pgm").write_bytes(b"P5\n# maxval\n4 3\n100\n" + bytes(range(0, 96, 8)))


def tiff(name, entries, data):
    """One directory; a value of bytes is put behind it."""
    place = 8 + 2 + 12 * len(entries) + 4
    directory = struct.pack("<H", len(entries))
    for tag, kind, count, value in entries:
        directory += struct.pack("<HHII", tag, kind, count, place if value is None else value)
    (HERE / "tiff" / name).write_bytes(b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<I", 0) + data)


# What libraries once panicked at, or said at length.
png("palette_of_four_bytes.png", 1, 1, 8, 3, 0, b"\0\0", chunk(b"PLTE", b"\1\2\3\4"))
jpeg = bytearray((HERE / "jpeg" / "cmyk_progressive.jpg").read_bytes())
frame = jpeg.index(b"\xff\xc2")
for component, sampling in enumerate((0x22, 0x11, 0x11, 0x22)):
    jpeg[frame + 11 + 3 * component] = sampling
(HERE / "jpeg" / "cmyk_sampled.jpg").write_bytes(jpeg)
SIZE = [(256, 3, 1, 1), (257, 3, 1, 1)]
tiff("many_samples.tif", SIZE + [(258, 3, 3000, None), (262, 3, 1, 2), (277, 3, 1, 3000)], b"\1\0" * 3000)
tiff("long_text.tif", SIZE + [(270, 2, 1 << 30, None), (262, 3, 1, 1), (273, 4, 1, 8), (279, 4, 1, 1)], b"text")
