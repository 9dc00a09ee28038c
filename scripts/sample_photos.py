"""Paints small photos of dogs in five coats, so that trying things out needs no download."""

import argparse
import zlib
from collections.abc import Mapping, Sequence
from itertools import pairwise, product
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageDraw, ImageFilter

Plane = npt.NDArray[np.float32]
Rng = np.random.Generator
Chain = Sequence[tuple[complex, float]]  # a limb: discs, each a centre (x + y·j, y down) and radius
Pose = tuple[Chain, complex, Sequence[Chain], Chain]  # torso, middle of skull, near legs, tail
PER_CLASS: Mapping[str, int] = MappingProxyType({"train": 100, "valid": 20, "test": 20})
SHAPES = ((1.0, 0.75), (1.0, 1.0), (0.75, 1.0), (1.0, 0.85))
TURNED = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}  # the camera lay on its side
# Every coat takes one colour from each list, so that a colour alone says little about the coat.
LIGHT = ((238, 233, 222), (226, 200, 158), (216, 172, 118), (196, 198, 200), (224, 168, 112))
DARK = ((38, 34, 34), (84, 52, 36), (60, 70, 86), (96, 46, 26), (60, 56, 52))
BRIGHT = ((190, 40, 45), (40, 90, 170), (235, 180, 40), (50, 140, 90), (200, 90, 150))
NOSE, GLINT, TONGUE, GRASS = (28, 24, 26), (235, 238, 240), (222, 120, 130), (88, 128, 52)
# fmt: off
SCENES = (  # colours: far above, far below, near above, near below, things between; ground's bumps
    ((120, 170, 220), (215, 228, 232), (70, 120, 50), (120, 160, 70), (60, 95, 50), (.036, .11)),
    ((225, 215, 195), (205, 190, 165), (150, 105, 65), (185, 140, 95), (110, 75, 55), (.8, .06)),
    ((90, 105, 130), (70, 85, 110), (120, 135, 160), (95, 110, 140), (190, 140, 85), (.11, .1)),
    ((150, 195, 225), (90, 150, 175), (205, 185, 145), (225, 208, 170), (70, 130, 155), (.06, .06)),
    ((190, 200, 215), (225, 228, 235), (205, 212, 225), (228, 230, 236), (95, 105, 105), (.2, .12)),
    ((170, 120, 80), (210, 165, 110), (120, 90, 60), (165, 120, 70), (175, 75, 40), (.05, .08)),
)
GROUND = 0.8  # the y of the paws in every pose: standing, sitting, lying
POSES: Sequence[Pose] = (
    (((-.44-.03j, .22), (-.05-.04j, .22), (.34+0j, .27)), .58-.45j,
     (((.34+.1j, .13), (.36+.42j, .08), (.35+.72j, .065), (.42+.74j, .06)),
      ((-.44+.05j, .19), (-.36+.34j, .1), (-.5+.54j, .065), (-.47+.72j, .06), (-.4+.74j, .06))),
     ((-.58-.1j, .07), (-.8-.3j, .06), (-.86-.54j, .03))),
    (((-.3+.42j, .29), (-.1+.2j, .27), (.12-.05j, .25)), .24-.52j,
     (((.16+.1j, .13), (.22+.45j, .08), (.22+.72j, .065), (.3+.74j, .06)),
      ((-.24+.48j, .21), (-.02+.56j, .13), (-.12+.72j, .07), (.05+.74j, .06))),
     ((-.5+.6j, .07), (-.76+.68j, .055), (-.95+.55j, .03))),
    (((-.5+.42j, .27), (-.1+.4j, .26), (.27+.34j, .28)), .47-.12j,
     (((.32+.48j, .13), (.45+.7j, .075), (.84+.73j, .065)),
      ((-.48+.48j, .22), (-.22+.6j, .13), (-.4+.72j, .07), (-.1+.74j, .06))),
     ((-.7+.5j, .07), (-.95+.64j, .05), (-1.08+.52j, .03))),
)
EARS = ((((.15-.12j, .06), (.23+.04j, .075), (.22+.15j, .045)),  # the head is around its skull
         ((-.15-.12j, .06), (-.23+.04j, .075), (-.22+.15j, .045))),
        (((.12-.1j, .09), (.17-.36j, .012)), ((-.12-.1j, .09), (-.17-.36j, .012))))
