"""Axial slices of the abdomen and the pelvis."""

__all__ = ["draw_abdomen", "draw_pelvis"]

import numpy as np

from invkit.data.phantoms.canvas import ANGLES, TURN, Canvas, Shape, ellipse, wobble
from invkit.data.phantoms.organs import (
    Body,
    Random,
    bone,
    bowel,
    contrast,
    draw_body,
    lesions,
    organ,
    rib,
    table,
    vertebra,
    vessel,
)

FRONT, BACK = -np.pi / 2, np.pi / 2


def bump(angle: float, width: float) -> np.ndarray:
    """Return a smooth bump over the angles with its top of 1 at `angle`, shape `(720,)`."""
    return np.asarray(np.exp((np.cos(TURN - angle) - 1) / width**2))


def draw_abdomen(canvas: Canvas, random: Random) -> None:
    """Draw a slice between the dome of the liver and the iliac crests."""
    hu = contrast(random)
    a = canvas.half * float(random.uniform(0.72, 0.95))
    b = a * float(random.uniform(0.62, 0.8))
    girth = float(random.gamma(3.0, 0.33))
    fat = (4 + girth * (9 + 12 * bump(FRONT, 0.9) + 6 * bump(BACK, 0.5))) * wobble(random, 0.15)
    muscle = (9 + 5 * bump(0, 0.7) + 5 * bump(np.pi, 0.7) + 26 * bump(BACK, 0.45)) * wobble(random, 0.1)
    body = draw_body(canvas, random, a, b, power=float(random.uniform(2.1, 2.6)), fat=fat, muscle=muscle)
    level = float(random.random())  # 0 at the dome of the liver, 1 at the iliac crests
    spine = body.b - float(random.uniform(14, 22))
    _back_muscles(canvas, random, spine)
    if level > 0.35:
        for side in (-1, 1):
            radii = ellipse(12 + 12 * level, 14 + 10 * level) * wobble(random, 0.06)
            organ(canvas, random, canvas.star(side * (31 + 8 * level), spine + 2, radii), 56)
    _loops(canvas, random, body, level, spine)
    if level < 0.85:
        _kidneys(canvas, random, hu, body, level, spine)
    if level < 0.75:
        _liver(canvas, random, hu, body, level)
    if level < 0.6:
        radii = ellipse(38 * (1 - 0.5 * level), 24, angle=float(random.uniform(0.9, 1.4))) * wobble(
            random, 0.06
        )
        shape = canvas.star(0.74 * body.a, 0.12 * body.b, radii)
        organ(canvas, random, shape, hu["spleen"], inside=body.cavity - 3)
        if random.random() < 0.2:
            lesions(canvas, random, shape, 1, inside=body.cavity - 3)
    if level < 0.6:
        bowel(
            canvas, random, 0.3 * body.a + float(random.normal(0, 8)), -0.5 * body.b, float(random.uniform(26,
            48)), inside=body.cavity - 3, gas=0.7,
        )  # fmt: skip
    if 0.25 < level < 0.8:
        _pancreas(canvas, random, hu, body, spine)
    _great_vessels(canvas, random, hu, spine)
    vertebra(canvas, random, float(random.normal(0, 2)), spine, float(random.uniform(18, 23)))
    if level < 0.6:
        angles: list[float] = np.linspace(0.1, 2 * np.pi - 0.1, int(random.integers(7, 13))).tolist()
        for angle in angles:
            if abs(float(np.cos(angle))) > 0.35 and float(np.sin(angle)) > -0.6:
                turn = angle + float(random.normal(0, 0.1))
                rib(
                    canvas,
                    random,
                    body,
                    turn,
                    float(random.uniform(7, 22)),
                    inset=float(random.uniform(6, 8)),
                )
    table(canvas, random, b * 1.0)


def _back_muscles(canvas: Canvas, random: Random, spine: float) -> None:
    for side in (-1, 1):
        radii = ellipse(float(random.uniform(22, 30)), float(random.uniform(15, 21))) * wobble(random, 0.06)
        shape = canvas.star(side * float(random.uniform(30, 36)), spine + 38, radii)
        field = canvas.texture("fibres", shape.box, random)
        streaks = np.float32(random.uniform(10, 60)) * np.clip(
            field - np.float32(random.uniform(0.5, 1.3)), 0, 2
        )
        canvas.paint(shape, np.float32(random.uniform(46, 62)) - streaks)


