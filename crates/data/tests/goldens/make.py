"""Writes the golden files in this folder with the results of Pillow and torchvision:
`pip install pillow==13.0.0 numpy torch torchvision`, `python make.py`.

resize.bin    images, crops and Pillow's `crop(box).resize((w, h), BILINEAR)`
decode.bin    files in all formats and modes, with Pillow's `convert('RGB')`
augment.json  percentiles of the crops of torchvision's `RandomResizedCrop`
normalize.bin every byte value after torchvision's `ToTensor` and `Normalize`
pipeline.bin  images with torchvision's tensors of them for training and for evaluation

Numbers in the .bin files are little-endian u32; tensors are f32. A case of resize.bin is width, height, left, top, crop width, crop
height, target width, target height, then the pixels of the source and of the target. A case of decode.bin is the length of the name,
the length of the file, width and height (0 if Pillow refuses the file), then name, file and pixels. A case of normalize.bin is mean,
std and a tensor [3, 256]. A case of pipeline.bin is width, height, left, top, crop width, crop height, whether it is flipped, target
size, then the pixels and the two tensors [3, size, size].
"""
import io
import json
import pathlib
import struct
import zlib

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as F

HERE = pathlib.Path(__file__).parent


def natural(width, height, seed):
    """Returns noise in three correlated channels with most of its energy at low frequencies, as in photos."""
    rng = np.random.default_rng(seed)
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]
    falloff = 1 / np.maximum(np.hypot(fx, fy), 1 / max(width, height))
    channel = lambda: np.fft.ifft2(np.fft.fft2(rng.normal(size=(height, width))) * falloff).real
    shared = channel()
    planes = np.stack([shared + 0.4 * channel() for _ in range(3)], -1)
    planes = 128 + 70 * (planes - planes.mean()) / (planes.std() + 1e-9) + rng.normal(scale=4, size=planes.shape)
    return np.clip(planes, 0, 255).astype(np.uint8)


def gradient(width, height):
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack([x, y, (x + y) / 2], -1).astype(np.uint8)


