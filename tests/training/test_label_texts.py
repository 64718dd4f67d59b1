"""The recipes of labels as text: a small one of each is run; what is frozen stays, and each kind of queries starts alike."""

import pytest
import torch
from safetensors.torch import load_file

from hilum.bundle import read_bundle
from hilum.inference.predict import load
from hilum.models.label_vectors import check_labels, label_vectors
from hilum.recipe import load_recipe
from hilum.reproductions import read_system
from hilum.training.plan import check_recipe
from hilum.training.run import train
from tests.small import FINDINGS, write_small_studies

QUICK = ["findings=null", "cache.size=32", "train.epochs=1", "train.batch_size=32", "train.ema=0.0"]
SPLIT = ["split.column=null", "split.valid=0.25", "split.test=0.25"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_small_studies(folder, patients=16)
    return [f"studies={folder / 'studies.parquet'}", f"cache.folder={folder / 'cache'}", *QUICK, *SPLIT]


def test_label_embeddings_in_small(data, tmp_path):
    folder = train("label_embeddings_small", data, run=tmp_path / "run")
    one, kept = (
        load_file(folder / part) for part in ("single_view/checkpoints/best.safetensors", "bundle/model.safetensors")
    )
    vectors = label_vectors(check_labels(load_recipe("label_embeddings_small").stages[1].model.labels), FINDINGS)
    assert torch.equal(kept["head.queries.vectors"], torch.from_numpy(vectors.of(FINDINGS)))
    assert "model/head.queries" in one, "the first stage asks by random queries"
    assert not torch.equal(one["model/head.embed.weight"], kept["head.embed.weight"]), "the head of the second is new"
    assert all(torch.equal(one[key], kept[key.removeprefix("model/")]) for key in one if "/backbone" in key)
    bundle = read_bundle(folder / "bundle")
    assert bundle.vocabulary == "closed"
    assert "vocabulary closed" in (folder / "bundle" / "card.md").read_text()


def test_zero_shot_in_small(data, tmp_path):
    said: list[str] = []
    folder = train("zero_shot_small", data, run=tmp_path / "run", say=said.append)
    model = load(folder / "bundle", device="cpu")
    assert model.bundle.vocabulary == "open"
    assert model.asked(["Scoliosis", "Bulla"]).findings == ("Scoliosis", "Bulla")
    assert any(line.startswith("labels    by minilm, 2 prompts") for line in said)
    card = (folder / "bundle" / "card.md").read_text()
    assert "vocabulary open" in card
    assert "encoder `minilm`, prompts `{name}`, `{description}`" in card


@pytest.mark.parametrize("small", [True, False])
def test_rows_of_the_table_differ_in_their_queries_alone(small):
    system = read_system("label_embeddings")
    plans = {}
    for row in system.rows.values():
        plan = load_recipe(system.small if small else system.recipe, [*row.overrides, *(row.small if small else [])])
        check_recipe(plan)
        plans[row.name] = plan.stages[1]
    heads = {name: plan.model.head.options for name, plan in plans.items()}
    assert {name: head["queries"] for name, head in heads.items()}["random, fixed"] == "fixed"
    for name, plan in plans.items():
        assert plan.fresh == ["head"], name
        alike = {key: value for key, value in heads[name].items() if key not in ("queries", "projection", "classifier")}
        assert alike == {key: value for key, value in heads["learned"].items() if key in alike}
        assert (plan.train, plan.loss) == (plans["learned"].train, plans["learned"].loss)
    shared = [name for name, head in heads.items() if head.get("classifier") == "shared"]
    assert len(shared) == 1