MUZZLE, LICK = (((.04j, .14), (.12j, .115)),), (((.19j, .035), (.25j, .03)),)
BLACK = (((-.015+.08j, .035), (.015+.08j, .035)), ((.09-.03j, .032),), ((-.09-.03j, .032),),
         ((.08j, .008), (.16j, .008), (.05+.18j, .008)), ((.16j, .008), (-.05+.18j, .008)))
GLINTS = (((.1-.04j, .011),), ((-.08-.04j, .011),), ((.01+.065j, .009),))
# fmt: on


class View(NamedTuple):
    """Where the dog's own coordinates lie in the picture, and how it is lit."""

    width_px: int
    height_px: int
    origin_px: complex
    scale_px: float
    light: complex  # how much more light comes from the left, and from above

    def mask(self, chains: Sequence[Chain]) -> Image.Image:
        """How much of every pixel the chains cover."""
        canvas = Image.new("L", (2 * self.width_px, 2 * self.height_px))
        pen = ImageDraw.Draw(canvas)
        scale, origin = 2 * self.scale_px, 2 * self.origin_px
        for chain in chains:
            discs = [(origin + scale * centre, scale * radius) for centre, radius in chain]
            for at, r in discs:
                pen.ellipse((at.real - r, at.imag - r, at.real + r, at.imag + r), 255)
            for (a, a_radius), (b, b_radius) in pairwise(discs):
                at, bt = (1j * (b - a) / abs(b - a) * radius for radius in (a_radius, b_radius))
                corners = (a + at, b + bt, b - bt, a - at)
                pen.polygon([(corner.real, corner.imag) for corner in corners], 255)
        return canvas.reduce(2)

    def noise(self, rng: Rng, wide: float, high: float = 0) -> Plane:
        """Smooth noise around 0, with bumps of that size in the dog's own coordinates."""
        cells = self.height_px / (high or wide), self.width_px / wide
        grid = rng.standard_normal([round(n / self.scale_px) or 1 for n in cells], np.float32)
        size = self.width_px, self.height_px
        return np.asarray(Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC))

    def along_the_back(self, torso: Chain) -> tuple[Plane, Plane]:
        """How far from hip (0) to chest (1), and how high above the spine, every pixel is."""
        hip, chest = torso[0][0], torso[-1][0]
        rows, columns = np.mgrid[: self.height_px, : self.width_px].astype(np.float32)
        place = ((columns + 1j * rows - self.origin_px) / self.scale_px - hip) / (chest - hip)
        return place.real, -place.imag * abs(chest - hip)


def _step(plane: Plane, width: float) -> Plane:
    """0 below zero, 1 above it, with an edge of that width."""
    return np.clip(plane / width + 0.5, 0, 1)


def _over(under: npt.ArrayLike, share: Plane, over: npt.ArrayLike) -> Plane:
    """The one colour where the share is 0, the other where it is 1."""
    below, above = np.asarray(under, np.float32), np.asarray(over, np.float32)
    return below + share[..., None] * (above - below)


def _share(mask: Image.Image) -> Plane:
    return np.asarray(mask, np.float32) / 255


def _image(picture: Plane) -> Image.Image:
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))


# A coat says how much of the dark colour is at every pixel.
def _brindle(rng: Rng, view: View, torso: Chain) -> Plane:
    along, above = view.along_the_back(torso)
    wave = along * rng.uniform(4.2, 5.8) + 0.6 * above + 0.2 * view.noise(rng, 0.2)
    return 0.9 * _step(np.sin(2 * np.pi * wave) + 0.35 * view.noise(rng, 0.12) - 0.1, 1.1)


def _dalmatian(rng: Rng, view: View, torso: Chain) -> Plane:
    grid = np.add.outer(np.arange(-1.2, 1.2, 0.19), 1j * np.arange(-1.2, 1.0, 0.19))
    centres = grid + rng.uniform(-0.055, 0.055, (*grid.shape, 2)) @ (1, 1j)
    return _share(view.mask([((at, rng.uniform(0.035, 0.072)),) for at in centres.flat]))


def _merle(rng: Rng, view: View, torso: Chain) -> Plane:
    flecks = 0.45 - 0.4 * _step(view.noise(rng, 0.1) - 0.5, 0.3)
    return np.maximum(flecks, _step(view.noise(rng, 0.13) - 0.4, 0.25))


