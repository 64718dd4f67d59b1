"""Augmentation: range, reproducibility, one draw per study, no flip unless asked."""

import pytest
import torch

from hilum.batches.augment import AUGMENTS, none, standard, to_float

OFF = {"rotate": 0.0, "shift": 0.0, "scale": 0.0, "brightness": 0.0, "contrast": 0.0, "gamma": 0.0, "noise": 0.0}


def images(batch=4, views=2, size=24):
    return torch.randint(
        0, 256, (batch, views, 1, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", AUGMENTS)
def test_shape_range_and_seed(name):
    pixels = images()
    before = pixels.clone()
    once, again = (AUGMENTS[name]()(pixels, generator(5)) for _ in range(2))
    assert once.shape == pixels.shape
    assert once.dtype == torch.float32
    assert 0 <= once.min() <= once.max() <= 1
    assert torch.equal(once, again)
    assert torch.equal(pixels, before)


def test_none_and_all_options_off_change_nothing():
    pixels = images()
    assert torch.equal(none()(pixels, generator()), to_float(pixels))
    torch.testing.assert_close(standard(**OFF)(pixels, generator()), to_float(pixels))


def test_studies_differ_and_views_of_a_study_move_alike():
    pixels = images(1, 1).expand(3, 2, 1, 24, 24).contiguous()
    moved = standard(**{**OFF, "rotate": 20.0, "shift": 0.2})(pixels, generator())
    torch.testing.assert_close(moved[:, 0], moved[:, 1])
    assert not torch.allclose(moved[0], moved[1])


def test_flip_is_exact_and_off_by_default():
    pixels = images()
    flipped = standard(**OFF, flip=1.0)(pixels, generator())
    torch.testing.assert_close(flipped, to_float(pixels).flip(-1))
    left = torch.zeros(64, 1, 1, 24, 24, dtype=torch.uint8)
    left[..., :4] = 255
    assert (standard()(left, generator())[..., -4:].mean(dim=(1, 2, 3, 4)) < 0.5).all()


def test_erase_blanks_one_rectangle():
    white = torch.full((32, 1, 1, 40, 40), 255, dtype=torch.uint8)
    blank = 1 - standard(**OFF, erase=1.0)(white, generator()).mean(dim=(1, 2, 3, 4))
    assert ((blank > 0.005) & (blank < 0.13)).all()
