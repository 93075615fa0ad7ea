"""The canvas on which phantoms are drawn: anti-aliased stars and tubes in mm, random textures."""

__all__ = ["AIR", "Box", "Canvas", "Shape", "ellipse", "wobble"]

from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage

AIR = -1000.0
ANGLES = 720
TURN = np.linspace(0, 2 * np.pi, ANGLES, endpoint=False)
COSINES, SINES = (np.array([wave(order * TURN) for order in range(13)]) for wave in (np.cos, np.sin))
Box = tuple[slice, slice]


def wobble(random: np.random.Generator, amount: float, *, low: int = 2, high: int = 7) -> np.ndarray:
    """Return a random smooth factor around 1 over the angles, shape `(720,)`, of spread `amount`."""
    orders = np.arange(low, high + 1)
    weights = random.normal(size=(2, orders.size)) / np.sqrt(orders - low + 1.0)
    curve = weights[0] @ COSINES[low : high + 1] + weights[1] @ SINES[low : high + 1]
    factor: np.ndarray = np.clip(1 + amount * curve / np.sqrt(orders.size), 0.5, 1.6)
    return factor


def ellipse(a: float, b: float, *, power: float = 2.0, angle: float = 0.0) -> np.ndarray:
    """Return the radii of a (super)ellipse with half axes a and b over the angles, shape `(720,)`, mm."""
    turn = TURN - angle
    terms = np.abs(np.cos(turn) / a) ** power + np.abs(np.sin(turn) / b) ** power
    return np.asarray(terms ** (-1 / power))


@dataclass(frozen=True)
class Shape:
    """A structure on the canvas: a window of pixels and how deep each lies in it, mm (negative outside)."""

    box: Box
    depth: np.ndarray


