"""How frequent findings are, which go together, how long they last: a Gaussian copula with a few syndromes.

A study has finding f where z_f > the normal quantile of 1 - prevalence. z_f is a standard normal number, the sum of the
patient's syndromes (heart failure, infection, trauma, surgery, age, tumour, chronic lung disease, general severity; one
standard normal number each, the same in all studies of the patient) times LOADINGS and COUPLING, and a part of its own. From one study
to the next z_f is kept with probability PERSISTENCE, and else its own part is drawn afresh; so prevalences are exact in
every study, and co-occurrence is the same in a patient's first study as in the twelfth.

"No Finding" is not drawn: it holds where nothing but Support Devices is present. COUPLING was chosen so that this
happens as often as in the published counts.
"""

from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from hilum.findings import FINDING_SETS

FINDINGS = FINDING_SETS["cxr-lt-2023"]
NO_FINDING = "No Finding"
DEVICES = "Support Devices"

# Positive studies' images of CXR-LT 2023's training set, of 264,849, as published.
PUBLISHED_IMAGES = 264_849
PUBLISHED_COUNTS = dict(
    zip(
        FINDINGS,
        (
            67597, 4361, 76900, 16038, 38574, 4255, 30119, 1158, 11883, 4049, 10218, 2533, 79931, 5529, 41869, 7663,
            69240, 675, 3369, 788, 48093, 543, 14983, 2453, 89140, 3499,
        ),
        strict=True,
    )
)  # fmt: skip
PREVALENCE = {name: count / PUBLISHED_IMAGES for name, count in PUBLISHED_COUNTS.items()}

# Correlation of each finding with each syndrome; the squares of a finding sum to less than one.
LOADINGS: dict[str, dict[str, float]] = {
    "severity": {
        "Atelectasis": 0.30, "Consolidation": 0.30, "Edema": 0.30, "Pleural Effusion": 0.40, "Pneumonia": 0.25,
        "Lung Opacity": 0.30, "Support Devices": 0.55, "Cardiomegaly": 0.20, "Pneumothorax": 0.15,
        "Enlarged Cardiomediastinum": 0.20, "Infiltration": 0.15,
    },
    "heart failure": {
        "Cardiomegaly": 0.60, "Edema": 0.60, "Pleural Effusion": 0.45, "Enlarged Cardiomediastinum": 0.25,
        "Atelectasis": 0.15, "Lung Opacity": 0.05, "Support Devices": 0.10,
    },
    "infection": {
        "Pneumonia": 0.60, "Consolidation": 0.60, "Infiltration": 0.50, "Lung Opacity": 0.60, "Pleural Effusion": 0.15,
        "Pleural Other": 0.25,
    },
    "trauma": {
        "Pneumothorax": 0.50, "Subcutaneous Emphysema": 0.65, "Pneumomediastinum": 0.65, "Fracture": 0.40,
        "Pneumoperitoneum": 0.15, "Support Devices": 0.15, "Lung Opacity": 0.05,
    },
    "surgery": {
        "Support Devices": 0.40, "Atelectasis": 0.40, "Pneumoperitoneum": 0.50, "Pleural Effusion": 0.25,
        "Pneumothorax": 0.25, "Pneumomediastinum": 0.25, "Subcutaneous Emphysema": 0.30,
        "Enlarged Cardiomediastinum": 0.20, "Lung Opacity": 0.15,
    },
    "age": {
        "Calcification of the Aorta": 0.60, "Tortuous Aorta": 0.60, "Hernia": 0.35, "Emphysema": 0.25,
        "Enlarged Cardiomediastinum": 0.15, "Fracture": 0.20, "Cardiomegaly": 0.15, "Fibrosis": 0.15,
    },
    "tumour": {
        "Mass": 0.60, "Nodule": 0.55, "Lung Lesion": 0.60, "Pleural Thickening": 0.15, "Lung Opacity": 0.15,
        "Enlarged Cardiomediastinum": 0.10, "Fracture": 0.10,
    },
    "chronic lung": {
        "Emphysema": 0.45, "Fibrosis": 0.50, "Pleural Thickening": 0.45, "Pleural Other": 0.45, "Nodule": 0.20,
        "Pneumonia": 0.10, "Infiltration": 0.15, "Pneumothorax": 0.10, "Cardiomegaly": -0.10, "Edema": -0.10,
    },
}  # fmt: skip
SYNDROMES = tuple(LOADINGS)
COUPLING = 0.67  # all loadings times this: with 1, findings cluster so much that 21 % of studies show none

