"""Export: a bundle's two graphs for ONNX Runtime and OpenVINO, written into it once their answers were held against torch's.

encode(images, view) -> features and read(features, present, view, demographics) -> logits [, attention], any number of images,
studies and views. Where a model reads more of a study than that (its prior, its indication), the graphs know nothing of it.
"""

import json
import tempfile
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn
from torch.func import functional_call

from hilum.atomic import write_text
from hilum.batches.dataset import Studies
from hilum.bundle import Bundle, amend_bundle, read_bundle
from hilum.data.cache import build_cache
from hilum.errors import InputError
from hilum.inference import onnx_engine
from hilum.inference.engines import PARITY, Engine, as_floats
from hilum.inference.onnx_engine import OnnxEngine
from hilum.inference.parity import accept, compared
from hilum.inference.self_test import SelfTest, largest_difference, read_self_test, write_self_test
from hilum.inference.torch_engine import AsClassifier, TorchEngine, torch_logits
from hilum.inference.vocabulary import carried_labels
from hilum.label_file import LabelVectors
from hilum.models.classifier import Classifier
from hilum.models.heads.queries import LabelQueries
from hilum.models.looking import Looking, has_attention
from hilum.pixels.render import render
from hilum.progress import Progress, silent
from hilum.sources.phantom.patients import first_studies
from hilum.sources.phantom.picture import draw
from hilum.tables import VIEWS, read_studies

Target = Literal["onnx", "openvino"]
Precision = Literal["fp32", "bf16", "int8"]
PRECISIONS: dict[str, tuple[str, ...]] = {"onnx": ("fp32",), "openvino": ("fp32", "bf16", "int8")}

_TESTED, _SELF_TEST_VIEWS = 4, 2  # studies of the self-test, views of each
_CALIBRATION = 64  # images that int8's ranges are taken from
_MOST_IMAGES, _MOST_STUDIES, _MOST_VIEWS, _MOST_FINDINGS = 4096, 4096, 64, 4096  # what the graphs are told to allow for


