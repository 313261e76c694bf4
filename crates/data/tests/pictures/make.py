"""Draws the test pictures and prints the table that `codec/tests.rs` holds."""

import hashlib
import random

import numpy
from PIL import Image, ImageDraw

random.seed(7)
noise = numpy.random.RandomState(7)


def drawing(width, height):
    image = Image.new("RGB", (width, height), (200, 180, 90))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y, r = random.randrange(width), random.randrange(height), random.randrange(3, 14)
        draw.ellipse([x, y, x + r, y + r], fill=tuple(random.randrange(256) for _ in range(3)))
    values = numpy.asarray(image).astype(int) + noise.randint(-6, 6, (height, width, 3))
    return Image.fromarray(values.clip(0, 255).astype("uint8"))


image, other = drawing(41, 29), drawing(41, 29)
alpha = image.convert("RGBA")
alpha.putalpha(Image.fromarray(noise.randint(0, 255, (29, 41)).astype("uint8")))
palette = image.quantize(16)
exif = Image.Exif()
exif[0x112] = 6

made = {
    "444.jpg": (image, {"quality": 80, "subsampling": 0}),
    "422.jpg": (image, {"quality": 80, "subsampling": 1}),
    "420.jpg": (image, {"quality": 80, "subsampling": 2}),
    "progressive.jpg": (image, {"quality": 80, "progressive": True}),
    "restarts.jpg": (image, {"quality": 80, "restart_marker_blocks": 1}),
    "grey.jpg": (image.convert("L"), {"quality": 80}),
    "cmyk.jpg": (image.convert("CMYK"), {"quality": 80}),
    "rgb.jpg": (image, {"quality": 80, "keep_rgb": True}),
    "exif.jpg": (image, {"quality": 80, "exif": exif}),
    "two.mpo": (image, {"quality": 80, "save_all": True, "append_images": [other]}),
    "lossy.webp": (image, {"quality": 80}),
    "alpha.webp": (alpha, {"quality": 80}),
    "lossless.webp": (image, {"lossless": True}),
    "animated.webp": (image, {"save_all": True, "append_images": [other], "duration": 9}),
    "animated.gif": (image, {"save_all": True, "append_images": [other], "duration": 9}),
    "transparent.gif": (palette, {"transparency": 3}),
    "interlaced.gif": (palette, {"interlace": 1}),
    "plain.bmp": (image, {}),
    "palette.bmp": (palette, {}),
    "lzw.tiff": (image, {"compression": "tiff_lzw"}),
    "grey.tiff": (image.convert("L"), {}),
    "palette.png": (palette, {"transparency": 3}),
    "bits.png": (image.convert("1"), {}),
}
for name, (picture, settings) in made.items():
    picture.save(name, **settings)
for name in made:
    with Image.open(name) as read:
        pixels = read.convert("RGB")
        digest = hashlib.sha256(pixels.tobytes()).hexdigest()
        print(f'    ("{name}", "{digest}"),')
