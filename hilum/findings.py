"""The findings: their names, the names other data sets give them, the published label sets and tier lists."""

from collections.abc import Mapping, Sequence

from hilum.errors import InputError, nearest

# Column order of the official files; names after DESIGN's vocabulary where a file spells them otherwise (see ALIASES).
FINDING_SETS: dict[str, tuple[str, ...]] = {
    "cxr-lt-2023": (
        "Atelectasis", "Calcification of the Aorta", "Cardiomegaly", "Consolidation", "Edema", "Emphysema",
        "Enlarged Cardiomediastinum", "Fibrosis", "Fracture", "Hernia", "Infiltration", "Lung Lesion", "Lung Opacity",
        "Mass", "No Finding", "Nodule", "Pleural Effusion", "Pleural Other", "Pleural Thickening", "Pneumomediastinum",
        "Pneumonia", "Pneumoperitoneum", "Pneumothorax", "Subcutaneous Emphysema", "Support Devices", "Tortuous Aorta",
    ),
    "cxr-lt-2024-task1": (
        "Adenopathy", "Atelectasis", "Azygos Lobe", "Calcification of the Aorta", "Cardiomegaly", "Clavicle Fracture",
        "Consolidation", "Edema", "Emphysema", "Enlarged Cardiomediastinum", "Fibrosis", "Fissure", "Fracture",
        "Granuloma", "Hernia", "Hydropneumothorax", "Infarction", "Infiltration", "Kyphosis", "Lobar Atelectasis",
        "Lung Lesion", "Lung Opacity", "Mass", "Nodule", "Normal", "Pleural Effusion", "Pleural Other",
        "Pleural Thickening", "Pneumomediastinum", "Pneumonia", "Pneumoperitoneum", "Pneumothorax",
        "Pulmonary Embolism", "Pulmonary Hypertension", "Rib Fracture", "Round(ed) Atelectasis",
        "Subcutaneous Emphysema", "Support Devices", "Tortuous Aorta", "Tuberculosis",
    ),
    "cxr-lt-2024-task2": (
        "Atelectasis", "Calcification of the Aorta", "Cardiomegaly", "Consolidation", "Edema", "Emphysema",
        "Enlarged Cardiomediastinum", "Fibrosis", "Fracture", "Hernia", "Infiltration", "Lung Lesion", "Lung Opacity",
        "Mass", "Normal", "Nodule", "Pleural Effusion", "Pleural Other", "Pleural Thickening", "Pneumomediastinum",
        "Pneumonia", "Pneumoperitoneum", "Pneumothorax", "Subcutaneous Emphysema", "Support Devices", "Tortuous Aorta",
    ),
    "cxr-lt-2024-task3": ("Bulla", "Cardiomyopathy", "Hilum", "Osteopenia", "Scoliosis"),
    "nih": (
        "Atelectasis", "Cardiomegaly", "Pleural Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia",
        "Pneumothorax", "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural Thickening", "Hernia",
    ),
    "chexpert": (
        "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
        "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture",
        "Support Devices",
    ),
}  # fmt: skip

# What other releases call a finding of ours; matched after case and separators are folded.
ALIASES: dict[str, str] = {
    "Effusion": "Pleural Effusion",
    "Pneumoperitoneo": "Pneumoperitoneum",
    "Rounded Atelectasis": "Round(ed) Atelectasis",
}

# Published tier lists; what the list does not name is medium. CheXFusion (Kim 2023) scored 8 / 10 / 8.
TIER_LISTS: dict[str, dict[str, tuple[str, ...]]] = {
    "chexfusion-2023": {
        "head": (
            "Atelectasis", "Cardiomegaly", "Edema", "Lung Opacity", "No Finding", "Pleural Effusion", "Pneumonia",
            "Support Devices",
        ),
        "tail": (
            "Fibrosis", "Lung Lesion", "Pleural Other", "Pleural Thickening", "Pneumomediastinum", "Pneumoperitoneum",
            "Subcutaneous Emphysema", "Tortuous Aorta",
        ),
    },
}  # fmt: skip

TIERS = ("head", "medium", "tail")


def _folded(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


_KNOWN = {_folded(name): name for names in FINDING_SETS.values() for name in names}
_KNOWN |= {_folded(alias): name for alias, name in ALIASES.items()}


def canonical(name: str) -> str:
    """Our name of a finding whatever its case, separators or alias; a name we do not know is kept as it is, trimmed."""
    return _KNOWN.get(_folded(name), name.strip())


def finding_set(which: str | Sequence[str]) -> tuple[str, ...]:
    """The findings of a named set, or of a list of names, in order. Raises InputError for an unknown set or a repeated name."""
    if isinstance(which, str):
        if which not in FINDING_SETS:
            raise InputError(f"there is no finding set {which!r}", do=nearest(which, FINDING_SETS))
        return FINDING_SETS[which]
    names = tuple(canonical(name) for name in which)
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"findings are named twice: {', '.join(repeated)}", do="name each finding once")
    return names


def tiers_by_rule(
    positives: Mapping[str, int], known: Mapping[str, int], head: float = 0.10, tail: float = 0.01
) -> dict[str, str]:
    """Tier of each finding from its share of *known training* entries: head above `head`, tail below `tail`, medium between.

    A finding without a known entry has no tier and is left out.
    """
    tiers = {}
    for name, count in positives.items():
        if known[name] > 0:
            share = count / known[name]
            tiers[name] = "head" if share > head else "tail" if share < tail else "medium"
    return tiers


def tiers_by_list(which: str, findings: Sequence[str]) -> dict[str, str]:
    """Tier of each finding after a published list. Raises InputError for an unknown list."""
    if which not in TIER_LISTS:
        raise InputError(f"there is no tier list {which!r}", do=nearest(which, ("rule", *TIER_LISTS)))
    placed = {name: tier for tier, names in TIER_LISTS[which].items() for name in names}
    return {name: placed.get(name, "medium") for name in findings}
