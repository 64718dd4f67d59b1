"""From truth to mined labels: what a text miner would have made of the reports, with its misses and false alarms.

Of a finding's positives a share (sensitivity) is found, and of what is found a share (PPV) is true, by tier. Misses fall on
subtle cases; half of the false positives fall on studies with a look-alike; 5 % of all entries are unknown. "No Finding" is
mined first: a study so labelled has no other mined label but Support Devices.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from hilum.sources.phantom.patients import Study
from hilum.sources.phantom.prevalence import DECOY_SHARE, DECOYS, DEVICES, NO_FINDING
from hilum.sources.phantom.streams import stream
from hilum.sources.phantom.worlds import BOOL, FLOAT, WORLDS, World

SENSITIVITY = {"head": 0.93, "medium": 0.88, "tail": 0.80}
PPV = {"head": 0.95, "medium": 0.88, "tail": 0.75}
UNKNOWN = 0.05
ON_LOOK_ALIKES = 0.5

# What each finding is mistaken for when it is not there: other findings of the same world, decoys. Its mimics always count.
LOOK_ALIKES: dict[str, tuple[str, ...]] = {
    "Atelectasis": ("Pneumonia", "Pleural Effusion", "Fissure"),
    "Calcification of the Aorta": ("Tortuous Aorta",),
    "Cardiomegaly": ("Enlarged Cardiomediastinum", "Pulmonary Hypertension"),
    "Consolidation": ("Pneumonia", "Lung Opacity", "Lobar Atelectasis"),
    "Edema": ("Infiltration", "Pneumonia"),
    "Emphysema": ("Pneumothorax", "Bulla", "Pulmonary Embolism"),
    "Enlarged Cardiomediastinum": ("Tortuous Aorta", "Cardiomegaly", "Adenopathy"),
    "Fibrosis": ("Infiltration", "Edema", "Tuberculosis"),
    "Fracture": ("Pleural Thickening", "Nodule"),
    "Hernia": ("Mass", "Cardiomegaly"),
    "Infiltration": ("Pneumonia", "Edema"),
    "Lung Lesion": ("Nodule", "Mass", "Tuberculosis", "Round(ed) Atelectasis", "Bulla"),
    "Lung Opacity": ("Atelectasis", "Pneumonia"),
    "Mass": ("Lung Lesion", "Consolidation", "Round(ed) Atelectasis", "Adenopathy"),
    "Nodule": ("nipple", "vessel end-on", "Lung Lesion", "Granuloma"),
    "Pleural Effusion": ("Atelectasis", "Pleural Thickening", "Lobar Atelectasis"),
    "Pleural Other": ("Pleural Thickening", "Pleural Effusion", "Fissure"),
    "Pleural Thickening": ("Pleural Effusion", "Pleural Other", "Rib Fracture"),
    "Pneumomediastinum": ("Pneumothorax", "Subcutaneous Emphysema"),
    "Pneumonia": ("Consolidation", "Atelectasis", "Infiltration", "Infarction", "Tuberculosis"),
    "Pneumoperitoneum": ("Atelectasis",),
    "Pneumothorax": ("skin fold", "Emphysema", "Bulla"),
    "Subcutaneous Emphysema": ("Pneumothorax", "Pneumomediastinum"),
    "Support Devices": ("Fracture", "Pneumothorax"),
    "Tortuous Aorta": ("Calcification of the Aorta", "Enlarged Cardiomediastinum", "Scoliosis"),
    "Adenopathy": ("Hilum", "Pulmonary Hypertension", "Enlarged Cardiomediastinum"),
    "Azygos Lobe": ("Fissure", "Bulla", "Lobar Atelectasis"),
    "Clavicle Fracture": ("Fracture", "Support Devices"),
    "Fissure": ("Atelectasis", "Pleural Other", "Azygos Lobe"),
    "Granuloma": ("Nodule", "Rib Fracture", "nipple", "vessel end-on"),
    "Hydropneumothorax": ("Pneumothorax", "Pleural Effusion"),
    "Infarction": ("Pneumonia", "Round(ed) Atelectasis", "Pleural Effusion"),
    "Kyphosis": ("Osteopenia", "Scoliosis"),
    "Lobar Atelectasis": ("Atelectasis", "Consolidation", "Pleural Effusion"),
    "Pulmonary Embolism": ("Emphysema", "Pulmonary Hypertension", "Hilum"),
    "Pulmonary Hypertension": ("Hilum", "Adenopathy", "Cardiomegaly"),
    "Rib Fracture": ("Fracture", "Pleural Thickening", "Granuloma"),
    "Round(ed) Atelectasis": ("Mass", "Lung Lesion", "Infarction"),
    "Tuberculosis": ("Lung Lesion", "Pneumonia", "Fibrosis"),
    "Bulla": ("Emphysema", "Pneumothorax", "Lung Lesion"),
    "Cardiomyopathy": ("Cardiomegaly", "Enlarged Cardiomediastinum"),
    "Hilum": ("Adenopathy", "Pulmonary Hypertension", "Mass", "vessel end-on"),
    "Osteopenia": ("Kyphosis", "Fracture"),
    "Scoliosis": ("Kyphosis", "Tortuous Aorta"),
}


def truth_of(studies: Sequence[Study]) -> BOOL:
    """What is there, (studies, findings)."""
    return np.stack([study.truth for study in studies])


def mined_labels(studies: Sequence[Study], world: World = WORLDS["cxr-lt-2023"]) -> FLOAT:
    """Mined labels (studies, findings): 1, 0, NaN unknown. Each depends on its own study only."""
    names = world.findings
    truth, clarity = truth_of(studies), np.stack([study.clarity for study in studies])
    decoys = np.array([[study.decoy == name for name in DECOYS] for study in studies])
    alike = look_alikes(names, truth, np.stack([study.mimic for study in studies]) > 0, decoys)
    draws = np.stack([stream(s.seed, "mined", s.patient, s.number).random((3, len(names))) for s in studies], axis=1)
    mined = _mine(names, truth, clarity, alike, draws[0], draws[1], _rates(world)).astype(np.float64)
    mined[draws[2] < UNKNOWN] = np.nan
    return mined


def look_alikes(names: Sequence[str], truth: BOOL, mimic: BOOL, decoys: BOOL) -> BOOL:
    """Where a finding is absent but something that looks like it is present, (n, findings); decoys is (n, DECOYS)."""
    shown = dict(zip((*names, *DECOYS), np.concatenate([truth, decoys], axis=1).T, strict=True))
    alike = mimic.copy()
    for k, name in enumerate(names):
        for other in LOOK_ALIKES.get(name, ()):
            if other in shown:
                alike[:, k] |= shown[other]
    return np.asarray(alike & ~truth, np.bool_)


class _Rates:
    """Probabilities per finding, (findings,): of missing a positive, of a false alarm on a look-alike and elsewhere."""

    def __init__(self, findings: int) -> None:
        self.miss, self.alike, self.other = np.zeros((3, findings))


def _mine(
    names: Sequence[str], truth: BOOL, clarity: FLOAT, alike: BOOL, miss: FLOAT, alarm: FLOAT, rates: _Rates
) -> BOOL:
    normal, others = _places(names)
    # Mean 1 over uniform clarity: a plain case is never missed, a subtle one three times as often as the average.
    missed = miss < np.minimum(rates.miss * 3 * (1 - clarity) ** 2, 1)
    alarms = alarm < np.where(alike, rates.alike, rates.other)
    mined = np.where(truth, ~missed, alarms)
    read_as_normal = _subtle(names, truth, clarity) & (alarm[:, normal] < rates.alike[normal])
    mined[:, normal] = np.where(truth[:, normal], ~missed[:, normal], read_as_normal)
    mined &= ~(mined[:, [normal]] & others)
    return np.asarray(mined, np.bool_)


def _places(names: Sequence[str]) -> tuple[int, BOOL]:
    """Where No Finding stands, and (F,) which findings it excludes."""
    return list(names).index(NO_FINDING), np.array([name not in (NO_FINDING, DEVICES) for name in names])


def _subtle(names: Sequence[str], truth: BOOL, clarity: FLOAT) -> BOOL:
    """Studies (n,) with something in them, all of it subtle: these are read as normal now and then."""
    normal, others = _places(names)
    worst = np.where(truth, clarity, 0.0)[:, others].max(axis=1)
    return np.asarray(~truth[:, normal] & (worst < 0.5), np.bool_)


@lru_cache(maxsize=8)
def _rates(world: World, studies: int = 60_000) -> _Rates:
    """The rates that give the wanted sensitivity and PPV, from how often look-alikes occur in a fixed simulation."""
    rng, names = stream(0, "rates"), world.findings
    normal, _ = _places(names)
    truth, mimic = world.simulated(rng, studies)
    shape = truth.shape
    clarity = rng.random(shape)
    kind = rng.random(studies)
    decoys = np.stack([(kind >= k * DECOY_SHARE / 3) & (kind < (k + 1) * DECOY_SHARE / 3) for k in range(3)], axis=1)
    alike = look_alikes(names, truth, mimic > 0, decoys)
    rates = _Rates(len(names))
    share = truth.mean(axis=0)
    sensitivity = np.array([SENSITIVITY[world.tiers[name]] for name in names])
    ppv = np.array([PPV[world.tiers[name]] for name in names])
    wrong = share * sensitivity * (1 - ppv) / ppv  # false positives per study
    rates.miss[normal] = 1 - sensitivity[normal]
    rates.alike[normal] = wrong[normal] / max(_subtle(names, truth, clarity).mean(), 1e-9)
    draws = rng.random((2, *shape))
    read_as_normal = _mine(names, truth, clarity, alike, draws[0], draws[1], rates)[:, normal]
    # What is read as No Finding loses its other labels: so much less is left to miss, and to be wrong about.
    for k, name in enumerate(names):
        if name == NO_FINDING:
            continue
        closed = read_as_normal if name != DEVICES else np.zeros(studies, np.bool_)
        lost = (truth[:, k] & closed).mean() / share[k]
        rates.miss[k] = max(0.0, (1 - sensitivity[k] - lost) / (1 - lost))
        on_alike = (alike[:, k] & ~closed).mean()
        elsewhere = (~truth[:, k] & ~alike[:, k] & ~closed).mean()
        rates.alike[k] = min(0.9, ON_LOOK_ALIKES * wrong[k] / max(on_alike, 1e-9))
        rates.other[k] = (wrong[k] - rates.alike[k] * on_alike) / elsewhere
    return rates
