"""Heat maps: they show what the model used, on the view where it was, and say where that is."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.bundle import Bundle, write_bundle
from hilum.errors import InputError
from hilum.inference.engines import Engine, Reading
from hilum.inference.explain import METHODS, Study, explain, methods_of
from hilum.inference.explain_files import explain_files
from hilum.inference.faithfulness import curves, hit
from hilum.inference.predict import load
from hilum.inference.torch_engine import TorchEngine
from hilum.inference.zones import as_png, onto_image, peak_of, words_of
from hilum.models.classifier import Classifier, build_classifier
from hilum.operating_points import OperatingPoint
from hilum.pixels.render import render
from hilum.pixels.spec import PixelSpec
from hilum.recipe import Choice, ModelSpec

SIZE, SIDE, FINDINGS = 32, 8, ("bright", "dark")


class Linear(Engine):
    """Logits are a weighted sum of the mean grey of a study's views: what a cell is worth is known."""

    name, attends = "linear", False

    def __init__(self, cells: int):
        self.cells = cells

    def _encode(self, images, view):
        side = images.shape[-1] // self.cells
        maps = images[:, 0].reshape(len(images), self.cells, side, self.cells, side).mean(axis=(2, 4))
        return maps[:, None]

    def _answer(self, features, present, view, demographics):
        mean = (features[:, :, 0].mean(axis=(2, 3)) * present).sum(axis=1) / present.sum(axis=1)
        return Reading(np.stack([mean, -mean], axis=1).astype(np.float32))


def with_squares(*squares: tuple[int, int, float], seed: int = 0) -> np.ndarray:
    """Noise with squares of a value at places (x, y)."""
    image = np.random.default_rng(seed).uniform(0.35, 0.5, (SIZE, SIZE)).astype(np.float32)
    for x, y, value in squares:
        image[y : y + SIDE, x : x + SIDE] = value
    return image


@settings(max_examples=30)
@given(values=st.lists(st.floats(0, 1, width=32), min_size=16, max_size=16))
def test_cells_of_a_linear_model_are_what_each_cell_adds(values):
    grid = np.array(values, dtype=np.float32).reshape(1, 1, 4, 4)
    study = Study(grid, np.zeros(1, np.int8), np.zeros(4, np.float32), grid)
    heights = METHODS["cells"](Linear(4), study, [0, 1])
    worth = (grid[0] - grid.mean()) / 16
    assert np.allclose(heights, [worth, -worth], atol=1e-6)


@pytest.mark.parametrize("method", ["cells", "occlusion"])
def test_the_map_lies_on_the_square_and_on_its_view(method):
    images = np.stack([np.full((SIZE, SIZE), 0.4, np.float32), with_squares((20, 4, 1.0))])[:, None]
    shown = explain(Linear(8), images, np.array([1, 3], np.int8), None, [0], method)
    first, second = shown.maps[0]
    x, y = peak_of(second)
    assert (20 <= x * SIZE <= 28, 4 <= y * SIZE <= 12) == (True, True)
    assert first.max() < 0.2 < second.max() == 1
    assert words_of(second, "PA") == "left upper zone"


def test_nothing_that_speaks_for_a_finding_makes_an_empty_map():
    flat = np.full((1, 1, SIZE, SIZE), 0.5, np.float32)
    maps = explain(Linear(8), flat, np.zeros(1, np.int8), None, [0, 1]).maps
    assert maps.max() < 1e-6 or maps.max() == 1  # rounding errors at most, never a division by zero
    assert np.isfinite(maps).all()
    assert words_of(np.zeros((4, 4), np.float32), "PA") == "nowhere in particular"
    assert words_of(np.eye(4, dtype=np.float32) * 0.2, "PA") == "nowhere in particular"


def test_methods_that_an_engine_has_not_are_refused_by_name():
    images = with_squares((5, 5, 1.0))[None, None]
    assert methods_of(Linear(4)) == ["cells", "occlusion"]
    for method, told in (("attention", "no attention"), ("gradcam", "torch engine"), ("cell", "Did you mean 'cells'")):
        with pytest.raises(InputError, match=told):
            explain(Linear(4), images, np.zeros(1, np.int8), None, [0], method)


def model(seed: int) -> Classifier:
    torch.manual_seed(seed)
    head = Choice("ml_decoder", {"dim": 16, "heads": 2, "hidden": 16, "dropout": 0.0})
    spec = ModelSpec(Choice("custom_cnn", {"widths": [8, 16]}), Choice("weighted", {"of": "logit"}), head)
    return build_classifier(spec, FINDINGS, SIZE).eval()


