"""Bones: broken ones (ribs, clavicle, vertebra), a bent spine, bones short of mineral."""

from dataclasses import replace

import numpy as np

from hilum.sources.phantom import lateral
from hilum.sources.phantom.canvas import F32, Points
from hilum.sources.phantom.chest import Chest
from hilum.sources.phantom.frontal import SIDES, hollow
from hilum.sources.phantom.patients import Lesion
from hilum.sources.phantom.scene import Scene


def fracture(scene: Scene, lesion: Lesion, strength: float) -> None:
    """One to four neighbouring ribs (or the clavicle) with a gap and a step; on the lateral a vertebra that has sunk in."""
    w, c, chest = lesion.where, scene.canvas, scene.chest
    if scene.lateral:
        y = chest.level(0.45 + 0.5 * w[0], 1)
        x = chest.spine_x(y)
        deep, tall = 0.046, 0.050
        wedge = np.array([(x - deep, y + 0.45 * tall), (x + deep, y), (x + deep, y + tall), (x - deep, y + tall)])
        lost = np.array([(x - deep - 0.004, y - 0.006), (x + deep, y - 0.006), (x - deep - 0.004, y + 0.45 * tall)])
        scene.density += c.fill([wedge], 0.002) * np.float32(0.16 * strength)
        scene.density -= c.fill([lost], 0.002) * np.float32(0.15 * strength)
        return
    if w[1] < 0.22:
        bones = [chest.clavicle(lesion.side)]
        spread = 0.024
    else:
        first = 2 + int(4 * w[2])
        bones = [chest.posterior_rib(lesion.side, first + k) for k in range(1 + int(3.2 * w[3]))]
        spread = 0.021
    gaps: list[Points] = []
    pieces: list[Points] = []
    for bone in bones:
        middle = int((0.45 + 0.4 * w[4]) * (len(bone) - 1))
        end = min(middle + 4, len(bone))
        along = bone[min(middle + 1, len(bone) - 1)] - bone[middle]
        along = along / max(float(np.hypot(*along)), 1e-6)
        across = np.array([-along[1], along[0]])
        gaps.append(np.stack([bone[middle] - 0.019 * across, bone[middle] + 0.019 * across]))
        step = 0.016 * (1 if w[5] < 0.5 else -1)
        pieces.append(bone[middle:end] + step * across)
    broken = c.blur(c.lines(gaps, 0.011), 0.0015)
    shifted = c.lines(pieces, spread) - np.float32(0.4) * c.lines(pieces, 0.6 * spread)
    scene.density -= broken * np.float32(0.22 * strength)
    scene.density += shifted * np.float32(0.18 * strength) * scene.body
    callus = c.blank()
    for gap in gaps:
        callus += c.cloud(float(gap[:, 0].mean()), float(gap[:, 1].mean()), 0.020, 0.016)
    scene.density += callus * np.float32(0.14 * strength * w[6])


def _displaced(scene: Scene, pieces: list[tuple[Points, Points]], width: float, level: float, strength: float) -> F32:
    """What changes when pieces of bone move from one course to another: taken away here, added there, a little plainer."""
    old, new = (hollow(scene.canvas, [piece[k] for piece in pieces], width) for k in range(2))
    return np.asarray((new * np.float32(1 + 0.6 * strength) - old) * scene.body * np.float32(level * scene.chest.bone))


def _gap(scene: Scene, lines: list[Points], width: float, strength: float) -> None:
    """The bone is missing along these lines, and what lies over it is torn."""
    c = scene.canvas
    scene.density -= c.blur(c.lines(lines, width), 0.0015) * (scene.bones + np.float32(0.04)) * np.float32(strength)


def clavicle_fracture(scene: Scene, lesion: Lesion, strength: float) -> None:
    """The outer part of a clavicle sinks and slides inwards, a gap in its middle third; on the lateral both ends, askew, with swelling."""
    w, c, chest, side = lesion.where, scene.canvas, scene.chest, lesion.side
    if scene.lateral:
        x, y = chest.lateral(0.03 + 0.03 * w[0], 0.22)
        inner = np.array([(x - 0.035, y - 0.018), (x + 0.010, y)])
        outer = np.array([(x + 0.002, y + 0.020), (x + 0.050, y + 0.034)])
        scene.density += hollow(c, [inner, outer], 0.022) * np.float32(0.17 * strength)
        scene.density += c.cloud(x, y, 0.035) * scene.body * np.float32(0.05 * strength)
        return
    bone = chest.clavicle(side)
    cut = int((0.40 + 0.20 * w[0]) * (len(bone) - 1))
    x, y = bone[cut]
    _gap(scene, [np.array([(x, y - 0.016), (x + side * 0.006, y + 0.016)])], 0.012, strength)
    shift = strength * np.array([-side * (0.008 + 0.010 * w[1]), 0.026 + 0.014 * w[2]])
    scene.density += _displaced(scene, [(bone[cut:], bone[cut:] + shift)], 0.024, 0.13, strength)


