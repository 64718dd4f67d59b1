"""Who comes for an X-ray: patients, their studies, the images of each, and what each study shows."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from itertools import count, islice

import numpy as np
from numpy.typing import NDArray

from hilum.sources.phantom.prevalence import (
    DECOY_SHARE,
    DECOYS,
    DEVICES,
    NO_FINDING,
    ONE_VIEW,
    ONE_VIEW_SHARE,
    SYNDROMES,
)
from hilum.sources.phantom.streams import stream
from hilum.sources.phantom.worlds import WORLDS, World

PLACES = 10  # random numbers that place a lesion


@dataclass(frozen=True)
class Lesion:
    """One thing to be drawn: a finding, or its mimic, or a decoy.

    finding: its name (a name of DECOYS for a decoy).   mimic: "" for the finding itself, else the view it mimics it on.
    clarity: 0 hardly visible .. 1 plain; the labels' misses fall on the low ones.
    contrast: multiplies the contrast of the finding wherever it is drawn, the same in a whole world.
    side:    -1 the patient's right, 1 the left.
    where:   PLACES uniform numbers that place and size it, the same as long as it lasts.
    frontal, lateral: whether it shows on that view.
    key:     (seed, patient, study in which it began), for its texture.
    """

    finding: str
    mimic: str
    clarity: float
    side: int
    where: tuple[float, ...]
    frontal: bool
    lateral: bool
    key: tuple[int, int, int]
    contrast: float = 1.0


@dataclass(frozen=True)
class Image:
    """One image of a study: the view drawn (PA, AP or LATERAL) and what the table says of it."""

    drawn: str
    view: str
    view_raw: str


@dataclass(frozen=True)
class Study:
    """One study, all that is needed to draw and label it. truth, clarity, mimic: (F,) in the order of the world's findings."""

    seed: int
    patient: int
    number: int
    age: float
    sex: str
    day: date
    images: tuple[Image, ...]
    lesions: tuple[Lesion, ...]
    truth: NDArray[np.bool_]
    clarity: NDArray[np.float64]
    mimic: NDArray[np.int8]
    decoy: str

    @property
    def patient_id(self) -> str:
        return f"p{self.patient:06d}"

    @property
    def study_id(self) -> str:
        return f"{self.patient_id}_s{self.number + 1:02d}"

    def image_id(self, number: int) -> str:
        return f"{self.study_id}_{number + 1}"


def first_studies(
    seed: int, studies: int, world: World = WORLDS["cxr-lt-2023"], *, start: int = 0, most: int | None = None
) -> Iterator[Study]:
    """The first `studies` studies from patient `start` on, patient by patient; the last patient's later ones may be left out.

    most: studies of a patient at most; None = all.
    """
    every = (study for patient in count(start) for study in islice(studies_of(seed, patient, world), most))
    return islice(every, studies)


def studies_of(seed: int, patient: int, world: World = WORLDS["cxr-lt-2023"]) -> Iterator[Study]:
    """All studies of one patient, in order of date."""
    rng = stream(seed, "patient", patient)
    number_of_studies = 1 + int(rng.choice(12, p=studies_per_patient()))
    syndromes = rng.standard_normal(len(SYNDROMES))
    old = syndromes[SYNDROMES.index("age")]
    age = float(np.clip(61 + 17 * (0.75 * old + 0.66 * rng.standard_normal()), 18, 96))
    sex = "M" if rng.random() < 0.52 else "F"
    day = date(2011, 1, 1) + timedelta(days=int(rng.integers(0, 2000)))
    matrix, own = world.loadings
    shape = len(world.findings)
    z, uniform, began = np.zeros(shape), np.zeros(shape), np.zeros(shape, np.int64)
    for number in range(number_of_studies):
        today = stream(seed, "study", patient, number)
        kept = today.random(shape) < world.kept if number else np.zeros(shape, np.bool_)
        for kind, parent in world.kinds:
            kept[kind] = kept[parent]
        z = np.where(kept, z, matrix @ syndromes + own * today.standard_normal(shape))
        uniform = np.where(kept, uniform, today.random(shape))
        began = np.where(kept, began, number)
        truth = world.present(z[None], uniform[None])[0]
        if number:
            gap = today.exponential(6) if today.random() < 0.5 else today.exponential(250)
            day, age = day + timedelta(days=1 + int(gap)), min(age + gap / 365.25, 99.0)
        mimic = world.mimics(uniform[None], truth[None])[0]
        yield _study(world, seed, patient, number, age, sex, day, truth, mimic, began)


