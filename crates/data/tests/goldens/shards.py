"""Writes shards/ with Python's webdataset: small shards as other programs make them.

    python shards.py        # webdataset 1.0.2, pillow 13.0.0

`numbers/` has classes as numbers in `.cls`, keys with a folder, and files that are not used. `named/` has classes as text, and names of
shards with those of subsets. Each image has one color.
"""

import io
import pathlib
import shutil

import webdataset as wds
from PIL import Image

HERE = pathlib.Path(__file__).parent / "shards"


def image(gray, format="JPEG"):
    file = io.BytesIO()
    Image.new("RGB", (24, 16), (gray, gray, gray)).save(file, format)
    return file.getvalue()


def main():
    shutil.rmtree(HERE, ignore_errors=True)
    (HERE / "numbers").mkdir(parents=True)
    (HERE / "named").mkdir()
    # Classes 2 and 10, so that the order of numbers differs from that of texts. A time, so that the bytes are the same each time.
    with wds.ShardWriter(str(HERE / "numbers/photos-%06d.tar"), maxcount=3, verbose=0, mtime=0.5) as writer:
        for number in range(6):
            extension, format = ("png", "PNG") if number == 3 else ("jpg", "JPEG")
            writer.write({
                "__key__": f"photos/{number}",
                extension: image(40 * number, format),
                "cls": [2, 10][number % 2],
                "json": {"caption": "a color", "size": [24, 16]},
                "txt": "a color",
            })
    for subset, keys in [("train", "ab"), ("val", "a")]:
        with wds.TarWriter(str(HERE / f"named/set-{subset}-0.tar"), mtime=0) as writer:
            for key in keys:
                writer.write({"__key__": key, "jpg": image(90), "cls": {"a": "daisy", "b": "tulips"}[key]})


if __name__ == "__main__":
    main()
