"""Writes one.ttf, a font that draws 雛 and U+10FFFD as a triangle. Needs fontTools (`pip install fonttools`)."""

from pathlib import Path

from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen


def triangle():
    pen = TTGlyphPen(None)
    pen.moveTo((100, 0))
    pen.lineTo((500, 800))
    pen.lineTo((900, 0))
    pen.closePath()
    return pen.glyph()


empty = TTGlyphPen(None).glyph()
font = FontBuilder(1000, isTTF=True)
font.setupGlyphOrder([".notdef", "triangle"])
font.setupCharacterMap({ord("雛"): "triangle", 0x10FFFD: "triangle"})
font.setupGlyf({".notdef": empty, "triangle": triangle()})
font.setupHorizontalMetrics({".notdef": (1000, 0), "triangle": (1000, 100)})
font.setupHorizontalHeader(ascent=880, descent=-120)
font.setupNameTable({"familyName": "One", "styleName": "Regular", "psName": "One-Regular"})
font.setupOS2(sTypoAscender=880, sTypoDescender=-120, usWinAscent=880, usWinDescent=120)
font.setupPost()
# Fixed times, so that the bytes are always the same.
font.font["head"].created = font.font["head"].modified = 0
font.font.recalcTimestamp = False
font.save(Path(__file__).with_name("one.ttf"))