class Canvas:
    """A slice being drawn; x runs right, y to the back, from the centre, all in mm.

    Coordinates are bent by a smooth random field, so that ellipses drawn on them look grown.
    """

    def __init__(self, size: int, spacing: float, random: np.random.Generator) -> None:
        self.size = size
        self.spacing = spacing
        self.image = np.full((size, size), AIR, dtype=np.float32)
        line = (np.arange(size, dtype=np.float32) - (size - 1) / 2) * np.float32(spacing)
        bend = [self._smooth(random, 6) * 2.5 + self._smooth(random, 14) * 0.7 for _ in range(2)]
        self.x = line[None, :] + bend[0]
        self.y = line[:, None] + bend[1]
        self.straight_y = np.broadcast_to(line[:, None], (size, size))
        self.half = float(-line[0])
        self.softness = (
            float(random.uniform(1.0, 2.6)) * 0.7 / spacing
        )  # edges lie oblique in a slice 1 to 5 mm thick
        self.blur = float(random.uniform(0.38, 0.58))
        self.shading = float(random.gamma(1.5, 3.0))
        self._textures = self._fields(random)

    def _smooth(self, random: np.random.Generator, knots: int) -> np.ndarray:
        """Return a smooth unit field by cubic interpolation of a coarse random grid, shape `(size, size)`."""
        grid = random.normal(size=(knots + 3, knots + 3)).astype(np.float32)
        rows = _spline_matrix(self.size, knots)
        return np.asarray(rows @ grid @ rows.T * np.float32(1.6))

    def _fields(self, random: np.random.Generator) -> dict[str, np.ndarray]:
        """Return periodic unit-variance textures: parenchyma (1/f), fibres, grain, clouds, streaks."""
        size = self.size
        rows, columns = fft.fftfreq(size, self.spacing), fft.rfftfreq(size, self.spacing)
        mm = np.hypot(rows[:, None], columns[None, :]).astype(
            np.float32
        )  # cycles per mm, whatever the pixels
        noise = random.standard_normal((2, size, size), dtype=np.float32)
        white, second = fft.rfft2(noise)
        gains = {
            "parenchyma": np.maximum(mm, np.float32(0.01)) ** np.float32(-1.3) * np.exp(-((mm / 0.45) ** 2)),
            "fibres": np.exp(-(((mm - 0.09) / 0.07) ** 2)),
            "grain": np.exp(-(((mm - 0.28) / 0.16) ** 2)),
            "clouds": np.exp(-((mm / 0.03) ** 2)),
            "streaks": np.exp(-((columns[None, :] / 0.008) ** 2) - (rows[:, None] / 0.06) ** 2),
        }
        result = {}
        for number, (name, gain) in enumerate(gains.items()):
            gain[0, 0] = 0
            spectrum = (white if number % 2 else second) * gain.astype(np.float32)
            field = fft.irfft2(spectrum, s=(size, size))
            result[name] = field / (field.std() + np.float32(1e-6))
        return result

    def texture(self, name: str, box: Box, random: np.random.Generator) -> np.ndarray:
        """Return a window of a texture at a random place, so that two organs do not share it."""
        field = self._textures[name]
        height, width = box[0].stop - box[0].start, box[1].stop - box[1].start
        row = int(random.integers(0, self.size - height + 1))
        column = int(random.integers(0, self.size - width + 1))
        return field[row : row + height, column : column + width]

    def box(self, left: float, top: float, right: float, bottom: float) -> Box:
        """Return the window of pixels that covers these mm, with room for the bending."""
        room = 9.0
        edges = [left - room, right + room, top - room, bottom + room]
        pixels = [round((edge + self.half) / self.spacing) for edge in edges]
        x0, x1, y0, y1 = (min(max(pixel, 0), self.size) for pixel in pixels)
        return slice(y0, max(y0, y1)), slice(x0, max(x0, x1))

    def star(self, x: float, y: float, radii: np.ndarray) -> Shape:
        """Return the star-shaped structure around (x, y) with these radii over the angles, mm."""
        reach = float(radii.max())
        box = self.box(x - reach, y - reach, x + reach, y + reach)
        dx, dy = self.x[box] - np.float32(x), self.y[box] - np.float32(y)
        index = (np.arctan2(dy, dx) * np.float32(ANGLES / (2 * np.pi))).astype(np.int32) % ANGLES
        return Shape(box, radii.astype(np.float32)[index] - np.hypot(dx, dy))

    def tube(self, x0: float, y0: float, x1: float, y1: float, r0: float, r1: float) -> Shape:
        """Return a straight tube from (x0, y0) to (x1, y1) whose radius goes from r0 to r1, mm."""
        reach = max(r0, r1)
        box = self.box(min(x0, x1) - reach, min(y0, y1) - reach, max(x0, x1) + reach, max(y0, y1) + reach)
        dx, dy = np.float32(x1 - x0), np.float32(y1 - y0)
        px, py = self.x[box] - np.float32(x0), self.y[box] - np.float32(y0)
        along = np.clip((px * dx + py * dy) / max(float(dx * dx + dy * dy), 1e-6), 0, 1)
        distance = np.hypot(px - along * dx, py - along * dy)
        return Shape(box, np.float32(r0) + along * np.float32(r1 - r0) - distance)

    def cover(self, depth: np.ndarray, *, softness: float = 1.0) -> np.ndarray:
        """Return how much of each pixel lies at positive depth, with edges `softness` times the usual."""
        width = np.float32(self.spacing * max(1.0, softness * self.softness))
        fraction: np.ndarray = np.clip(depth / width + np.float32(0.5), 0, 1)
        return fraction

    def paint(
        self, shape: Shape, hu: float | np.ndarray, *, inside: np.ndarray | None = None, softness: float = 1.0
    ) -> None:
        """Lay a value in HU (or one per pixel of the window) over the image where the shape is.

        Args:
            shape: what is painted.
            hu: its value.
            inside: depth of a container over the whole image; nothing is painted outside of it.
            softness: factor of the width of the edge.
        """
        depth = shape.depth if inside is None else np.minimum(shape.depth, inside[shape.box])
        window = self.image[shape.box]
        window += self.cover(depth, softness=softness) * (hu - window)

    def add(self, shape: Shape, hu: float | np.ndarray, *, softness: float = 1.0) -> None:
        """Add HU inside the shape, keeping what is there."""
        self.image[shape.box] += self.cover(shape.depth, softness=softness) * hu

    def finish(self) -> np.ndarray:
        """Return the slice after the scanner's blur (0.38 to 0.58 mm), clipped, float32."""
        sigma = min(max(self.blur / self.spacing, 0.35), 1.4)
        matter = np.clip((self.image - AIR) / 900, 0, 1)
        self.image += np.float32(self.shading) * matter * self._textures["streaks"]  # beam hardening, scatter
        blurred = ndimage.gaussian_filter(self.image, sigma, mode="nearest", truncate=3.0)
        return np.asarray(np.clip(blurred, -1024, 3071), dtype=np.float32)


def _spline_matrix(size: int, knots: int) -> np.ndarray:
    """Return the matrix `(size, knots + 3)` of uniform cubic B-splines."""
    position = np.linspace(0, knots, size, endpoint=False)
    cell, t = np.floor(position).astype(int), (position % 1)
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]) / 6
    matrix = np.zeros((size, knots + 3), dtype=np.float32)
    for shift in range(4):
        matrix[np.arange(size), cell + shift] = weights[shift]
    return matrix
