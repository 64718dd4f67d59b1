"""A world of the phantom: which findings there are and how frequent; who has what is drawn by a Gaussian copula.

A study has finding f where z_f > the normal quantile of 1 - prevalence. z_f is a standard normal number, the sum of the
patient's syndromes (heart failure, infection, trauma, surgery, age, tumour, chronic lung disease, general severity; one
standard normal number each, the same in all studies of the patient) times LOADINGS and COUPLING, and a part of its own. From one study
to the next z_f is kept with the finding's persistence, and else its own part is drawn afresh; so prevalences are exact in
every study, and co-occurrence is the same in a patient's first study as in the twelfth.

"No Finding" is not drawn: it holds where nothing but Support Devices is present. COUPLING was chosen so that this
happens as often as in the published counts of CXR-LT 2023.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hilum.findings import tiers_by_rule
from hilum.sources.phantom.difficulty import CONTRAST
from hilum.sources.phantom.prevalence import (
    ALSO,
    BEDSIDE,
    BOTH_VIEWS,
    COUPLING,
    DEVICES,
    FINDINGS,
    IMAGES_PER_STUDY,
    KIND_OF,
    LOADINGS,
    MIMICS,
    NEW_COUNTS_2024,
    NEW_IMAGES_2024,
    NO_FINDING,
    PUBLISHED_COUNTS,
    PUBLISHED_IMAGES,
    SYNDROMES,
    UNSEEN,
    persistence,
)

BOOL = NDArray[np.bool_]
FLOAT = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class World:
    """The findings that exist and how frequent and plain each is.

    name:       stands in the names of image folders.
    prevalence: share of studies per finding, in the order of the label columns; that of No Finding follows from the others.
    contrast:   multiplies the contrast of a finding (difficulty.py).
    images:     shares of studies with 1, 2, 3 and 4 images.
    bedside:    log odds of a healthy patient's being imaged in bed (AP): a ward has more of it than a practice.
    """

    name: str
    prevalence: Mapping[str, float]
    contrast: Mapping[str, float]
    images: tuple[float, ...] = IMAGES_PER_STUDY
    bedside: float = BEDSIDE

    @cached_property
    def findings(self) -> tuple[str, ...]:
        return tuple(self.prevalence)

    @cached_property
    def tiers(self) -> dict[str, str]:
        """head, medium or tail of each finding, by its prevalence."""
        shares = {name: round(1e6 * share) for name, share in self.prevalence.items()}
        return tiers_by_rule(shares, dict.fromkeys(shares, 1_000_000))

    @cached_property
    def kinds(self) -> tuple[tuple[int, int], ...]:
        """(place of a kind, place of what it is a kind of) among the findings."""
        pairs = [(one, other) for one, other in KIND_OF.items() if one in self.prevalence and other in self.prevalence]
        return tuple((self.findings.index(one), self.findings.index(other)) for one, other in pairs)

    @cached_property
    def stands_for(self) -> dict[int, tuple[int, ...]]:
        """Of each kind of finding, the findings that it implies and that are drawn by it alone."""
        also = {
            self.findings.index(one): self.findings.index(other)
            for one, other in ALSO.items()
            if one in self.prevalence
        }
        return {kind: (parent, *([also[kind]] if kind in also else [])) for kind, parent in self.kinds}

    @cached_property
    def kept(self) -> FLOAT:
        """(F,) probability that each finding is kept to the patient's next study."""
        return np.array([persistence(name) for name in self.findings])

    @cached_property
    def loadings(self) -> tuple[FLOAT, FLOAT]:
        """LOADINGS as a matrix (F, syndromes), and the weight (F,) of each finding's own part."""
        matrix = COUPLING * np.array([[LOADINGS[s].get(f, 0.0) for s in SYNDROMES] for f in self.findings])
        return matrix, np.sqrt(1 - (matrix**2).sum(axis=1))

    @cached_property
    def _thresholds(self) -> FLOAT:
        """z above which each finding is present, (F,); infinite for No Finding and for kinds, which are derived."""
        normal = NormalDist()
        line = np.array([normal.inv_cdf(1 - share) for share in self.prevalence.values()])
        line[[self.findings.index(NO_FINDING), *(kind for kind, _ in self.kinds)]] = np.inf
        return line

    def present(self, z: FLOAT, uniform: FLOAT) -> BOOL:
        """Truth (n, F) from latent numbers z (n, F) and uniform (n, F) in 0..1, both kept from study to study."""
        truth = z > self._thresholds
        shares = list(self.prevalence.values())
        for kind, parent in self.kinds:
            truth[:, kind] = truth[:, parent] & (uniform[:, kind] < shares[kind] / shares[parent])
        for kind, implied in self.stands_for.items():
            for other in implied:
                truth[:, other] |= truth[:, kind]
        disease = [k for k, name in enumerate(self.findings) if name not in (NO_FINDING, DEVICES)]
        truth[:, self.findings.index(NO_FINDING)] = ~truth[:, disease].any(axis=1)
        return np.asarray(truth, np.bool_)

    def mimics(self, uniform: FLOAT, truth: BOOL) -> NDArray[np.int8]:
        """Mimics (n, F) of the findings that need both views: 0 none, 1 on the frontal, 2 on the lateral."""
        kind = np.zeros(truth.shape, np.int8)
        for name in BOTH_VIEWS:
            k, p = self.findings.index(name), self.prevalence[name] / (1 - self.prevalence[name])
            front = uniform[:, k] < p * MIMICS["frontal"]
            side = ~front & (uniform[:, k] < p * (MIMICS["frontal"] + MIMICS["lateral"]))
            kind[:, k] = np.where(truth[:, k], 0, front * 1 + side * 2)
        return kind

    def simulated(self, rng: np.random.Generator, studies: int) -> tuple[BOOL, NDArray[np.int8]]:
        """Truth and mimics (studies, F) of as many unrelated studies."""
        matrix, own = self.loadings
        shape = (studies, len(self.findings))
        z = rng.standard_normal((studies, len(SYNDROMES))) @ matrix.T + own * rng.standard_normal(shape)
        uniform = rng.random(shape)
        truth = self.present(z, uniform)
        return truth, self.mimics(uniform, truth)

    def changed(self, name: str, **facts: Any) -> "World":
        """The same world under another name, with another prevalence or contrast of some findings, images or bedside."""
        given: dict[str, Any] = {
            key: {**getattr(self, key), **value} if isinstance(value, Mapping) else value
            for key, value in facts.items()
        }
        return replace(self, name=name, **given)


_2023 = {name: PUBLISHED_COUNTS[name] / PUBLISHED_IMAGES for name in FINDINGS}
_2024 = {name: count / NEW_IMAGES_2024 for name, count in NEW_COUNTS_2024.items()}

# By the finding set that they carry; the second has all 45 findings: those of 2023, the new ones of 2024, the five unseen.
WORLDS = {
    "cxr-lt-2023": World("cxr-lt-2023", _2023, CONTRAST),
    "cxr-lt-2024": World("cxr-lt-2024", {**_2023, **_2024, **UNSEEN}, CONTRAST),
}