def draw(count: int, seed: int, share: float = 0.5) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Images with a bright square in `share` of them, a dark one in as many, never on top of each other; the labels, and
    where the two are or would be (count, 2, 2).
    """
    random = np.random.default_rng(seed)
    labels = random.random((count, 2)) < share
    places = random.integers(0, SIZE - SIDE + 1, (count, 2, 2))
    places[:, 0, 0] //= 2  # the bright one in the left half, the dark one in the right
    places[:, 1, 0] = SIZE - SIDE - places[:, 1, 0] // 2
    swapped = random.random(count) < 0.5
    places[swapped, :, 0] = SIZE - SIDE - places[swapped, :, 0]
    images = [
        with_squares(
            *((*place, value) for place, value, here in zip(where, (1.0, 0.0), present) if here), seed=seed + n
        )
        for n, (where, present) in enumerate(zip(places.tolist(), labels))
    ]
    return torch.from_numpy(np.stack(images)[:, None]), torch.from_numpy(labels.astype(np.float32)), places


@pytest.fixture(scope="module")
def trained():
    classifier = model(0).train()
    images, labels, _ = draw(256, 1)
    adam = torch.optim.Adam(classifier.parameters(), lr=3e-3)
    for step in range(480):
        rows = torch.from_numpy(np.random.default_rng(step).choice(256, 32, replace=False))
        present = torch.ones(32, 1, dtype=torch.bool)
        logits = classifier(images[rows][:, None], present, torch.ones(32, 1, dtype=torch.int8))
        adam.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(logits, labels[rows]).backward()
        adam.step()
    return TorchEngine(classifier)


@pytest.fixture(scope="module")
def held_out():
    """(image, finding, where) of images that have both squares: a map that shows whatever stands out is half right."""
    images, _, places = draw(8, 1000, share=1.0)
    return [(images[n].numpy(), finding, places[n, finding]) for n in range(8) for finding in (0, 1)]


def maps(engine, held_out, method):
    return [
        explain(engine, image[None], np.ones(1, np.int8), None, [finding], method).maps[0, 0]
        for image, finding, _ in held_out
    ]


def points(held_out, heats) -> float:
    """The share of maps whose peak lies on the square."""
    found = []
    for (_, _, (left, top)), heat in zip(held_out, heats):
        x, y = peak_of(heat)
        found.append(hit((x * SIZE, y * SIZE), [(left, top, left + SIDE, top + SIDE)], slack=2))
    return float(np.mean(found))


@pytest.mark.parametrize(
    ("method", "least", "most"),
    [("cells", 0.8, 0.4), ("occlusion", 0.8, 0.4), ("attention", 0.8, 0.4), ("gradcam", 0.5, 0.5)],
)
def test_maps_show_what_training_taught(trained, held_out, method, least, most):
    """They point at their own square, 1 / 7 of the image; with random weights they are others (Adebayo et al. 2018).

    Grad-CAM++ counts positive gradients alone, so what speaks against a finding may show too: less is asked of it.
    """
    learnt = maps(trained, held_out, method)
    assert points(held_out, learnt) > least
    alike = [
        np.corrcoef(a.ravel(), b.ravel())[0, 1]
        for seed in (6, 7, 8)
        for a, b in zip(learnt, maps(TorchEngine(model(seed)), held_out, method))
        if b.std() > 0
    ]
    assert np.mean(alike) < most


@pytest.mark.parametrize("method", METHODS)
def test_maps_delete_and_insert_better_than_chance(trained, held_out, method):
    """The areas under the curves, averaged over maps, against those of the same maps with their pixels in another order.

    Grad-CAM++ does not insert better than that here: positive gradients alone show the square that speaks against it too.
    """
    areas = []
    for n, ((image, finding, _), heat) in enumerate(zip(held_out[:10], maps(trained, held_out[:10], method))):
        scrambled = np.random.default_rng(n).permutation(heat.ravel()).reshape(heat.shape)
        areas.append([curves(trained, image[0], 1, finding, each) for each in (heat, scrambled)])
    (deleted, inserted), (deleted_by_chance, inserted_by_chance) = np.mean(areas, axis=0)
    assert deleted < deleted_by_chance - 0.05
    assert method == "gradcam" or inserted > inserted_by_chance


def test_attention_is_of_every_view_and_sums_to_one():
    classifier = model(3)
    engine = TorchEngine(classifier)
    features = engine.encode(draw(4, 5)[0].numpy())
    present = np.array([[True, True], [True, False]])
    reading = engine.read(features.reshape(2, 2, *features.shape[1:]), present, np.ones((2, 2), np.int8))
    assert reading.attention.shape == (2, 2, 2, 8, 8)
    sums = reading.attention.sum(axis=(3, 4))
    assert np.allclose(sums, present[:, None, :], atol=1e-5)


@pytest.mark.parametrize("fit", ["pad", "stretch", "crop"])
@pytest.mark.parametrize("shape", [(90, 60), (60, 90), (75, 75)])
def test_a_map_goes_back_to_where_the_pixel_was(fit, shape):
    image = np.zeros(shape, np.uint8)
    row, column = shape[0] // 2 + 5, shape[1] // 2 - 8
    image[row - 3 : row + 4, column - 3 : column + 4] = 255
    spec = PixelSpec(SIZE, fit)
    back = onto_image(render(image, spec).astype(np.float32) / 255, spec, shape)
    assert back.shape[0] / back.shape[1] == pytest.approx(shape[0] / shape[1], rel=0.03)
    x, y = peak_of(back)
    assert (x * shape[1], y * shape[0]) == (pytest.approx(column, abs=3), pytest.approx(row, abs=3))


@pytest.mark.parametrize(
    ("view", "boxes", "said"),
    [
        ("PA", [(5, 70, 25, 85)], "right lower zone"),
        ("AP", [(70, 10, 90, 30)], "left upper zone"),
        ("PA", [(5, 70, 25, 85), (75, 70, 95, 85)], "both lower zones"),
        ("PA", [(45, 45, 55, 55)], "midline, mid third"),
        ("LATERAL", [(5, 70, 25, 85)], "lower left of the picture"),
        ("unknown", [(40, 5, 60, 20)], "upper middle of the picture"),
        ("PA", [(0, 0, 100, 100)], "spread over the picture"),
    ],
)
def test_places_have_the_names_that_readers_use(view, boxes, said):
    heat = np.zeros((100, 100), np.float32)
    for x0, y0, x1, y1 in boxes:
        heat[y0:y1, x0:x1] = 1
    assert words_of(heat, view) == said


def test_the_highest_point_is_named_first_however_much_is_high_elsewhere():
    heat = np.zeros((100, 100), np.float32)
    heat[10:50, 65:95], heat[75:80, 10:15] = 0.7, 1.0
    assert words_of(heat, "PA") == "right lower zone and left upper zone"


def test_a_map_is_coded_as_grey():
    heat = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    back = cv2.imdecode(np.frombuffer(as_png(heat), np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(back, np.round(heat * 255))


def test_files_are_explained_as_pictures_with_words(tmp_path):
    classifier = model(0)
    bundle = Bundle(
        list(FINDINGS), PixelSpec(SIZE), classifier.architecture, {}, {}, ["test"],
        operating_points=[OperatingPoint("bright", 0.5, "max F1", "validation", slope=2.0, intercept=1.0)],
    )  # fmt: skip
    weights = {key: value.numpy() for key, value in classifier.state_dict().items()}
    write_bundle(bundle, weights, tmp_path / "bundle", recipe="", card="")
    for name, square in (("a", (4, 4, 1.0)), ("b", (20, 20, 1.0))):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.uint8(255 * with_squares(square)))
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    told = explain_files(tmp_path / "bundle", files, ["bright"], tmp_path / "maps", one_study=True, method="cells")
    chance = predict_of(tmp_path / "bundle", files)
    assert [one["image_id"] for one in told] == [str(file) for file in files]
    assert {one["method"] for one in told} == {"cells"}
    assert [one["probability"] for one in told] == pytest.approx([chance, chance], abs=1e-5)
    assert sorted(file.name for file in (tmp_path / "maps").iterdir()) == [
        "001-bright.png",
        "002-bright.png",
        "maps.json",
    ]
    assert cv2.imread(str(tmp_path / "maps" / "001-bright.png")).shape == (SIZE, SIZE, 3)
    with pytest.raises(InputError, match="Did you mean 'bright'"):
        explain_files(tmp_path / "bundle", files, ["brihgt"], tmp_path / "maps")
    with pytest.raises(InputError, match="not made by explain"):
        explain_files(tmp_path / "bundle", files, ["bright"], tmp_path)


def predict_of(bundle, files) -> float:
    return load(bundle, device="cpu").predict(files, one_study=True)["bright"][0]
