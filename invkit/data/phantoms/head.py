"""Axial slices of the head: scalp, skull, grey and white matter, ventricles."""

__all__ = ["draw_head"]

import numpy as np

from invkit.data.phantoms.canvas import ANGLES, Canvas, Shape, ellipse, wobble
from invkit.data.phantoms.organs import Random, lesions, table


def draw_head(canvas: Canvas, random: Random) -> None:
    """Draw a slice at the height of the ventricles."""
    canvas.shading *= 0.3
    a = canvas.half * float(random.uniform(0.6, 0.72))
    b = canvas.half * float(random.uniform(0.78, 0.9))
    radii = ellipse(a, b, power=2.15, angle=float(random.normal(0, 0.06))) * wobble(random, 0.02)
    head = canvas.star(0, 0, radii)
    box, depth = head.box, head.depth
    grain = canvas.texture("parenchyma", box, random)
    folds = canvas.texture("fibres", box, random)
    canvas.paint(head, 20 + 5 * grain)
    canvas.paint(Shape(box, depth - np.float32(2)), -60 + 60 * np.clip(folds, -0.5, 1))
    scalp = float(random.uniform(4, 7))
    thick = float(random.uniform(5, 9)) * (1 + 0.18 * canvas.texture("clouds", box, random))
    skull = depth - np.float32(scalp)
    hard = float(random.uniform(1100, 1700))
    spongy = np.float32(random.uniform(450, 900)) * (1 + 0.2 * canvas.texture("grain", box, random))
    middle = np.clip(np.minimum(skull, thick - skull) - np.float32(1.8) + 0.5, 0, 1)
    canvas.paint(Shape(box, skull), hard + middle * (spongy - hard))
    brain = skull - thick
    _brain(canvas, random, Shape(box, brain), grain, folds)
    table(canvas, random, b + float(random.uniform(2, 10)))


def _brain(canvas: Canvas, random: Random, shape: Shape, grain: np.ndarray, folds: np.ndarray) -> None:
    box, depth = shape.box, shape.depth
    fluid, white, grey = (float(random.uniform(*span)) for span in ((3, 12), (25, 31), (34, 41)))
    canvas.paint(shape, fluid)
    sulci = np.clip(1 - np.abs(folds) / np.float32(random.uniform(0.12, 0.3)), 0, 1)
    surface = np.clip(1 - depth / np.float32(random.uniform(14, 26)), 0, 1)
    cortex = np.clip(1.1 - np.abs(folds) / 0.7, 0, 1) * np.clip(2.2 * surface, 0, 1)
    matter = white + (grey - white) * np.maximum(cortex, np.clip((6 - depth) / 3, 0, 1))
    matter = matter + (fluid - matter) * sulci * np.clip(2.5 * surface - 0.6, 0, 1) + 1.2 * grain
    canvas.paint(Shape(box, depth - np.float32(random.uniform(0.5, 3))), matter)
    half = canvas.half
    for side in (-1, 1):
        for place, radii in (
            ((0.2, -0.05), (0.1, 0.15)),
            ((0.13, -0.22), (0.06, 0.12)),
            ((0.18, 0.1), (0.09, 0.13)),
        ):
            outline = ellipse(radii[0] * half, radii[1] * half) * wobble(random, 0.06)
            nucleus = canvas.star(side * place[0] * half, place[1] * half, outline)
            canvas.paint(nucleus, grey + 1.2 * canvas.texture("parenchyma", nucleus.box, random), softness=3)
        wide = float(random.uniform(0.02, 0.07)) * half
        for start, end in (
            ((0.05, -0.28), (0.07, -0.02)),
            ((0.07, -0.02), (0.16, 0.22)),
            ((0.16, 0.22), (0.18, 0.3)),
        ):
            horn = canvas.tube(
                side * start[0] * half, start[1] * half, side * end[0] * half, end[1] * half, wide, wide
            )
            canvas.paint(horn, fluid, softness=2)
        plexus = canvas.star(
            side * 0.17 * half, 0.24 * half, float(random.uniform(1.5, 3.5)) * wobble(random, 0.1)
        )
        canvas.paint(plexus, float(random.choice([45.0, 300.0])))
    falx = canvas.tube(0, -0.95 * half, 0, -0.32 * half, 0.9, 0.7)
    canvas.paint(falx, 55.0, inside=None if depth.shape == canvas.image.shape else _whole(canvas, shape))
    canvas.paint(canvas.tube(0, 0.4 * half, 0, 0.95 * half, 0.7, 1.0), 55.0, inside=_whole(canvas, shape))
    if random.random() < 0.5:
        lesions(canvas, random, Shape(box, depth - 8), int(random.integers(1, 4)))
    if random.random() < 0.2:
        x, y = float(random.normal(0, 0.25)) * half, float(random.normal(0, 0.3)) * half
        blood = canvas.star(x, y, np.full(ANGLES, float(random.uniform(4, 16))) * wobble(random, 0.12))
        canvas.paint(blood, float(random.uniform(55, 75)), inside=_whole(canvas, shape) - 2)


def _whole(canvas: Canvas, shape: Shape) -> np.ndarray:
    depth = np.full_like(canvas.image, -1)
    depth[shape.box] = shape.depth
    return depth
