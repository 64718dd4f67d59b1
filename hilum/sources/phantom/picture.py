"""One image of one study: the patient's chest in its pose, with what the study shows, as 8-bit grey and boxes."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hilum.sources.phantom.canvas import Canvas, Points
from hilum.sources.phantom.chest import Chest, chest_of
from hilum.sources.phantom.frontal import draw_frontal, mediastinum_outline
from hilum.sources.phantom.lateral import aorta_line, body_outline, draw_lateral, ribs, vertebrae
from hilum.sources.phantom.lesions import PAINTS, SHAPES, strength_of
from hilum.sources.phantom.patients import Study
from hilum.sources.phantom.prevalence import ALSO, DECOYS, KIND_OF
from hilum.sources.phantom.scene import Scene, box_of
from hilum.sources.phantom.streams import stream
from hilum.sources.phantom.tone import develop, pose_of

Box = tuple[int, int, int, int]


def draw(study: Study, number: int, size: int) -> tuple[NDArray[np.uint8], dict[str, Box]]:
    """Image `number` of a study, uint8 (size, size), and the box (x0, y0, x1, y1; pixels) of each finding seen on it.

    Depends on (seed, patient, study, number, size) only.
    """
    view = study.images[number].drawn
    lateral, portable = view == "LATERAL", view == "AP"
    rng = stream(study.seed, "image", study.patient, study.number, number)
    canvas = Canvas(size, pose_of(rng, portable))
    chest = _breathing(chest_of(study.seed, study.patient, study.sex, study.age), rng, portable)
    shown = {lesion.finding: lesion for lesion in study.lesions if (lesion.lateral if lateral else lesion.frontal)}
    for name, shape in SHAPES.items():
        if name in shown:
            chest = shape(chest, shown[name], strength_of(shown[name]))
    scene = (draw_lateral if lateral else draw_frontal)(canvas, chest)
    for name, paint in PAINTS.items():
        if name in shown:
            before = scene.density.copy()
            paint(scene, shown[name], strength_of(shown[name]))
            box = box_of(scene.density - before)
            if box and name not in _OUTLINES:
                scene.boxes[name] = box
    for name in _OUTLINES:
        if name in shown:
            scene.boxes[name] = _outline_box(scene, name)
    boxes = {name: box for name, box in scene.boxes.items() if name not in DECOYS and not shown[name].mimic}
    for name in [*boxes]:
        for implied in (KIND_OF.get(name), ALSO.get(name)):  # present as well, and seen in the same place
            if implied is not None:
                boxes.setdefault(implied, boxes[name])
    return develop(scene, view, rng), boxes


def _breathing(chest: Chest, rng: np.random.Generator, portable: bool) -> Chest:
    """Depth of the breath and, for a portable image, the heart enlarged by its distance from the detector."""
    z = rng.standard_normal(3)
    up = 0.008 * float(z[0]) + (0.018 if portable else 0.0)
    wide, turn = (1.10 if portable else 1.0), 0.003 * float(z[2])
    return replace(
        chest,
        base=(chest.base[0] - up, chest.base[1] - up),
        magnified=1.13 + 0.02 * float(z[1]) if portable else 1.0 + 0.01 * float(z[1]),
        heart_y=chest.heart_y - up,
        upper=(chest.upper[0] * wide - turn, chest.upper[1] * wide + turn),
    )


def _outline_box(scene: Scene, name: str) -> Box:
    """The box of a finding that changes outlines: the outline's own."""
    points = _OUTLINES[name](scene.chest, scene.lateral)
    placed = scene.canvas.pose.apply(points) * scene.canvas.size
    low, high = np.floor(placed.min(axis=0)), np.ceil(placed.max(axis=0))
    limits = scene.canvas.size
    x0, y0 = (int(np.clip(v, 0, limits - 1)) for v in low)
    x1, y1 = (int(np.clip(v, 1, limits)) for v in high)
    return x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)


def _lungs(chest: Chest, lateral: bool) -> Points:
    return np.concatenate([(chest.lateral_lung if lateral else chest.lung)(side) for side in (-1, 1)])


def _heart(chest: Chest, lateral: bool) -> Points:
    return chest.heart_lateral() if lateral else chest.heart_outline()


def _mediastinum(chest: Chest, lateral: bool) -> Points:
    if lateral:
        return np.array([chest.lateral(0.05, 0.0), chest.lateral(0.60, 0.0), chest.lateral(0.3, 0.65)])
    return mediastinum_outline(chest)


def _aorta(chest: Chest, lateral: bool) -> Points:
    return aorta_line(chest) + 0.03 if lateral else mediastinum_outline(chest)


def _bent_back(chest: Chest, lateral: bool) -> Points:
    if not lateral:
        return _lungs(chest, False)
    skin = body_outline(chest)
    return np.concatenate([_lungs(chest, True), skin[(skin[:, 0] > 0.6) & (skin[:, 1] > 0.1) & (skin[:, 1] < 0.85)]])


def _skeleton(chest: Chest, lateral: bool) -> Points:
    if lateral:
        return np.concatenate([*vertebrae(chest)[1:], *(line[:2] for line in ribs(chest))])
    return np.concatenate([chest.posterior_rib(side, k) for side in (-1, 1) for k in range(10)])


_OUTLINES = {
    "Emphysema": _lungs,
    "Cardiomegaly": _heart,
    "Enlarged Cardiomediastinum": _mediastinum,
    "Tortuous Aorta": _aorta,
    "Cardiomyopathy": _heart,
    "Kyphosis": _bent_back,
    "Scoliosis": _skeleton,
    "Osteopenia": _skeleton,
}
