"""Why a phantom study was asked for, in the words of a request: a hint at what it shows, and no more than that.

A request is drawn from REQUESTS with a weight that is four times as large where a finding it goes with is present (LIFT),
so that most studies of any finding come with other words. A follow-up is asked for only where the patient's study before
showed what it names, whether or not it is still there. A third of studies have no indication. All of it is ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hilum.sources.phantom.patients import Study
from hilum.sources.phantom.prevalence import DEVICES, NO_FINDING
from hilum.sources.phantom.streams import stream
from hilum.sources.phantom.worlds import BOOL, WORLDS, World

MISSING = 1 / 3
LIFT = 4.0


@dataclass(frozen=True)
class Request:
    """Ways to word one request, how frequent it is, and the findings it goes with; follow_up: they were there before."""

    words: tuple[str, ...]
    weight: float
    findings: tuple[str, ...]
    follow_up: bool = False


REQUESTS = (
    Request(
        ("shortness of breath", "dyspnea, worse lying down", "increasing shortness of breath, please evaluate"), 3.0,
        ("Edema", "Pleural Effusion", "Cardiomegaly", "Emphysema", "Fibrosis", "Pulmonary Embolism", "Cardiomyopathy"),
    ),
    Request(
        ("cough and fever", "fever, assess for infection", "productive cough for a week"), 2.5,
        ("Pneumonia", "Consolidation", "Infiltration", "Tuberculosis"),
    ),
    Request(
        ("chest pain", "sudden chest pain", "pleuritic chest pain"), 2.0,
        ("Pneumothorax", "Pneumomediastinum", "Pulmonary Embolism", "Infarction"),
    ),
    Request(
        ("fall, rule out fracture", "trauma, evaluate for injury", "motor vehicle accident"), 1.2,
        ("Fracture", "Rib Fracture", "Clavicle Fracture", "Pneumothorax", "Subcutaneous Emphysema"),
    ),
    Request(("line placement", "intubated, tube position", "new central line, please check"), 2.0, (DEVICES,)),
    Request(
        ("after surgery", "postoperative day one", "chest tube removed"), 1.0,
        (DEVICES, "Atelectasis", "Pneumothorax", "Subcutaneous Emphysema", "Pneumomediastinum", "Pneumoperitoneum"),
    ),
    Request(("abdominal pain", "abdominal pain, rule out free air", "vomiting"), 0.7, ("Pneumoperitoneum", "Hernia")),
    Request(
        ("weight loss, smoker", "hemoptysis", "staging"), 0.8, ("Mass", "Nodule", "Lung Lesion", "Adenopathy", "Hilum"),
    ),
    Request(
        ("wheezing", "smoker with chronic cough", "hypoxia"), 1.0, ("Emphysema", "Bulla", "Fibrosis", "Edema"),
    ),
    Request(("back pain", "elderly, back pain"), 0.4, ("Kyphosis", "Osteopenia", "Scoliosis", "Tortuous Aorta")),
    Request(("hypertension", "syncope"), 0.8, ("Tortuous Aorta", "Calcification of the Aorta", "Cardiomegaly")),
    Request(("preoperative evaluation", "routine examination", "positive skin test, no symptoms"), 2.0, (NO_FINDING,)),
    Request(("altered mental status", "evaluate for acute process", "sepsis"), 2.0, ()),
    Request(("follow-up of known effusion", "interval change of effusion"), 2.0, ("Pleural Effusion",), True),
    Request(("known nodule, follow-up", "compare with earlier nodule"), 4.0, ("Nodule", "Mass", "Lung Lesion"), True),
    Request(("heart failure, interval change", "fluid status"), 2.0, ("Cardiomegaly", "Edema"), True),
    Request(("pneumonia, has it resolved", "known pneumonia, follow-up"), 3.0, ("Pneumonia", "Consolidation"), True),
    Request(("follow-up of pneumothorax", "known pneumothorax, size"), 4.0, ("Pneumothorax",), True),
    Request(("interstitial disease, follow-up",), 4.0, ("Fibrosis",), True),
)  # fmt: skip


def indications(studies: Sequence[Study], world: World = WORLDS["cxr-lt-2023"]) -> list[str | None]:
    """The indication of each study, None where there is none. Follow-ups look at the study before, where it is among these."""
    truth = {(study.patient, study.number): study.truth for study in studies}
    concerns = [np.array([name in request.findings for name in world.findings]) for request in REQUESTS]
    nothing = np.zeros(len(world.findings), np.bool_)
    return [_one(study, truth.get((study.patient, study.number - 1), nothing), concerns) for study in studies]


def _one(study: Study, before: BOOL, concerns: Sequence[BOOL]) -> str | None:
    rng = stream(study.seed, "indication", study.patient, study.number)
    if rng.random() < MISSING:
        return None
    weights = np.array([
        request.weight * (bool((before & concern).any()) if request.follow_up else LIFT ** bool((study.truth & concern).any()))
        for request, concern in zip(REQUESTS, concerns, strict=True)
    ])  # fmt: skip
    request = REQUESTS[int(rng.choice(len(REQUESTS), p=weights / weights.sum()))]
    return request.words[int(rng.integers(len(request.words)))]
