"""The recipes of CheXFusion: they can be run, their stages follow one another, and a small one is run."""

import json
import re
import shlex
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

import hilum
from hilum.cli import app
from hilum.inference.predict import load
from hilum.models.classifier import check_model
from hilum.recipe import Recipe, load_recipe
from hilum.tables import read_studies, write_studies
from hilum.training.plan import check_recipe
from hilum.training.run import train
from tests.small import FINDINGS, write_small_studies

RECIPES = ["chexfusion", "chexfusion_384", "chexfusion_small"]
QUICK = ["findings=null", "cache.size=32", "train.epochs=1", "train.batch_size=16", "train.ema=0.0"]
SPLIT = ["split.column=null", "split.valid=0.25", "split.test=0.25"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_small_studies(folder, patients=24)
    return [f"studies={folder / 'studies.parquet'}", f"cache.folder={folder / 'cache'}", *QUICK]


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipes_can_be_run(name):
    recipe = load_recipe(name)
    assert isinstance(recipe, Recipe)
    check_recipe(recipe)
    single, fusion = recipe.stages
    assert (single.train.level, fusion.train.level) == ("image", "study")
    assert (fusion.init, fusion.freeze) == ("single_view", ["backbone"])
    assert fusion.loss == single.loss
    assert fusion.model.head == single.model.head
    assert fusion.model.fusion.name == "transformer"
    for stage in recipe.stages:  # at the width of the real backbone the numbers fit together, too
        fusion_builder, head_builder = check_model(stage.model)
        with torch.device("meta"):
            channels = 96 if stage.model.backbone.name == "test_resnet" else 768
            made = fusion_builder(channels, 26, **stage.model.fusion.options)
            assert head_builder(made.channels, 26, **stage.model.head.options)


def test_the_small_one_trains_both_stages(data, tmp_path):
    said: list[str] = []
    folder = train("chexfusion_small", [*data, *SPLIT], run=tmp_path / "run", say=said.append)
    one, two = (load_file(folder / stage / "checkpoints" / "best.safetensors") for stage in ("single_view", "fusion"))
    kept = load_file(folder / "bundle" / "model.safetensors")
    frozen = [key for key in one if key.startswith("model/backbone")]
    assert frozen
    for key in frozen:
        assert torch.equal(one[key], kept[key.removeprefix("model/")]), key
        assert key not in two, "a checkpoint leaves out what its stage does not change"
    assert "model/fusion.mark.weight" in two
    assert "model/fusion.mark.weight" not in one
    assert not torch.equal(one["model/head.weight"], two["model/head.weight"]), "the head is trained on"
    assert torch.equal(one["model/head.queries"], two["model/head.queries"]), "its fixed queries are handed on"
    assert sum("studies have more than 4 images" in line for line in said) == 2
    model = load(folder / "bundle", device="cpu")
    assert model.bundle.architecture["fusion"]["name"] == "transformer"
    studies = folder / "studies.parquet"
    frame = model.predict(studies)
    assert model.crowded > 0
    assert frame.equals(model.predict(studies)), "views are chosen by order: nothing is left to chance"
    assert frame[FINDINGS[0]].is_between(0, 1).all()
    told = CliRunner().invoke(app, ["predict", str(folder / "bundle"), str(studies), "-o", str(tmp_path / "p.parquet")])
    assert f"{model.crowded} studies have more than 4 images: 4 were read, one of each kind first" in told.output


def whole_system(name: str) -> list[str]:
    """The commands in a recipe's header that train teacher and student."""
    page = (Path(hilum.__file__).parent / "recipes" / f"{name}.yaml").read_text()
    return re.findall(r"^#     (hilum .*)$", page, flags=re.MULTILINE)


def test_the_header_s_commands_train_teacher_and_student(tmp_path, monkeypatch):
    """Word for word, and then the options of a small test; both stages of the student take the labels."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small").mkdir()
    table = read_studies(write_small_studies(tmp_path / "small", patients=40))
    number = pl.col("patient_id").str.slice(1).cast(pl.Int32)
    split = pl.when(number < 24).then(pl.lit("train")).when(number < 32).then(pl.lit("valid")).otherwise(pl.lit("test"))
    nulls = [pl.when(number.is_between(8, 23)).then(None).otherwise(pl.col(name)).alias(name) for name in FINDINGS]
    write_studies(table.with_columns(*nulls, split=split), tmp_path / "small" / "partly.parquet", label_level="study")
    verbs = []
    for line in whole_system("chexfusion_small"):
        words = shlex.split(line)[1:]
        done = CliRunner().invoke(app, [*words, *(QUICK if words[0] == "train" else [])], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        verbs.append(words[0])
    assert verbs == ["train", "calibrate", "pseudo", "train"]
    stages = json.loads((tmp_path / "student" / "manifest.json").read_text())["stages"]
    assert all(stages[name]["pseudo"]["entries"] > 0 for name in ("single_view", "fusion"))
    assert (tmp_path / "student" / "report" / "metrics.json").exists()


@pytest.mark.parametrize(("name", "cache"), [("chexfusion", "cache-1024"), ("chexfusion_384", "cache-384")])
def test_the_large_recipes_are_trained_by_the_same_commands(name, cache):
    small = [line.replace("studies=small/partly.parquet", "studies=studies.parquet").replace(" cache.folder=small/cache", "")
             for line in whole_system("chexfusion_small")]  # fmt: skip
    own = [line.replace("chexfusion_small", name).replace("small/cache", cache) for line in small]
    assert whole_system(name) == own
    assert load_recipe(name).cache.folder == cache
    student = load_recipe(name, [word for word in shlex.split(own[-1]) if "=" in word])
    assert [stage.pseudo.table for stage in student.stages] == ["pseudo.parquet"] * 2
    assert (student.split.column, load_recipe(name).stages[0].pseudo) == ("split", None)


@pytest.mark.parametrize(
    ("fusion", "shared"), [("{name: concat}", {"backbone"}), ("{name: max}", {"backbone", "head"})]
)
def test_a_head_is_handed_on_where_it_reads_the_same_channels(data, tmp_path, fusion, shared):
    """A head of three slots is another head, though the recipe's words for it are the same."""
    page = tmp_path / "two.yaml"
    page.write_text(
        "stages:\n"
        "  - {name: single, model: {backbone: {name: test_resnet}}, train: {level: image}}\n"
        f"  - {{name: fused, init: single, freeze: backbone, model: {{fusion: {fusion}}}, train: {{level: study}}}}\n"
    )
    said: list[str] = []
    folder = train(page, [*data, "split.valid=0.25"], run=tmp_path / "run", say=said.append)
    report = next(line for line in said if line.startswith("init"))
    weights = load(folder / "bundle", device="cpu").classifier.state_dict()
    assert int(report.split(": ")[1].split()[0]) == sum(key.split(".")[0] in shared for key in weights)


def test_weights_per_finding_do_not_pass_to_other_findings(data, tmp_path):
    fusion = "model.fusion={name: weighted, weights: learned_per_finding}"
    first = train("demo", [*data, fusion], run=tmp_path / "first")
    said: list[str] = []
    more = [f"findings=[{', '.join(reversed(FINDINGS))}]", f"init={first / 'bundle'}"]
    train("demo", [*data, fusion, *more], run=tmp_path / "second", say=said.append)
    report = next(line for line in said if line.startswith("init"))
    backbone = sum(key.startswith("backbone.") for key in load(first / "bundle", device="cpu").classifier.state_dict())
    assert int(report.rsplit(": ", 1)[1].split()[0]) == backbone
