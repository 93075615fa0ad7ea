"""Axial slices of the thorax: lungs with branching vessels, mediastinum, ribs, sternum, shoulder blades."""

__all__ = ["draw_thorax"]

import numpy as np

from invkit.data.phantoms.canvas import ANGLES, Canvas, Shape, ellipse, wobble
from invkit.data.phantoms.organs import (
    Body,
    Random,
    bone,
    contrast,
    draw_body,
    organ,
    rib,
    table,
    vertebra,
    vessel,
)
from invkit.data.phantoms.trunk import BACK, FRONT, bump


def draw_thorax(canvas: Canvas, random: Random) -> None:
    """Draw a slice between the aortic arch and the lowest part of the heart."""
    hu = contrast(random)
    a = canvas.half * float(random.uniform(0.76, 0.96))
    b = a * float(random.uniform(0.6, 0.74))
    girth = float(random.gamma(3.0, 0.33))
    fat = (3 + girth * (6 + 9 * bump(FRONT - 0.6, 0.5) + 9 * bump(FRONT + 0.6, 0.5))) * wobble(random, 0.15)
    level = float(random.random())  # 0 at the aortic arch, 1 at the diaphragm
    chest = 8 * (1 - level)
    muscle = 14 + chest * (bump(FRONT - 0.7, 0.5) + bump(FRONT + 0.7, 0.5)) + 18 * bump(BACK, 0.7)
    muscle = muscle + 6 * bump(0.3, 0.6) + 6 * bump(np.pi - 0.3, 0.6)
    body = draw_body(
        canvas,
        random,
        a,
        b,
        power=float(random.uniform(2.1, 2.5)),
        fat=fat,
        muscle=muscle * wobble(random, 0.1),
    )
    spine = body.b - float(random.uniform(6, 14))
    inside = body.cavity - 2
    lungs = []
    for side in (-1, 1):
        radii = ellipse(0.5 * body.a, 0.95 * body.b, power=2.4) * wobble(random, 0.05)
        shape = canvas.star(side * 0.53 * body.a, 0.05 * body.b, radii)
        lungs.append(_lung(canvas, random, shape, inside, level))
    _mediastinum(canvas, random, hu, body, level, spine)
    air = np.maximum(*lungs)
    for side, depth in zip((-1, 1), lungs, strict=True):
        free = np.where(canvas.image < -400, depth, np.float32(-1))
        _vessels(canvas, random, hu, body, side, free)
        _disease(canvas, random, body, side, free)
    if level > 0.85:
        radii = ellipse(0.4 * body.a, 0.5 * body.b) * wobble(random, 0.04)
        organ(canvas, random, canvas.star(-0.5 * body.a, -0.02 * body.b, radii), hu["liver"], inside=air - 4)
    vertebra(canvas, random, float(random.normal(0, 2)), spine, float(random.uniform(15, 19)))
    _cage(canvas, random, body, level)
    table(canvas, random, b)


def _lung(canvas: Canvas, random: Random, shape: Shape, inside: np.ndarray, level: float) -> np.ndarray:
    """Paint a lung and return its depth over the whole image, mm."""
    base = float(random.uniform(-895, -790))
    slope = float(random.uniform(0.1, 0.7))
    fine = canvas.texture("fibres", shape.box, random)
    lobules = canvas.texture("parenchyma", shape.box, random)
    value = np.float32(base) + np.float32(slope) * canvas.y[shape.box] + 14 * lobules
    value = value + np.float32(random.uniform(30, 90)) * np.clip(fine - 1.2, 0, 2.5) + 10 * fine
    canvas.paint(shape, np.clip(value, -985, -500), inside=inside)
    depth = np.full_like(canvas.image, -1)
    depth[shape.box] = np.minimum(shape.depth, inside[shape.box])
    return depth