def export(
    bundle: str | Path,
    *,
    to: Target = "onnx",
    precision: Precision = "fp32",
    studies: str | Path | None = None,
    cache: str | Path | None = None,
    split: str | None = "test",
    limit: int = 500,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write the graphs into the bundle, whose identity stays, and what was compared comes back (`parity.json`, one precision).

    studies: a study table to compare on as well as the phantom's self-test; the rows of `split` where it is split, else all
        of it, the first `limit` studies. Its labels, where it has them, tell mAP and ECE of both. cache: as in `predict`.
    Raises InputError where the answers differ by more than the precision's tolerance (`hilum.inference.parity`); the bundle
    then stays as it was. int8 needs labelled studies: it takes its ranges from some patients and is judged on the others.
    """
    if precision not in PRECISIONS[to]:
        raise InputError(f"{to} has no {precision} here", do=f"choose {', '.join(PRECISIONS[to])}")
    if precision == "int8" and studies is None:
        raise InputError(
            "int8 takes its ranges from images and is judged on labels", do="name a labelled study table with --studies"
        )
    facts = read_bundle(bundle)
    reference = TorchEngine.of(facts)
    test = read_self_test(facts) or self_test_of(facts, reference)
    with tempfile.TemporaryDirectory(prefix="hilum-") as temporary:
        given, ranges = None, None
        if studies is not None:
            apart = _CALIBRATION if precision == "int8" else 0
            given, ranges = _given(facts, studies, cache or temporary, split, limit, progress, apart)
        told: dict[str, Any] = {}

        def change(folder: Path) -> None:
            write_self_test(test, folder)
            engine = _GRAPHS[to](facts, reference, folder, precision, ranges)
            engine.labels = reference.labels
            told.update(_compared(facts, engine, reference, test, given, progress))
            accept(
                precision, [told[part] for part in ("self_test", "added", "given") if part in told], told["neighbours"]
            )
            place = folder / f"model.{to}" / PARITY
            known = json.loads(place.read_text(encoding="utf-8")) if place.is_file() else {}
            write_text(place, json.dumps(known | {precision: told}, indent=2) + "\n")

        amend_bundle(facts, change)
    return told


def self_test_of(bundle: Bundle, engine: Engine) -> SelfTest:
    """Phantom studies rendered as the bundle asks, of two views where they have them, and what the engine says of them."""
    spec, drawn = bundle.pixels, []
    for study in first_studies(0, _TESTED, most=1):
        some = list(enumerate(study.images))[: min(_SELF_TEST_VIEWS, bundle.views)]
        drawn.append([(render(draw(study, place, spec.size)[0], spec), image.drawn) for place, image in some])
    most = max(map(len, drawn))
    images = np.zeros((len(drawn), most, 1, spec.size, spec.size), dtype=np.uint8)
    present, view = np.zeros((len(drawn), most), dtype=bool), np.zeros((len(drawn), most), dtype=np.int8)
    for row, study_images in enumerate(drawn):
        for place, (image, name) in enumerate(study_images):
            images[row, place, 0], present[row, place], view[row, place] = image, True, VIEWS.index(name)
    people = np.array([[6.0, 1, 1, 1], [4.5, 1, 0, 1], [0, 0, 0, 0], [7.2, 1, 0, 0]], dtype=np.float32)[: len(drawn)]
    logits = engine.logits(as_floats(images), present, view, people)
    return SelfTest(images, present, view, people, logits)


def _given(
    bundle: Bundle,
    studies: str | Path,
    cache: str | Path,
    split: str | None,
    limit: int,
    progress: Progress,
    apart: int = 0,
) -> tuple[Studies, Studies | None]:
    """The studies to compare on, and apart from them those of other patients, of `apart` images or a few more."""
    table = read_studies(studies)
    if split and "split" in table.columns:
        table = table.filter(pl.col("split") == split)
    owner = pl.coalesce("patient_id", "study_id")
    owners = table.group_by(owner.alias("owner"), maintain_order=True).len()
    some = owners.filter(pl.col("len").cum_sum() - pl.col("len") < apart).head(owners.height // 2)["owner"]
    others, table = table.filter(owner.is_in(some.implode())), table.filter(~owner.is_in(some.implode()))
    first = table["study_id"].unique(maintain_order=True).head(limit)
    table = table.filter(pl.col("study_id").is_in(first.implode()))
    if table.is_empty():
        raise InputError(f"the table has no studies of split {split}", where=studies, do="name another with --split")
    if apart and others.is_empty():
        raise InputError("the table has one patient", where=studies, do="name one of several: some to take ranges from")
    images = build_cache(pl.concat([others, table]), cache, **bundle.pixels.as_dict(), progress=progress)
    findings = [name for name in bundle.findings if name in table.columns]
    labelled = bundle.findings if len(findings) == len(bundle.findings) else []
    given = Studies(table, images, labelled, views=bundle.views)
    return given, Studies(others, images, [], views=bundle.views) if apart else None


def _compared(
    bundle: Bundle, engine: Engine, reference: TorchEngine, test: SelfTest, given: Studies | None, progress: Progress
) -> dict[str, Any]:
    """What parity.json says of one precision."""
    answers = test.asked(engine)
    told: dict[str, Any] = {
        "identity": bundle.identity,
        "torch": version("torch"),
        "self_test": compared(bundle, answers, reference_logits(reference, test), None),
        "neighbours": _neighbours(engine, test, answers),
    }
    if carried := carried_labels(bundle):
        told["added"] = _added(bundle, carried, engine, reference, test)
    if given is not None:
        ours, theirs = (
            torch_logits(model, given, batch_size=16, progress=progress, label=f"Asking {name}")
            for name, model in ((engine.name, AsClassifier(engine, bundle.findings)), ("torch", reference.classifier))
        )
        told["given"] = compared(bundle, ours, theirs, given.labels if given.findings else None)
    return told


def reference_logits(reference: Engine, test: SelfTest) -> np.ndarray:
    """What torch says of the self-test now, on this machine."""
    return test.asked(reference)


def _neighbours(engine: Engine, test: SelfTest, together: np.ndarray) -> float:
    """The largest change of a probability where each study is asked by itself instead of with the others."""
    images = test.pixels
    rows = [slice(row, row + 1) for row in range(len(images))]
    alone = [engine.logits(images[row], test.present[row], test.view[row], test.demographics[row]) for row in rows]
    return largest_difference(np.concatenate(alone), together)


def _added(bundle: Bundle, carried: LabelVectors, engine: Engine, reference: Engine, test: SelfTest) -> dict[str, Any]:
    """What comes of asking about every finding that an open bundle carries a vector of.

    largest_difference: of a probability of those it was not trained on, to torch's. others: by how much a logit of those
    that it was trained on changes at most because more is asked, as a share of its size where that is above 1.
    """
    more, own = [name for name in carried.names if name not in bundle.findings], len(bundle.findings)
    vectors, plain = carried.of([*bundle.findings, *more]), test.asked(engine)
    ours, theirs = (test.asked(one.asked(vectors)) for one in (engine, reference))
    return {
        "findings": len(more),
        "largest_difference": largest_difference(ours[:, own:], theirs[:, own:]) if more else 0.0,
        "others": float((np.abs(ours[:, :own] - plain) / np.maximum(np.abs(plain), 1)).max()),
    }


class _Encode(nn.Module):
    def __init__(self, model: Classifier):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, view: Tensor) -> Tensor:
        return self.model.encode(images, view)


class _Read(nn.Module):
    def __init__(self, model: Classifier):
        super().__init__()
        self.model, self.looking = model, Looking(model) if has_attention(model) else None

    def forward(self, features: Tensor, present: Tensor, view: Tensor, demographics: Tensor) -> Any:
        ask: Any = self.looking or self.model.read
        return ask(features, present, view, demographics)


class _ReadOpen(nn.Module):
    """`read` whose findings are an input: the vectors (F, D) of their labels take the place of those the head holds."""

    def __init__(self, model: Classifier):
        super().__init__()
        self.read = _Read(model)
        named = self.read.named_modules()
        self.places = [f"{name}.vectors" for name, part in named if isinstance(part, LabelQueries)]

    def forward(self, features: Tensor, present: Tensor, view: Tensor, demographics: Tensor, labels: Tensor) -> Any:
        held = dict.fromkeys(self.places, labels)
        return functional_call(self.read, held, (features, present, view, demographics))


def _onnx(bundle: Bundle, reference: TorchEngine, folder: Path, precision: str, ranges: Studies | None) -> Engine:
    place = folder / onnx_engine.FOLDER
    place.mkdir(exist_ok=True)
    write_graphs(reference.classifier, bundle.pixels.size, place, reference.labels)
    return OnnxEngine(place / onnx_engine.ENCODE, place / onnx_engine.READ)


def write_graphs(classifier: Classifier, size: int, folder: Path, labels: np.ndarray | None = None) -> None:
    """Write encode.onnx and read.onnx of a classifier of images of `size` pixels a side.

    labels: the vectors (F, D) of an open vocabulary's findings, which become an input of reading.
    """
    model = classifier.eval()
    images, view = torch.rand(3, 1, size, size), torch.tensor([1, 3, 2], dtype=torch.int8)
    with torch.no_grad():
        maps = model.encode(images, view)
    features, views = torch.stack([maps, maps.flip(0)]), torch.stack([view, view.flip(0)])
    present = torch.tensor([[True, True, False], [True, True, True]])
    some, studies = (
        torch.export.Dim("images", min=1, max=_MOST_IMAGES),
        torch.export.Dim("studies", min=1, max=_MOST_STUDIES),
    )
    of_study = {0: studies, 1: torch.export.Dim("views", min=1, max=_MOST_VIEWS)}
    outputs = ["logits", "attention"] if has_attention(model) else ["logits"]
    inputs = ["features", "present", "view", "demographics"]
    example: tuple[Tensor, ...] = (features, present, views, torch.zeros(2, 4))
    shapes: list[dict[int, Any]] = [of_study, of_study, of_study, {0: studies}]
    reader: nn.Module = _Read(model)
    if labels is not None:
        reader, inputs, example = _ReadOpen(model), [*inputs, "labels"], (*example, torch.from_numpy(labels))
        shapes.append({0: torch.export.Dim("findings", min=2, max=_MOST_FINDINGS)})
    _write(
        _Encode(model), (images, view), folder / onnx_engine.ENCODE, ["images", "view"], ["features"], ({0: some},) * 2
    )
    _write(reader, example, folder / onnx_engine.READ, inputs, outputs, tuple(shapes))


def _write(
    module: nn.Module, example: tuple[Tensor, ...], file: Path, inputs: list[str], outputs: list[str], shapes: Any
) -> None:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter about itself
        torch.onnx.export(
            module.eval(), example, file, input_names=inputs, output_names=outputs, dynamic_shapes=shapes, dynamo=True,
            external_data=False, verbose=False,
        )  # fmt: skip


def _openvino(bundle: Bundle, reference: TorchEngine, folder: Path, precision: str, ranges: Studies | None) -> Engine:
    try:
        from hilum.inference import openvino_engine
    except ImportError as error:
        raise InputError("OpenVINO is not installed", do="install hilum[openvino]") from error
    place = folder / openvino_engine.FOLDER
    place.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="hilum-") as temporary:
        scratch = Path(temporary)
        graphs = folder / onnx_engine.FOLDER
        if not graphs.is_dir():
            graphs = scratch
            write_graphs(reference.classifier, bundle.pixels.size, graphs, reference.labels)
        openvino_engine.convert(graphs / onnx_engine.READ, place / openvino_engine.READ)
        if precision != "int8":
            openvino_engine.convert(graphs / onnx_engine.ENCODE, place / openvino_engine.ENCODE)
            hint = {"fp32": "f32", "bf16": "bf16"}[precision]
            return openvino_engine.OpenVinoEngine(
                place / openvino_engine.ENCODE, place / openvino_engine.READ, precision=hint
            )
        assert ranges is not None, "int8 takes its ranges from images"
        from hilum.inference.quantise import quantised

        quantised(graphs / onnx_engine.ENCODE, scratch / "int8.onnx", _first_images(ranges, _CALIBRATION))
        openvino_engine.convert(scratch / "int8.onnx", place / openvino_engine.ENCODE_INT8)
        return openvino_engine.OpenVinoEngine(place / openvino_engine.ENCODE_INT8, place / openvino_engine.READ)


def _first_images(studies: Studies, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images float32 (n, 1, S, S) in [0, 1] and their views int8 (n,), the first `count` of the studies."""
    pixels = studies.source.images(studies.rows[:count])[:, None]
    return as_floats(pixels), studies.view[:count]


_GRAPHS: dict[str, Callable[..., Engine]] = {"onnx": _onnx, "openvino": _openvino}
