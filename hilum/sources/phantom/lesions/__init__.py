"""How every finding is drawn: a dictionary of shapes (outlines changed before drawing) and one of paints (drawn over).

To add a finding, write one function and name it here.
"""

from collections.abc import Callable

from hilum.sources.phantom.chest import Chest
from hilum.sources.phantom.lesions import (
    airspace,
    bones,
    collapse,
    decoys,
    devices,
    focal,
    free_air,
    heart_and_aorta,
    nodes,
    pleura,
    pulmonary_vessels,
)
from hilum.sources.phantom.patients import Lesion
from hilum.sources.phantom.scene import Scene

Shape = Callable[[Chest, Lesion, float], Chest]
Paint = Callable[[Scene, Lesion, float], None]

# The chest before it is drawn: (chest, lesion, strength) -> chest. The order is kept.
SHAPES: dict[str, Shape] = {
    "Emphysema": free_air.hyperinflated,
    "Cardiomegaly": heart_and_aorta.cardiomegaly,
    "Enlarged Cardiomediastinum": heart_and_aorta.enlarged_mediastinum,
    "Tortuous Aorta": heart_and_aorta.tortuous_aorta,
    "Cardiomyopathy": heart_and_aorta.cardiomyopathy,
    "Kyphosis": bones.kyphosis,
    "Scoliosis": bones.scoliosis,
    "Lobar Atelectasis": collapse.lost_volume,
}

# Over the chest: (scene, lesion, strength) changes scene.density. The order is the order of drawing.
PAINTS: dict[str, Paint] = {
    "Osteopenia": bones.osteopenia,
    "Emphysema": free_air.bullae,
    "Bulla": free_air.bulla,
    "Pulmonary Embolism": pulmonary_vessels.embolism,
    "Pulmonary Hypertension": pulmonary_vessels.hypertension,
    "Hilum": nodes.hilum,
    "Adenopathy": nodes.adenopathy,
    "Fibrosis": airspace.fibrosis,
    "Edema": airspace.edema,
    "Infiltration": airspace.infiltration,
    "Lung Opacity": airspace.opacity,
    "Pneumonia": airspace.pneumonia,
    "Consolidation": airspace.consolidation,
    "Atelectasis": airspace.atelectasis,
    "Tuberculosis": airspace.tuberculosis,
    "Lobar Atelectasis": collapse.lobar,
    "Round(ed) Atelectasis": collapse.rounded,
    "Infarction": pulmonary_vessels.infarction,
    "Nodule": focal.nodule,
    "Granuloma": focal.granuloma,
    "Mass": focal.mass,
    "Lung Lesion": focal.lesion,
    "Hernia": focal.hernia,
    "Pleural Thickening": pleura.thickening,
    "Pleural Other": pleura.other,
    "Azygos Lobe": pleura.azygos_lobe,
    "Fissure": pleura.fissure,
    "Pleural Effusion": pleura.effusion,
    "Pneumothorax": pleura.pneumothorax,
    "Hydropneumothorax": pleura.hydropneumothorax,
    "Calcification of the Aorta": heart_and_aorta.calcified_aorta,
    "Fracture": bones.fracture,
    "Rib Fracture": bones.rib_fracture,
    "Clavicle Fracture": bones.clavicle_fracture,
    "Pneumomediastinum": free_air.pneumomediastinum,
    "Pneumoperitoneum": free_air.pneumoperitoneum,
    "Subcutaneous Emphysema": free_air.subcutaneous,
    "Support Devices": devices.devices,
    "nipple": decoys.nipple,
    "skin fold": decoys.skin_fold,
    "vessel end-on": decoys.vessel_end_on,
}


def strength_of(lesion: Lesion) -> float:
    """Contrast of a lesion: 0.4 for the subtlest, 1.2 for the plainest, times the contrast of its finding."""
    return lesion.contrast * (0.4 + 0.8 * lesion.clarity)
