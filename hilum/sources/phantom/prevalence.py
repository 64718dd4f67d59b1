"""The numbers behind the phantom's patients: how frequent findings are, which go together, how long they last, how views differ."""

from hilum.findings import FINDING_SETS

FINDINGS = FINDING_SETS["cxr-lt-2023"]
NO_FINDING = "No Finding"
DEVICES = "Support Devices"

# Positive images of CXR-LT 2023's training set, of 264,849, as published.
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

# CXR-LT 2024 has 14 findings more; of its 258,871 training images, as published.
NEW_IMAGES_2024 = 258_871
NEW_COUNTS_2024 = {
    "Adenopathy": 3409, "Azygos Lobe": 199, "Clavicle Fracture": 168, "Fissure": 2803, "Granuloma": 2965,
    "Hydropneumothorax": 646, "Infarction": 727, "Kyphosis": 778, "Lobar Atelectasis": 129, "Pulmonary Embolism": 1631,
    "Pulmonary Hypertension": 903, "Rib Fracture": 8919, "Round(ed) Atelectasis": 172, "Tuberculosis": 2078,
}  # fmt: skip
# Its five unseen findings have no published counts: these shares are ours.
UNSEEN = {"Bulla": 0.006, "Cardiomyopathy": 0.005, "Hilum": 0.008, "Osteopenia": 0.010, "Scoliosis": 0.012}

# A finding that is one kind of another: it is drawn from the other's positives, and drawn in its place.
KIND_OF = {
    "Cardiomyopathy": "Cardiomegaly", "Clavicle Fracture": "Fracture", "Hydropneumothorax": "Pneumothorax",
    "Lobar Atelectasis": "Atelectasis", "Rib Fracture": "Fracture", "Round(ed) Atelectasis": "Atelectasis",
}  # fmt: skip
ALSO = {"Hydropneumothorax": "Pleural Effusion"}  # present wherever the first is, and not drawn apart from it

# Correlation of each finding with each syndrome; the squares of a finding sum to less than one.
LOADINGS: dict[str, dict[str, float]] = {
    "severity": {
        "Atelectasis": 0.30, "Consolidation": 0.30, "Edema": 0.30, "Pleural Effusion": 0.40, "Pneumonia": 0.25,
        "Lung Opacity": 0.30, "Support Devices": 0.55, "Cardiomegaly": 0.20, "Pneumothorax": 0.15,
        "Enlarged Cardiomediastinum": 0.20, "Infiltration": 0.15,
        "Fissure": 0.25, "Infarction": 0.20, "Pulmonary Embolism": 0.25,
    },
    "heart failure": {
        "Cardiomegaly": 0.60, "Edema": 0.60, "Pleural Effusion": 0.45, "Enlarged Cardiomediastinum": 0.25,
        "Atelectasis": 0.15, "Lung Opacity": 0.05, "Support Devices": 0.10,
        "Fissure": 0.35, "Hilum": 0.15, "Infarction": 0.15, "Pulmonary Embolism": 0.10, "Pulmonary Hypertension": 0.40,
    },
    "infection": {
        "Pneumonia": 0.60, "Consolidation": 0.60, "Infiltration": 0.50, "Lung Opacity": 0.60, "Pleural Effusion": 0.15,
        "Adenopathy": 0.15, "Hilum": 0.10, "Tuberculosis": 0.45,
        "Pleural Other": 0.25,
    },
    "trauma": {
        "Pneumothorax": 0.50, "Subcutaneous Emphysema": 0.65, "Pneumomediastinum": 0.65, "Fracture": 0.40,
        "Pneumoperitoneum": 0.15, "Support Devices": 0.15, "Lung Opacity": 0.05,
    },
    "surgery": {
        "Support Devices": 0.40, "Atelectasis": 0.40, "Pneumoperitoneum": 0.50, "Pleural Effusion": 0.25,
        "Pneumothorax": 0.25, "Pneumomediastinum": 0.25, "Subcutaneous Emphysema": 0.30,
        "Enlarged Cardiomediastinum": 0.20, "Lung Opacity": 0.15, "Pulmonary Embolism": 0.20,
    },
    "age": {
        "Calcification of the Aorta": 0.60, "Tortuous Aorta": 0.60, "Hernia": 0.35, "Emphysema": 0.25,
        "Enlarged Cardiomediastinum": 0.15, "Fracture": 0.20, "Cardiomegaly": 0.15, "Fibrosis": 0.15,
        "Bulla": 0.10, "Fissure": 0.10, "Granuloma": 0.25, "Kyphosis": 0.55, "Osteopenia": 0.60, "Pulmonary Hypertension": 0.10,
        "Scoliosis": 0.20,
    },
    "tumour": {
        "Mass": 0.60, "Nodule": 0.55, "Lung Lesion": 0.60, "Pleural Thickening": 0.15, "Lung Opacity": 0.15,
        "Enlarged Cardiomediastinum": 0.10, "Fracture": 0.10,
        "Adenopathy": 0.55, "Hilum": 0.40, "Infarction": 0.15, "Pulmonary Embolism": 0.25,
    },
    "chronic lung": {
        "Emphysema": 0.45, "Fibrosis": 0.50, "Pleural Thickening": 0.45, "Pleural Other": 0.45, "Nodule": 0.20,
        "Pneumonia": 0.10, "Infiltration": 0.15, "Pneumothorax": 0.10, "Cardiomegaly": -0.10, "Edema": -0.10,
        "Adenopathy": 0.15, "Bulla": 0.55, "Granuloma": 0.15, "Hilum": 0.25, "Osteopenia": 0.10, "Pulmonary Hypertension": 0.40,
        "Tuberculosis": 0.25,
    },
}  # fmt: skip
SYNDROMES = tuple(LOADINGS)
COUPLING = 0.67  # all loadings times this: with 1, findings cluster so much that 21 % of studies show none

CHRONIC, ACUTE, DEVICE = 0.9, 0.3, 0.6
_CHRONIC = (
    "Calcification of the Aorta", "Cardiomegaly", "Emphysema", "Enlarged Cardiomediastinum", "Fibrosis", "Hernia",
    "Lung Lesion", "Mass", "Nodule", "Pleural Other", "Pleural Thickening", "Tortuous Aorta", "Adenopathy", "Azygos Lobe",
    "Bulla", "Cardiomyopathy", "Fissure", "Granuloma", "Hilum", "Kyphosis", "Osteopenia", "Pulmonary Hypertension",
    "Scoliosis", "Tuberculosis",
)  # fmt: skip


def persistence(name: str) -> float:
    """Probability that a finding is kept from one study to the patient's next; a kind of another is kept with that one."""
    return CHRONIC if name in _CHRONIC else DEVICE if name == DEVICES else ACUTE


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

# Of all studies, the share with 1, 2, 3 and 4 images; and the log odds of a healthy patient's being imaged in bed (AP).
IMAGES_PER_STUDY = (0.45, 0.46, 0.08, 0.01)
BEDSIDE = -1.6