@lru_cache(maxsize=1)
def studies_per_patient() -> NDArray[np.float64]:
    """Probability of 1, 2, ... 12 studies: geometric, cut off, with mean 3.4."""
    n = np.arange(1, 13)
    low, high = 0.1, 1.5
    for _ in range(60):
        ratio = (low + high) / 2
        weights = ratio**n
        if (weights * n).sum() / weights.sum() < 3.4:
            low = ratio
        else:
            high = ratio
    return np.asarray(weights / weights.sum(), np.float64)


def _study(
    world: World, seed: int, patient: int, number: int, age: float, sex: str, day: date,
    truth: NDArray[np.bool_], mimic: NDArray[np.int8], began: NDArray[np.int64],
) -> Study:  # fmt: skip
    clarity = np.zeros(len(world.findings))
    lesions: list[Lesion] = []
    kinds = [kind for kind in world.stands_for if truth[kind]]
    drawn_by_kind = {other for kind in kinds for other in world.stands_for[kind]}
    for k in np.flatnonzero(truth | (mimic > 0)):
        name = world.findings[k]
        if k in drawn_by_kind:
            continue
        if name == NO_FINDING:
            clarity[k] = stream(seed, "clarity", patient, number).random()
            continue
        view = ("", "frontal", "lateral")[mimic[k]]
        lesion = _lesion((seed, patient, int(began[k])), name, view, number, world)
        lesions.append(lesion)
        clarity[k] = lesion.clarity
    for kind in kinds:
        for other in world.stands_for[kind]:
            clarity[other] = max(clarity[other], clarity[kind])
    rng = stream(seed, "images", patient, number)
    decoy = DECOYS[int(rng.integers(len(DECOYS)))] if rng.random() < DECOY_SHARE else ""
    if decoy:
        lesions.append(_lesion((seed, patient, number), decoy, "", number, world))
    images = _images(rng, world, sum(_SICK.get(world.findings[k], 0.0) for k in np.flatnonzero(truth)))
    return Study(seed, patient, number, age, sex, day, images, tuple(lesions), truth, clarity, mimic, decoy)


def _lesion(key: tuple[int, int, int], name: str, mimic: str, number: int, world: World) -> Lesion:
    seed, patient, began = key
    rng = stream(seed, "lesion", patient, began, name)
    where = tuple(float(v) for v in rng.random(PLACES))
    clarity, side = float(rng.random()), -1 if rng.random() < 0.52 else 1
    frontal = lateral = True
    if name in ONE_VIEW and rng.random() < ONE_VIEW_SHARE:
        frontal = bool(rng.random() < ONE_VIEW[name])
        lateral = not frontal
    # It waxes and wanes a little; reflected at the ends, so that clarity stays uniform.
    drift = 0.12 * (number - began) ** 0.5
    clarity += drift * float(stream(seed, "drift", patient, number, name).standard_normal())
    clarity = abs(clarity) % 2
    clarity = 2 - clarity if clarity > 1 else clarity
    return Lesion(name, mimic, clarity, side, where, frontal, lateral, key, world.contrast.get(name, 1.0))


_SICK = {
    DEVICES: 1.6, "Edema": 0.8, "Pneumothorax": 0.5, "Pneumonia": 0.4, "Pleural Effusion": 0.5, "Consolidation": 0.5,
    "Lung Opacity": 0.4, "Atelectasis": 0.4, "Subcutaneous Emphysema": 0.8, "Pneumomediastinum": 0.6, "Cardiomegaly": 0.2,
}  # fmt: skip


def _images(rng: np.random.Generator, world: World, sickness: float) -> tuple[Image, ...]:
    """The views of a study. The sicker are imaged in bed (AP), the more so when there is one image only."""
    number = 1 + int(rng.choice(len(world.images), p=world.images))
    portable = rng.random() < 1 / (1 + np.exp(-(world.bedside + sickness + (0.9 if number == 1 else -0.5))))
    frontal = "AP" if portable else "PA"
    two_frontals = rng.random() < (0.35 if portable else 0.10)
    second = frontal if two_frontals else "LATERAL"
    views = [frontal, second, "LATERAL" if second != "LATERAL" or rng.random() < 0.4 else frontal, "LATERAL"][:number]
    images = []
    for view in views:
        lost = rng.random() < 0.01
        raw = "LL" if view == "LATERAL" and rng.random() < 0.3 else view
        images.append(Image(view, "unknown" if lost else view, "" if lost else raw))
    return tuple(images)