CHRONIC, ACUTE, DEVICE = 0.9, 0.3, 0.6
_CHRONIC = (
    "Calcification of the Aorta", "Cardiomegaly", "Emphysema", "Enlarged Cardiomediastinum", "Fibrosis", "Hernia",
    "Lung Lesion", "Mass", "Nodule", "Pleural Other", "Pleural Thickening", "Tortuous Aorta",
)  # fmt: skip
PERSISTENCE = {name: CHRONIC if name in _CHRONIC else DEVICE if name == DEVICES else ACUTE for name in FINDINGS}

# Findings that need both views: another thing may give the same sign on one view and lacks it on the other.
# Among patients without the finding, a share of this times its prevalence has such a mimic, on the frontal and on the lateral.
BOTH_VIEWS = ("Enlarged Cardiomediastinum", "Lung Lesion", "Mass", "Tortuous Aorta")
MIMICS = {"frontal": 0.50, "lateral": 0.25}

# Findings of which a share of the positives shows on one view only; of those, the share that shows on the frontal.
ONE_VIEW_SHARE = 0.40
ONE_VIEW = {
    "Atelectasis": 0.5, "Consolidation": 0.5, "Fracture": 0.7, "Hernia": 0.3, "Nodule": 0.6, "Pleural Effusion": 0.3,
    "Pneumonia": 0.5, "Pneumothorax": 0.9,
}  # fmt: skip

# Things that look like a nodule or a pneumothorax on the frontal image and that the lateral refutes.
DECOYS = ("nipple", "skin fold", "vessel end-on")
DECOY_SHARE = 0.05

BOOL = NDArray[np.bool_]
FLOAT = NDArray[np.float64]


@lru_cache(maxsize=1)
def loadings() -> tuple[FLOAT, FLOAT]:
    """LOADINGS as a matrix (findings, syndromes), and the weight (findings,) of each finding's own part."""
    matrix = COUPLING * np.array([[LOADINGS[s].get(f, 0.0) for s in SYNDROMES] for f in FINDINGS])
    return matrix, np.sqrt(1 - (matrix**2).sum(axis=1))


@lru_cache(maxsize=1)
def thresholds() -> FLOAT:
    """z above which each finding is present, (findings,); infinite for No Finding, which is derived."""
    normal = NormalDist()
    return np.array([np.inf if f == NO_FINDING else normal.inv_cdf(1 - PREVALENCE[f]) for f in FINDINGS])


def present(z: FLOAT) -> BOOL:
    """Truth (n, findings) from latent numbers z (n, findings), No Finding filled in."""
    truth = z > thresholds()
    disease = [k for k, name in enumerate(FINDINGS) if name not in (NO_FINDING, DEVICES)]
    truth[:, FINDINGS.index(NO_FINDING)] = ~truth[:, disease].any(axis=1)
    return np.asarray(truth, np.bool_)


def mimics(uniform: FLOAT, truth: BOOL) -> NDArray[np.int8]:
    """Mimics (n, findings) of the findings that need both views: 0 none, 1 on the frontal, 2 on the lateral.

    uniform: (n, findings) in 0..1, kept from study to study like z.
    """
    kind = np.zeros(truth.shape, np.int8)
    for name in BOTH_VIEWS:
        k, p = FINDINGS.index(name), PREVALENCE[name] / (1 - PREVALENCE[name])
        front = uniform[:, k] < p * MIMICS["frontal"]
        side = ~front & (uniform[:, k] < p * (MIMICS["frontal"] + MIMICS["lateral"]))
        kind[:, k] = np.where(truth[:, k], 0, front * 1 + side * 2)
    return kind


@lru_cache(maxsize=1)
def studies_per_patient() -> FLOAT:
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