def _loops(canvas: Canvas, random: Random, body: Body, level: float, spine: float) -> None:
    count = int(random.integers(6, 14) + 24 * level)
    for _ in range(count):
        x = float(random.uniform(-0.85, 0.85)) * body.a
        y = float(random.uniform(-0.85, 0.35)) * body.b
        if abs(x) < 30 and y > spine - 38:
            continue
        bowel(canvas, random, x, y, float(random.uniform(8, 24)), inside=body.cavity - 2, gas=0.22)
    for side in (-1, 1):
        if random.random() < 0.8:
            x = side * float(random.uniform(0.72, 0.85)) * body.a
            y = float(random.uniform(0, 0.3)) * body.b
            bowel(canvas, random, x, y, float(random.uniform(14, 26)), inside=body.cavity - 2, gas=0.6)
    for _ in range(int(random.integers(25, 70))):  # mesenteric vessels and nodes
        x, y = float(random.normal(0, 0.4)) * body.a, float(random.normal(-0.15, 0.35)) * body.b
        turn, length = float(random.uniform(0, 2 * np.pi)), float(random.gamma(1.0, 5))
        ends = x + length * float(np.cos(turn)), y + length * float(np.sin(turn))
        shape = canvas.tube(x, y, *ends, float(random.gamma(2.0, 0.6)) + 0.3, float(random.uniform(0.3, 0.8)))
        canvas.paint(shape, float(random.uniform(-20, 55)), inside=body.cavity - 3)


def _kidneys(
    canvas: Canvas, random: Random, hu: dict[str, float], body: Body, level: float, spine: float
) -> None:
    for side in (-1, 1):
        if level < 0.2 and random.random() < 0.6:
            continue
        x, y = side * float(random.uniform(54, 66)), spine - float(random.uniform(-2, 12))
        angle = side * float(random.uniform(0.3, 0.8)) + np.pi / 2
        radii = ellipse(float(random.uniform(26, 33)), float(random.uniform(20, 26)), angle=angle) * wobble(
            random, 0.05
        )
        hilum = np.pi if side > 0 else 0.0
        opening = 0.5 * bump(hilum - side * 0.3, 0.28) * float(random.uniform(0.2, 1.0))
        shape = canvas.star(x, y, radii * (1 - opening))
        grain = canvas.texture("fibres", shape.box, random)
        pyramids = np.clip((shape.depth - 7) / 3 + 0.8 * grain, 0, 1)
        value = np.float32(hu["cortex"]) + pyramids * np.float32(hu["kidney"] - hu["cortex"])
        canvas.paint(shape, value, inside=body.cavity - 2)
        sinus = Shape(shape.box, shape.depth - np.float32(random.uniform(11, 16)))
        canvas.paint(sinus, -80 + 90 * np.clip(grain, 0, 1.2), softness=3)
        if random.random() < 0.3:
            _cyst(canvas, random, x, y, radii)


def _cyst(canvas: Canvas, random: Random, x: float, y: float, radii: np.ndarray) -> None:
    turn = int(random.integers(ANGLES))
    reach = 0.8 * float(radii[turn])
    place = x + reach * float(np.cos(TURN[turn])), y + reach * float(np.sin(TURN[turn]))
    shape = canvas.star(*place, np.full(ANGLES, float(random.uniform(3, 14))))
    canvas.paint(shape, float(random.uniform(-2, 20)))


