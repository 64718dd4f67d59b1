"""Who comes for an X-ray: patients, their studies, the images of each, and what each study shows."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

from hilum.sources.phantom.prevalence import (
    DECOY_SHARE,
    DECOYS,
    DEVICES,
    FINDINGS,
    NO_FINDING,
    ONE_VIEW,
    ONE_VIEW_SHARE,
    PERSISTENCE,
    SYNDROMES,
    loadings,
    mimics,
    present,
    studies_per_patient,
)
from hilum.sources.phantom.streams import stream

# Of all studies, the share with 1, 2, 3 and 4 images.
IMAGES_PER_STUDY = (0.45, 0.46, 0.08, 0.01)
PLACES = 10  # random numbers that place a lesion


@dataclass(frozen=True)
class Lesion:
    """One thing to be drawn: a finding, or its mimic, or a decoy.

    finding: its name (a name of DECOYS for a decoy).   mimic: "" for the finding itself, else the view it mimics it on.
    clarity: 0 hardly visible .. 1 plain; the labels' misses fall on the low ones.
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


@dataclass(frozen=True)
class Image:
    """One image of a study: the view drawn (PA, AP or LATERAL) and what the table says of it."""

    drawn: str
    view: str
    view_raw: str


@dataclass(frozen=True)
class Study:
    """One study, all that is needed to draw and label it. truth, clarity: one entry per finding of FINDINGS."""

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


def first_studies(seed: int, studies: int) -> Iterator[Study]:
    """The first `studies` studies, patient by patient; the last patient's later studies may be left out."""
    patient, made = 0, 0
    while made < studies:
        for study in studies_of(seed, patient):
            if made < studies:
                made += 1
                yield study
        patient += 1


def studies_of(seed: int, patient: int) -> list[Study]:
    """All studies of one patient, in order of date."""
    rng = stream(seed, "patient", patient)
    count = 1 + int(rng.choice(12, p=studies_per_patient()))
    syndromes = rng.standard_normal(len(SYNDROMES))
    old = syndromes[SYNDROMES.index("age")]
    age = float(np.clip(61 + 17 * (0.75 * old + 0.66 * rng.standard_normal()), 18, 96))
    sex = "M" if rng.random() < 0.52 else "F"
    day = date(2011, 1, 1) + timedelta(days=int(rng.integers(0, 2000)))
    matrix, own = loadings()
    keep = np.array([PERSISTENCE[name] for name in FINDINGS])
    shape = len(FINDINGS)
    z, uniform, began = np.zeros(shape), np.zeros(shape), np.zeros(shape, np.int64)
    made = []
    for number in range(count):
        today = stream(seed, "study", patient, number)
        kept = today.random(shape) < keep if number else np.zeros(shape, np.bool_)
        z = np.where(kept, z, matrix @ syndromes + own * today.standard_normal(shape))
        uniform = np.where(kept, uniform, today.random(shape))
        began = np.where(kept, began, number)
        truth = present(z[None])[0]
        if number:
            gap = today.exponential(6) if today.random() < 0.5 else today.exponential(250)
            day, age = day + timedelta(days=1 + int(gap)), min(age + gap / 365.25, 99.0)
        made.append(_study(seed, patient, number, age, sex, day, truth, mimics(uniform[None], truth[None])[0], began))
    return made


def _study(
    seed: int, patient: int, number: int, age: float, sex: str, day: date,
    truth: NDArray[np.bool_], mimic: NDArray[np.int8], began: NDArray[np.int64],
) -> Study:  # fmt: skip
    clarity = np.zeros(len(FINDINGS))
    lesions: list[Lesion] = []
    for k in np.flatnonzero(truth | (mimic > 0)):
        name = FINDINGS[k]
        if name == NO_FINDING:
            clarity[k] = stream(seed, "clarity", patient, number).random()
            continue
        view = ("", "frontal", "lateral")[mimic[k]]
        lesion = _lesion((seed, patient, int(began[k])), name, view, number)
        lesions.append(lesion)
        clarity[k] = lesion.clarity
    rng = stream(seed, "images", patient, number)
    decoy = DECOYS[int(rng.integers(len(DECOYS)))] if rng.random() < DECOY_SHARE else ""
    if decoy:
        lesions.append(_lesion((seed, patient, number), decoy, "", number))
    images = _images(rng, truth)
    return Study(seed, patient, number, age, sex, day, images, tuple(lesions), truth, clarity, mimic, decoy)


def _lesion(key: tuple[int, int, int], name: str, mimic: str, number: int) -> Lesion:
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
    return Lesion(name, mimic, clarity, side, where, frontal, lateral, key)


_SICK = {
    DEVICES: 1.6, "Edema": 0.8, "Pneumothorax": 0.5, "Pneumonia": 0.4, "Pleural Effusion": 0.5, "Consolidation": 0.5,
    "Lung Opacity": 0.4, "Atelectasis": 0.4, "Subcutaneous Emphysema": 0.8, "Pneumomediastinum": 0.6, "Cardiomegaly": 0.2,
}  # fmt: skip
_SICKNESS = np.array([_SICK.get(name, 0.0) for name in FINDINGS])


def _images(rng: np.random.Generator, truth: NDArray[np.bool_]) -> tuple[Image, ...]:
    """The views of a study. The sicker are imaged in bed (AP), the more so when there is one image only."""
    count = 1 + int(rng.choice(len(IMAGES_PER_STUDY), p=IMAGES_PER_STUDY))
    sickness = float(_SICKNESS[truth].sum())
    portable = rng.random() < 1 / (1 + np.exp(-(-1.6 + sickness + (0.9 if count == 1 else -0.5))))
    frontal = "AP" if portable else "PA"
    two_frontals = rng.random() < (0.35 if portable else 0.10)
    second = frontal if two_frontals else "LATERAL"
    views = [frontal, second, "LATERAL" if second != "LATERAL" or rng.random() < 0.4 else frontal, "LATERAL"][:count]
    images = []
    for view in views:
        lost = rng.random() < 0.01
        raw = "LL" if view == "LATERAL" and rng.random() < 0.3 else view
        images.append(Image(view, "unknown" if lost else view, "" if lost else raw))
    return tuple(images)
