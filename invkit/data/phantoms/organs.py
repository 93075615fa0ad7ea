"""Parts that several regions of the body share: body wall, bones, vessels, bowel, organs, table."""

__all__ = [
    "Body",
    "bone",
    "bowel",
    "contrast",
    "draw_body",
    "lesions",
    "organ",
    "rib",
    "table",
    "vertebra",
    "vessel",
]

from dataclasses import dataclass

import numpy as np

from invkit.data.phantoms.canvas import ANGLES, TURN, Canvas, Shape, ellipse, wobble

Random = np.random.Generator


@dataclass(frozen=True)
class Body:
    """The trunk's layers; depths in mm over the whole image, radii over the angles.

    Args:
        depth: below the skin.
        cavity: below the inner side of the body wall.
        a, b: half width and half depth of the cavity, mm.
        wall: radii of the outer side of the muscles.
        inner: radii of the cavity.
    """

    depth: np.ndarray
    cavity: np.ndarray
    a: float
    b: float
    wall: np.ndarray
    inner: np.ndarray

    def at(self, angle: float, inset: float) -> tuple[float, float]:
        """Return the point at this angle that lies `inset` mm inside the muscles' outer side."""
        radius = float(self.wall[round(angle / (2 * np.pi) * ANGLES) % ANGLES]) - inset
        return radius * float(np.cos(angle)), radius * float(np.sin(angle))


def contrast(random: Random) -> dict[str, float]:
    """Return HU of blood and organs in a random contrast phase: none (45 %), portal venous or arterial."""
    blood = float(random.uniform(35, 50))
    phase = random.choice(["none", "portal", "arterial"], p=[0.45, 0.35, 0.2])
    if phase == "none":
        liver = float(random.uniform(35, 68))
        return {
            "artery": blood,
            "vein": blood,
            "liver": liver,
            "spleen": 48.0,
            "cortex": 34.0,
            "kidney": 32.0,
        }
    if phase == "portal":
        vein = float(random.uniform(130, 190))
        return {
            "artery": vein * float(random.uniform(0.9, 1.1)),
            "vein": vein,
            "liver": float(random.uniform(85, 125)),
            "spleen": float(random.uniform(105, 135)),
            "cortex": float(random.uniform(150, 210)),
            "kidney": float(random.uniform(140, 200)),
        }
    return {
        "artery": float(random.uniform(220, 400)),
        "vein": float(random.uniform(50, 120)),
        "liver": float(random.uniform(60, 85)),
        "spleen": float(random.uniform(90, 140)),
        "cortex": float(random.uniform(160, 230)),
        "kidney": float(random.uniform(60, 110)),
    }