def _vessels(
    canvas: Canvas, random: Random, hu: dict[str, float], body: Body, side: int, depth: np.ndarray
) -> None:
    """Grow a tree from the hilum, and strew the cross-sections of vessels that pass through the slice."""
    value = max(30.0, 0.8 * hu["vein"])
    start = side * 0.22 * body.a, 0.1 * body.b
    turns = np.linspace(-1.5, 1.5, int(random.integers(4, 7))) + random.normal(0, 0.2)
    tips = [(*start, turn, float(random.uniform(2.2, 5.0))) for turn in turns.tolist()]
    drawn = 0
    while tips and drawn < 90:
        x, y, turn, radius = tips.pop(0)
        length = float(random.uniform(2.5, 6.0)) * radius + 4
        heading = turn if side > 0 else np.pi - turn
        end = x + length * float(np.cos(heading)), y + length * float(np.sin(heading))
        canvas.paint(canvas.tube(x, y, *end, radius, radius * 0.85), value, inside=depth)
        drawn += 1
        fork = float(random.choice([-1, 1]))
        for bend, share, chance in ((-0.25 * fork, 0.86, 0.95), (0.7 * fork, 0.55, 0.7)):
            child = radius * share * float(random.uniform(0.85, 1.05))
            if child > 0.4 and random.random() < chance:
                tips.append((*end, turn + bend * float(random.uniform(0.3, 1.3)), child))
    for _ in range(120):
        x, y = side * float(random.uniform(0.12, 0.98)) * body.a, float(random.uniform(-0.9, 0.95)) * body.b
        radius = min(float(random.gamma(1.5, 0.4)) + 0.35, 2.8)
        slant, turn = float(random.gamma(1.0, 2.0)), float(random.uniform(0, np.pi))
        end = x + slant * float(np.cos(turn)), y + slant * float(np.sin(turn))
        canvas.paint(canvas.tube(x, y, *end, radius, radius * 0.9), value, inside=depth - 1)
    for _ in range(int(random.integers(2, 6))):  # bronchi
        x, y = side * float(random.uniform(0.22, 0.5)) * body.a, float(random.uniform(-0.2, 0.4)) * body.b
        shape = canvas.star(x, y, float(random.uniform(2, 5)) * wobble(random, 0.04))
        canvas.paint(shape, -100.0, inside=depth)
        canvas.paint(Shape(shape.box, shape.depth - np.float32(1.0)), -970.0, inside=depth)


def _disease(canvas: Canvas, random: Random, body: Body, side: int, depth: np.ndarray) -> None:
    """Add ground-glass opacity, consolidation or nodules to some lungs."""
    if random.random() < 0.3:
        for _ in range(int(random.integers(1, 5))):
            x, y = (
                side * float(random.uniform(0.3, 0.95)) * body.a,
                float(random.uniform(-0.5, 0.95)) * body.b,
            )
            shape = canvas.star(x, y, float(random.uniform(10, 40)) * wobble(random, 0.2, low=2, high=12))
            inner = Shape(shape.box, np.minimum(shape.depth, depth[shape.box]))
            mottle = np.clip(1 + 0.5 * canvas.texture("fibres", shape.box, random), 0, 2)
            canvas.add(
                inner, np.float32(random.uniform(60, 380)) * mottle, softness=float(random.uniform(4, 14))
            )
    if random.random() < 0.15:
        radii = ellipse(float(random.uniform(15, 50)), float(random.uniform(8, 25))) * wobble(
            random, 0.15, high=12
        )
        shape = canvas.star(side * 0.55 * body.a, 0.9 * body.b, radii)
        organ(canvas, random, shape, float(random.uniform(0, 60)), inside=depth, texture=15)
    for _ in range(int(random.poisson(0.6))):
        x, y = side * float(random.uniform(0.3, 0.9)) * body.a, float(random.uniform(-0.6, 0.8)) * body.b
        spot = canvas.star(x, y, float(random.uniform(1.5, 8)) * wobble(random, 0.1))
        canvas.paint(spot, float(random.uniform(-600, 80)), inside=depth)