def _saddle(rng: Rng, view: View, torso: Chain) -> Plane:
    along, above = view.along_the_back(torso)
    ragged = 0.04 * view.noise(rng, 0.12)
    blanket = _step(above + rng.uniform(0.0, 0.08) + ragged, 0.07)
    return blanket * _step(rng.uniform(0.95, 1.1) - along + ragged, 0.1)


def _solid(rng: Rng, view: View, torso: Chain) -> Plane:
    return float(rng.integers(2)) + 0.05 * view.noise(rng, 0.3)


COATS = MappingProxyType({"brindle": _brindle, "dalmatian": _dalmatian, "merle": _merle,
                          "saddle": _saddle, "solid": _solid})  # fmt: skip
CLASSES = tuple(COATS)


def make_photos(folder: Path, *, per_class: Mapping[str, int] = PER_CLASS, size_px: int = 128,
                seed: int = 0) -> int:  # fmt: skip
    """Writes `<split>/<coat>/<number>.jpg` under the folder and says how many photos it wrote."""
    for split, coat in product(per_class, CLASSES):
        (folder / split / coat).mkdir(parents=True, exist_ok=True)
        for number in range(per_class[split]):
            name = f"{split}/{coat}/{number:03d}.jpg"
            # its own generator, so that a photo does not depend on how many others there are
            rng = np.random.default_rng((seed, zlib.crc32(name.encode())))
            save_like_a_camera(rng, _photo(rng, coat, size_px), folder / name)
    return len(CLASSES) * sum(per_class.values())


def _photo(rng: Rng, coat: str, size_px: int) -> Image.Image:
    width, height = (round(size_px * share) for share in rng.choice(SHAPES))
    scale = min(width / 2.0, height / 1.9) * rng.uniform(0.9, 1.1)
    x, y = width * rng.uniform(0.43, 0.57), height * rng.uniform(0.88, 0.97) - GROUND * scale
    light = 0.09 * scale * complex(rng.uniform(-2.0, 2.0), rng.uniform(0.6, 2.0))
    view = View(width, height, complex(x, y), scale, light)
    pose = POSES[rng.integers(len(POSES))]
    dark = np.clip(COATS[coat](rng, view, pose[0]), 0, 1)
    pale, deep = (rng.choice(tones) * rng.normal(1, 0.04, 3) for tones in (LIGHT, DARK))
    hairs = 1 + 0.06 * view.noise(rng, 0.045) + 0.05 * view.noise(rng, 0.3)
    fur = _image(_over(pale, dark, deep) * hairs[..., None])
    return _developed(rng, view, _dog(rng, view, pose, fur, _backdrop(rng, view)))


def _backdrop(rng: Rng, view: View) -> Image.Image:
    sky, haze, ground, front, thing, bumps = SCENES[rng.integers(len(SCENES))]
    horizon, down = rng.uniform(0.3, 0.65), np.linspace(0, 1, view.height_px)[:, None]
    foot = (horizon * view.height_px - view.origin_px.imag) / view.scale_px * 1j
    things = rng.uniform((-1, 0, 0.05, 0.05), (1, 0.6, 0.3, 0.3), (rng.integers(2, 7), 4)).tolist()
    shapes = [((x + foot - 1j * high, top), (x + foot, base)) for x, high, top, base in things]
    far = _over(sky, np.clip(down / horizon, 0, 1), haze)
    far = _over(far, _share(view.mask(shapes)), thing * (1 + 0.2 * view.noise(rng, 0.5)[..., None]))
    bumpy = 11 * view.noise(rng, *bumps) + 9 * view.noise(rng, 0.35)
    near = _over(ground, down, front) + bumpy[..., None]
    edge = _step(down - horizon + 0.008 * view.noise(rng, 0.3), 0.03)
    out_of_focus = ImageFilter.GaussianBlur(rng.uniform(0.004, 0.015) * view.width_px)
    return _image(_over(far, edge, near)).filter(out_of_focus)


def _moved(chains: Sequence[Chain], by: complex, turn: complex = 1) -> Sequence[Chain]:
    return [[(by + turn * centre, radius) for centre, radius in chain] for chain in chains]


