"""Writes formats/*.tar.gz and formats/expected.json: small files of all formats and their variants, and Pillow's results for them.

    python formats.py        # pillow 13.0.0, numpy, zstandard, imagecodecs

Pillow writes the variants that it supports; the functions below write the others. For each file, the JSON has `mode` and `size`
as Pillow opens it, and `stored` and `upright`, the CRC-32 of its RGB bytes without and with `ImageOps.exif_transpose`; or `refused`,
Pillow's error. `high` is the CRC-32 of the high bytes of gray of more than 8 bits, which Pillow clips at 255 and does not invert
where 0 is white.
"""

import gzip
import io
import itertools
import json
import lzma
import math
import pathlib
import re
import struct
import sys
import tarfile
import warnings
import zlib

import imagecodecs
import numpy as np
import zstandard
from PIL import Image, ImageOps, PngImagePlugin

HERE = pathlib.Path(__file__).parent / "formats"
WIDTH, HEIGHT = 21, 13
RNG = np.random.default_rng(13)


def smooth(width, height, channels, seed=0):
    """Returns waves with a little noise, in 0...1, so that predictors, filters and dictionaries have an effect."""
    y, x, c = np.mgrid[0:height, 0:width, 0:channels].astype(np.float64)
    waves = 0.5 + 0.5 * np.sin(0.37 * x + 0.23 * y * (1 + c) + 1.9 * c + seed)
    noise = np.random.default_rng(seed).random(waves.shape) - 0.5
    return np.clip(waves + 0.2 * noise, 0, 1)


def samples(width, height, channels, bits, seed=0):
    """Returns the image as integers of `bits` bits."""
    return np.round(smooth(width, height, channels, seed) * (2**bits - 1)).astype(np.uint64)


def drawn(mode, width=WIDTH, height=HEIGHT, seed=0):
    """Returns the image in a mode of Pillow."""
    if mode == "P":
        return drawn("RGB", width, height, seed).quantize(40)
    if mode == "1":
        return Image.fromarray((smooth(width, height, 1, seed)[..., 0] > 0.5).astype(np.uint8) * 255).convert("1")
    channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4, "YCbCr": 3}[mode]
    pixels = samples(width, height, channels, 8, seed).astype(np.uint8)
    return Image.frombytes(mode, (width, height), pixels.tobytes())


def saved(image, format, **options):
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def packed(rows, bits, reverse=False):
    """Packs rows of integers of `bits` bits, the highest bit first. Rows are padded to bytes."""
    rows = np.asarray(rows, np.uint64).reshape(len(rows), -1)
    shifts = np.arange(bits - 1, -1, -1, dtype=np.uint64)
    planes = ((rows[..., None] >> shifts) & 1).astype(np.uint8).reshape(len(rows), -1)
    return np.packbits(planes, axis=1, bitorder="big").tobytes()


REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


# ---------------------------------------------------------------------------------------------------------------- EXIF


def exif(orientation, order="<", type=3):
    value = struct.pack(order + ("H2x" if type == 3 else "I"), orientation)
    head = b"II*\0\x08\0\0\0" if order == "<" else b"MM\0*\0\0\0\x08"
    return head + struct.pack(order + "HHHI", 1, 274, type, 1) + value + bytes(4)


def xmp(orientation, attribute=True):
    tag = f' tiff:Orientation="{orientation}"' if attribute else ""
    body = "" if attribute else f"<tiff:Orientation>{orientation}</tiff:Orientation>"
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/"{tag}>{body}</rdf:Description></rdf:RDF></x:xmpmeta>'
    ).encode()


# ---------------------------------------------------------------------------------------------------------------- TIFF

TYPES = {"B": 1, "s": 2, "H": 3, "I": 4, "b": 6, "Q": 16, "f": 11}
CODES = {
    "none": 1, "ccitt": 2, "g3": 3, "g4": 4, "lzw": 5, "old-jpeg": 6, "jpeg": 7, "deflate": 8, "packbits": 32773,
    "old-deflate": 32946, "lzma": 34925, "zstd": 50000, "webp": 50001,
}  # fmt: skip


def compressed(data, how):
    match how:
        case "none":
            return data
        case "lzw":
            return imagecodecs.lzw_encode(data)
        case "packbits":
            return imagecodecs.packbits_encode(data)
        case "deflate" | "old-deflate":
            return zlib.compress(data, 9)
        case "lzma":
            return lzma.compress(data, lzma.FORMAT_XZ, check=lzma.CHECK_NONE)
        case "zstd":
            return zstandard.compress(data)
    raise ValueError(how)


def directory(order, big, entries, blocks, tag_of_blocks):
    """Returns a TIFF with one directory. `tag_of_blocks` are the tags of the offsets and byte counts of the blocks of pixels."""
    offset_type = "Q" if big else "I"
    offsets_tag, counts_tag = tag_of_blocks
    entries = dict(entries)
    entries[counts_tag] = ("I", [len(block) for block in blocks])
    entries[offsets_tag] = (offset_type, [0] * len(blocks))
    head = 16 if big else 8
    data, places = bytearray(), []
    for block in blocks:
        places.append(head + len(data))
        data += block + bytes(len(block) % 2)
    entries[offsets_tag] = (offset_type, places)
    values, room = [], 8 if big else 4
    for tag, (kind, value) in sorted(entries.items()):
        raw = value if isinstance(value, bytes) else struct.pack(order + f"{len(value)}{kind}", *value)
        if len(raw) > room:
            place = head + len(data)
            data += raw + bytes(len(raw) % 2)
            raw = struct.pack(order + offset_type, place)
        values.append(struct.pack(order + "HH" + offset_type, tag, TYPES[kind], len(value)) + raw.ljust(room, b"\0"))
    ifd = struct.pack(order + ("Q" if big else "H"), len(values)) + b"".join(values) + bytes(room)
    mark = b"II" if order == "<" else b"MM"
    start = struct.pack(order + "HHHQ", 43, 8, 0, head + len(data)) if big else struct.pack(order + "HI", 42, head + len(data))
    return mark + start + bytes(data) + ifd


def predicted(rows):
    """Returns for each sample its difference to the sample on its left."""
    difference = rows.copy()
    difference[:, 1:] = rows[:, 1:] - rows[:, :-1]
    return difference


