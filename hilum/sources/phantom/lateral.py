"""The lateral projection of a healthy chest, the front to the left: sternum, lungs, heart, spine, as density."""

import numpy as np

from hilum.sources.phantom.canvas import F32, Canvas, Points, smooth
from hilum.sources.phantom.chest import Chest
from hilum.sources.phantom.scene import Scene
from hilum.sources.phantom.streams import stream
from hilum.sources.phantom.vessels import tree


def body_outline(chest: Chest) -> Points:
    """Skin (n, 2): neck, raised arms above, breast in front, back behind."""
    fat = 0.03 + 0.05 * chest.habitus
    front = [(chest.lateral_walls(h)[0] - fat, chest.lateral(h, 0)[1]) for h in (0.22, 0.45, 0.62)]
    rear = [(chest.lateral_walls(h)[1] + fat + 0.035, chest.lateral(h, 1)[1]) for h in (0.30, 0.60, 0.95)]
    breast = 0.07 * chest.breast * (0.6 + 0.8 * chest.habitus)
    x, y = front[-1]
    return smooth(
        [
            (0.30, -0.15),
            (0.27, 0.10),
            front[0],
            front[1],
            (x - breast - 0.005, y + 0.03),
            (x - 0.2 * breast - 0.01, y + 0.12),
            (x - 0.02 - 0.05 * chest.habitus, 1.15),
            (rear[2][0] - 0.01, 1.15),
            rear[2],
            rear[1],
            rear[0],
            (0.80, 0.10),
            (0.78, -0.15),
        ],
        steps=5,
    )


def hilum_at(chest: Chest) -> tuple[float, float]:
    """Where both hila project."""
    return chest.lateral(0.43, 0.50)


def aorta_line(chest: Chest) -> Points:
    """Middle line (n, 2) of arch and descending aorta; a tortuous one runs further back and bulges."""
    arch_x, arch_y = chest.lateral(0.24, 0.47)
    bulge = 0.10 * chest.unfolded_lateral
    spine = [chest.spine_x(chest.level(h, 1)) for h in (0.35, 0.55, 0.75, 0.95)]
    return smooth(
        [
            chest.lateral(0.50, 0.36),
            (arch_x - 0.07, arch_y + 0.07),
            (arch_x, arch_y - bulge * 0.4),
            (spine[0] - 0.085 + bulge * 0.5, chest.level(0.35, 1)),
            (spine[1] - 0.055 + bulge, chest.level(0.55, 1)),
            (spine[2] - 0.045 - 0.4 * bulge, chest.level(0.75, 1)),
            (spine[3] - 0.05, chest.level(0.95, 1)),
        ],
        closed=False,
        steps=5,
    )


def draw_lateral(canvas: Canvas, chest: Chest) -> Scene:
    """A healthy lateral chest of this geometry."""
    c = canvas
    body = c.fill([body_outline(chest)], 0.010)
    right, left = c.fill([chest.lateral_lung(-1)], 0.003), c.fill([chest.lateral_lung(1)], 0.003)
    lung = np.asarray(np.float32(0.5) * (right + left), np.float32)
    density = c.blur(body, 0.03) * np.float32(0.58 + 0.12 * chest.habitus)
    rows = c.rows()
    # Shoulders and arms cover the top; the abdomen lies below the diaphragm.
    density += body * np.clip(1 - (rows - 0.02) / 0.26, 0, 1) * np.float32(0.20)
    either = np.maximum(right, left)
    density += body * (1 - either) * np.clip((rows - 0.62) / 0.15, 0, 1) * np.float32(0.14)
    heart = c.fill([chest.heart_lateral()], 0.012)
    profile = np.float32(0.62) + np.float32(0.38) * c.blur(lung, 0.04)
    air = lung * profile * (1 - np.float32(0.62) * heart)
    # Great vessels and thymic fat fill the top of the retrosternal space; more of it when the mediastinum is enlarged.
    fx, fy = chest.lateral(0.27, 0.30)
    great = c.cloud(fx, fy, 0.10, 0.09) * np.float32(0.25)
    rx, ry = chest.lateral(0.33, 0.13)
    filled = c.cloud(rx, ry, 0.075, 0.14) * np.float32(0.75 * chest.retrosternal)
    ux, uy = chest.lateral(0.22, 0.48)
    filled += c.cloud(ux, uy, 0.09, 0.10) * np.float32(0.5 * chest.upper_lateral)
    air *= np.clip(1 - great - filled, 0, 1)
    density -= air * np.float32(0.44 * (0.88 + 0.12 * chest.airy))
    density += heart * np.float32(0.07)
    aorta = c.lines([aorta_line(chest)], 0.05 + 0.03 * chest.unfolded_lateral)
    density += c.blur(aorta, 0.006) * np.float32(0.05 + 0.05 * chest.unfolded_lateral)
    density -= _airway(c, chest)
    bones = _bones(c, chest, body)
    density += bones
    hx, hy = hilum_at(chest)
    points, generation = (np.concatenate(both) for both in zip(tree(*chest.texture, -1), tree(*chest.texture, 1)))
    way = np.where(np.arange(len(points)) % 2, -1, 1)[:, None]  # vessels run forwards and backwards from the hilum
    lines = np.stack([hx + way * points[:, :, 0] * 0.33, hy + points[:, :, 1] * 0.34], axis=2)
    order = np.argsort(-generation, kind="stable")
    fine = 0.66 ** generation[order]
    vessels = c.lines(lines[order], (0.010 * fine).tolist(), (0.40 + 0.50 * fine).tolist())
    vessels += np.float32(0.9) * c.cloud(hx, hy, 0.045, 0.055)
    vessels = c.blur(vessels, 0.003) * air * np.float32(0.075 * chest.marking)
    rng = stream(chest.texture[0], "lateral texture", chest.texture[1])
    vessels += air * c.noise(rng, 48) * np.float32(0.014) + air * c.noise(rng, 12) * np.float32(0.012)
    density += vessels
    return Scene(c, chest, True, density, air, either, vessels, bones, body)