def rib_fracture(scene: Scene, lesion: Lesion, strength: float) -> None:
    """One to four neighbouring ribs broken at their side, the ends out of line, swelling around, at times callus; a step in their arcs on the lateral."""
    w, c, chest = lesion.where, scene.canvas, scene.chest
    count, first = 1 + int(3.5 * w[0]), 2 + int(4 * w[1])
    if scene.lateral:
        every = lateral.ribs(chest)
        bones = [every[2 * k + (lesion.side > 0)] for k in range(first, first + count)]
        cut, width, level = 2 + int(2 * w[2]), 0.017, 0.075
    else:
        bones = [chest.posterior_rib(lesion.side, k) for k in range(first, first + count)]
        cut, width, level = 8 + int(3 * w[2]), 0.021, 0.095
    pieces, gaps, swelling = [], [], c.blank()
    for bone in bones:
        along = (bone[cut + 1] - bone[cut]) / np.hypot(*(bone[cut + 1] - bone[cut]))
        across = np.array([-along[1], along[0]]) * (1 if w[3] < 0.5 else -1)
        part = bone[cut : cut + 4]
        fade = np.linspace(1, 0, len(part))[:, None]
        pieces.append((part, part + strength * fade * (0.026 * across - 0.010 * along)))
        gaps.append(np.stack([bone[cut] - 0.014 * across, bone[cut] + 0.014 * across]))
        swelling = np.maximum(swelling, c.bump(float(bone[cut, 0]), float(bone[cut, 1]), 0.020, soft=0.3))
    _gap(scene, gaps, 0.013, strength)
    scene.density += _displaced(scene, pieces, width, level, strength)
    scene.density += swelling * np.float32((0.05 + 0.12 * max(0.0, 2 * w[4] - 1)) * strength)


def osteopenia(scene: Scene, lesion: Lesion, strength: float) -> None:
    """Bones as grey as the soft tissue, drawn by their thin cortex alone; on the lateral empty vertebrae, one or two sunk in."""
    w, c, chest = lesion.where, scene.canvas, scene.chest
    lost = scene.bones * np.float32(min(0.9, 0.62 * strength))
    scene.density -= lost
    scene.bones -= lost
    if scene.lateral:
        bodies = lateral.vertebrae(chest)
        frames = [np.concatenate([corners, corners[:1]]) for corners in bodies]
        scene.density += c.lines(frames, 0.005) * scene.body * np.float32(0.07 * strength)
        for k in range(1 + int(1.6 * w[0])):
            corners = bodies[6 + int(4 * w[1]) + 2 * k]
            sunk = corners[0] + 0.45 * min(1.0, strength) * (corners[3] - corners[0])
            lid = np.array([corners[0], corners[1], sunk])
            scene.density -= c.fill([lid], 0.002) * np.float32(0.10 * strength)
            scene.density += c.lines([np.array([sunk, corners[1]])], 0.007) * np.float32(0.14 * strength)
        return
    edges = []
    for side in SIDES:
        for line in (*(chest.posterior_rib(side, k) for k in range(10)), chest.clavicle(side)):
            edges += [line - np.array([0.0, 0.010]), line + np.array([0.0, 0.010])]
    scene.density += c.lines(edges, 0.003) * scene.body * np.float32(0.06 * strength)


def kyphosis(chest: Chest, lesion: Lesion, strength: float) -> Chest:
    """The spine bends forwards: a round back on the lateral; on the frontal a short chest, its ribs steep, its apices covered."""
    more = (0.75 + 0.25 * lesion.where[0]) * strength
    return replace(
        chest,
        kyphosis=chest.kyphosis + 0.9 * more,
        stoop=0.06 * more,
        apex=chest.apex + 0.022 * more,
        rib_slope=chest.rib_slope + 0.09 * more,
        rib_gap=chest.rib_gap * (1 - 0.07 * more),
        clavicle_y=chest.clavicle_y + 0.010 * more,
        upper=(chest.upper[0] + 0.008 * more, chest.upper[1] + 0.008 * more),
    )


def scoliosis(chest: Chest, lesion: Lesion, strength: float) -> Chest:
    """The spine bends to a side and back; ribs fan out on the convex side and stand out behind, on the other they crowd."""
    bend = (0.060 + 0.025 * lesion.where[0]) * strength
    return replace(chest, curve=lesion.side * bend)