def draw_body(
    canvas: Canvas, random: Random, a: float, b: float, *, power: float, fat: np.ndarray, muscle: np.ndarray
) -> Body:
    """Draw skin, subcutaneous fat with septa and the layered muscles of the body wall; the cavity is fat.

    Args:
        canvas: where to.
        random: source of randomness.
        a: half width, mm.
        b: half depth, mm.
        power: of the superellipse; 2 is an ellipse, more is squarer.
        fat: thickness of the fat over the angles, shape `(720,)`, mm.
        muscle: thickness of the muscles over the angles, mm.
    """
    outline = ellipse(a, b, power=power) * wobble(random, 0.035)
    reach = canvas.half * 2
    whole = canvas.box(-reach, -reach, reach, reach)
    index = (np.arctan2(canvas.y, canvas.x) * np.float32(ANGLES / (2 * np.pi))).astype(np.int32) % ANGLES
    depth = outline.astype(np.float32)[index] - np.hypot(canvas.x, canvas.y)
    skin = Shape(whole, depth)
    canvas.paint(skin, float(random.uniform(-10, 40)), softness=1.2)

    lump = np.clip(canvas.texture("clouds", whole, random), -1.5, 2.5)
    strands = canvas.texture("fibres", whole, random)
    septa = np.clip(1 - np.abs(strands) / 0.22, 0, 1) * np.clip(lump - 0.4, 0, 1.2)
    grain = canvas.texture("parenchyma", whole, random)
    tissue = np.float32(random.uniform(-115, -92)) + 6 * grain + np.float32(random.uniform(8, 45)) * septa
    canvas.paint(Shape(whole, depth - np.float32(random.uniform(1.4, 2.6))), tissue)

    wall = fat.astype(np.float32)[index]
    thick = muscle.astype(np.float32)[index]
    below = depth - wall
    fraction = below / thick
    planes = np.clip(1 - np.abs(np.mod(fraction * 3 + 0.25 * lump, 1) - 0.5) * thick / 2.4, 0, 1)
    marbling = np.clip(strands + np.float32(random.uniform(0.2, 0.8)) * lump - np.float32(0.7), 0, 2.2)
    flesh = np.float32(random.uniform(44, 62)) + 5 * grain - np.float32(random.uniform(10, 80)) * marbling
    flesh -= np.float32(random.uniform(20, 90)) * planes * (thick > 8) * (fraction > 0.2)
    canvas.paint(Shape(whole, below), flesh)
    cavity = below - thick
    strands = np.clip(1 - np.abs(np.roll(strands, canvas.size // 3, 0)) / 0.15, 0, 1) * np.clip(lump, 0, 1)
    visceral = (
        np.float32(random.uniform(-112, -90)) + 7 * grain + np.float32(random.uniform(10, 60)) * strands
    )
    visceral += np.float32(random.gamma(1.5, 8.0)) * np.clip(lump, -0.3, 2)
    canvas.paint(Shape(whole, cavity), visceral)
    inner = outline - fat - muscle
    return Body(depth, cavity, float(inner[0]), float(inner[ANGLES // 4]), outline - fat, inner)


def bone(
    canvas: Canvas, random: Random, shape: Shape, *, cortex: float = 1.5, hard: float | None = None,
    marrow: float | None = None, inside: np.ndarray | None = None,
) -> None:  # fmt: skip
    """Paint a bone: a cortical shell of uneven thickness around trabecular bone with its grain."""
    hard = float(random.uniform(550, 1000)) if hard is None else hard
    marrow = float(random.uniform(90, 260)) if marrow is None else marrow
    grain = canvas.texture("grain", shape.box, random)
    patchy = canvas.texture("parenchyma", shape.box, random)
    spongy = np.float32(marrow) * (1 + np.float32(0.28) * grain + np.float32(0.15) * patchy)
    edge = np.clip((np.float32(cortex) * (1 + 0.25 * patchy) - shape.depth) / np.float32(0.9) + 0.5, 0, 1)
    canvas.paint(shape, spongy + edge * (np.float32(hard) - spongy), inside=inside)


def rib(canvas: Canvas, random: Random, body: Body, angle: float, length: float, *, inset: float) -> None:
    """Paint a rib that the slice cuts obliquely, lying along the body wall."""
    x, y = body.at(angle, inset)
    ahead, behind = body.at(angle + 0.06, inset), body.at(angle - 0.06, inset)
    tangent = float(np.arctan2(ahead[1] - behind[1], ahead[0] - behind[0])) + float(random.normal(0, 0.08))
    radii = ellipse(length, float(random.uniform(3.2, 5.2)), power=2.4, angle=tangent) * wobble(random, 0.05)
    bone(canvas, random, canvas.star(x, y, radii), cortex=float(random.uniform(1.0, 1.8)))


def vertebra(canvas: Canvas, random: Random, x: float, y: float, size: float) -> None:
    """Paint a vertebra whose body is centred on (x, y), with its canal and processes."""
    hard = float(random.uniform(450, 800))
    marrow = float(random.uniform(110, 280))
    back = y + 0.9 * size
    tip = back + float(random.uniform(1.3, 2.0)) * size
    strokes = []
    for side in (-1, 1):
        out = x + side * float(random.uniform(1.3, 1.9)) * size
        joint = back + 0.35 * size
        strokes.append((x + side * 0.55 * size, joint, out, joint + 0.2 * size, 5.5, 3.2))
        strokes.append((x + side * 0.62 * size, y + 0.4 * size, x + side * 0.66 * size, joint, 4.5, 6.0))
        strokes.append((x + side * 0.6 * size, joint, x, back + 0.95 * size, 4.6, 4.0))
    if random.random() < 0.75:
        strokes.append((x, back + 0.8 * size, x + float(random.normal(0, 1.5)), tip, 3.6, 4.6))
    for stroke in strokes:
        bone(canvas, random, canvas.tube(*stroke), cortex=1.6, hard=hard, marrow=1.5 * marrow)
    canal = canvas.star(x, back + 0.12 * size, ellipse(0.62 * size, 0.48 * size) * wobble(random, 0.03))
    canvas.paint(canal, -30.0)
    cord = canvas.star(x, back + 0.1 * size, ellipse(0.46 * size, 0.38 * size))
    canvas.paint(cord, float(random.uniform(20, 45)))
    radii = ellipse(1.12 * size, 0.84 * size, power=2.3) * wobble(random, 0.03)
    radii = radii * (1 - 0.13 * np.exp(-(((TURN - np.pi / 2) / 0.5) ** 2)))
    bone(
        canvas,
        random,
        canvas.star(x, y, radii),
        cortex=float(random.uniform(0.9, 1.7)),
        hard=hard,
        marrow=marrow,
    )


def organ(
    canvas: Canvas,
    random: Random,
    shape: Shape,
    hu: float,
    *,
    inside: np.ndarray | None = None,
    texture: float = 4.0,
) -> None:
    """Paint a solid organ with a parenchyma texture of some HU."""
    field = canvas.texture("parenchyma", shape.box, random)
    canvas.paint(shape, np.float32(hu) + np.float32(texture) * field, inside=inside)


def vessel(
    canvas: Canvas, random: Random, x: float, y: float, radius: float, hu: float, *, calcified: float = 0.0
) -> None:
    """Paint a vessel cut across; with the probability `calcified` it has plaques."""
    shape = canvas.star(
        x, y, ellipse(radius, radius * float(random.uniform(0.85, 1.1))) * wobble(random, 0.03)
    )
    canvas.paint(shape, 40.0)
    canvas.paint(Shape(shape.box, shape.depth - np.float32(1.2)), hu)
    if random.random() < calcified:
        for _ in range(int(random.integers(1, 4))):
            turn = float(random.uniform(0, 2 * np.pi))
            step = float(random.uniform(0.2, 0.6))
            ends = [
                (x + 0.93 * radius * np.cos(t), y + 0.93 * radius * np.sin(t)) for t in (turn, turn + step)
            ]
            plaque = canvas.tube(
                *ends[0], *ends[1], float(random.uniform(0.6, 1.3)), float(random.uniform(0.5, 1.0))
            )
            canvas.paint(plaque, float(random.uniform(300, 1000)))


def lesions(
    canvas: Canvas, random: Random, shape: Shape, count: int, *, inside: np.ndarray | None = None
) -> None:
    """Lay low-contrast lesions of 2 to 20 mm into an organ, where it is deep enough."""
    deep = shape.depth if inside is None else np.minimum(shape.depth, inside[shape.box])
    rows, columns = np.nonzero(deep[::4, ::4] > 6)
    for _ in range(count if rows.size else 0):
        pick = int(random.integers(rows.size))
        row, column = rows[pick] * 4 + shape.box[0].start, columns[pick] * 4 + shape.box[1].start
        radius = float(random.uniform(1.5, 7)) * float(random.uniform(0.7, 1.4))
        spot = canvas.star(
            float(canvas.x[row, column]),
            float(canvas.y[row, column]),
            np.full(ANGLES, radius) * wobble(random, 0.08),
        )
        step = float(random.choice([-1, -1, 1])) * float(random.uniform(8, 40))
        inner = Shape(spot.box, spot.depth if inside is None else np.minimum(spot.depth, inside[spot.box]))
        canvas.add(inner, step, softness=float(random.uniform(1, 4)))


def bowel(
    canvas: Canvas,
    random: Random,
    x: float,
    y: float,
    radius: float,
    *,
    inside: np.ndarray,
    gas: float = 0.35,
) -> None:
    """Paint a loop of bowel: wall, then fluid, contrast medium, faeces or gas above a level."""
    squeeze = float(random.uniform(0.65, 1.0))
    radii = ellipse(radius, radius * squeeze, angle=float(random.uniform(0, np.pi))) * wobble(
        random, 0.1, low=2, high=9
    )
    shape = canvas.star(x, y, radii)
    organ(canvas, random, shape, float(random.uniform(35, 65)), inside=inside, texture=5)
    lumen = Shape(shape.box, shape.depth - np.float32(random.uniform(1.8, 4.0)))
    kind = random.choice(["fluid", "contrast", "faeces", "collapsed"], p=[0.4, 0.12, 0.26, 0.22])
    if kind == "collapsed":
        return
    mottled = canvas.texture("grain" if random.random() < 0.5 else "fibres", shape.box, random)
    if kind == "faeces":
        content = np.float32(random.uniform(10, 60)) + 25 * mottled
        content = content - 550 * np.clip(mottled - np.float32(random.uniform(0.3, 1.2)), 0, 1.2)
    elif kind == "contrast":
        content = np.float32(random.uniform(120, 420)) + 12 * mottled
    else:
        content = np.float32(random.uniform(5, 35)) + 3 * mottled
    canvas.paint(lumen, content, inside=inside)
    if random.random() < gas:
        level = y + float(random.uniform(-0.7, 1.1)) * radius * squeeze
        above = np.minimum(lumen.depth, np.float32(level) - canvas.straight_y[shape.box])
        canvas.paint(Shape(shape.box, above), -960.0, inside=inside)


def table(canvas: Canvas, random: Random, y: float) -> None:
    """Paint the patient table: a thin curved shell under the back with a light core."""
    if random.random() < 0.15:
        return
    width = float(random.uniform(190, 260))
    sag = float(random.uniform(10, 45))
    gap = float(random.uniform(10, 26))
    x = canvas.x - canvas.x[0].mean()
    top = canvas.straight_y - np.float32(y) - np.float32(sag) * (1 - (x / np.float32(width)) ** 2)
    edge = np.float32(width) - np.abs(x)
    hu = float(random.uniform(-350, 60))
    outside = canvas.cover(-np.float32(950) - canvas.image)
    depth = np.minimum(np.minimum(top, np.float32(gap) - top), edge)
    core = np.where(depth > 1.5, np.float32(random.uniform(-990, -930)), np.float32(hu))
    weight = canvas.cover(np.minimum(depth, np.float32(30))) * outside
    canvas.image += weight * (core - canvas.image)