def tiff(
    pixels, bits, photometric, *, how="none", order="<", big=False, planar=1, tile=None, rows=5, predictor=1, fill=1,
    format=None, extra=None, map=None, tags=None, block=None,
):  # fmt: skip
    """Returns a TIFF. `pixels` are height × width × channels, integers or floats; `block` compresses a block instead of `how`."""
    height, width, channels = pixels.shape
    float_type = {16: np.float16, 32: np.float32, 64: np.float64}
    entries = {
        256: ("I", [width]), 257: ("I", [height]), 258: ("H", [bits] * channels), 259: ("H", [CODES[how]]),
        262: ("H", [photometric]), 277: ("H", [channels]), 284: ("H", [planar]),
    }  # fmt: skip
    if predictor != 1:
        entries[317] = ("H", [predictor])
    if fill != 1:
        entries[266] = ("H", [fill])
    if format is not None:
        entries[339] = ("H", [format] * channels)
    if extra is not None:
        entries[338] = ("H", extra)
    if map is not None:
        entries[320] = ("H", map)
    tw, th = tile or (width, rows)
    if tile:
        entries[322], entries[323] = ("I", [tw]), ("I", [th])
    else:
        entries[278] = ("I", [rows])
    entries.update(tags or {})
    planes = [pixels] if planar == 1 else [pixels[..., c : c + 1] for c in range(channels)]
    blocks = []
    for plane in planes:
        for y, x in itertools.product(range(0, height, th), range(0, width, tw)):
            part = plane[y : y + th, x : x + tw]
            if tile:
                part = np.pad(part, ((0, th - part.shape[0]), (0, tw - part.shape[1]), (0, 0)), "edge")
            if block:
                blocks.append(block(part))
                continue
            if format == 3:
                part = part.astype(float_type[bits])
                if predictor == 3:
                    big_endian = part.astype(part.dtype.newbyteorder(">")).reshape(len(part), -1)
                    planes_of_bytes = big_endian.view(np.uint8).reshape(len(part), -1, bits // 8).transpose(0, 2, 1)
                    flat = planes_of_bytes.reshape(len(part), -1)
                    lag = part.shape[2]
                    flat = np.concatenate([flat[:, :lag], flat[:, lag:] - flat[:, :-lag]], axis=1)
                    data = flat.astype(np.uint8).tobytes()
                else:
                    data = part.astype(part.dtype.newbyteorder(order)).tobytes()
            elif bits in (8, 16, 32, 64):
                part = part.astype(f"u{bits // 8}")
                part = predicted(part) if predictor == 2 else part
                data = part.astype(part.dtype.newbyteorder(order)).tobytes()
            else:
                data = packed(part, bits)
            data = compressed(data, how)
            blocks.append(data.translate(REVERSED) if fill == 2 else data)
    return directory(order, big, entries, blocks, (324, 325) if tile else (273, 279))


def color_map(bits):
    return [int(v) for v in (np.random.default_rng(bits).random(3 * 2**bits) * 65535).astype(int)]


def fax_block(compression, options=0):
    """Returns a block compressed by libtiff."""

    def block(part):
        height, width = part.shape[:2]
        bits = Image.fromarray((part[..., 0] * 255).astype(np.uint8)).convert("1")
        info = {278: height, 262: 0}
        if compression == "group3":
            info[292] = options
        file = saved(bits, "TIFF", compression=compression, tiffinfo=info)
        tags = Image.open(io.BytesIO(file)).tag_v2
        assert len(tags[273]) == 1
        return file[tags[273][0] : tags[273][0] + tags[279][0]]

    return block


def jpeg_block(mode, **options):
    def block(part):
        pixels = part.astype(np.uint8)
        image = Image.frombytes(mode, (part.shape[1], part.shape[0]), pixels.tobytes())
        return saved(image, "JPEG", quality=85, **options)

    return block


def subsampled(h, v):
    """Returns YCbCr in the data units of TIFF: h × v luma samples, one Cb, one Cr."""

    def block(part):
        height, width = part.shape[:2]
        part = np.pad(part, ((0, -height % v), (0, -width % h), (0, 0)), "edge").astype(np.uint8)
        rows, columns = part.shape[0] // v, part.shape[1] // h
        out = bytearray()
        for r, c in itertools.product(range(rows), range(columns)):
            clump = part[r * v : (r + 1) * v, c * h : (c + 1) * h]
            out += clump[..., 0].tobytes() + bytes([int(clump[..., 1].mean()), int(clump[..., 2].mean())])
        return bytes(out)

    return block


def tiffs():
    w, h = WIDTH, HEIGHT
    orders = {"le": "<", "be": ">"}
    lossless = ["none", "lzw", "packbits", "deflate", "old-deflate", "zstd", "lzma"]
    # Gray and palettes of each bit depth, both photometric interpretations of gray, both bit orders.
    for bits, (name, photometric) in itertools.product((1, 2, 4, 8), (("white0", 0), ("black0", 1), ("palette", 3))):
        for fill, (end, order), how in itertools.product((1, 2), orders.items(), ("none", "lzw")):
            map = color_map(bits) if photometric == 3 else None
            yield f"{name}-{bits}bit-fill{fill}-{how}-{end}", tiff(
                samples(w, h, 1, bits), bits, photometric, how=how, order=order, fill=fill, map=map
            )
    # Several pixel formats with each compression.
    kinds = {
        "bilevel": (1, 1, 1, {}), "grey": (1, 8, 1, {}), "grey16": (1, 16, 1, {}), "rgb": (3, 8, 2, {}), "rgb16": (3, 16, 2, {}),
        "rgba": (4, 8, 2, {"extra": [2]}), "cmyk": (4, 8, 5, {}), "palette": (1, 8, 3, {"map": color_map(8)}),
    }  # fmt: skip
    for (name, (channels, bits, photometric, more)), how in itertools.product(kinds.items(), lossless[1:]):
        pixels = samples(w, h, channels, bits)
        yield f"{name}-{how}-strips", tiff(pixels, bits, photometric, how=how, **more)
        if how in ("deflate", "lzw", "packbits"):
            yield f"{name}-{how}-tiles-be", tiff(pixels, bits, photometric, how=how, tile=(16, 16), order=">", **more)
        if how in ("lzw", "deflate", "zstd") and bits >= 8:
            yield f"{name}-{how}-predictor2", tiff(pixels, bits, photometric, how=how, predictor=2, **more)
            yield f"{name}-{how}-predictor2-be-tiles", tiff(
                pixels, bits, photometric, how=how, predictor=2, order=">", tile=(16, 16), **more
            )
    for how, planar, tile in itertools.product(("lzw", "deflate"), (1, 2), (None, (16, 16))):
        end = f"{how}-planar{planar}-{'tiles' if tile else 'strips'}"
        for bits, order in ((8, "<"), (16, "<"), (16, ">")):
            yield f"predictor2-rgb{bits}-{'le' if order == '<' else 'be'}-{end}", tiff(
                samples(w, h, 3, bits), bits, 2, how=how, planar=planar, tile=tile, predictor=2, order=order
            )
    yield "predictor2-not-compressed", tiff(samples(w, h, 3, 8), 8, 2, tags={317: ("H", [2])})
    yield "predictor2-packbits", tiff(samples(w, h, 3, 8), 8, 2, how="packbits", tags={317: ("H", [2])})
    yield "predictor2-4bit", tiff(samples(w, h, 1, 4), 4, 1, how="lzw", tags={317: ("H", [2])})
    # Extra samples with each meaning; one plane per channel.
    for channels, bits, photometric, extra in [
        (2, 8, 1, [0]), (2, 8, 1, [1]), (2, 8, 1, [2]), (2, 16, 1, [2]), (3, 8, 2, None), (3, 16, 2, None), (4, 8, 2, None), (4, 8, 2, [0]),
        (4, 8, 2, [1]), (4, 8, 2, [2]), (4, 8, 2, [999]), (5, 8, 2, [0, 0]), (5, 8, 2, [1, 0]), (5, 8, 2, [2, 0]), (6, 8, 2, [0, 0, 0]),
        (6, 8, 2, [1, 0, 0]), (6, 8, 2, [2, 0, 0]), (4, 16, 2, None), (4, 16, 2, [0]), (4, 16, 2, [1]), (4, 16, 2, [2]), (2, 8, 3, [0]), (2, 8, 3, [2]),
        (4, 8, 5, None), (5, 8, 5, [0]), (6, 8, 5, [0, 0]), (4, 16, 5, None), (5, 8, 5, [2]), (3, 8, 6, None), (3, 8, 8, None), (3, 32, 2, None),
        (3, 4, 2, None), (1, 8, 8, None),
    ]:  # fmt: skip
        map = color_map(8) if photometric == 3 else None
        pixels = samples(w, h, channels, bits)
        if extra == [1] or (extra and extra[0] == 1):
            color = 1 if photometric == 1 else 3
            pixels[..., :color] = pixels[..., :color] * pixels[..., color : color + 1] // (2**bits - 1)
        name = f"photometric{photometric}-{channels}x{bits}-extra{'-'.join(map_to_text(extra))}"
        for planar, how, end in [(1, "none", "le"), (1, "none", "be"), (1, "deflate", "le"), (2, "none", "le"), (2, "deflate", "be")]:
            yield f"{name}-planar{planar}-{how}-{end}", tiff(
                pixels, bits, photometric, how=how, planar=planar, order=orders[end], extra=extra, map=map
            )
    for how in ("none", "lzw"):
        yield f"rgb-planar2-tiles-{how}", tiff(samples(40, 35, 3, 8), 8, 2, how=how, planar=2, tile=(16, 32))
        yield f"rgb-tiles-{how}", tiff(samples(40, 35, 3, 8), 8, 2, how=how, tile=(16, 32))
        yield f"grey4-tiles-{how}", tiff(samples(40, 35, 1, 4), 4, 1, how=how, tile=(16, 32))
        yield f"bilevel-tiles-{how}", tiff(samples(40, 35, 1, 1), 1, 0, how=how, tile=(16, 32))
        yield f"rgb-one-strip-{how}", tiff(samples(w, h, 3, 8), 8, 2, how=how, rows=2**32 - 1)
        yield f"rgb-rows-of-strip-past-height-{how}", tiff(samples(w, h, 3, 8), 8, 2, how=how, rows=100)
        yield f"rgb-strip-a-row-{how}", tiff(samples(w, h, 3, 8), 8, 2, how=how, rows=1)
    # Signed samples, floats, bit depths that are not whole bytes.
    wave = smooth(w, h, 1)
    for (end, order), how in itertools.product(orders.items(), ("none", "deflate")):
        name = f"{how}-{end}"
        signed16 = (wave * 700 - 200).astype(np.int16).astype(np.uint16)
        yield f"signed8-{name}", tiff(samples(w, h, 1, 8), 8, 1, how=how, order=order, format=2)
        yield f"signed16-{name}", tiff(signed16, 16, 1, how=how, order=order, format=2)
        yield f"unsigned16-{name}", tiff(samples(w, h, 1, 16), 16, 1, how=how, order=order, format=1)
        yield f"unsigned16-white0-{name}", tiff(samples(w, h, 1, 16), 16, 0, how=how, order=order)
        yield f"unsigned16-fill2-{name}", tiff(samples(w, h, 1, 16), 16, 1, how=how, order=order, fill=2)
        yield f"unsigned16-small-{name}", tiff(samples(w, h, 1, 8), 16, 1, how=how, order=order)
        yield f"unsigned32-{name}", tiff(samples(w, h, 1, 9), 32, 1, how=how, order=order)
        yield f"unsigned32-large-{name}", tiff(samples(w, h, 1, 32), 32, 1, how=how, order=order)
        yield f"signed32-{name}", tiff((wave * 700 - 200).astype(np.int32).astype(np.uint32), 32, 1, how=how, order=order, format=2)
        yield f"unsigned12-{name}", tiff(samples(w, h, 1, 12), 12, 1, how=how, order=order)
        for bits in (16, 32, 64):
            yield f"float{bits}-{name}", tiff(wave * 300 - 20, bits, 1, how=how, order=order, format=3)
        yield f"float32-unit-{name}", tiff(wave, 32, 1, how=how, order=order, format=3)
        yield f"float32-white0-{name}", tiff(wave * 300 - 20, 32, 0, how=how, order=order, format=3)
        yield f"rgb-float32-{name}", tiff(smooth(w, h, 3) * 255, 32, 2, how=how, order=order, format=3)
        yield f"void8-{name}", tiff(samples(w, h, 1, 8), 8, 1, how=how, order=order, format=4)
    odd = wave * 300 - 20
    odd[0, :4, 0] = [math.nan, math.inf, -math.inf, 254.99999]
    yield "float32-not-finite", tiff(odd, 32, 1, format=3)
    for end, order in orders.items():
        yield f"float32-predictor3-{end}", tiff(wave * 300 - 20, 32, 1, how="deflate", order=order, format=3, predictor=3)
        yield f"float32-predictor2-{end}", tiff(samples(w, h, 1, 9), 32, 1, how="lzw", order=order, predictor=2)
    yield "float16-predictor3", tiff(wave * 300, 16, 1, how="deflate", format=3, predictor=3)
    # Fax codings.
    for rows, size in itertools.product((5, 13), ((w, h), (93, 13), (2600, 2))):
        for compression, options in (("tiff_ccitt", 0), ("group3", 0), ("group3", 4), ("group3", 1), ("group3", 5), ("group4", 0)):
            if rows == 13 and size == (w, h):
                continue
            pixels = samples(*size, 1, 1, seed=size[0])
            how = {"tiff_ccitt": "ccitt", "group3": "g3", "group4": "g4"}[compression]
            block = fax_block(compression, options)
            tags = {292: ("I", [options])} if compression == "group3" else {}
            for photometric in (0, 1):
                yield f"fax-{how}-{options}-{size[0]}x{size[1]}-rows{rows}-photometric{photometric}", tiff(
                    pixels, 1, photometric, how=how, rows=rows, block=block, tags=tags
                )
            yield f"fax-{how}-{options}-{size[0]}x{size[1]}-rows{rows}-fill2", tiff(
                pixels, 1, 0, how=how, rows=rows, fill=2, block=lambda part: block(part).translate(REVERSED), tags=tags
            )
    # A white image, a black image, and an image whose rows start with black.
    for name, pixels in [("white", np.zeros((h, w, 1))), ("black", np.ones((h, w, 1))), ("comb", np.indices((h, w, 1))[1] % 2)]:
        for compression, how in (("tiff_ccitt", "ccitt"), ("group3", "g3"), ("group4", "g4")):
            yield f"fax-{how}-{name}", tiff(pixels, 1, 0, how=how, block=fax_block(compression))
    # JPEG compression.
    jpegs = {
        "grey": ("L", 1, 1, {}), "rgb": ("RGB", 3, 2, {"keep_rgb": True}), "ycbcr444": ("RGB", 3, 6, {"subsampling": 0}),
        "ycbcr422": ("RGB", 3, 6, {"subsampling": 1}), "ycbcr420": ("RGB", 3, 6, {"subsampling": 2}), "cmyk": ("CMYK", 4, 5, {}),
    }  # fmt: skip
    factors = {"ycbcr444": [1, 1], "ycbcr422": [2, 1], "ycbcr420": [2, 2]}
    for name, (mode, channels, photometric, options) in jpegs.items():
        pixels = samples(40, 35, channels, 8)
        tags = {530: ("H", factors[name])} if name in factors else {}
        block = jpeg_block(mode, **options)
        yield f"jpeg-{name}-strips", tiff(pixels, 8, photometric, how="jpeg", rows=16, block=block, tags=tags)
        yield f"jpeg-{name}-one-strip", tiff(pixels, 8, photometric, how="jpeg", rows=35, block=block, tags=tags)
        yield f"jpeg-{name}-tiles", tiff(pixels, 8, photometric, how="jpeg", tile=(16, 16), block=block, tags=tags)
        yield f"jpeg-{name}-be", tiff(pixels, 8, photometric, how="jpeg", rows=16, order=">", block=block, tags=tags)
        if channels > 1:
            planes = jpeg_block("L")
            yield f"jpeg-{name}-planar2", tiff(
                pixels, 8, photometric, how="jpeg", rows=16, planar=2, block=planes, tags={530: ("H", [1, 1])} if tags else {}
            )
        progressive = jpeg_block(mode, progressive=True, **options)
        yield f"jpeg-{name}-progressive", tiff(pixels, 8, photometric, how="jpeg", rows=16, block=progressive, tags=tags)
    for mode in ("L", "RGB", "CMYK"):
        for quality in (30, 75, 95):
            yield f"jpeg-tables-{mode}-{quality}", saved(drawn(mode, 40, 35), "TIFF", compression="jpeg", quality=quality)
    yield "jpeg-rgba", tiff(samples(w, h, 4, 8), 8, 2, how="jpeg", rows=16, extra=[2], block=jpeg_block("CMYK"))
    yield "jpeg-ycbcr420-no-subsampling", tiff(samples(40, 35, 3, 8), 8, 6, how="jpeg", rows=16, block=jpeg_block("RGB", subsampling=2))
    yield "jpeg-strip-too-short", tiff(samples(40, 35, 3, 8), 8, 6, how="jpeg", rows=35, block=lambda part: jpeg_block("RGB")(part[:16]))
    yield "jpeg-fill2", tiff(
        samples(40, 35, 3, 8), 8, 2, how="jpeg", rows=16, fill=2, block=jpeg_block("RGB", keep_rgb=True)
    )
    yield "jpeg-restart", tiff(samples(40, 35, 3, 8), 8, 6, how="jpeg", rows=16, block=jpeg_block("RGB", restart_marker_blocks=1))
    for orientation in range(2, 9):
        yield f"jpeg-orientation{orientation}", tiff(
            samples(40, 35, 3, 8), 8, 6, how="jpeg", rows=16, block=jpeg_block("RGB"), tags={274: ("H", [orientation])}
        )
        yield f"fax-orientation{orientation}", tiff(
            samples(w, h, 1, 1), 1, 0, how="g4", block=fax_block("group4"), tags={274: ("H", [orientation])}
        )
    for tile in ((16, 16), (32, 16)):
        for compression, options, how in (("group4", 0, "g4"), ("group3", 0, "g3"), ("group3", 1, "g3"), ("tiff_ccitt", 0, "ccitt")):
            yield f"fax-tiles-{how}-{options}-{tile[0]}", tiff(
                samples(40, 35, 1, 1), 1, 0, how=how, tile=tile, tags={292: ("I", [options])} if how == "g3" else {},
                block=fax_block(compression, options),
            )  # fmt: skip
    yield "jpeg-white0", tiff(samples(w, h, 1, 8), 8, 0, how="jpeg", rows=16, block=jpeg_block("L"))
    # YCbCr without JPEG compression.
    for (sh, sv), how in itertools.product(((1, 1), (2, 1), (2, 2), (1, 2), (4, 1), (4, 4), (4, 2)), ("none", "lzw", "deflate")):
        clumps = subsampled(sh, sv)
        for size in ((24, 16), (w, h)):
            pixels = samples(*size, 3, 8)
            yield f"ycbcr-{sh}{sv}-{how}-{size[0]}", tiff(
                pixels, 8, 6, how=how, rows=8, block=lambda part: compressed(clumps(part), how), tags={530: ("H", [sh, sv])}
            )
    yield "ycbcr-11-tiles-lzw", tiff(samples(40, 35, 3, 8), 8, 6, how="lzw", tile=(16, 16), tags={530: ("H", [1, 1])})
    yield "ycbcr-22-tiles-lzw", tiff(
        samples(40, 35, 3, 8), 8, 6, how="lzw", tile=(16, 16), tags={530: ("H", [2, 2])},
        block=lambda part: compressed(subsampled(2, 2)(part), "lzw"),
    )  # fmt: skip
    floats = {530: ("H", [1, 1]), 529: ("f", [0.2125, 0.7154, 0.0721]), 532: ("f", [16, 235, 128, 240, 128, 240])}
    yield "ycbcr-11-coefficients-lzw", tiff(samples(w, h, 3, 8), 8, 6, how="lzw", tags=floats)
    # BigTIFF, orientation, several pages, missing and unusual tags.
    for (end, order), how in itertools.product(orders.items(), ("none", "lzw", "zstd")):
        yield f"big-rgb-{how}-{end}", tiff(samples(w, h, 3, 8), 8, 2, how=how, order=order, big=True)
        yield f"big-grey16-{how}-{end}", tiff(samples(w, h, 1, 16), 16, 1, how=how, order=order, big=True)
        yield f"big-tiles-{how}-{end}", tiff(samples(40, 35, 3, 8), 8, 2, how=how, order=order, big=True, tile=(16, 16))
    for orientation in (*range(1, 9), 0, 9):
        for end, order in orders.items():
            tags = {274: ("H", [orientation])}
            yield f"orientation{orientation}-rgb-{end}", tiff(samples(w, h, 3, 8), 8, 2, order=order, tags=tags)
        yield f"orientation{orientation}-tiles-lzw", tiff(samples(40, 35, 3, 8), 8, 2, how="lzw", tile=(16, 16), tags=tags)
        yield f"orientation{orientation}-long", tiff(samples(w, h, 1, 8), 8, 1, tags={274: ("I", [orientation])})
    for orientation in (3, 6):
        yield f"orientation-xmp{orientation}", tiff(samples(w, h, 3, 8), 8, 2, tags={700: ("B", xmp(orientation))})
        yield f"orientation-tag1-xmp{orientation}", tiff(
            samples(w, h, 3, 8), 8, 2, tags={700: ("B", xmp(orientation)), 274: ("H", [1])}
        )
    for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LA"):
        for how in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"):
            yield f"pillow-{mode}-{how}", saved(drawn(mode), "TIFF", compression=how)
    pages = [drawn("RGB", seed=s) for s in range(3)]
    yield "pages", saved(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    yield "bits-of-one-sample", tiff(samples(w, h, 3, 8), 8, 2, tags={258: ("H", [8])})
    yield "bits-of-four-samples", tiff(samples(w, h, 3, 8), 8, 2, tags={258: ("H", [8, 8, 8, 8])})
    yield "one-by-one", tiff(samples(1, 1, 3, 8), 8, 2)
    yield "one-row", tiff(samples(50, 1, 3, 8), 8, 2, how="lzw")
    yield "one-column", tiff(samples(1, 50, 3, 8), 8, 2, how="lzw")
    yield "tiles-larger-than-image", tiff(samples(w, h, 3, 8), 8, 2, tile=(64, 64))
    yield "tiles-larger-than-image-lzw", tiff(samples(w, h, 3, 8), 8, 2, how="lzw", tile=(64, 64))
    yield "short-color-map", tiff(samples(w, h, 1, 8), 8, 3, map=color_map(7))
    yield "wide-strip-values", tiff(samples(w, h, 3, 8), 8, 2, tags={256: ("H", [w]), 257: ("H", [h]), 278: ("H", [5])})
    whole = tiff(samples(w, h, 3, 8), 8, 2)
    yield "cut-directory", whole[:-30]
    yield "cut-pixels", tiff(samples(w, h, 3, 8), 8, 2, block=lambda part: part.astype(np.uint8).tobytes()[:-9], rows=13)
    yield "cut-lzw", tiff(samples(w, h, 3, 8), 8, 2, how="lzw", rows=13, block=lambda p: compressed(p.astype(np.uint8).tobytes(), "lzw")[:-40])
    yield "cut-deflate", tiff(samples(w, h, 3, 8), 8, 2, how="deflate", rows=13, block=lambda p: compressed(p.astype(np.uint8).tobytes(), "deflate")[:-40])
    for tag, name in ((262, "photometric"), (278, "rows-per-strip"), (279, "byte-counts"), (258, "bits"), (277, "samples"), (259, "compression")):
        for channels, photometric in ((3, 2), (1, 1)):
            yield f"without-{name}-{channels}", without(tiff(samples(w, h, channels, 8), 8, photometric, rows=13), tag)
    old = lambda part: b"".join(gif_blocks(gif_codes(part.astype(np.uint8).tobytes(), 8)))
    yield "lzw-of-old-kind", tiff(samples(40, 35, 3, 8), 8, 2, how="lzw", rows=35, block=old)
    yield "old-jpeg", tiff(samples(w, h, 3, 8), 8, 6, how="old-jpeg", rows=13, block=jpeg_block("RGB"))
    yield "webp", tiff(samples(w, h, 3, 8), 8, 2, how="webp", rows=13, block=lambda p: saved(Image.fromarray(p.astype(np.uint8)), "WEBP", lossless=True))


    for how, predictor in (("none", 1), ("lzw", 1), ("lzw", 2)):
        for tile in (None, (16, 16)):
            file = tiff(samples(w, h, 3, 8), 8, 2, how=how, predictor=predictor, tile=tile, format=1)
            yield f"types-signed-{how}-{predictor}-{'tiles' if tile else 'strips'}", retyped(file, {3: 8, 4: 9})
    yield "types-signed-orientation", retyped(tiff(samples(w, h, 3, 8), 8, 2, tags={274: ("H", [6])}), {3: 8, 4: 9})
    for how in ("none", "lzw"):
        for tag, values in ((256, [w - 2]), (274, [8])):
            turned = tiff(samples(w, h, 3, 8), 8, 2, how=how, tags={274: ("H", [6]), tag + 1000: ("I", values)})
            yield f"twice-{tag}-{how}", renamed(turned, tag + 1000, tag)


def map_to_text(values):
    return [str(value) for value in values] if values else ["none"]


def entries_of(file):
    """Returns the places of the entries of a little-endian TIFF."""
    (place,) = struct.unpack_from("<I", file, 4)
    (count,) = struct.unpack_from("<H", file, place)
    return range(place + 2, place + 2 + 12 * count, 12)


def renamed(file, tag, other):
    """Returns a little-endian TIFF in which `other` replaces `tag`. The tags are then not sorted."""
    file = bytearray(file)
    for entry in entries_of(file):
        if struct.unpack_from("<H", file, entry)[0] == tag:
            struct.pack_into("<H", file, entry, other)
    return bytes(file)


def without(file, tag):
    return renamed(file, tag, 60000)


def retyped(file, types):
    """Returns a little-endian TIFF with other types of the same size."""
    file = bytearray(file)
    for entry in entries_of(file):
        (type,) = struct.unpack_from("<H", file, entry + 2)
        struct.pack_into("<H", file, entry + 2, types.get(type, type))
    return bytes(file)


# ----------------------------------------------------------------------------------------------------------------- PNG

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def chunk(kind, data, crc=None):
    crc = zlib.crc32(kind + data) if crc is None else crc
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def filtered(rows, length, filter):
    """Returns rows with a PNG filter. `filter` is 0...4, or "all" for one after the other."""
    out, before = bytearray(), np.zeros(rows.shape[1], np.uint8)
    for y, row in enumerate(rows):
        left = np.concatenate([np.zeros(length, np.uint8), row])[: len(row)]
        corner = np.concatenate([np.zeros(length, np.uint8), before])[: len(row)]
        kind = y % 5 if filter == "all" else filter
        a, b, c = (v.astype(int) for v in (left, before, corner))
        p = a + b - c
        paeth = np.where((abs(p - a) <= abs(p - b)) & (abs(p - a) <= abs(p - c)), a, np.where(abs(p - b) <= abs(p - c), b, c))
        guess = [np.zeros_like(a), a, b, (a + b) // 2, paeth][kind]
        out += bytes([kind]) + ((row.astype(int) - guess) % 256).astype(np.uint8).tobytes()
        before = row
    return bytes(out)


def png(pixels, color, depth, *, interlace=False, filter="all", before=(), after=(), idat=None, crc=None, end=True, idats=1, palette=None):
    height, width, channels = pixels.shape
    length = max(1, channels * depth // 8)
    data = b""
    for x, y, dx, dy in ADAM7 if interlace else [(0, 0, 1, 1)]:
        part = pixels[y::dy, x::dx]
        if part.size:
            rows = np.frombuffer(packed(part, depth), np.uint8).reshape(len(part), -1)
            data += filtered(rows, length, filter)
    data = zlib.compress(data) if idat is None else idat(data)
    file = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, int(interlace)))
    if palette is not None:
        file += chunk(b"PLTE", palette)
    file += b"".join(chunk(kind, value) for kind, value in before)
    step = -(-len(data) // idats)
    for place in range(0, len(data), step):
        file += chunk(b"IDAT", data[place : place + step], crc)
    file += b"".join(chunk(kind, value) for kind, value in after)
    return file + (chunk(b"IEND", b"") if end else b"")


def pngs():
    w, h = WIDTH, HEIGHT
    colors = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
    names = {0: "grey", 2: "rgb", 3: "palette", 4: "grey-alpha", 6: "rgba"}
    for color, depths in colors.items():
        for depth in depths:
            pixels = samples(w, h, CHANNELS[color], depth)
            palette = RNG.integers(0, 256, 3 * 2**depth).astype(np.uint8).tobytes() if color == 3 else None
            kind = {"palette": palette}
            name = f"{names[color]}{depth}"
            for interlace in (False, True):
                yield f"{name}-interlace{int(interlace)}", png(pixels, color, depth, interlace=interlace, **kind)
            if color == 0:
                yield f"{name}-transparent", png(pixels, color, depth, before=[(b"tRNS", struct.pack(">H", int(pixels[3, 4, 0])))])
            if color == 2:
                value = struct.pack(">HHH", *(int(v) for v in pixels[3, 4]))
                yield f"{name}-transparent", png(pixels, color, depth, before=[(b"tRNS", value)])
            if color == 3:
                yield f"{name}-transparent", png(pixels, color, depth, before=[(b"tRNS", bytes(range(0, 2**depth)))], **kind)
                yield f"{name}-one-transparent", png(pixels, color, depth, before=[(b"tRNS", b"\0")], **kind)
                yield f"{name}-short-palette", png(pixels, color, depth, palette=palette[: 3 * 2 ** (depth - 1)])
            if depth in (1, 8, 16):
                yield f"{name}-small", png(samples(3, 2, CHANNELS[color], depth), color, depth, interlace=True, **kind)
    rgb = samples(w, h, 3, 8)
    for filter in range(5):
        yield f"filter{filter}", png(rgb, 2, 8, filter=filter)
    yield "suggested-palette", png(rgb, 2, 8, palette=bytes(30))
    yield "gamma", png(rgb, 2, 8, before=[(b"gAMA", struct.pack(">I", 100000))])
    yield "srgb", png(rgb, 2, 8, before=[(b"sRGB", b"\0")])
    yield "background", png(samples(w, h, 4, 8), 6, 8, before=[(b"bKGD", struct.pack(">HHH", 255, 0, 0))])
    yield "significant-bits", png(rgb, 2, 8, before=[(b"sBIT", b"\5\6\5")])
    yield "many-idats", png(rgb, 2, 8, idats=7)
    yield "empty-idat", png(rgb, 2, 8, before=[(b"IDAT", b"")])
    yield "text-bad-crc", png(rgb, 2, 8).replace(b"IDAT", b"IDAT", 1)[:33] + chunk(b"tEXt", b"a\0b", 1) + png(rgb, 2, 8)[33:]
    yield "idat-bad-crc", png(rgb, 2, 8, crc=1)
    yield "no-end", png(rgb, 2, 8, end=False)
    yield "no-end-palette", png(samples(w, h, 1, 4), 3, 4, palette=bytes(range(48)), end=False)
    yield "bad-adler", png(rgb, 2, 8, idat=lambda data: zlib.compress(data)[:-4] + b"abcd")
    yield "no-adler", png(rgb, 2, 8, idat=lambda data: zlib.compress(data)[:-4])
    yield "cut-rows", png(rgb, 2, 8, idat=lambda data: zlib.compress(data[: len(data) // 2]))
    yield "cut-data", png(rgb, 2, 8, idat=lambda data: zlib.compress(data)[:100])
    yield "more-rows", png(rgb, 2, 8, idat=lambda data: zlib.compress(data + data))
    yield "garbage-after", png(rgb, 2, 8) + b"garbage" * 9
    yield "cut-file", png(rgb, 2, 8)[:-40]
    yield "stored", png(rgb, 2, 8, idat=lambda data: zlib.compress(data, 0))
    yield "palette-not-of-three", png(samples(w, h, 1, 4), 3, 4, palette=bytes(47))
    yield "palette-missing", png(samples(w, h, 1, 4), 3, 4)
    yield "one-by-one", png(samples(1, 1, 3, 8), 2, 8)
    yield "one-column-interlaced", png(samples(1, 30, 3, 8), 2, 8, interlace=True)
    yield "one-row-interlaced", png(samples(30, 1, 3, 8), 2, 8, interlace=True)
    for orientation in (*range(1, 9), 0, 9):
        yield f"orientation{orientation}", png(rgb, 2, 8, before=[(b"eXIf", exif(orientation))])
    for orientation in (3, 6):
        raw = exif(orientation, ">")
        hexed = f"\nexif\n{len(raw) + 6:8}\n{(b'Exif' + bytes(2) + raw).hex()}\n".encode()
        international = b"XML:com.adobe.xmp\0\0\0\0\0"
        yield f"orientation-be{orientation}", png(rgb, 2, 8, before=[(b"eXIf", raw)])
        yield f"orientation-with-prefix{orientation}", png(rgb, 2, 8, before=[(b"eXIf", b"Exif\0\0" + raw)])
        yield f"orientation-after{orientation}", png(rgb, 2, 8, after=[(b"eXIf", raw)])
        yield f"orientation-raw-profile-text{orientation}", png(rgb, 2, 8, before=[(b"tEXt", b"Raw profile type exif\0" + hexed)])
        yield f"orientation-raw-profile-ztxt{orientation}", png(
            rgb, 2, 8, before=[(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(hexed))]
        )
        yield f"orientation-raw-profile-and-exif{orientation}", png(
            rgb, 2, 8, before=[(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(hexed)), (b"eXIf", exif(1))]
        )
        yield f"orientation-xmp{orientation}", png(rgb, 2, 8, before=[(b"iTXt", international + xmp(orientation))])
        yield f"orientation-xmp-element{orientation}", png(rgb, 2, 8, before=[(b"iTXt", international + xmp(orientation, False))])
        yield f"orientation-xmp-compressed{orientation}", png(
            rgb, 2, 8, before=[(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp(orientation)))]
        )
        yield f"orientation-xmp-and-exif{orientation}", png(
            rgb, 2, 8, before=[(b"eXIf", exif(8)), (b"iTXt", international + xmp(orientation))]
        )
        yield f"orientation-palette{orientation}", png(
            samples(w, h, 1, 4), 3, 4, palette=bytes(range(48)), before=[(b"eXIf", exif(orientation))]
        )
        yield f"orientation-grey16-{orientation}", png(samples(w, h, 1, 16), 0, 16, before=[(b"eXIf", exif(orientation))])
    for orientation in (5, 6):
        yield f"orientation-damaged{orientation}", png(rgb, 2, 8, before=[(b"eXIf", exif(orientation)[:12])])
        yield f"orientation-long{orientation}", png(rgb, 2, 8, before=[(b"eXIf", exif(orientation, type=4))])
    frames = [drawn("RGBA", seed=s) for s in range(3)]
    yield "animated", saved(frames[0], "PNG", save_all=True, append_images=frames[1:])
    yield "animated-other-default", saved(frames[0], "PNG", save_all=True, append_images=frames[1:], default_image=True)
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        yield f"pillow-{mode}", saved(drawn(mode), "PNG")


# ----------------------------------------------------------------------------------------------------------------- GIF


def gif_codes(indices, depth, clear_when_full=True):
    """Returns indices with the LZW compression of GIF, in blocks."""
    start = max(depth, 2)
    clear, end = 1 << start, (1 << start) + 1
    codes = []
    table, size = {bytes([i]): i for i in range(clear)}, start + 1
    codes.append((clear, size))
    word = b""
    for index in indices:
        longer = word + bytes([index])
        if longer in table:
            word = longer
            continue
        codes.append((table[word], size))
        if len(table) + 2 < 4096:
            table[longer] = len(table) + 2
            if len(table) + 1 == (1 << size) and size < 12:
                size += 1
        elif clear_when_full:
            codes.append((clear, size))
            table, size = {bytes([i]): i for i in range(clear)}, start + 1
        word = bytes([index])
    if word:
        codes.append((table[word], size))
        if len(table) + 2 == (1 << size) and size < 12:
            size += 1
    codes.append((end, size))
    bits, count, data = 0, 0, bytearray()
    for code, size in codes:
        bits |= code << count
        count += size
        while count >= 8:
            data.append(bits & 255)
            bits >>= 8
            count -= 8
    if count:
        data.append(bits)
    out = bytes([start])
    for place in range(0, len(data), 255):
        block = bytes(data[place : place + 255])
        out += bytes([len(block)]) + block
    return out + b"\0"


def gif_blocks(codes):
    """Returns the data of the blocks of `gif_codes`, without their lengths."""
    place = 1
    while codes[place]:
        yield codes[place + 1 : place + 1 + codes[place]]
        place += 1 + codes[place]


def interlaced(rows):
    return [*rows[0::8], *rows[4::8], *rows[2::4], *rows[1::2]]


def frame(rows, depth, *, at=(0, 0), local=None, interlace=False, control=None, size=None, codes=None):
    """Returns one image of a GIF. `control` is (transparent index or None, disposal)."""
    width, height = size or (len(rows[0]), len(rows))
    out = b""
    if control:
        transparent, disposal = control
        flags = disposal << 2 | (transparent is not None)
        out += b"!\xf9\4" + struct.pack("<BHB", flags, 10, transparent or 0) + b"\0"
    flags = (0x40 if interlace else 0) | (0x80 | (int(math.log2(len(local) // 3)) - 1) if local else 0)
    out += b"," + struct.pack("<HHHHB", *at, width, height, flags) + (local or b"")
    rows = interlaced(rows) if interlace else rows
    return out + (codes or gif_codes)(b"".join(bytes(row) for row in rows), depth)


def gif(screen, palette, frames, *, background=0, version=b"89a", end=True):
    flags = 0x80 | (int(math.log2(len(palette) // 3)) - 1) if palette else 0
    head = b"GIF" + version + struct.pack("<HHBBB", *screen, flags, background, 0) + (palette or b"")
    return head + b"".join(frames) + (b";" if end else b"")


def gifs():
    w, h = WIDTH, HEIGHT

    def rows(depth, width=w, height=h, seed=0):
        return [bytes(int(v) for v in row) for row in samples(width, height, 1, depth, seed)[..., 0]]

    def colors(depth, seed=0):
        return np.random.default_rng(seed).integers(0, 256, 3 * 2**depth).astype(np.uint8).tobytes()

    def ramp(depth):
        return bytes(np.repeat(np.arange(2**depth), 3).astype(np.uint8))

    for depth in range(1, 9):
        for interlace in (False, True):
            yield f"depth{depth}-interlace{int(interlace)}", gif((w, h), colors(depth), [frame(rows(depth), depth, interlace=interlace)])
        yield f"depth{depth}-local", gif((w, h), colors(depth), [frame(rows(depth), depth, local=colors(depth, 7))])
        yield f"depth{depth}-local-only", gif((w, h), None, [frame(rows(depth), depth, local=colors(depth, 7))])
        yield f"depth{depth}-transparent", gif((w, h), colors(depth), [frame(rows(depth), depth, control=(1, 0))])
        yield f"depth{depth}-no-colors", gif((w, h), None, [frame(rows(depth), depth)])
        yield f"depth{depth}-ramp", gif((w, h), ramp(depth), [frame(rows(depth), depth)])
    yield "short-palette", gif((w, h), colors(2), [frame(rows(4), 4)])
    yield "short-local-palette", gif((w, h), colors(4), [frame(rows(4), 4, local=colors(1, 3))])
    yield "ramp-over-colors", gif((w, h), colors(4), [frame(rows(4), 4, local=ramp(4))])
    for height in range(1, 10):
        yield f"interlace-of-{height}", gif((w, height), colors(4), [frame(rows(4, w, height), 4, interlace=True)])
    places = {
        "smaller": ((w + 9, h + 7), (4, 3)), "smaller-corner": ((w + 9, h + 7), (0, 0)), "past-right": ((w, h), (5, 0)),
        "past-bottom": ((w, h), (0, 6)), "past-both": ((w, h), (7, 9)), "larger": ((w - 5, h - 4), (0, 0)), "screen0": ((0, 0), (0, 0)),
        "screen0-offset": ((0, 0), (3, 2)), "screen-wide": ((w + 9, h - 4), (2, 1)), "one-line-screen": ((1, 1), (0, 0)),
    }  # fmt: skip
    for name, (screen, at) in places.items():
        for kind, options in {"": {}, "-transparent": {"control": (5, 0)}, "-disposed": {"control": (5, 2)}, "-local": {"local": colors(4, 9)}}.items():
            yield f"{name}{kind}", gif(screen, colors(4), [frame(rows(4), 4, at=at, **options)], background=3)
        yield f"{name}-interlaced", gif(screen, colors(4), [frame(rows(4), 4, at=at, interlace=True)], background=200)
        yield f"{name}-no-colors", gif(screen, None, [frame(rows(4), 4, at=at)], background=3)
    yield "transparent-index-past-colors", gif((w + 4, h), colors(2), [frame(rows(2), 2, control=(77, 0))])
    for disposal in range(5):
        second = frame(rows(4, 9, 8, 1), 4, at=(3, 2), control=(2, disposal))
        yield f"two-frames-disposal{disposal}", gif((w, h), colors(4), [frame(rows(4), 4, control=(None, disposal)), second])
        small = frame(rows(4, 9, 8, 1), 4, at=(3, 2), control=(None, disposal))
        yield f"small-first-disposal{disposal}", gif((w, h), colors(4), [small, frame(rows(4), 4)])
    yield "second-frame-larger", gif((9, 8), colors(4), [frame(rows(4, 9, 8), 4), frame(rows(4), 4)])
    yield "version87", gif((w, h), colors(4), [frame(rows(4), 4)], version=b"87a")
    yield "no-end", gif((w, h), colors(4), [frame(rows(4), 4)], end=False)
    yield "comment", gif((w, h), colors(4), [b"!\xfe\3abc\0", frame(rows(4), 4)])
    yield "application", gif((w, h), colors(4), [b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0", frame(rows(4), 4)])
    yield "plain-text", gif((w, h), colors(4), [b"!\x01\x0c" + bytes(12) + b"\3abc\0", frame(rows(4), 4)])
    yield "two-controls", gif((w + 5, h), colors(4), [b"!\xf9\4\1\0\0\x07\0", frame(rows(4), 4, control=(None, 0))])
    yield "garbage-after", gif((w, h), colors(4), [frame(rows(4), 4)]) + b"garbage" * 5
    yield "no-frame", gif((w, h), colors(4), [])
    noise = [bytes(row) for row in np.random.default_rng(3).integers(0, 256, (80, 90)).astype(np.uint8)]
    yield "table-full-cleared", gif((90, 80), colors(8), [frame(noise, 8)])
    yield "table-full-kept", gif((90, 80), colors(8), [frame(noise, 8, codes=lambda d, b: gif_codes(d, b, False))])
    yield "zero-frame", gif((w, h), colors(4), [frame([b""], 4, size=(0, 0))])
    yield "too-few-pixels", gif((w, h), colors(4), [frame(rows(4)[:6], 4, size=(w, h))])
    yield "too-many-pixels", gif((w, h), colors(4), [frame(rows(4) + rows(4), 4, size=(w, h))])
    yield "cut", gif((w, h), colors(4), [frame(rows(4), 4)])[:-40]
    yield "code-size8-of-4bits", gif((w, h), colors(4), [frame(rows(4), 8)])
    for mode in ("1", "L", "P", "RGB", "RGBA", "LA"):
        yield f"pillow-{mode}", saved(drawn(mode), "GIF")
    yield "pillow-animated", saved(drawn("RGB"), "GIF", save_all=True, append_images=[drawn("RGB", seed=2)])


# ----------------------------------------------------------------------------------------------------------------- BMP


def bmp(width, height, bits, data, *, header=40, compression=0, masks=(), palette=b"", colors=0, top_down=False, offset=None, gap=b"", planes=1):
    signed = -height if top_down else height
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, height, planes, bits)
    else:
        info = struct.pack("<IiiHHIIiiII", header, width, signed, planes, bits, compression, len(data), 2835, 2835, colors, 0)
        if header >= 52 and header != 64:
            info += struct.pack("<III", *(masks[:3] or (0, 0, 0)))
        if header >= 56 and header != 64:
            info += struct.pack("<I", masks[3] if len(masks) > 3 else 0)
        info = info.ljust(header, b"\0")
        if header in (40, 64) and masks:
            info += struct.pack(f"<{len(masks)}I", *masks)
    place = 14 + len(info) + len(palette) + len(gap) if offset is None else offset
    return b"BM" + struct.pack("<IHHI", 14 + len(info) + len(palette) + len(gap) + len(data), 0, 0, place) + info + palette + gap + data


def padded(rows):
    return b"".join(row + bytes(-len(row) % 4) for row in rows)


def bmp_rows(pixels, bits):
    height = len(pixels)
    flat = packed(pixels, bits)
    step = len(flat) // height
    return [flat[y * step : (y + 1) * step] for y in range(height)]


def rle(rows, four, absolute=True):
    """Returns runs, and literal pixels where no two neighboring pixels are equal."""
    out = bytearray()
    for row in rows:
        row = list(row)
        x = 0
        while x < len(row):
            run = 1
            while x + run < len(row) and run < 255 and row[x + run] == row[x]:
                run += 1
            if run < 2 and absolute and len(row) - x >= 4:
                stop = min(len(row), x + 7)
                part = row[x:stop]
                body = bytes((a << 4 | b) for a, b in zip(part[0::2], part[1::2] + [0])) if four else bytes(part)
                out += bytes([0, len(part)]) + body + bytes(len(body) % 2)
                x = stop
            else:
                out += bytes([run, row[x] << 4 | row[x] if four else row[x]])
                x += run
        out += b"\0\0"
    return bytes(out) + b"\0\1"


def bmps():
    w, h = WIDTH, HEIGHT

    def colors(bits, size=4, seed=0):
        table = np.random.default_rng(seed).integers(0, 256, (2**bits, 3)).astype(np.uint8)
        return b"".join(bytes(color) + bytes(size - 3) for color in table)

    def greys(bits, size=4):
        return b"".join(bytes([v * 255 // (2**bits - 1)] * 3) + bytes(size - 3) for v in range(2**bits))

    headers = (12, 40, 52, 56, 64, 108, 124)
    for header in headers:
        size = 3 if header == 12 else 4
        for bits in (1, 2, 4, 8, 16, 24, 32):
            channels = 1 if bits <= 8 else 1 if bits == 16 else bits // 8
            pixels = samples(w, h, channels, bits if bits <= 8 else 15 if bits == 16 else 8)
            if bits == 16:
                rows = [row.astype("<u2").tobytes() for row in pixels[..., 0]]
            else:
                rows = bmp_rows(pixels, bits if bits <= 8 else 8)
            palette = colors(bits, size) if bits <= 8 else b""
            yield f"header{header}-{bits}bit", bmp(w, h, bits, padded(rows), header=header, palette=palette)
            if header != 12:
                yield f"header{header}-{bits}bit-top-down", bmp(w, h, bits, padded(rows), header=header, palette=palette, top_down=True)
            if bits in (1, 4, 8):
                yield f"header{header}-{bits}bit-greys", bmp(w, h, bits, padded(rows), header=header, palette=greys(bits, size))
    fields = {
        "565": (16, (0xF800, 0x7E0, 0x1F)), "555": (16, (0x7C00, 0x3E0, 0x1F)), "444": (16, (0xF00, 0xF0, 0xF)), "4444": (16, (0xF00, 0xF0, 0xF, 0xF000)),
        "1555": (16, (0x7C00, 0x3E0, 0x1F, 0x8000)), "565-bgr": (16, (0x1F, 0x7E0, 0xF800)), "888": (32, (0xFF0000, 0xFF00, 0xFF)), "888-24": (24, (0xFF0000, 0xFF00, 0xFF)),
        "xbgr": (32, (0xFF000000, 0xFF0000, 0xFF00)), "bgxr": (32, (0xFF000000, 0xFF00, 0xFF)), "abgr": (32, (0xFF000000, 0xFF0000, 0xFF00, 0xFF)),
        "rgba": (32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000)), "bgra": (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)), "bgar": (32, (0xFF000000, 0xFF00, 0xFF, 0xFF0000)),
        "zero": (32, (0, 0, 0, 0)), "rgbx": (32, (0xFF, 0xFF00, 0xFF0000)), "1010102": (32, (0x3FF00000, 0xFFC00, 0x3FF)), "888-low": (32, (0xFF, 0xFF00, 0xFF0000, 0)),
    }  # fmt: skip
    for name, (bits, masks) in fields.items():
        raw = np.random.default_rng(bits).integers(0, 2**bits, (h, w), dtype=np.uint64)
        rows = [b"".join(int(v).to_bytes(bits // 8, "little") for v in row) for row in raw]
        for header in (40, 52, 56, 64, 108, 124):
            if header == 40 and len(masks) == 4 or header == 52 and len(masks) == 4:
                continue
            for top_down in (False, True) if header in (40, 124) else (False,):
                yield f"fields-{name}-header{header}{'-top-down' if top_down else ''}", bmp(
                    w, h, bits, padded(rows), header=header, compression=3, masks=masks, top_down=top_down
                )
    sparse = [bytes(int(v) for v in row) for row in (samples(w, h, 1, 3)[..., 0] * 31 % 256)]
    nibbles = [bytes(v & 15 for v in row) for row in sparse]
    for name, bits, compression, rows in (("rle8", 8, 1, sparse), ("rle4", 4, 2, nibbles)):
        four = bits == 4
        for kind, palette in (("colors", colors(bits)), ("greys", greys(bits))):
            for top_down in (False, True):
                end = "-top-down" if top_down else ""
                for absolute in (False, True):
                    yield f"{name}-{kind}-absolute{int(absolute)}{end}", bmp(
                        w, h, bits, rle(rows, four, absolute), compression=compression, palette=palette, top_down=top_down
                    )
                delta = rle(rows[:4], four)[:-2] + b"\0\2\5\2" + bytes([4, 0x11]) + b"\0\2\0\1" + b"\3\x22" + b"\0\0" + rle(rows[8:], four)
                yield f"{name}-{kind}-delta{end}", bmp(w, h, bits, delta, compression=compression, palette=palette, top_down=top_down)
        for header in (52, 56, 64, 108, 124):
            yield f"{name}-header{header}", bmp(w, h, bits, rle(rows, four), compression=compression, palette=colors(bits), header=header)
        palette = colors(bits)
        whole = rle(rows, four)
        odd = {
            "no-end": whole[:-2], "end-early": rle(rows[:5], four), "cut": whole[:60], "run-past-row": b"\xff\x11" * 3 + whole,
            "rows-unfinished": b"".join(rle([row[:9]], four)[:-2] for row in rows) + b"\0\1", "no-line-ends": whole.replace(b"\0\0", b""),
            "delta-past-end": whole[:40] + b"\0\2\0\xff" + whole, "alternating": b"\x15\x3c\0\0" * h + b"\0\1", "empty": b"\0\1",
        }  # fmt: skip
        for kind, data in odd.items():
            yield f"{name}-{kind}", bmp(w, h, bits, data, compression=compression, palette=palette)
        yield f"{name}-few-colors", bmp(w, h, bits, whole, compression=compression, palette=palette[:40], colors=10)
    yield "rle24", bmp(w, h, 24, rle(sparse, False), compression=4, header=64)
    pixels = samples(w, h, 3, 8)
    rows = bmp_rows(pixels, 8)
    yield "last-padding-missing", bmp(w, h, 24, padded(rows)[: -(-len(rows[0]) % 4)])
    yield "last-row-missing", bmp(w, h, 24, padded(rows)[: -len(rows[0]) - 1])
    yield "gap-before-pixels", bmp(w, h, 24, padded(rows), gap=b"gap!" * 3)
    yield "gap-before-pixels-palette", bmp(w, h, 8, padded(bmp_rows(samples(w, h, 1, 8), 8)), palette=colors(8), gap=bytes(12))
    yield "offset0", bmp(w, h, 24, padded(rows), offset=0)
    yield "offset0-palette", bmp(w, h, 8, padded(bmp_rows(samples(w, h, 1, 8), 8)), palette=colors(8), offset=0)
    yield "offset-at-palette", bmp(w, h, 8, padded(bmp_rows(samples(w, h, 1, 8), 8)), palette=colors(8), offset=54)
    yield "few-colors", bmp(w, h, 8, padded(bmp_rows(samples(w, h, 1, 4), 8)), palette=colors(4), colors=16)
    yield "index-past-colors", bmp(w, h, 8, padded(bmp_rows(samples(w, h, 1, 5), 8)), palette=colors(4), colors=16)
    yield "two-colors-of-eight-bits", bmp(w, h, 8, padded(bmp_rows(samples(w, h, 1, 1), 8)), palette=greys(1), colors=2)
    yield "too-many-colors", bmp(w, h, 4, padded(bmp_rows(samples(w, h, 1, 4), 4)), palette=colors(8), colors=256)
    yield "palette-of-rgb", bmp(w, h, 24, padded(rows), palette=colors(4), colors=16)
    yield "inverted-bilevel", bmp(w, h, 1, padded(bmp_rows(samples(w, h, 1, 1), 1)), palette=b"\xff\xff\xff\0\0\0\0\0", colors=2)
    yield "jpeg-inside", bmp(w, h, 24, saved(drawn("RGB"), "JPEG"), compression=4)
    yield "png-inside", bmp(w, h, 24, saved(drawn("RGB"), "PNG"), compression=5)
    yield "alpha-fields", bmp(w, h, 32, padded([bytes(range(84))] * h), compression=6, masks=(0xFF0000, 0xFF00, 0xFF, 0xFF000000))
    yield "zero-width", bmp(0, h, 24, b"")
    yield "zero-height", bmp(w, 0, 24, b"")
    yield "garbage-after", bmp(w, h, 24, padded(rows)) + b"garbage" * 9
    yield "one-by-one", bmp(1, 1, 24, b"\1\2\3\0")
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        yield f"pillow-{mode}", saved(drawn(mode), "BMP")


# ----------------------------------------------------------------------------------------------------------------- PNM


def pnms():
    w, h = WIDTH, HEIGHT

    def plain(values, per_line=9):
        values = [str(int(v)) for v in np.asarray(values).ravel()]
        return "\n".join(" ".join(values[i : i + per_line]) for i in range(0, len(values), per_line)).encode() + b"\n"

    for maxval in (1, 2, 3, 7, 15, 31, 63, 100, 127, 128, 200, 254, 255, 256, 257, 511, 1000, 1023, 4095, 32767, 65534, 65535):
        for kind, channels in ((5, 1), (6, 3)):
            values = np.round(smooth(w, h, channels) * maxval).astype(int)
            raw = values.astype("u1" if maxval < 256 else ">u2").tobytes()
            yield f"p{kind}-maxval{maxval}", b"P%d\n%d %d\n%d\n" % (kind, w, h, maxval) + raw
            yield f"p{kind - 3}-maxval{maxval}", b"P%d\n%d %d\n%d\n" % (kind - 3, w, h, maxval) + plain(values)
    bits = samples(w, h, 1, 1)
    grey, rgb = samples(w, h, 1, 8), samples(w, h, 3, 8)
    raw_grey, raw_rgb = grey.astype(np.uint8).tobytes(), rgb.astype(np.uint8).tobytes()
    yield "p4", b"P4\n%d %d\n" % (w, h) + packed(bits, 1)
    yield "p1", b"P1\n%d %d\n" % (w, h) + plain(bits)
    yield "p1-together", b"P1\n%d %d\n" % (w, h) + plain(bits).replace(b" ", b"")
    yield "p4-comment", b"P4\n# made by hand\n%d %d\n" % (w, h) + packed(bits, 1)
    yield "p1-comment-in-data", b"P1\n%d %d\n" % (w, h) + plain(bits).replace(b"\n", b" # 1 0 1\n")
    yield "p2-comment-in-data", b"P2\n%d %d\n255\n" % (w, h) + plain(grey).replace(b"\n", b" # 1 0 1\n")
    yield "p5-comments", b"P5 # one\n# two\n%d # three\n%d\n# four\n255\n" % (w, h) + raw_grey
    yield "p5-comment-in-number", b"P5\n2#x\n1 %d\n255\n" % h + raw_grey
    yield "p5-comment-after-maxval", b"P5\n%d %d\n255# c\n" % (w, h) + raw_grey
    yield "p6-spaces", b"P6\t%d\r%d\r\n 255 " % (w, h) + raw_rgb
    yield "p6-crlf", b"P6\r\n%d %d\r\n255\n" % (w, h) + raw_rgb
    yield "p6-vertical-tab", b"P6\v%d\f%d\v255\f" % (w, h) + raw_rgb
    yield "p6-cut", b"P6\n%d %d\n255\n" % (w, h) + raw_rgb[:-50]
    yield "p6-cut-maxval100", b"P6\n%d %d\n100\n" % (w, h) + raw_rgb[:-50]
    yield "p3-cut", b"P3\n%d %d\n255\n" % (w, h) + plain(rgb)[:-300]
    yield "p1-cut", b"P1\n%d %d\n" % (w, h) + plain(bits)[:-30]
    yield "p4-cut", b"P4\n%d %d\n" % (w, h) + packed(bits, 1)[:-5]
    yield "p6-garbage-after", b"P6\n%d %d\n255\n" % (w, h) + raw_rgb + b"more"
    yield "p5-two-images", (b"P5\n%d %d\n255\n" % (w, h) + raw_grey) * 2
    yield "p5-above-maxval", b"P5\n%d %d\n100\n" % (w, h) + raw_grey
    yield "p6-above-maxval", b"P6\n%d %d\n100\n" % (w, h) + raw_rgb
    yield "p5-above-maxval16", b"P5\n%d %d\n1000\n" % (w, h) + samples(w, h, 1, 16).astype(">u2").tobytes()
    yield "p2-above-maxval", b"P2\n%d %d\n100\n" % (w, h) + plain(grey)
    yield "p2-negative", b"P2\n%d %d\n100\n-1 " % (w, h) + plain(grey)
    yield "p2-letters", b"P2\n%d %d\n100\nabc " % (w, h) + plain(grey)
    yield "p1-other-digits", b"P1\n%d %d\n2 " % (w, h) + plain(bits)
    yield "p5-maxval0", b"P5\n%d %d\n0\n" % (w, h) + raw_grey
    yield "p5-maxval65536", b"P5\n%d %d\n65536\n" % (w, h) + raw_grey * 2
    yield "p5-zero-width", b"P5\n0 %d\n255\n" % h
    yield "p5-long-number", b"P5\n00000000000021 13\n255\n" + raw_grey
    yield "p5-plus", b"P5\n+21 13\n255\n" + raw_grey
    yield "p6-leading-zeros", b"P6\n0021 0013\n0255\n" + raw_rgb
    yield "p7-rgb", b"P7\nWIDTH %d\nHEIGHT %d\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n" % (w, h) + raw_rgb
    yield "p7-grey", b"P7\nWIDTH %d\nHEIGHT %d\nDEPTH 1\nMAXVAL 255\nTUPLTYPE GRAYSCALE\nENDHDR\n" % (w, h) + raw_grey
    for name, scale in (("-1.0", "<"), ("1.0", ">"), ("-255", "<")):
        yield f"pf-float{name}", f"Pf\n{w} {h}\n{name}\n".encode() + (smooth(w, h, 1) * 255).astype(scale + "f4").tobytes()
    yield "pf-float-rgb", f"PF\n{w} {h}\n-1.0\n".encode() + (smooth(w, h, 3) * 255).astype("<f4").tobytes()
    yield "p0cmyk", b"P0CMYK\n%d %d\n255\n" % (w, h) + samples(w, h, 4, 8).astype(np.uint8).tobytes()
    yield "pyrgba", b"PyRGBA\n%d %d\n255\n" % (w, h) + samples(w, h, 4, 8).astype(np.uint8).tobytes()
    yield "p5-wide", b"P5\n300 2\n255\n" + samples(300, 2, 1, 8).astype(np.uint8).tobytes()
    for mode in ("1", "L", "RGB", "RGBA"):
        yield f"pillow-{mode}", saved(drawn(mode), "PPM")


# ---------------------------------------------------------------------------------------------------------------- WebP


def riff(chunks):
    body = b"WEBP" + b"".join(kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def chunks_of(file):
    place, out = 12, []
    while place + 8 <= len(file):
        kind, (size,) = file[place : place + 4], struct.unpack_from("<I", file, place + 4)
        out.append((kind, file[place + 8 : place + 8 + size]))
        place += 8 + size + size % 2
    return out


def extended(width, height, *, alpha=False, animation=False, exif=False, xmp=False):
    flags = alpha << 4 | animation << 1 | exif << 3 | xmp << 2
    return b"VP8X", struct.pack("<I", flags) + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]


def webp_frame(image, at=(0, 0), *, blend=True, dispose=False, **options):
    parts = [part for part in chunks_of(saved(image, "WEBP", **options)) if part[0] in (b"VP8 ", b"VP8L", b"ALPH")]
    place = b"".join(struct.pack("<I", v)[:3] for v in (at[0] // 2, at[1] // 2, image.width - 1, image.height - 1, 100))
    return b"ANMF", place + bytes([(not blend) << 1 | dispose]) + riff(parts)[12:]


def animated(size, frames, *, background=(0, 0, 0, 0), alpha=True, chunks=()):
    return riff([extended(*size, alpha=alpha, animation=True), (b"ANIM", bytes(background) + b"\0\0"), *frames, *chunks])


def webps():
    w, h = WIDTH, HEIGHT
    for mode in ("RGB", "RGBA", "L", "P", "LA"):
        for method in (0, 4, 6):
            yield f"lossless-{mode}-{method}", saved(drawn(mode), "WEBP", lossless=True, method=method, exact=mode.endswith("A"))
    yield "lossless-transparent-cleaned", saved(drawn("RGBA"), "WEBP", lossless=True)
    few = drawn("RGB").quantize(3).convert("RGB")
    yield "lossless-few-colors", saved(few, "WEBP", lossless=True)
    yield "lossless-1x1", saved(drawn("RGB", 1, 1), "WEBP", lossless=True)
    yield "lossless-extended", riff([extended(w, h), *chunks_of(saved(drawn("RGB"), "WEBP", lossless=True))])
    for size, quality, method in itertools.product(((w, h), (16, 16), (48, 33), (1, 1), (2, 3)), (10, 75, 100), (0, 4)):
        yield f"lossy-{size[0]}x{size[1]}-{quality}-{method}", saved(drawn("RGB", *size), "WEBP", quality=quality, method=method)
    for quality, alpha_quality in itertools.product((30, 90), (10, 100)):
        yield f"lossy-alpha-{quality}-{alpha_quality}", saved(
            drawn("RGBA"), "WEBP", quality=quality, alpha_quality=alpha_quality, exact=True
        )
    first, second = drawn("RGBA"), drawn("RGBA", seed=4)
    small, opaque = drawn("RGBA", 8, 7, 5), drawn("RGB")
    for lossy, options in (("lossless", {"lossless": True, "exact": True}), ("lossy", {"quality": 80, "exact": True})):
        for blend, dispose in itertools.product((False, True), (False, True)):
            for background in ((0, 0, 0, 0), (10, 200, 30, 255)):
                name = f"animated-{lossy}-blend{int(blend)}-dispose{int(dispose)}-background{background[3]}"
                more = {"blend": blend, "dispose": dispose, **options}
                yield name, animated((w, h), [webp_frame(first, **more), webp_frame(second, **more)], background=background)
                yield f"{name}-small", animated(
                    (w, h), [webp_frame(small, (4, 2), **more), webp_frame(second, **more)], background=background
                )
        yield f"animated-{lossy}-opaque", animated((w, h), [webp_frame(opaque, **options)] * 2, alpha=False)
        yield f"animated-{lossy}-small-opaque", animated(
            (w, h), [webp_frame(drawn("RGB", 8, 7), (2, 4), **options)] * 2, alpha=False, background=(1, 2, 3, 255)
        )
        yield f"animated-{lossy}-past-edge", animated((w, h), [webp_frame(first, (4, 0), **options)])
        yield f"animated-{lossy}-orientation6", animated((w, h), [webp_frame(first, **options)], chunks=[(b"EXIF", exif(6))])
    frames = [drawn("RGB", seed=s) for s in range(3)]
    yield "pillow-animated", saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    yield "pillow-animated-mixed", saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], allow_mixed=True)
    parts = chunks_of(saved(opaque, "WEBP", lossless=True))
    for orientation in (*range(1, 9), 0, 9):
        yield f"orientation{orientation}", riff([extended(w, h, exif=True), *parts, (b"EXIF", exif(orientation))])
    for orientation in (3, 6):
        yield f"orientation-be{orientation}", riff([extended(w, h, exif=True), *parts, (b"EXIF", exif(orientation, ">"))])
        yield f"orientation-prefix{orientation}", riff([extended(w, h, exif=True), *parts, (b"EXIF", b"Exif\0\0" + exif(orientation))])
        yield f"orientation-xmp{orientation}", riff([extended(w, h, xmp=True), *parts, (b"XMP ", xmp(orientation))])
        yield f"orientation-xmp-and-exif{orientation}", riff(
            [extended(w, h, exif=True, xmp=True), *parts, (b"EXIF", exif(8)), (b"XMP ", xmp(orientation))]
        )
        yield f"orientation-no-flag{orientation}", riff([extended(w, h), *parts, (b"EXIF", exif(orientation))])
        yield f"orientation-before{orientation}", riff([extended(w, h, exif=True), (b"EXIF", exif(orientation)), *parts])
        yield f"orientation-not-extended{orientation}", riff([*parts, (b"EXIF", exif(orientation))])
    whole = saved(opaque, "WEBP", lossless=True)
    yield "garbage-after", whole + b"garbage" * 8
    yield "cut", whole[:-40]
    yield "cut-lossy", saved(drawn("RGB", 48, 33), "WEBP")[:-40]
    yield "unknown-chunk", riff([extended(w, h), (b"ABCD", b"12345"), *parts])
    for name, flags in {"exif": {"exif": True}, "xmp": {"xmp": True}, "alpha": {"alpha": True}, "all": {"exif": True, "xmp": True, "alpha": True}}.items():
        for kind, options in (("lossless", {"lossless": True}), ("lossy", {"quality": 80})):
            yield f"flag-without-chunk-{name}-{kind}", riff([extended(w, h, **flags), *chunks_of(saved(opaque, "WEBP", **options))])
    yield "extended-wrong-size", riff([extended(w + 4, h + 4), *parts])


# ---------------------------------------------------------------------------------------------------------------- JPEG

ZIGZAG = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43,
    36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
]  # fmt: skip


def segment(marker, data):
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def application(image, *segments, **options):
    """Returns a JPEG written by Pillow with additional segments after its start."""
    file = saved(image, "JPEG", **options)
    return file[:2] + b"".join(segments) + file[2:]


class Bits:
    def __init__(self):
        self.out, self.value, self.count = bytearray(), 0, 0

    def put(self, value, count):
        for shift in range(count - 1, -1, -1):
            self.value = self.value << 1 | (value >> shift & 1)
            self.count += 1
            if self.count == 8:
                self.out += b"\xff\0" if self.value == 255 else bytes([self.value])
                self.value = self.count = 0

    def end(self):
        while self.count:
            self.put(1, 1)
        out, self.out = bytes(self.out), bytearray()
        return out


SYMBOLS_DC = list(range(12))
SYMBOLS_AC = [0, 0xF0] + [run << 4 | size for run in range(16) for size in range(1, 11)]


def huffman(kind, place, symbols):
    """Returns a table in which the code of each symbol has eight bits: its index."""
    counts = [0] * 16
    counts[7] = len(symbols)
    return segment(0xC4, bytes([kind << 4 | place, *counts, *symbols]))


def jpeg(planes, factors, *, ids=None, scans=None, restart=0, adobe=None, jfif=False, skip_restart=None, precision=8, frame=0xC0, step=6, extra=b""):
    """Returns a baseline JPEG of planes with any sampling factors, in scans of any groups of components."""
    count = len(planes)
    ids = ids or list(range(1, count + 1))
    scans = scans or [list(range(count))]
    height, width = planes[0].shape
    hmax, vmax = max(f[0] for f in factors), max(f[1] for f in factors)
    cosines = np.array([[math.cos((2 * x + 1) * u * math.pi / 16) for x in range(8)] for u in range(8)])
    cosines[0] /= math.sqrt(2)
    coefficients = []
    for plane, (fh, fv) in zip(planes, factors):
        cw, ch = -(-width * fh // hmax), -(-height * fv // vmax)
        rows = np.linspace(0, height - 1, ch).round().astype(int)
        columns = np.linspace(0, width - 1, cw).round().astype(int)
        part = plane[rows][:, columns].astype(float) - 2 ** (precision - 1)
        mcus = -(-height // (8 * vmax)) * fv * 8, -(-width // (8 * hmax)) * fh * 8
        part = np.pad(part, ((0, mcus[0] - ch), (0, mcus[1] - cw)), "edge")
        blocks = part.reshape(mcus[0] // 8, 8, mcus[1] // 8, 8).transpose(0, 2, 1, 3)
        coefficients.append((np.round(cosines @ blocks @ cosines.T / 4 / step).astype(int), (-(-ch // 8), -(-cw // 8))))
    out = b"\xff\xd8"
    if jfif:
        out += segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")
    if adobe is not None:
        out += segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([adobe]))
    out += extra + segment(0xDB, bytes([0]) + bytes([step] * 64))
    components = b"".join(bytes([i, fh << 4 | fv, 0]) for i, (fh, fv) in zip(ids, factors))
    out += segment(frame, struct.pack(">BHHB", precision, height, width, count) + components)
    out += huffman(0, 0, SYMBOLS_DC) + huffman(1, 0, SYMBOLS_AC)
    if restart:
        out += segment(0xDD, struct.pack(">H", restart))

    def size_of(value):
        return int(abs(value)).bit_length()

    def bits_of(value, size):
        return value if value >= 0 else value + (1 << size) - 1

    for scan in scans:
        out += segment(0xDA, bytes([len(scan)]) + b"".join(bytes([ids[c], 0]) for c in scan) + b"\0\x3f\0")
        units = []
        if len(scan) == 1:
            blocks, (rows, columns) = coefficients[scan[0]]
            units = [[(scan[0], blocks[r, c])] for r in range(rows) for c in range(columns)]
        else:
            for r, c in itertools.product(range(-(-height // (8 * vmax))), range(-(-width // (8 * hmax)))):
                units.append(
                    [
                        (k, coefficients[k][0][r * factors[k][1] + y, c * factors[k][0] + x])
                        for k in scan
                        for y in range(factors[k][1])
                        for x in range(factors[k][0])
                    ]
                )
        bits, before, mark = Bits(), [0] * count, 0
        for place, unit in enumerate(units):
            if restart and place and place % restart == 0:
                out += bits.end()
                if mark != skip_restart:
                    out += bytes([0xFF, 0xD0 + mark % 8])
                mark, before = mark + 1, [0] * count
            for component, block in unit:
                values = [int(block.reshape(-1)[z]) for z in ZIGZAG]
                difference, before[component] = values[0] - before[component], values[0]
                size = size_of(difference)
                bits.put(SYMBOLS_DC.index(size), 8)
                bits.put(bits_of(difference, size), size)
                run, last = 0, max((z for z in range(1, 64) if values[z]), default=0)
                for value in values[1 : last + 1]:
                    if not value:
                        run += 1
                        continue
                    while run > 15:
                        bits.put(SYMBOLS_AC.index(0xF0), 8)
                        run -= 16
                    size = size_of(value)
                    bits.put(SYMBOLS_AC.index(run << 4 | size), 8)
                    bits.put(bits_of(value, size), size)
                    run = 0
                if last < 63:
                    bits.put(SYMBOLS_AC.index(0), 8)
        out += bits.end()
    return out + b"\xff\xd9"


def planes_of(mode, width, height):
    pixels = np.asarray(drawn(mode, width, height))
    return [pixels[..., c] for c in range(pixels.shape[2])] if pixels.ndim == 3 else [pixels]


def jpegs():
    w, h = 45, 35
    rgb = drawn("RGB", w, h)
    for subsampling, quality, progressive in itertools.product((0, 1, 2), (5, 75, 100), (False, True)):
        yield f"{['444', '422', '420'][subsampling]}-quality{quality}-progressive{int(progressive)}", saved(
            rgb, "JPEG", subsampling=subsampling, quality=quality, progressive=progressive
        )
    for mode, progressive in itertools.product(("L", "CMYK"), (False, True)):
        yield f"{mode}-progressive{int(progressive)}", saved(drawn(mode, w, h), "JPEG", progressive=progressive)
        yield f"{mode}-restart-progressive{int(progressive)}", saved(drawn(mode, w, h), "JPEG", progressive=progressive, restart_marker_blocks=2)
    for mode, subsampling in (("L", 0), ("RGB", 0), ("RGB", 2), ("CMYK", 0)):
        start, *scans = saved(drawn(mode, w, h), "JPEG", progressive=True, subsampling=subsampling, quality=60)[:-2].split(b"\xff\xda")
        for count in range(1, len(scans)):
            yield f"scans-first{count}of{len(scans)}-{mode}-{subsampling}", b"\xff\xda".join([start, *scans[:count]]) + b"\xff\xd9"
    for subsampling, progressive in itertools.product((0, 1, 2), (False, True)):
        yield f"rgb-kept-{subsampling}-progressive{int(progressive)}", saved(rgb, "JPEG", keep_rgb=True, subsampling=0, progressive=progressive)
        for blocks in (1, 3):
            yield f"restart{blocks}-{subsampling}-progressive{int(progressive)}", saved(
                rgb, "JPEG", subsampling=subsampling, progressive=progressive, restart_marker_blocks=blocks
            )
    yield "optimized", saved(rgb, "JPEG", optimize=True)
    for size in ((1, 1), (7, 9), (8, 8), (16, 16), (17, 1), (1, 17), (2, 2), (3, 5)):
        for subsampling in (0, 2):
            yield f"size{size[0]}x{size[1]}-{subsampling}", saved(drawn("RGB", *size), "JPEG", subsampling=subsampling)
    ycc = planes_of("YCbCr", w, h)
    for name, factors in {
        "411": [(4, 1), (1, 1), (1, 1)], "440": [(1, 2), (1, 1), (1, 1)], "441": [(1, 4), (1, 1), (1, 1)], "410": [(4, 2), (1, 1), (1, 1)],
        "22-21-12": [(2, 2), (2, 1), (1, 2)], "22-22-11": [(2, 2), (2, 2), (1, 1)], "11-22": [(1, 1), (2, 2), (2, 2)], "11-21": [(1, 1), (2, 1), (2, 1)],
        "12-22": [(1, 2), (2, 2), (2, 2)], "31": [(3, 1), (1, 1), (1, 1)], "22-all": [(2, 2), (2, 2), (2, 2)], "21-12": [(2, 1), (1, 2), (1, 2)],
        "32": [(3, 2), (1, 1), (1, 1)], "32-21": [(3, 2), (2, 1), (1, 1)], "42": [(4, 2), (2, 1), (2, 1)], "21-21-11": [(2, 1), (2, 1), (1, 1)],
    }.items():  # fmt: skip
        for kind, scans in {"": None, "-apart": [[0], [1], [2]], "-grouped": [[0], [1, 2]]}.items():
            if sum(a * b for a, b in factors) <= 10 or scans:
                yield f"sampling-{name}{kind}", jpeg(ycc, factors, scans=scans)
    even, two = [(1, 1)] * 3, [(2, 2), (1, 1), (1, 1)]
    for name, ids in {"same": [1, 1, 1], "zero": [0, 1, 2], "rgb": [82, 71, 66], "large": [200, 201, 202], "two-same": [1, 2, 2], "backwards": [3, 2, 1]}.items():
        for factors, sampling in ((even, "444"), (two, "420")):
            for marks in ({}, {"jfif": True}, {"adobe": 0}, {"adobe": 1}):
                if len(set(ids)) == 3 or not marks:
                    end = "".join(f"-{k}{int(v)}" for k, v in marks.items())
                    yield f"ids-{name}-{sampling}{end}", jpeg(ycc, factors, ids=ids, **marks)
    for adobe in (0, 2):
        yield f"cmyk-adobe{adobe}", jpeg(planes_of("CMYK", w, h), [(1, 1)] * 4, adobe=adobe)
        yield f"cmyk-adobe{adobe}-sampled", jpeg(planes_of("CMYK", w, h), [(2, 2), (1, 1), (1, 1), (2, 2)], adobe=adobe)
    for name, factors in {"21": [(2, 1), (1, 1), (1, 1)], "12": [(1, 2), (1, 1), (1, 1)], "41": [(4, 1), (1, 1), (1, 1)], "21-21-11": [(2, 1), (2, 1), (1, 1)], "12-11-12": [(1, 2), (1, 1), (1, 2)]}.items():
        yield f"cmyk-sampling-{name}", jpeg(planes_of("CMYK", w, h), [*factors, factors[0]], adobe=2)
    apart = jpeg(ycc, even, scans=[[0], [1], [2]])
    for name, step in {"same": 6, "other": 30}.items():
        before, last = apart.rsplit(b"\xff\xda", 1)
        yield f"table-again-{name}", before + segment(0xDB, bytes([0] + [step] * 64)) + b"\xff\xda" + last
    late = apart.replace(bytes([3, 0x11, 0]), bytes([3, 0x11, 1]), 1)
    before, last = late.rsplit(b"\xff\xda", 1)
    yield "table-late", before + segment(0xDB, bytes([1] + [9] * 64)) + b"\xff\xda" + last
    yield "cmyk-no-adobe", jpeg(planes_of("CMYK", w, h), [(1, 1)] * 4)
    ycck = application(drawn("CMYK", w, h), progressive=True)
    yield "cmyk-progressive-ycck", ycck.replace(b"Adobe\0d\0\0\0\0\0", b"Adobe\0d\0\0\0\0\2")
    yield "grey-sampled", jpeg(planes_of("L", w, h), [(2, 2)])
    yield "grey-id7", jpeg(planes_of("L", w, h), [(1, 1)], ids=[7])
    yield "two-components", jpeg(planes_of("LA", w, h), [(1, 1)] * 2)
    for lost in (0, 1, 3):
        yield f"restart-lost{lost}", jpeg(ycc, even, restart=3, skip_restart=lost)
        yield f"restart-lost{lost}-420", jpeg(ycc, two, restart=2, skip_restart=lost)
    yield "restart-scans", jpeg(ycc, two, restart=4, scans=[[0], [1, 2]])
    yield "scans-chroma-first", jpeg(ycc, two, scans=[[1], [2], [0]])
    yield "scan-missing", jpeg(ycc, even, scans=[[0], [1]])
    yield "extended-sequential", jpeg(ycc, even, frame=0xC1)
    yield "twelve-bits", jpeg([np.asarray(p).astype(int) * 16 for p in ycc], even, frame=0xC1, precision=12, step=90)
    yield "lossless", imagecodecs.ljpeg_encode(np.asarray(drawn("L", w, h)))
    yield "arithmetic-header", jpeg(ycc, even, frame=0xC9)
    yield "arithmetic-progressive-header", jpeg(ycc, even, frame=0xCA)
    yield "hierarchical-header", jpeg(ycc, even, frame=0xC5)
    plain = saved(rgb, "JPEG")
    yield "no-end", plain[:-2]
    yield "cut", plain[:-200]
    yield "cut-progressive", saved(rgb, "JPEG", progressive=True)[:-200]
    yield "garbage-after", plain + b"garbage" * 9
    yield "fill-bytes", plain[:2] + b"\xff\xff\xff" + plain[2:]
    yield "comment", saved(rgb, "JPEG", comment=b"words")
    yield "profile", saved(rgb, "JPEG", icc_profile=bytes(200))
    head = b"Exif\0\0"
    for orientation in (*range(1, 9), 0, 9):
        yield f"orientation{orientation}", application(rgb, segment(0xE1, head + exif(orientation)))
    for orientation in (3, 6):
        turn = segment(0xE1, head + exif(orientation))
        adobe_xmp = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp(orientation))
        element = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp(orientation, False))
        yield f"orientation-be{orientation}", application(rgb, segment(0xE1, head + exif(orientation, ">")))
        yield f"orientation-xmp{orientation}", application(rgb, adobe_xmp)
        yield f"orientation-xmp-element{orientation}", application(rgb, element)
        yield f"orientation-xmp-and-exif{orientation}", application(rgb, adobe_xmp, segment(0xE1, head + exif(8)))
        no_tag = b"II*\0\x08\0\0\0" + struct.pack("<HHHI", 1, 271, 2, 1) + b"a\0\0\0" + bytes(4)
        yield f"orientation-xmp-and-other-exif{orientation}", application(rgb, segment(0xE1, head + no_tag), adobe_xmp)
        yield f"orientation-two-exifs{orientation}", application(rgb, turn, segment(0xE1, head + exif(8)))
        yield f"orientation-progressive{orientation}", application(rgb, turn, progressive=True)
        yield f"orientation-grey{orientation}", application(drawn("L", w, h), turn)
        yield f"orientation-cmyk{orientation}", application(drawn("CMYK", w, h), turn)
        yield f"orientation-after-frame{orientation}", plain[:-2].replace(b"\xff\xda", turn + b"\xff\xda", 1) + b"\xff\xd9"
        yield f"orientation-long{orientation}", application(rgb, segment(0xE1, head + exif(orientation, type=4)))
    for cut in (3, 8, 12, 20):
        yield f"orientation-damaged{cut}", application(rgb, segment(0xE1, head + exif(6)[:cut]))
    yield "orientation-wrong-mark", application(rgb, segment(0xE1, head + b"XX" + exif(6)[2:]))


# ---------------------------------------------------------------------------------------------------- Pillow's results


def rgb_bytes(image):
    return image.convert("RGB").tobytes()


def answer(data):
    """Returns Pillow's result for one file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data))
            format = image.format
            image.load()
            stored = rgb_bytes(image)
            upright = ImageOps.exif_transpose(image)
            size = image.size
            facts = {"mode": image.mode, "size": size, "stored": zlib.crc32(stored), "upright": zlib.crc32(rgb_bytes(upright))}
            deep = image.mode.startswith("I;16") or (image.mode == "I" and format == "PPM")
            if deep:
                tags = dict(image.tag_v2) if format == "TIFF" else {}
                high = (np.asarray(image).astype(np.int64) >> (4 if tags.get(258) == (12,) else 8)).astype(np.uint8)
                high = np.repeat((255 - high if tags.get(262) == 0 else high).reshape(-1), 3)
                facts["high"] = zlib.crc32(high.tobytes())
            return facts
    except Exception as error:
        words = re.sub(" <_io.BytesIO object at 0x[0-9a-f]+>", "", f"{type(error).__name__}: {error}")
        return {"refused": words[:80]}


def main():
    assert Image.__version__ == "13.0.0"
    HERE.mkdir(exist_ok=True)
    formats = {"tiff": tiffs, "png": pngs, "gif": gifs, "bmp": bmps, "pnm": pnms, "webp": webps, "jpeg": jpegs}
    expected = {}
    for format, files in formats.items():
        RNG.bit_generator.state = np.random.default_rng(13).bit_generator.state
        names, refused = set(), 0
        packed_files = io.BytesIO()
        with tarfile.open(fileobj=packed_files, mode="w") as archive:
            for name, data in files():
                assert name not in names, name
                names.add(name)
                facts = answer(data)
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
                refused += "refused" in facts
                expected[f"{format}/{name}"] = facts
        packed_files = gzip.compress(packed_files.getvalue(), 9, mtime=0)
        (HERE / f"{format}.tar.gz").write_bytes(packed_files)
        print(f"{format}: {len(names)} files, {refused} refused by Pillow, {len(packed_files)} bytes", file=sys.stderr)
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(facts)}" for name, facts in expected.items())
    (HERE / "expected.json").write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    main()
