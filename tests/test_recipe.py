"""Recipes: read, overridden, completed, written back; each likely mistake has its sentence."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from hilum.errors import InputError
from hilum.recipe import RECIPES, Choice, load_recipe, parse_recipe, recipe_names
from hilum.reproductions import read_system
from hilum.reproductions.runs import Runs
from hilum.training.plan import check_recipe

TWO = {
    "stages": [
        {"name": "single", "model": {"backbone": {"name": "test_resnet"}, "head": {"name": "ml_decoder", "dim": 16}}, "train": {"lr": 3e-5}},
        {"name": "fusion", "init": "single", "freeze": "backbone", "model": {"fusion": {"name": "mean"}}},
    ]
}  # fmt: skip


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_of_the_package_fits_the_builders(name):
    recipe = load_recipe(name)
    check_recipe(recipe)
    assert parse_recipe(yaml.safe_load(recipe.to_yaml())) == recipe
    assert len(recipe_names()[name]) > 20


@pytest.mark.parametrize("name", recipe_names())
def test_commands_in_a_recipes_header_say_all_that_they_need(name):
    header = [line.lstrip("# ") for line in (RECIPES / f"{name}.yaml").read_text().splitlines() if line[:1] == "#"]
    for command in re.findall(r"hilum ensemble .*", "\n".join(header).replace("\\\n", " ")):
        if "weighted" in command or "per-finding" in command:  # they learn on held-out studies
            assert "--fit-on" in command
            assert "--studies" in command


def test_the_small_form_of_the_losses_is_the_reference_recipe_but_for_its_loss():
    """So the rows of the reproduced table, which name their losses, are the same trainings from either."""
    own, reference, whole = (load_recipe(name) for name in ("robust_loss_small", "phantom_small", "robust_loss"))
    loss = own.stages[0].loss
    assert replace(own, stages=[replace(own.stages[0], loss=reference.stages[0].loss)]) == reference
    assert Choice(loss.name, {**loss.options, "reduction": "mean"}) == whole.stages[0].loss
    system = read_system("robust_loss")
    assert system.small == "robust_loss_small"
    sides = [
        Runs(Path(), system, name, [], lambda recipe: recipe, small=True) for name in (system.small, "phantom_small")
    ]
    for row in system.rows.values():
        assert sides[0].plan(row, 0) == sides[1].plan(row, 0), row.name


def test_one_stage_at_the_top_and_numbers_as_yaml_1_2_has_them(tmp_path):
    page = tmp_path / "r.yaml"
    page.write_text("loss: {name: asymmetric, clip: 1e-2}\ntrain: {lr: 1e-4, epochs: 3}\n")
    recipe = load_recipe(page)
    assert recipe.stages[0].train.lr == 1e-4
    assert recipe.stages[0].loss == Choice("asymmetric", {"clip": 0.01})


def test_a_stage_takes_what_it_does_not_say_from_where_it_starts():
    fusion = parse_recipe(TWO).stages[1]
    assert fusion.model.backbone.name == "test_resnet"
    assert fusion.model.head == Choice("ml_decoder", {"dim": 16})
    assert fusion.train.lr == 3e-5
    assert fusion.freeze == ["backbone"]


def test_overrides_reach_one_stage_or_all():
    recipe = parse_recipe(TWO, ["train.epochs=7", "stages.fusion.train.lr=1e-3", "cache.size=64", "loss=asymmetric"])
    assert [stage.train.epochs for stage in recipe.stages] == [7, 7]
    assert [stage.train.lr for stage in recipe.stages] == [3e-5, 1e-3]
    assert recipe.cache.size == 64
    assert [stage.loss.name for stage in recipe.stages] == ["asymmetric", "asymmetric"]


def test_a_choice_of_another_name_drops_the_options_of_the_old():
    recipe = parse_recipe(TWO, ["model.head={name: linear}"])
    assert recipe.stages[0].model.head == Choice("linear")


@pytest.mark.parametrize(
    ("page", "overrides", "said"),
    [
        ({"train": {"epoch": 3}}, [], "train.epoch is not an option of train; did you mean 'epochs'"),
        ({"lss": "bce"}, [], "did you mean 'loss'"),
        ({}, ["train.epochs=many"], "train.epochs is 'many'"),
        ({}, ["train.epochs"], "is not an override"),
        (TWO, ["stages.fuson.train.lr=1"], "id you mean 'fusion'"),
        ({"stages": [{"name": "a"}, {"name": "a"}]}, [], "two stages are named 'a'"),
        ({"cache": {"fit": "squash"}}, [], "cache.fit is 'squash'"),
        ("just text", [], "a recipe is a list of"),
    ],
)
def test_likely_mistakes_when_read(page, overrides, said):
    with pytest.raises(InputError) as caught:
        parse_recipe(page, overrides)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["loss={name: asymmetric, gama_neg: 2}"], "id you mean 'gamma_neg'"),
        (["loss.name=asymetric"], "id you mean 'asymmetric'"),
        (["loss={name: asymmetric, gamma_neg: high}"], "Give a number"),
        (["model.backbone.name=resnet81"], "resnet18"),
        (["model.head={name: ml_decoder, grups: 4}"], "id you mean 'groups'"),
        (["augment={name: standard, rotat: 3}"], "id you mean 'rotate'"),
        (["train.precision=bf17"], "there is no precision"),
        (["train.lr=0"], "train.lr is 0"),
        (["train.epochs=0"], "Give at least 1"),
        (["split.valid=0.9"], "leave nothing to train on"),
        (["split.folds=5", "split.fold=5"], "there is no fold 5"),
        (["trackers=[wandb]"], "there is no tracker"),
        (["init=nowhere"], "neither an earlier stage nor a bundle"),
    ],
)
def test_likely_mistakes_against_the_builders(overrides, said):
    with pytest.raises(InputError) as caught:
        check_recipe(parse_recipe({}, overrides))
    assert said in str(caught.value)


def test_a_recipe_that_is_not_there_names_the_nearest():
    with pytest.raises(InputError, match=r"[Dd]id you mean 'nih_quick'"):
        load_recipe("nih_quik")
    with pytest.raises(InputError, match="no such file"):
        load_recipe("nowhere.yaml")


def test_broken_yaml_names_the_line(tmp_path):
    page = tmp_path / "r.yaml"
    page.write_text("train:\n  epochs: 3\n bad: [\n")
    with pytest.raises(InputError, match="line 3"):
        load_recipe(page)
