"""The phantom's pictures: the patient's chest is known again, every finding shows where its box is, the views tell different things."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from hilum.findings import FINDING_SETS
from hilum.sources.phantom.canvas import Canvas, Pose
from hilum.sources.phantom.chest import chest_of
from hilum.sources.phantom.frontal import draw_frontal
from hilum.sources.phantom.lesions import PAINTS, SHAPES
from hilum.sources.phantom.patients import Image, studies_of
from hilum.sources.phantom.picture import draw
from hilum.sources.phantom.prevalence import BOTH_VIEWS, DECOYS, NO_FINDING
from hilum.sources.phantom.sheet import SHEETS, sheet, specimen

SIZE = 96
DRAWN = ("cxr-lt-2023", "cxr-lt-2024-task1", "cxr-lt-2024-task2", "cxr-lt-2024-task3")
CXR_LT = {name for names in DRAWN for name in FINDING_SETS[names]} - {"Normal"}
DRAWN = sorted(CXR_LT - {NO_FINDING})


PAGE = Path(__file__).parents[2] / "docs/reference/phantom.md"


def change(
    finding: str, view: int, *, clarity: float = 0.9, contrast: float = 1.0, mimic: str = "", patient: int = 1
) -> np.ndarray:
    """How many grey levels each pixel is off when the finding is there; noise and pose are the same."""
    with_it = specimen(finding, clarity, patient=patient, mimic=mimic)
    with_it = replace(with_it, lesions=(replace(with_it.lesions[0], contrast=contrast),))
    without = replace(with_it, lesions=())
    return np.abs(draw(with_it, view, SIZE)[0].astype(int) - draw(without, view, SIZE)[0].astype(int))


def test_every_finding_of_the_challenges_and_every_decoy_has_a_way_to_be_drawn() -> None:
    assert len(CXR_LT) == 45
    assert set(DRAWN) | set(DECOYS) == set(SHAPES) | set(PAINTS)


def test_every_finding_and_decoy_stands_on_one_sheet() -> None:
    shown = [name for names in SHEETS.values() for name in names]
    assert sorted(shown) == sorted([*CXR_LT, *DECOYS])
    assert sheet(SHEETS["devices"], size=32).shape == (32 + 16, 2 * 4 * 32)


def test_the_page_shows_every_sheet_and_says_what_is_seen_of_every_finding() -> None:
    page = PAGE.read_text()
    for region, names in SHEETS.items():
        assert f"(phantom/{region}.png)" in page
        assert 10_000 < (PAGE.parent / "phantom" / f"{region}.png").stat().st_size < 400_000
        for name in names:
            assert name in DECOYS or f"\n| {name} | " in page, name


@pytest.mark.parametrize("view", [0, 1], ids=["frontal", "lateral"])
@pytest.mark.parametrize("finding", DRAWN)
def test_a_finding_shows_inside_its_box(finding: str, view: int) -> None:
    for patient in (1, 2):
        off = change(finding, view, patient=patient)
        x0, y0, x1, y1 = draw(specimen(finding, 0.9, patient=patient), view, SIZE)[1][finding]
        assert 0 <= x0 < x1 <= SIZE
        assert 0 <= y0 < y1 <= SIZE
        inside = np.zeros((SIZE, SIZE), bool)
        inside[y0:y1, x0:x1] = True
        assert off[inside].max() > 12
        assert off[inside].mean() > 2 * off[~inside].mean()


@pytest.mark.parametrize("view", [0, 1], ids=["frontal", "lateral"])
@pytest.mark.parametrize("finding", DRAWN)
def test_the_subtle_show_less(finding: str, view: int) -> None:
    plain, subtle = (change(finding, view, clarity=clarity).sum() for clarity in (1.0, 0.0))
    assert 0 < subtle < 0.9 * plain


@pytest.mark.parametrize("view", [0, 1], ids=["frontal", "lateral"])
@pytest.mark.parametrize("finding", DRAWN)
def test_a_finding_fades_into_the_healthy_chest(finding: str, view: int) -> None:
    shown = [float(change(finding, view, contrast=contrast).sum()) for contrast in (0.0, 0.02, 0.5, 1.0)]
    assert shown[0] == 0
    assert shown[1] < 0.1 * shown[3]
    assert shown == sorted(shown)


def test_a_lesion_hidden_on_a_view_is_neither_drawn_nor_boxed_there() -> None:
    study = specimen("Pneumonia", 0.9)
    hidden = replace(study, lesions=(replace(study.lesions[0], frontal=False),))
    picture, boxes = draw(hidden, 0, SIZE)
    np.testing.assert_array_equal(picture, draw(replace(study, lesions=()), 0, SIZE)[0])
    assert boxes == {}
    assert "Pneumonia" in draw(hidden, 1, SIZE)[1]


@pytest.mark.parametrize("finding", BOTH_VIEWS)
def test_a_mimic_gives_the_sign_on_one_view_and_not_on_the_other(finding: str) -> None:
    for mimic, view in (("frontal", 0), ("lateral", 1)):
        true, false = specimen(finding, 0.9), specimen(finding, 0.9, mimic=mimic)
        np.testing.assert_array_equal(draw(true, view, SIZE)[0], draw(false, view, SIZE)[0])
        assert (draw(true, 1 - view, SIZE)[0] != draw(false, 1 - view, SIZE)[0]).mean() > 0.005
        assert draw(false, view, SIZE)[1] == {}


def test_the_lateral_refutes_a_decoy() -> None:
    for name in DECOYS:
        assert change(name, 0).max() > 8
    assert change("skin fold", 1).max() == 0
    columns = np.flatnonzero(change("nipple", 1).max(axis=0) > 8)
    assert columns.max() < 0.3 * SIZE  # on the skin in front


def test_the_heart_is_on_the_patients_left_and_the_lungs_are_dark() -> None:
    for patient in range(6):
        picture = draw(specimen(None, 0.5, patient=patient), 0, 128)[0].astype(float)
        third = picture[70:92]
        assert third[:, 70:84].mean() > third[:, 42:54].mean() + 15
        lungs = np.r_[picture[35:60, 26:40].ravel(), picture[35:60, 90:100].ravel()]
        assert lungs.mean() < 0.6 * picture[60:85, 62:66].mean()


def test_cardiomegaly_widens_the_heart_past_half_the_thorax() -> None:
    chest = chest_of(0, 3, "F", 60)
    assert chest.cardiothoracic_ratio < 0.5
    lesion = specimen("Cardiomegaly", 1.0).lesions[0]
    assert SHAPES["Cardiomegaly"](chest, lesion, 1.2).cardiothoracic_ratio > 0.55


def test_portable_images_magnify_the_heart() -> None:
    study = specimen(None, 0.5)
    portable = replace(study, images=(Image("AP", "AP", "AP"),))
    wide = [(draw(s, 0, 128)[0][80:95, 20:110] > 150).mean() for s in (study, portable)]
    assert wide[1] > wide[0]


def test_a_patient_is_known_again() -> None:
    def look(patient: int, number: int) -> np.ndarray:
        picture = draw(replace(specimen(None, 0.5, patient=patient), number=number), 0, 128)[0].astype(np.float32)
        fine = cv2.GaussianBlur(picture, (0, 0), 1.5) - cv2.GaussianBlur(picture, (0, 0), 12)
        middle = fine[16:100, 12:116]
        return (middle - middle.mean()) / middle.std()

    first, later = [look(p, 0) for p in range(8)], [look(p, 1) for p in range(8)]
    alike = np.array([[float((a * b).mean()) for b in later] for a in first])
    own, others = np.diag(alike), alike[~np.eye(8, dtype=bool)]
    assert own.mean() > others.mean() + 0.08


def test_drawing_is_repeatable_and_apart_for_each_image() -> None:
    study = next(s for p in range(30) for s in studies_of(0, p) if len(s.images) >= 2)
    one, boxes = draw(study, 0, 64)
    draw(study, 1, 64)
    again, same = draw(study, 0, 64)
    np.testing.assert_array_equal(one, again)
    assert boxes == same
    twin = replace(study, images=(study.images[0], study.images[0]))
    assert (draw(twin, 0, 64)[0] != draw(twin, 1, 64)[0]).mean() > 0.5


@pytest.mark.parametrize("size", [32, 100, 384])
def test_any_size_draws_the_same_chest(size: int) -> None:
    study = specimen("Mass", 0.9)
    picture, boxes = draw(study, 0, size)
    assert picture.shape == (size, size)
    assert picture.dtype == np.uint8
    small = [cv2.GaussianBlur(cv2.resize(p, (32, 32), interpolation=cv2.INTER_AREA), (0, 0), 1) for p in (picture, draw(study, 0, 128)[0])]  # fmt: skip
    assert np.corrcoef(small[0].ravel(), small[1].ravel())[0, 1] > 0.95
    np.testing.assert_allclose(
        np.array(boxes["Mass"]) / size, np.array(draw(study, 0, 128)[1]["Mass"]) / 128, atol=0.05
    )


def test_the_contrast_of_a_world_scales_that_of_a_finding() -> None:
    assert change("Nodule", 0, contrast=0.3).max() < 0.6 * change("Nodule", 0).max()


def test_a_bent_spine_bends_to_its_side_and_its_ribs_fan_out_there() -> None:
    straight, lesion = chest_of(0, 1, "F", 60), specimen("Scoliosis", 1.0).lesions[0]
    for side in (-1, 1):
        bent = SHAPES["Scoliosis"](straight, replace(lesion, side=side), 1.0)
        assert side * bent.spine_bend(0.42) > 0.05
        assert bent.rib_hump(side) > 0 == bent.rib_hump(-side)
        gaps = {}
        for where in (-1, 1):
            ends = [bent.posterior_rib(where, k)[-1, 1] for k in (1, 7)]
            gaps[where] = ends[1] - ends[0]
        assert gaps[side] > gaps[-side] + 0.03


def test_the_fluid_of_a_hydropneumothorax_is_level_however_the_patient_leans() -> None:
    lesion = replace(specimen("Hydropneumothorax", 1.0).lesions[0], where=(0.0,) * 10)
    for turn in (-12.0, 12.0):
        scene = draw_frontal(Canvas(128, Pose(turn=turn)), chest_of(0, 1, "F", 60))
        before = scene.density.copy()
        PAINTS["Hydropneumothorax"](scene, lesion, 1.0)
        fluid = scene.density - before > 0.2
        tops = [np.flatnonzero(column)[0] for column in fluid.T if column.sum() > 10]
        assert len(tops) > 15
        assert np.ptp(tops[3:-3]) <= 1  # at the wall the lung itself ends lower


def test_an_azygos_lobe_is_on_the_right_whatever_the_side_drawn() -> None:
    for patient in range(4):
        columns = np.flatnonzero(change("Azygos Lobe", 0, patient=patient).max(axis=0) > 8)
        assert columns.max() < 0.5 * SIZE


def test_a_blur_on_a_small_copy_is_the_same_blur() -> None:
    board = Canvas(128, Pose())
    shape = board.fill([np.array([(0.3, 0.3), (0.7, 0.35), (0.6, 0.8)])])
    exact = cv2.GaussianBlur(shape, (0, 0), 0.06 * 128)
    assert np.abs(board.blur(shape, 0.06) - exact).max() < 0.03
