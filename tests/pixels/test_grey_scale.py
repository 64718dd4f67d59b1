"""Greys by the formulas of the standard: values worked out by hand, laws that hold for any window and LUT."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.pixels.dicom.grey_scale import GreyScale, Lut, Window, grey_table

EVEN = np.ones(4096, dtype=np.int64)


@pytest.mark.parametrize(
    ("window", "value", "grey"),
    [
        # PS3.3 C.11.2.1.2.1: c=2048, w=4096 takes 0..4095 to the whole range
        (Window(2048, 4096), 0, 0.0),
        (Window(2048, 4096), 4095, 1.0),
        (Window(2048, 4096), 2047.5, 0.5),
        # c=2048, w=1: a step, c=0, w=100: -50 is 0 and 49 is 1
        (Window(2048, 1), 2047, 0.0),
        (Window(2048, 1), 2048, 1.0),
        (Window(0, 100), -50, 0.0),
        (Window(0, 100), 49, 1.0),
        (Window(0, 100), -51, 0.0),
        (Window(0, 100), -0.5, 0.5),
        # C.11.2.1.3.2 LINEAR_EXACT: c=0, w=100: -50 is 0 and 50 is 1
        (Window(0, 100, "LINEAR_EXACT"), -50, 0.0),
        (Window(0, 100, "LINEAR_EXACT"), 50, 1.0),
        (Window(0, 100, "LINEAR_EXACT"), 25, 0.75),
        (Window(10, 0.5, "LINEAR_EXACT"), 10, 0.5),
        # C.11.2.1.3.1 SIGMOID: half at the centre, 1/(1+e^-2) half a width on
        (Window(100, 40, "SIGMOID"), 100, 0.5),
        (Window(100, 40, "SIGMOID"), 120, 0.8807970779778823),
        (Window(100, 40, "SIGMOID"), 80, 0.11920292202211755),
        (Window(0, 1, "SIGMOID"), -1e9, 0.0),
    ],
)
def test_windows(window: Window, value: float, grey: float) -> None:
    assert window.valid
    assert window(np.array([float(value)]))[0] == pytest.approx(grey, abs=1e-12)


def test_widths_that_mean_nothing() -> None:
    assert not Window(1, 0.5).valid
    assert not Window(1, 0, "LINEAR_EXACT").valid
    assert not Window(1, -3, "SIGMOID").valid


def test_a_lut_is_divided_by_its_own_depth_and_clamps_outside() -> None:
    lut = Lut(100, np.array([0, 64, 255], np.uint16), 8)
    table, voi = grey_table(GreyScale(12, voi_lut=lut), np.bincount([101], minlength=4096))
    assert voi.kind == "lut"
    assert table[[0, 100, 101, 102, 4095]] == pytest.approx([0, 0, 64 / 255, 1, 1])


def test_the_order_is_modality_voi_inversion() -> None:
    scale = GreyScale(12, inverted=True, slope=-10, intercept=3000, windows=(Window(1000, 1001, "LINEAR_EXACT"),))
    table, _ = grey_table(scale, EVEN)
    assert table[200] == pytest.approx(1 - 0.5)  # -10 * 200 + 3000 = 1000, the centre
    assert table[0] == 0.0  # 3000: white, then inverted
    modality = Lut(0, np.arange(4095, -1, -1, dtype=np.uint16), 12)
    table, _ = grey_table(GreyScale(12, modality=modality, slope=99, windows=(Window(2048, 4096),)), EVEN)
    assert table[0] == 1.0


def test_a_lut_that_blanks_the_picture_is_not_used() -> None:
    white = Lut(0, np.full(4096, 4095, np.uint16), 12)
    _, voi = grey_table(GreyScale(12, voi_lut=white, windows=(Window(2048, 4096),)), EVEN)
    assert (voi.kind, voi.index, voi.warnings) == ("window", 0, ("voi-lut-saturates",))
    counts = np.zeros(4096, np.int64)
    counts[4095], counts[5] = 94, 6  # 94 % white is a picture
    step = Lut(0, np.where(np.arange(4096) > 3000, 4095, 2000).astype(np.uint16), 12)
    assert grey_table(GreyScale(12, voi_lut=step), counts)[1].kind == "lut"
    counts[4095], counts[5] = 96, 4
    assert grey_table(GreyScale(12, voi_lut=step), counts)[1].warnings[0] == "voi-lut-saturates"


def test_without_voi_eight_bits_are_the_picture_and_more_go_by_percentiles() -> None:
    table, voi = grey_table(GreyScale(8), np.bincount([50, 60, 70], minlength=256))
    assert (voi.kind, voi.warnings) == ("full range", ("no-voi",))
    assert table == pytest.approx(np.arange(256) / 255)
    falling, _ = grey_table(GreyScale(8, slope=-2, intercept=9), np.ones(256, np.int64))
    assert falling == pytest.approx(1 - np.arange(256) / 255)
    counts = np.zeros(65_536, np.int64)
    counts[1000:2000] = 10
    counts[60_000] = 20  # 0.2 %: a marker brighter than anything
    table, voi = grey_table(GreyScale(16), counts)
    assert voi.kind == "percentiles"
    low, high = np.flatnonzero(table > 0)[0] - 1, np.flatnonzero(table >= 1)[0]
    assert counts[: low + 1].sum() >= 0.005 * counts.sum() > counts[:low].sum()
    assert counts[: high + 1].sum() >= 0.995 * counts.sum() > counts[:high].sum()
    constant, voi = grey_table(GreyScale(12), np.bincount([7], minlength=4096))
    assert voi.kind == "full range"
    assert constant[7] == pytest.approx(7 / 4095)


@settings(max_examples=60)
@given(
    center=st.floats(-5000, 5000),
    width=st.floats(1, 9000),
    function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
    signed=st.booleans(),
    slope=st.floats(-20, 20).filter(bool),
    intercept=st.floats(-5000, 5000),
)
def test_any_window_is_monotone_within_0_and_1_and_inverts_once(
    center: float, width: float, function: str, signed: bool, slope: float, intercept: float
) -> None:
    scale = GreyScale(12, signed, slope=slope, intercept=intercept, windows=(Window(center, width, function),))
    table, voi = grey_table(scale, EVEN)
    assert voi.kind == "window"
    assert table.shape == (4096,)
    assert 0 <= table.min() <= table.max() <= 1
    assert (np.diff(table) * np.sign(slope) >= 0).all()
    opposite = GreyScale(12, signed, True, slope, intercept, windows=scale.windows)
    assert grey_table(opposite, EVEN)[0] == pytest.approx(1 - table)