def edges(width, height, seed):
    """Returns black strokes on white and colored one-pixel lines, for the largest contrast."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), 255, np.uint8)
    for _ in range(max(width, height) // 3):
        x, y = rng.integers(width), rng.integers(height)
        image[y, x:x + rng.integers(1, 12)] = rng.integers(2, size=3) * 255
        image[y:y + rng.integers(1, 12), x] = 0
    return image


def resize_cases():
    yield natural(67, 41, 1), (0, 0, 67, 41), (21, 21)
    yield natural(67, 41, 1), (13, 7, 30, 31), (21, 21)
    yield natural(30, 47, 2), (3, 5, 20, 23), (37, 37)
    yield natural(23, 20, 3), (0, 0, 23, 20), (23, 20)
    yield gradient(60, 43), (11, 0, 44, 43), (19, 19)
    yield gradient(7, 5), (0, 0, 7, 5), (30, 30)
    yield edges(55, 40, 4), (0, 0, 55, 40), (18, 18)
    yield edges(55, 40, 5), (20, 10, 17, 19), (28, 28)
    yield edges(121, 9, 6), (0, 0, 121, 9), (16, 16)
    yield edges(24, 24, 7), (1, 1, 1, 1), (5, 5)
    yield edges(24, 24, 7), (0, 23, 24, 1), (9, 9)
    yield natural(1, 1, 8), (0, 0, 1, 1), (4, 4)
    yield natural(41, 67, 15), (0, 0, 41, 67), (21, 21)
    yield edges(40, 55, 16), (3, 2, 21, 47), (28, 28)


def write_resize():
    with open(HERE / 'resize.bin', 'wb') as out:
        for pixels, (left, top, w, h), target in resize_cases():
            image = Image.fromarray(pixels)
            expected = image.crop((left, top, left + w, top + h)).resize(target, Image.Resampling.BILINEAR)
            out.write(struct.pack('<8I', *image.size, left, top, w, h, *target))
            out.write(pixels.tobytes() + np.asarray(expected).tobytes())


def files():
    """Yields the name and the bytes of each file that is decoded."""
    image = Image.fromarray(natural(23, 17, 11))
    text = Image.fromarray(edges(37, 21, 12))
    alpha = Image.fromarray(natural(23, 17, 13)).convert('L')
    with_alpha = image.copy()
    with_alpha.putalpha(alpha)
    grey_alpha = image.convert('L')
    grey_alpha.putalpha(alpha)
    palette = image.quantize(29)
    rng = np.random.default_rng(14)
    deep = Image.fromarray(rng.integers(0, 65536, (13, 17)).astype(np.uint16))
    orientation = Image.Exif()
    orientation[0x0112] = 6

    def saved(image, form, **options):
        buffer = io.BytesIO()
        image.save(buffer, form, **options)
        return buffer.getvalue()

    for subsampling in ['4:4:4', '4:2:2', '4:2:0']:
        name = subsampling.replace(':', '')
        yield f'baseline_{name}.jpg', saved(image, 'jpeg', quality=90, subsampling=subsampling)
        yield f'progressive_{name}.jpg', saved(image, 'jpeg', quality=90, subsampling=subsampling, progressive=True)
    yield 'grey.jpg', saved(image.convert('L'), 'jpeg', quality=90)
    yield 'grey_progressive.jpg', saved(image.convert('L'), 'jpeg', quality=90, progressive=True)
    yield 'restart.jpg', saved(image, 'jpeg', quality=90, restart_marker_rows=1)
    yield 'cmyk.jpg', saved(image.convert('CMYK'), 'jpeg', quality=95)
    yield 'cmyk_progressive.jpg', saved(image.convert('CMYK'), 'jpeg', quality=95, progressive=True)
    yield 'ycck.jpg', adobe(saved(image.convert('CMYK'), 'jpeg', quality=95), transform=2)
    yield 'rgb_kept.jpg', saved(image, 'jpeg', quality=90, keep_rgb=True)
    yield 'turned.jpg', saved(image, 'jpeg', quality=90, exif=orientation)
    yield 'text.jpg', saved(text, 'jpeg', quality=75)
    yield 'one_pixel.jpg', saved(Image.new('RGB', (1, 1), (200, 30, 90)), 'jpeg')
    yield 'one_column.jpg', saved(image.crop((0, 0, 1, 17)), 'jpeg')
    yield 'rgb.png', saved(image, 'png')
    yield 'rgba.png', saved(with_alpha, 'png')
    yield 'grey.png', saved(image.convert('L'), 'png')
    yield 'grey_alpha.png', saved(grey_alpha, 'png')
    yield 'bilevel.png', saved(text.convert('1'), 'png')
    yield 'palette.png', saved(palette, 'png')
    yield 'palette_4bit.png', saved(image.quantize(13), 'png', bits=4)
    yield 'palette_transparent.png', saved(palette, 'png', transparency=3)
    yield 'rgb_transparent.png', saved(text, 'png', transparency=(255, 255, 255))
    yield 'grey_16bit.png', saved(deep, 'png')
    yield 'rgb_16bit.png', png(rng.integers(0, 65536, (7, 9, 3)).astype('>u2'), 2)
    yield 'rgba_16bit.png', png(rng.integers(0, 65536, (7, 9, 4)).astype('>u2'), 6)
    yield 'grey_alpha_16bit.png', png(rng.integers(0, 65536, (7, 9, 2)).astype('>u2'), 4)
    yield 'palette.gif', saved(palette, 'gif')
    yield 'transparent.gif', saved(palette, 'gif', transparency=3)
    yield 'interlaced.gif', saved(palette, 'gif', interlace=1)
    yield 'animated.gif', saved(palette, 'gif', save_all=True, append_images=[text.resize(palette.size).quantize(5)])
    yield 'rgb.bmp', saved(image, 'bmp')
    yield 'palette.bmp', saved(palette, 'bmp')
    yield 'grey.bmp', saved(image.convert('L'), 'bmp')
    yield 'bilevel.bmp', saved(text.convert('1'), 'bmp')
    yield 'rgb.tif', saved(image, 'tiff')
    yield 'rgba.tif', saved(with_alpha, 'tiff')
    yield 'grey.tif', saved(image.convert('L'), 'tiff')
    yield 'palette.tif', saved(palette, 'tiff')
    yield 'bilevel.tif', saved(text.convert('1'), 'tiff')
    yield 'lzw.tif', saved(image, 'tiff', compression='tiff_lzw')
    yield 'deflate.tif', saved(image, 'tiff', compression='tiff_adobe_deflate')
    yield 'cmyk.tif', saved(image.convert('CMYK'), 'tiff')
    yield 'grey_16bit.tif', saved(deep, 'tiff')
    yield 'lossless.webp', saved(image, 'webp', lossless=True)
    yield 'lossless_alpha.webp', saved(with_alpha, 'webp', lossless=True, exact=True)
    yield 'lossy.webp', saved(image, 'webp', quality=90)


def adobe(jpeg, transform):
    """Returns the file with another color transform in its Adobe marker, so that the same numbers are other colors."""
    at = jpeg.index(b'Adobe') + 11
    return jpeg[:at] + bytes([transform]) + jpeg[at + 1:]


def png(samples, color_type):
    """Returns a 16-bit PNG, which Pillow reads but does not write."""
    chunk = lambda kind, data: struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    rows = b''.join(b'\0' + row.tobytes() for row in samples)
    header = struct.pack('>IIBBBBB', samples.shape[1], samples.shape[0], 16, color_type, 0, 0, 0)
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b''))


def write_decode():
    with open(HERE / 'decode.bin', 'wb') as out:
        for name, data in files():
            try:
                image = Image.open(io.BytesIO(data))
                if image.mode == 'I;16':
                    # Pillow's conversion clips at 255, which gives a white image. Use the high byte, as Pillow does for 16-bit color.
                    image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
                image = image.convert('RGB')
            except OSError:
                image = Image.new('RGB', (0, 0))
            out.write(struct.pack('<4I', len(name), len(data), *image.size))
            out.write(name.encode() + data + image.tobytes())


def write_augment():
    """Writes for each image size the percentiles 1 to 99 of the area, ratio and position of 100,000 crops."""
    torch.manual_seed(0)
    cases = []
    for width, height in [(320, 240), (240, 320), (500, 333), (50, 300), (400, 60), (5, 4)]:
        image = torch.empty(3, height, width)
        draws = [RandomResizedCrop.get_params(image, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(100_000)]
        top, left, h, w = np.array(draws, dtype=np.float64).T
        quantities = {'area': w * h / (width * height), 'ratio': w / h, 'left': left, 'top': top}
        percentiles = {name: np.percentile(values, range(1, 100), method='inverted_cdf').round(6).tolist()
                       for name, values in quantities.items()}
        cases.append({'width': width, 'height': height, **percentiles})
    (HERE / 'augment.json').write_text(json.dumps(cases))


HALF = [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]
IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def tensor_bytes(image, mean, std):
    return F.normalize(F.to_tensor(image), mean, std).numpy().astype('<f4').tobytes()


def write_normalize():
    every_byte = Image.fromarray(np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, axis=2))
    with open(HERE / 'normalize.bin', 'wb') as out:
        for mean, std in [HALF, IMAGENET]:
            out.write(np.array([mean, std], '<f4').tobytes() + tensor_bytes(every_byte, mean, std))


def pipeline_cases():
    """Yields images with the crop (left, top, width, height) and flip that goldens.rs draws for them; goldens.rs checks them."""
    yield natural(67, 41, 1), (24, 14, 21, 27), False
    yield natural(30, 47, 2), (4, 14, 25, 29), True
    yield edges(55, 40, 4), (30, 4, 24, 27), True
    yield gradient(60, 43), (4, 0, 19, 19), True


def write_pipeline(size=20):
    with open(HERE / 'pipeline.bin', 'wb') as out:
        for pixels, (left, top, w, h), flip in pipeline_cases():
            image = Image.fromarray(pixels)
            training = F.resized_crop(image, top, left, h, w, [size, size])
            training = F.hflip(training) if flip else training
            evaluation = F.resize(image, [size, size])
            out.write(struct.pack('<8I', *image.size, left, top, w, h, flip, size) + pixels.tobytes())
            out.write(tensor_bytes(training, *IMAGENET) + tensor_bytes(evaluation, *IMAGENET))


write_resize()
write_decode()
write_augment()
write_normalize()
write_pipeline()
