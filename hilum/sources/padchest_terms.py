"""What PadChest's terms mean here: for each of our findings the terms of the label lists that say it.

The terms and which of them are kinds of others are those of the term tree published with PadChest (Bustos et al. 2020);
which findings of other data sets they stand for is ours. A list holds the most special term alone ("rib fracture", not
also "fracture"), so a finding is there where any of its terms is.
"""

_CONSOLIDATION = ("consolidation", "air bronchogram")
_ALVEOLAR = ("alveolar pattern", *_CONSOLIDATION)
_INTERSTITIAL = (
    "interstitial pattern", "ground glass pattern", "reticular interstitial pattern",
    "reticulonodular interstitial pattern", "miliary opacities",
)  # fmt: skip
_CENTRAL_CATHETER = (
    "central venous catheter", "central venous catheter via subclavian vein",
    "central venous catheter via jugular vein", "reservoir central venous catheter",
    "central venous catheter via umbilical vein",
)  # fmt: skip
_RIB = ("rib fracture", "callus rib fracture")

TERMS: dict[str, tuple[str, ...]] = {
    "Normal": ("normal",),
    "Adenopathy": ("adenopathy", "calcified adenopathy", "calcified mediastinal adenopathy"),
    "Air Trapping": ("air trapping",),
    "Alveolar Pattern": _ALVEOLAR,
    "Aortic Atheromatosis": ("aortic atheromatosis",),
    "Aortic Elongation": (
        "aortic elongation", "descendent aortic elongation", "ascendent aortic elongation", "aortic button enlargement",
        "supra aortic elongation",
    ),
    "Atelectasis": (
        "atelectasis", "total atelectasis", "lobar atelectasis", "segmental atelectasis", "laminar atelectasis",
        "round atelectasis", "atelectasis basal",
    ),
    "Azygos Lobe": ("azygos lobe",),
    "Bronchiectasis": ("bronchiectasis",),
    "Bulla": ("bullas",),
    "Calcified Densities": (
        "calcified densities", "calcified granuloma", "calcified adenopathy", "calcified mediastinal adenopathy",
        "calcified pleural thickening", "calcified pleural plaques", "heart valve calcified", "calcified fibroadenoma",
    ),
    "Cardiomegaly": ("cardiomegaly",),
    "Central Venous Catheter": _CENTRAL_CATHETER,
    "Clavicle Fracture": ("clavicle fracture",),
    "Consolidation": _CONSOLIDATION,
    "Costophrenic Angle Blunting": ("costophrenic angle blunting",),
    "Edema": ("pulmonary edema",),
    "Emphysema": ("emphysema",),
    "Fibrosis": ("pulmonary fibrosis", "post radiotherapy changes", "asbestosis signs"),
    "Fracture": ("fracture", "clavicle fracture", "humeral fracture", "vertebral fracture", *_RIB),
    "Goiter": ("goiter",),
    "Granuloma": ("granuloma", "calcified granuloma"),
    "Hemidiaphragm Elevation": ("hemidiaphragm elevation",),
    "Hernia": ("hiatal hernia",),
    "Hydropneumothorax": ("hydropneumothorax",),
    "Hyperinflated Lung": ("hyperinflated lung",),
    "Hypoexpansion": ("hypoexpansion", "hypoexpansion basal"),
    "Infiltration": ("infiltrates", *_INTERSTITIAL, *_ALVEOLAR),
    "Interstitial Pattern": _INTERSTITIAL,
    "Kyphosis": ("kyphosis",),
    "Lobar Atelectasis": ("lobar atelectasis",),
    "Mass": ("mass", "mediastinal mass", "breast mass", "pleural mass", "pulmonary mass", "soft tissue mass"),
    "Nodule": ("nodule", "multiple nodules"),
    "Osteopenia": ("osteopenia",),
    "Pleural Effusion": (
        "pleural effusion", "loculated pleural effusion", "loculated fissural effusion", "hydropneumothorax", "empyema",
        "hemothorax",
    ),
    "Pleural Thickening": ("pleural thickening", "apical pleural thickening", "calcified pleural thickening"),
    "Pneumomediastinum": ("pneumomediastinum",),
    "Pneumonia": ("pneumonia", "atypical pneumonia", "viral pneumonia"),
    "Pneumoperitoneum": ("pneumoperitoneo",),
    "Pneumothorax": ("pneumothorax", "hydropneumothorax"),
    "Pulmonary Hypertension": (
        "pulmonary hypertension", "pulmonary artery hypertension", "pulmonary venous hypertension",
    ),
    "Rib Fracture": _RIB,
    "Round(ed) Atelectasis": ("round atelectasis",),
    "Scoliosis": ("scoliosis",),
    "Sternotomy": ("sternotomy",),
    "Subcutaneous Emphysema": ("subcutaneous emphysema",),
    "Support Devices": (
        *_CENTRAL_CATHETER, "catheter", "tracheostomy tube", "endotracheal tube", "nsg tube", "chest drain tube",
        "ventriculoperitoneal drain tube", "gastrostomy tube", "nephrostomy tube", "double j stent",
        "electrical device", "dual chamber device", "single chamber device", "pacemaker", "dai",
        "artificial heart valve", "artificial mitral heart valve", "artificial aortic heart valve",
    ),
    "Tuberculosis": ("tuberculosis", "tuberculosis sequelae"),
    "Vascular Hilar Enlargement": ("vascular hilar enlargement", "pulmonary artery enlargement"),
    "Vertebral Degenerative Changes": (
        "vertebral degenerative changes", "vertebral compression", "vertebral anterior compression",
    ),
}  # fmt: skip

# Terms that say nothing of what is there: with "exclude" the list is void, with "unchanged" what is not named may be there.
VOID = ("exclude",)
OPEN = ("unchanged",)
SILENT = ("unchanged", "exclude", "suboptimal study")
