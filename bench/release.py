"""Made-up releases of MIMIC-CXR-JPG with label files of CXR-LT 2024: ids, folders and columns as in the originals.

`cxr_lt_2024` lays out its training set by the published counts: 258,871 images of 155,823 studies of 45,480 patients, the
sizes of studies, the view codes (4 % of them blank) and the images that show each of the 40 findings; how many studies a
patient has is ours (one, and the rest dealt by lot in unequal shares). Labels belong to studies, views are dealt by lot.
"""

import csv
import gzip
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

PATIENTS = 45_480
STUDIES_OF = {1: 69_478, 2: 71_298, 3: 13_529, 4: 1_422, 5: 67, 6: 24, 7: 1, 8: 2, 9: 1, 11: 1}  # images -> studies
IMAGES_OF = {  # view code -> images; the oblique and other rare codes as one
    "AP": 100_024, "PA": 66_470, "LATERAL": 57_546, "LL": 24_080, "LAO": 17, "": 10_734,
}  # fmt: skip
SHOWN_ON = (  # images that show each finding, in the order of the label file
    3409, 65376, 199, 4239, 74738, 168, 15371, 37256, 3661, 29628, 1169, 2803, 11568, 2965, 3986, 646, 727, 10087, 778, 129,
    2338, 77482, 5288, 7531, 34292, 66401, 616, 3272, 704, 46660, 516, 13858, 1631, 903, 8919, 172, 2046, 86079, 3336, 2078,
)  # fmt: skip
FACTS = ["dicom_id", "subject_id", "study_id", "ViewPosition", "ViewCodeSequence_CodeMeaning", "fpath"]


class Image(NamedTuple):
    """One image of a release: ids as digits, its view code, the split, and 0 or 1 per finding."""

    dicom: str
    subject: str
    study: str
    view: str
    side: str
    labels: Sequence[int]

    @property
    def path(self) -> str:
        return f"files/p{self.subject[:2]}/p{self.subject}/s{self.study}/{self.dicom}.jpg"

    def cells(self) -> list[object]:
        """The row of a label file: FACTS, then the labels."""
        return [self.dicom, self.subject, f"s{self.study}", self.view, "", self.path, *self.labels]


def image(rng: random.Random, patient: int, study: int, view: str, side: str, labels: Sequence[int]) -> Image:
    """The next image of a patient's study, both counted from 0, with ids like the release's."""
    dicom = "-".join(f"{rng.getrandbits(32):08x}" for _ in range(5))
    return Image(dicom, str(10_000_000 + 150 * patient), str(50_000_000 + 40 * study), view, side, labels)


def cxr_lt_2024(share: float = 1.0) -> list[Image]:
    """The training set, or a share of it (every count in proportion, rare ones at least 1)."""
    rng, named = np.random.default_rng(0), random.Random(0)
    sizes = np.repeat(list(STUDIES_OF), [max(1, round(count * share)) for count in STUDIES_OF.values()])
    rng.shuffle(sizes)
    views = rng.permutation(np.repeat(list(IMAGES_OF), [max(1, round(count * share)) for count in IMAGES_OF.values()]))
    labels = np.zeros((len(sizes), len(SHOWN_ON)), dtype=int)
    for finding, count in enumerate(SHOWN_ON):
        order = rng.permutation(len(sizes))
        labels[order[: 1 + np.searchsorted(np.cumsum(sizes[order]), count * share)], finding] = 1
    patients = max(1, round(PATIENTS * share))
    often = rng.gamma(0.5, size=patients)
    owner = np.sort(
        np.concatenate([np.arange(patients), rng.choice(patients, len(sizes) - patients, p=often / often.sum())])
    )
    made: list[Image] = []
    for study, (size, patient) in enumerate(zip(sizes.tolist(), owner.tolist())):
        shown = labels[study].tolist()
        made += [
            image(named, patient, study, str(views[(len(made) + k) % len(views)]), "train", shown) for k in range(size)
        ]
    return made


def write(file: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A CSV, gzipped where its name says so."""
    with gzip.open(file, "wt", compresslevel=1) if file.suffix == ".gz" else file.open("w") as out:
        writer = csv.writer(out)
        writer.writerow(header)
        writer.writerows(rows)