def _liver(canvas: Canvas, random: Random, hu: dict[str, float], body: Body, level: float) -> None:
    grow = 1.0 - 0.55 * max(0.0, level - 0.2)
    radii = ellipse(
        0.62 * body.a * grow, 0.75 * body.b * grow, angle=float(random.uniform(-0.5, 0.1))
    ) * wobble(random, 0.07)
    left_lobe = 0.6 * bump(-0.45, 0.4) * max(0.0, 1 - 1.8 * level) * float(random.uniform(0.3, 1.1))
    shape = canvas.star(-0.48 * body.a, -0.1 * body.b, radii * (1 + left_lobe))
    inside = body.cavity - 3
    organ(canvas, random, shape, hu["liver"], inside=inside, texture=float(random.uniform(2.5, 6)))
    depth = np.full_like(canvas.image, -1)
    depth[shape.box] = np.minimum(shape.depth, inside[shape.box])
    bright = (hu["vein"] - hu["liver"]) * 0.8 if hu["vein"] > 60 else -min(18.0, max(0.0, hu["liver"] - 42))
    for _ in range(int(random.integers(6, 12))):
        x, y = float(random.normal(-0.42, 0.12)) * body.a, float(random.normal(-0.1, 0.2)) * body.b
        turn, radius = float(random.uniform(0, 2 * np.pi)), float(random.uniform(1.2, 4.5))
        for _ in range(int(random.integers(2, 5))):
            length = float(random.uniform(6, 18))
            end = x + length * float(np.cos(turn)), y + length * float(np.sin(turn))
            canvas.paint(
                canvas.tube(x, y, *end, radius, radius * 0.8), hu["liver"] + bright, inside=depth - 2
            )
            (x, y), radius, turn = end, radius * 0.78, turn + float(random.normal(0, 0.5))
    if random.random() < 0.6:
        lesions(canvas, random, shape, int(random.integers(1, 6)), inside=inside)
    if 0.15 < level < 0.6 and random.random() < 0.6:
        radii = ellipse(float(random.uniform(10, 18)), float(random.uniform(9, 14)), angle=1.0) * wobble(
            random, 0.05
        )
        gall = canvas.star(-0.3 * body.a, -0.12 * body.b, radii)
        canvas.paint(gall, float(random.uniform(0, 22)), inside=inside)


def _pancreas(canvas: Canvas, random: Random, hu: dict[str, float], body: Body, spine: float) -> None:
    x, y, turn = -22.0, spine - 48, float(random.uniform(-0.5, 0.1))
    value = 0.5 * (hu["liver"] + hu["spleen"]) - 8
    for _ in range(7):
        radii = float(random.uniform(7, 12)) * wobble(random, 0.15, low=2, high=10)
        organ(canvas, random, canvas.star(x, y, radii), value, inside=body.cavity - 3, texture=12)
        x, y, turn = (
            x + 12 * float(np.cos(turn)),
            y + 12 * float(np.sin(turn)),
            turn + float(random.normal(0, 0.2)),
        )
    vessel(canvas, random, 4, spine - 42, float(random.uniform(3, 6)), hu["vein"])
    vessel(canvas, random, 16, spine - 40, float(random.uniform(2.5, 4)), hu["artery"], calcified=0.2)


def _great_vessels(canvas: Canvas, random: Random, hu: dict[str, float], spine: float) -> None:
    front = spine - float(random.uniform(27, 31))
    vessel(
        canvas,
        random,
        float(random.uniform(4, 14)),
        front,
        float(random.uniform(8, 13)),
        hu["artery"],
        calcified=0.4,
    )
    radii = ellipse(float(random.uniform(9, 14)), float(random.uniform(6, 11))) * wobble(random, 0.05)
    canvas.paint(canvas.star(-float(random.uniform(16, 24)), front, radii), hu["vein"])