def _airway(c: Canvas, chest: Chest) -> F32:
    hx, hy = hilum_at(chest)
    trachea = np.array([(hx + 0.01, chest.apex - 0.12), (hx + 0.012, chest.apex + 0.08), (hx + 0.03, hy - 0.02)])
    bronchus = c.bump(hx + 0.025, hy, 0.016, soft=0.2)
    return np.asarray(
        c.blur(c.lines([trachea], 0.034), 0.005) * np.float32(0.10) + bronchus * np.float32(0.08), np.float32
    )


def vertebrae(chest: Chest) -> list[Points]:
    """Vertebral bodies (4, 2) from above: upper front, upper back, lower back, lower front."""
    bodies, y = [], chest.apex - 0.08
    for _ in range(17):
        tall, deep = 0.042 + 0.012 * y, 0.036 + 0.010 * y
        x0, x1 = chest.spine_x(y), chest.spine_x(y + tall)
        bodies.append(np.array([(x0 - deep, y), (x0 + deep, y), (x1 + deep, y + tall), (x1 - deep, y + tall)]))
        y += tall + 0.010
    return bodies


def ribs(chest: Chest) -> list[Points]:
    """Middle lines (10, 2) of the ribs of both sides from the back forwards, the right and the left of a pair in turn."""
    lines = []
    for k in range(9):
        for side, shift in ((-1, 0.0), (1, 0.022)):
            y0 = chest.apex + 0.025 + chest.rib_start + k * chest.rib_gap + shift
            height = (y0 - chest.apex) / 0.75
            rear = chest.lateral_walls(height)[1] + 0.01 + shift
            rear += chest.rib_hump(side) * np.sin(np.pi * min(height, 1.0))
            y1 = y0 + 0.13 + 0.014 * k
            front = chest.lateral_walls((y1 - chest.apex) / 0.75)[0]
            t = np.linspace(0, 1, 10)
            reach = 1.0 if k < 7 else 0.6
            lines.append(
                np.stack([rear + reach * (front - rear) * t, y0 + (y1 - y0) * np.sin(np.pi / 2 * t) ** 1.1], axis=1)
            )
    return lines


def _bones(c: Canvas, chest: Chest, body: F32) -> F32:
    """Vertebrae with end plates, sternum, ribs of both sides and the scapulae."""
    bodies = vertebrae(chest)
    plates = [plate for corners in bodies for plate in (corners[:2], corners[:1:-1])]
    if chest.curve:  # vertebrae that are turned and tilted show both rims of their end plates
        plates += [plate + np.array([[0.0, 0.16], [0.0, -0.16]]) * chest.curve for plate in plates]
    bones = c.fill(bodies, 0.003) * np.float32(0.09) + c.lines(plates, 0.005) * np.float32(0.06)
    sternum = np.array(
        [(chest.lateral_walls(h)[0] - 0.012, chest.lateral(h, 0)[1]) for h in (0.16, 0.26, 0.38, 0.50, 0.62)]
    )
    bones += c.lines([sternum], 0.020) * np.float32(0.12) - c.lines([sternum], 0.010) * np.float32(0.05)
    lines = ribs(chest)
    bones += (c.lines(lines, 0.017) - np.float32(0.4) * c.lines(lines, 0.010)) * np.float32(0.05)
    blade = np.array([(0.80, 0.10), (0.845, 0.20), (0.87, 0.33)])
    bones += c.lines([blade, blade + np.array([0.03, -0.01])], 0.014) * np.float32(0.05)
    return np.asarray(c.blur(bones, 0.0015) * body * np.float32(chest.bone), np.float32)