def _dog(rng: Rng, view: View, pose: Pose, fur: Image.Image, picture: Image.Image) -> Plane:
    torso, skull, legs, tail = pose
    chest, root, nose = torso[-1][0], tail[0][0], skull + rng.uniform(-0.04, 0.09)
    throat, collar = (skull + chest) / 2, 0.15j * (skull - chest) / abs(skull - chest)
    tilt, wag = np.exp(1j * rng.normal(0, (0.14, 0.3))).tolist()
    aside = complex(rng.choice((-1, 1)) * rng.uniform(0.06, 0.16), -0.03)
    leather, rubber = (tuple(colour) for colour in rng.choice(BRIGHT, 2).tolist())
    ball = [((complex(rng.uniform(-0.9, 0.9), GROUND), rng.uniform(0.08, 0.15)),)]
    tips = rng.uniform((-1, 0.2), (1, 0.8), (9, 2)).tolist()
    blades = [((complex(x / 2, 1.1), 0.025), (complex(x, y), 0.006)) for x, y in tips]
    before = rng.integers(4)  # grass, a ball, or half the time nothing
    layers = (  # tone, colour, limbs
        (0.7, fur, [*_moved([tail], root - wag * root, wag), *_moved(legs, aside)]),
        (1.0, fur, [torso, ((chest + 0.04 - 0.1j, 0.19), (skull, 0.16)), *legs]),
        (1.0, leather, [((throat - collar, 0.04), (throat + collar, 0.04))]),
        (1.03, fur, [((skull, 0.2),)]),
        (1.1, fur, _moved(MUZZLE, nose, tilt)),
        (0.85, fur, _moved(EARS[rng.integers(len(EARS))], skull, tilt)),
        *((1.0, GRASS, blades), (1.0, rubber, ball))[before : before + 1],
    )
    shadow = view.mask([((-0.6 + 0.8j, 0.07), (0.5 + 0.8j, 0.07))])
    shade = 1 - 0.55 * _share(shadow.filter(ImageFilter.GaussianBlur(view.scale_px / 8)))
    body = ImageFilter.GaussianBlur(0.045 * view.scale_px)
    for tone, colour, chains in layers:
        mask = view.mask(chains)
        picture.paste(colour, None, mask)
        height = _share(mask.reduce(2).filter(body).resize(mask.size))  # a quick wide blur
        down, right = np.gradient(height)
        lit = tone * (0.84 + view.light.real * right + view.light.imag * down)
        shade *= 1 - 0.35 * height  # a body shades what is just behind it
        shade += _share(mask) * (lit - shade)
    for colour, chains in ((TONGUE, LICK[: rng.integers(2)]), (NOSE, BLACK), (GLINT, GLINTS)):
        picture.paste(colour, None, view.mask(_moved(chains, nose, tilt)))
    return np.asarray(picture, np.float32) * shade[..., None]


def _developed(rng: Rng, view: View, picture: Plane) -> Image.Image:
    """What the camera makes of it: perhaps mirrored; soft, tinted, dark in the corners, noisy."""
    y, x = np.ogrid[-1 : 1 : view.height_px * 1j, -1 : 1 : view.width_px * 1j]
    exposure = rng.uniform(0.8, 1.12) * (1 - rng.uniform(0, 0.16) * (x**2 + y**2))
    picture = picture * (exposure[..., None] * rng.normal(1, 0.05, 3)).astype(np.float32)
    soft = ImageFilter.GaussianBlur(rng.uniform(0.0035, 0.006) * view.scale_px)
    picture = np.asarray(_image(picture[:, :: rng.choice((-1, 1))]).filter(soft), np.float32)
    return _image(picture + rng.uniform(1, 6) * rng.standard_normal(picture.shape, np.float32))


def save_like_a_camera(rng: Rng, photo: Image.Image, path: Path) -> None:
    """Writes a JPEG, sometimes stored on its side with the EXIF orientation that says so."""
    exif, orientation = Image.Exif(), int(rng.choice((1, *TURNED), p=(0.94, 0.03, 0.03)))
    exif[ExifTags.Base.Orientation] = orientation
    stored = photo.transpose(TURNED[orientation]) if orientation in TURNED else photo
    stored.save(path, quality=int(rng.integers(80, 93)), exif=exif)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.sample_photos", description=__doc__)
    parser.add_argument("folder", type=Path, help="gets train/, valid/ and test/")
    folder = parser.parse_args().folder
    if folder.exists() and any(folder.iterdir()):
        parser.error(f"{folder} is not empty. Name a new folder.")
    print(f"{make_photos(folder)} photos in {folder}")


if __name__ == "__main__":
    main()