def draw_pelvis(canvas: Canvas, random: Random) -> None:
    """Draw a slice between the iliac crests and the femoral heads."""
    hu = contrast(random)
    a = canvas.half * float(random.uniform(0.78, 0.96))
    b = a * float(random.uniform(0.56, 0.68))
    girth = float(random.gamma(3.0, 0.33))
    fat = (5 + girth * (9 + 10 * bump(FRONT, 0.8) + 12 * bump(BACK, 0.6))) * wobble(random, 0.15)
    muscle = (8 + 6 * bump(FRONT, 0.5)) * wobble(random, 0.1)
    body = draw_body(canvas, random, a, b, power=float(random.uniform(2.1, 2.5)), fat=fat, muscle=muscle)
    low = random.random() < 0.5
    for side in (-1, 1):
        _gluteus(canvas, random, body, side)
        _hip(canvas, random, body, side, low)
    bowl = Shape(canvas.box(-1e4, -1e4, 1e4, 1e4), body.cavity)
    for _ in range(int(random.integers(4, 9) + (0 if low else 8))):
        x, y = float(random.normal(0, 0.3)) * body.a, float(random.uniform(-0.75, 0.1)) * body.b
        bowel(canvas, random, x, y, float(random.uniform(8, 20)), inside=bowl.depth - 3)
    if low:
        radii = ellipse(float(random.uniform(28, 46)), float(random.uniform(22, 36))) * wobble(random, 0.05)
        shape = canvas.star(0, -0.25 * body.b, radii)
        canvas.paint(shape, float(random.uniform(40, 55)), inside=body.cavity - 4)
        full = float(random.choice([5.0, 12.0, 180.0], p=[0.5, 0.35, 0.15]))
        canvas.paint(Shape(shape.box, shape.depth - np.float32(2.5)), full, inside=body.cavity - 4)
        radii = ellipse(float(random.uniform(20, 28)), float(random.uniform(14, 22))) * wobble(random, 0.07)
        organ(canvas, random, canvas.star(0, 0.15 * body.b, radii), float(random.uniform(45, 90)))
    bowel(
        canvas,
        random,
        float(random.normal(0, 5)),
        0.5 * body.b,
        float(random.uniform(14, 24)),
        inside=body.cavity,
        gas=0.6,
    )
    for side in (-1, 1):
        for spread, kind in ((0.42, "artery"), (0.48, "vein")):
            x, y = side * spread * body.a, float(random.uniform(-0.35, -0.1)) * body.b
            vessel(
                canvas,
                random,
                x,
                y,
                float(random.uniform(4, 7)),
                hu[kind],
                calcified=0.3 * (kind == "artery"),
            )
        radii = ellipse(float(random.uniform(14, 22)), float(random.uniform(12, 18))) * wobble(random, 0.06)
        organ(canvas, random, canvas.star(side * 0.56 * body.a, -0.32 * body.b, radii), 57)
    width = float(random.uniform(26, 50)) * (0.6 if low else 1.0)
    radii = ellipse(width, float(random.uniform(14, 24)), power=2.4) * wobble(random, 0.07)
    bone(canvas, random, canvas.star(0, 0.78 * body.b, radii), marrow=float(random.uniform(60, 200)))
    table(canvas, random, b)


def _gluteus(canvas: Canvas, random: Random, body: Body, side: int) -> None:
    for place, size in (((0.62, 0.62), (44, 24)), ((0.8, 0.3), (30, 20)), ((0.5, 0.45), (26, 16))):
        radii = ellipse(size[0], size[1], angle=side * -0.6) * wobble(random, 0.07)
        shape = canvas.star(side * place[0] * body.a, place[1] * body.b, radii)
        field = canvas.texture("fibres", shape.box, random)
        value = np.float32(random.uniform(48, 62)) - np.float32(random.uniform(20, 80)) * np.clip(
            field - 1, 0, 2
        )
        canvas.paint(shape, value, inside=body.depth - 8)


def _hip(canvas: Canvas, random: Random, body: Body, side: int, low: bool) -> None:
    if low:
        x, y = side * 0.66 * body.a, float(random.uniform(-0.1, 0.1)) * body.b
        socket = canvas.star(x - side * 6, y + 2, ellipse(34, 33) * wobble(random, 0.06))
        bone(canvas, random, socket, cortex=2.2)
        canvas.paint(canvas.star(x + side * 2, y, ellipse(28, 28)), 20.0)
        head = canvas.star(x + side * 2, y, ellipse(25, 25) * wobble(random, 0.02))
        bone(canvas, random, head, cortex=1.8, marrow=float(random.uniform(200, 330)))
        if random.random() < 0.6:
            neck = canvas.tube(x + side * 8, y + 3, x + side * 42, y + 14, 15, 17)
            bone(canvas, random, neck, cortex=2.0)
        return
    start = side * 0.82 * body.a, -0.3 * body.b
    middle = side * 0.66 * body.a, 0.2 * body.b
    end = side * 0.3 * body.a, 0.78 * body.b
    thin = float(random.uniform(3.5, 5))
    for first, last, r0, r1 in ((start, middle, thin + 3, thin), (middle, end, thin, thin + 5)):
        bone(
            canvas,
            random,
            canvas.tube(*first, *last, r0, r1),
            cortex=2.0,
            marrow=float(random.uniform(100, 260)),
        )
