"""The findings: their names, the names other data sets give them, the published label sets and tier lists."""

from collections.abc import Iterable, Mapping, Sequence

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
    "cxr-lt-2026-task1": (
        "Normal", "Aortic Elongation", "Cardiomegaly", "Pleural Effusion", "Nodule", "Atelectasis",
        "Pleural Thickening", "Aortic Atheromatosis", "Support Devices", "Alveolar Pattern", "Fracture", "Hernia",
        "Emphysema", "Azygos Lobe", "Hydropneumothorax", "Kyphosis", "Mass", "Pneumothorax", "Subcutaneous Emphysema",
        "Pneumoperitoneum", "Vascular Hilar Enlargement", "Vertebral Degenerative Changes", "Hyperinflated Lung",
        "Interstitial Pattern", "Central Venous Catheter", "Hypoexpansion", "Bronchiectasis",
        "Hemidiaphragm Elevation", "Sternotomy", "Calcified Densities",
    ),
    "cxr-lt-2026-task2": ("Scoliosis", "Osteopenia", "Bulla", "Infarction", "Adenopathy", "Goiter"),
    "padchest": (  # ours: the radiographic signs and diseases among PadChest's 193 terms that other sets know, or 2026
        "Normal", "Adenopathy", "Air Trapping", "Alveolar Pattern", "Aortic Atheromatosis", "Aortic Elongation",
        "Atelectasis", "Azygos Lobe", "Bronchiectasis", "Bulla", "Calcified Densities", "Cardiomegaly",
        "Central Venous Catheter", "Clavicle Fracture", "Consolidation", "Costophrenic Angle Blunting", "Edema",
        "Emphysema", "Fibrosis", "Fracture", "Goiter", "Granuloma", "Hemidiaphragm Elevation", "Hernia",
        "Hydropneumothorax", "Hyperinflated Lung", "Hypoexpansion", "Infiltration", "Interstitial Pattern", "Kyphosis",
        "Lobar Atelectasis", "Mass", "Nodule", "Osteopenia", "Pleural Effusion", "Pleural Thickening",
        "Pneumomediastinum", "Pneumonia", "Pneumoperitoneum", "Pneumothorax", "Pulmonary Hypertension", "Rib Fracture",
        "Round(ed) Atelectasis", "Scoliosis", "Sternotomy", "Subcutaneous Emphysema", "Support Devices",
        "Tuberculosis", "Vascular Hilar Enlargement", "Vertebral Degenerative Changes",
    ),
    "vindr": (
        "Aortic Enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Consolidation",
        "Interstitial Lung Disease", "Infiltration", "Lung Opacity", "Nodule/Mass", "Other Lesion", "Pleural Effusion",
        "Pleural Thickening", "Pneumothorax", "Fibrosis",
    ),
    "nih-cxr-lt": (
        "No Finding", "Infiltration", "Pleural Effusion", "Atelectasis", "Nodule", "Mass", "Consolidation",
        "Pneumothorax", "Pleural Thickening", "Cardiomegaly", "Emphysema", "Edema", "Fibrosis",
        "Subcutaneous Emphysema", "Pneumonia", "Tortuous Aorta", "Calcification of the Aorta", "Pneumoperitoneum",
        "Hernia", "Pneumomediastinum",
    ),
    "mimic-cxr-lt": (
        "No Finding", "Lung Opacity", "Cardiomegaly", "Atelectasis", "Pleural Effusion", "Support Devices", "Edema",
        "Pneumonia", "Pneumothorax", "Lung Lesion", "Fracture", "Enlarged Cardiomediastinum", "Consolidation",
        "Pleural Other", "Calcification of the Aorta", "Tortuous Aorta", "Pneumoperitoneum", "Subcutaneous Emphysema",
        "Pneumomediastinum",
    ),
}  # fmt: skip

# What other releases call a finding of ours; matched after case and separators are folded.
ALIASES: dict[str, str] = {
    "Bullas": "Bulla",
    "Effusion": "Pleural Effusion",
    "ILD": "Interstitial Lung Disease",
    "Infiltrates": "Infiltration",
    "Pneumoperitoneo": "Pneumoperitoneum",
    "Pulmonary Fibrosis": "Fibrosis",
    "Round Atelectasis": "Round(ed) Atelectasis",
    "Rounded Atelectasis": "Round(ed) Atelectasis",
}

# Names that mean "none of the findings on this data set's list", so that the same word of two lists says two things. They
# are never aliases of one another; uniting label sets keeps them apart (hilum.sources.merge).
RELATIVE = ("No Finding", "Normal")

# Findings that a finding implies, by what the words mean; Lung Opacity and its kinds after the labels of CheXpert (Irvin 2019).
IMPLIES: dict[str, tuple[str, ...]] = {
    "Atelectasis": ("Lung Opacity",),
    "Cardiomegaly": ("Enlarged Cardiomediastinum",),
    "Central Venous Catheter": ("Support Devices",),
    "Clavicle Fracture": ("Fracture",),
    "Consolidation": ("Lung Opacity",),
    "Edema": ("Lung Opacity",),
    "Hydropneumothorax": ("Pneumothorax", "Pleural Effusion"),
    "Lobar Atelectasis": ("Atelectasis", "Lung Opacity"),
    "Lung Lesion": ("Lung Opacity",),
    "Mass": ("Lung Lesion", "Lung Opacity", "Nodule/Mass"),
    "Nodule": ("Lung Lesion", "Lung Opacity", "Nodule/Mass"),
    "Nodule/Mass": ("Lung Lesion", "Lung Opacity"),
    "Pneumonia": ("Lung Opacity",),
    "Rib Fracture": ("Fracture",),
    "Round(ed) Atelectasis": ("Atelectasis", "Lung Opacity"),
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


def aliases(names: Iterable[str]) -> dict[str, str]:
    """Of these names those that stand for a finding of ours under another word: given name -> ours, in order."""
    return {name: canonical(name) for name in names if _folded(name) != _folded(canonical(name))}


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