def _mediastinum(
    canvas: Canvas, random: Random, hu: dict[str, float], body: Body, level: float, spine: float
) -> None:
    room = body.cavity - 2
    grain = canvas.texture("parenchyma", canvas.box(-1e4, -1e4, 1e4, 1e4), random)
    radii = ellipse(0.2 * body.a + 12, 0.92 * body.b) * wobble(random, 0.07)
    shape = canvas.star(0, 0.05 * body.b, radii)
    mix = np.clip(canvas.texture("clouds", shape.box, random), -0.5, 1)
    canvas.paint(shape, -80 + 50 * mix + 5 * grain[shape.box], inside=room)
    vessel(
        canvas,
        random,
        float(random.uniform(14, 26)),
        spine - 18,
        float(random.uniform(10, 14)),
        hu["artery"],
        calcified=0.4,
    )
    vessel(canvas, random, float(random.uniform(-4, 8)), spine - 26, float(random.uniform(5, 9)), 38.0)
    if level < 0.6:
        front = -0.3 * body.b
        vessel(canvas, random, -10, front, float(random.uniform(14, 19)), hu["artery"], calcified=0.3)
        vessel(canvas, random, -32, front + 8, float(random.uniform(7, 10)), hu["vein"])
        trunk = canvas.tube(14, front + 4, float(random.uniform(-15, 45)), 0.0, 13, 10)
        canvas.paint(trunk, 0.9 * hu["vein"], inside=room)
        for _ in range(int(random.integers(2, 7))):
            x, y = float(random.normal(0, 22)), float(random.normal(-5, 20))
            organ(
                canvas,
                random,
                canvas.star(x, y, float(random.uniform(3, 8)) * wobble(random, 0.1)),
                45,
                inside=room,
            )
        tubes = [(0.0, 9.0)] if level < 0.3 else [(-16.0, 6.5), (18.0, 6.0)]
        for x, radius in tubes:
            airway = canvas.star(x, 8, ellipse(radius, radius * 0.9) * wobble(random, 0.04))
            canvas.paint(Shape(airway.box, airway.depth + np.float32(1.5)), 20.0)
            canvas.paint(airway, -985.0)
        return
    size = float(random.uniform(0.9, 1.15))
    x, y = 0.14 * body.a, -0.22 * body.b
    radii = ellipse(
        0.4 * body.a * size, 0.48 * body.b * size, angle=float(random.uniform(0.1, 0.5))
    ) * wobble(random, 0.05)
    radii = np.minimum(radii, 95.0)
    sac = canvas.star(x, y, radii + float(random.uniform(1, 7)))
    canvas.paint(sac, -90 + 6 * grain[sac.box], inside=room)
    heart = canvas.star(x, y, radii)
    organ(canvas, random, heart, 0.5 * (hu["vein"] + 45), inside=room)
    chambers = (
        (0.45, 0.15, 0.38, "artery"),
        (-0.1, -0.3, 0.42, "vein"),
        (-0.55, 0.1, 0.33, "vein"),
        (-0.05, 0.55, 0.34, "artery"),
    )
    for dx, dy, scale, kind in chambers:
        reach = float(radii[0])
        chamber = canvas.star(
            x + dx * reach, y + dy * float(radii[ANGLES // 4]), scale * reach * wobble(random, 0.1)
        )
        canvas.paint(chamber, hu[kind], inside=room - 4, softness=2)
    if random.random() < 0.3:
        plaque = canvas.tube(x - 20, y - 12, x - 8, y - 18, 1.5, 1.0)
        canvas.paint(plaque, float(random.uniform(200, 800)))


def _cage(canvas: Canvas, random: Random, body: Body, level: float) -> None:
    count = int(random.integers(10, 17))
    for number in range(count):
        angle = FRONT + 0.45 + (2 * np.pi - 0.9) * (number + float(random.uniform(-0.2, 0.2))) / (count - 1)
        if abs(float(np.angle(np.exp(1j * (angle - BACK))))) < 0.3:
            continue
        rib(
            canvas,
            random,
            body,
            float(angle),
            float(random.uniform(7, 24)),
            inset=float(random.uniform(8, 11)),
        )
    x, y = body.at(FRONT % (2 * np.pi), 8)
    radii = ellipse(float(random.uniform(14, 24)), float(random.uniform(5, 8)), power=2.5) * wobble(
        random, 0.06
    )
    bone(canvas, random, canvas.star(x, y, radii), cortex=1.3, marrow=float(random.uniform(60, 150)))
    if level < 0.65:
        for side in (-1, 1):
            angle = BACK - side * float(random.uniform(0.6, 0.95))
            x, y = body.at(angle % (2 * np.pi), -4)
            turn = angle + side * float(random.uniform(1.2, 1.7))
            dx, dy = 26 * float(np.cos(turn)), 26 * float(np.sin(turn))
            flesh = canvas.star(x, y, ellipse(34, 13, angle=turn) * wobble(random, 0.06))
            organ(canvas, random, flesh, 55, inside=body.depth - 4)
            blade = canvas.tube(x - dx, y - dy, x + dx, y + dy, 2.4, 4.0)
            bone(canvas, random, blade, cortex=1.5, inside=body.depth - 5)
