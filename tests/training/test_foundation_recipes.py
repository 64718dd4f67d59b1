"""The recipes on foundation models: prompts on an image-text model, LoRA on one, labels and images in one metric space."""

import json

import pytest
import torch

from hilum.data.cache import build_cache
from hilum.errors import InputError
from hilum.inference.predict import load
from hilum.models.label_vectors import text_of
from hilum.models.text import encoder
from hilum.recipe import load_recipe, parse_recipe
from hilum.tables import read_studies
from hilum.training.inputs import with_absolute_paths, without_folders
from hilum.training.run import train
from tests.small import FINDINGS, short_run, write_small_studies

pytest.importorskip("open_clip")
folders = pytest.importorskip("tests.models.text_folders")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_small_studies(folder, patients=16)
    folders.write_open_clip(folder / "clip")
    folders.write_bert(folder / "bert")
    return folder, short_run(folder)


def of_clip(folder):
    return [f"model.backbone.weights={folder / 'clip'}", f"model.labels.model={folder / 'clip'}"]


@pytest.fixture(scope="module")
def prompts(data, tmp_path_factory):
    folder, options = data
    return train("vlm_prompts_2026", [*options, *of_clip(folder)], run=tmp_path_factory.mktemp("prompts") / "run")


@torch.no_grad()
def test_prompts_say_what_the_image_text_model_says(data, prompts):
    """By hand: the mean image of a study against the mean of what speaks for a finding less the mean of what speaks against."""
    import open_clip
    from safetensors.torch import load_file

    folder, _ = data
    labels = load_recipe("vlm_prompts_2026").stages[0].model.labels.options
    assert (len(labels["prompts"]), len(labels["against"])) == (7, 6)
    goal = unit(texts(folder, labels["prompts"], FINDINGS) - texts(folder, labels["against"], FINDINGS)).float()
    tower = open_clip.CustomTextCLIP(
        8,
        {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        {"context_length": 16, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1},
    ).visual.eval()
    held = load_file(folder / "clip" / "open_clip_model.safetensors")
    tower.load_state_dict(
        {key.removeprefix("visual."): value for key, value in held.items() if key.startswith("visual.")}
    )
    model = load(prompts / "bundle", device="cpu")
    _, pixels = a_study(folder, prompts)
    present, view = torch.ones(1, len(pixels), dtype=torch.bool), torch.ones(1, len(pixels), dtype=torch.int8)
    said = model.logits(pixels[None], present, view)
    grey = (pixels - model.classifier.backbone.mean) / model.classifier.backbone.std
    image = unit(tower(grey.expand(-1, 3, -1, -1)).mean(dim=0))
    torch.testing.assert_close(said[0], 10 * goal @ image, atol=1e-4, rtol=1e-4)


def unit(vectors):
    return torch.nn.functional.normalize(vectors, dim=-1)


def texts(folder, asked, names):
    """float64 (F, D): the mean of several prompts, each of length 1, which differ by little."""
    encode = encoder("biomedclip", str(folder / "clip"))
    each = [torch.from_numpy(encode([text_of(prompt, name) for name in names])).double() for prompt in asked]
    return torch.stack([unit(one) for one in each]).mean(dim=0)


def a_study(folder, run):
    """A study of a run, none of whose images is too many, and these: float (V, 1, 32, 32)."""
    table = read_studies(run / "studies.parquet")
    cache = build_cache(table, folder / "cache", size=32)
    study = next(
        study for (study,), images in table.group_by("study_id", maintain_order=True) if 1 < images.height <= 4
    )
    views = cache.rows(table.filter(study_id=study)["image_id"].to_list())
    return study, torch.from_numpy(cache.images(views)).float()[:, None] / 255


@torch.no_grad()
def probability(model, folder, run, goal):
    """By hand, of a study: a logistic of the cosine between its mean embedding and a goal (D,)."""
    study, pixels = a_study(folder, run)
    image = model.classifier.backbone(pixels).flatten(1).mean(dim=0)
    head = model.classifier.head
    return study, torch.sigmoid(head.scale.exp() * unit(goal).float() @ unit(image) + head.bias).item()


def test_no_folder_of_this_machine_leaves_with_a_bundle(data, prompts, monkeypatch):
    folder, _ = data
    for file in (prompts / "bundle").iterdir():
        assert str(folder).encode() not in file.read_bytes(), file.name
    told = load_recipe(prompts / "bundle" / "recipe.yaml").stages[0].model
    assert (told.backbone.options["weights"], told.labels.options["model"]) == ("clip", "clip")
    monkeypatch.chdir(folder)
    (folder / "views").mkdir(exist_ok=True)
    sides = {
        "frontal": {"name": "open_clip", "weights": "clip"}, "lateral": "local-dir:bert", "view_classifier": "views",
    }  # fmt: skip
    recipe = parse_recipe({"model": {"backbone": {"name": "by_view", **sides}}})
    there = with_absolute_paths(recipe).stages[0].model.backbone.options
    assert there["frontal"] == {"name": "open_clip", "weights": str(folder / "clip")}
    assert (there["lateral"], there["view_classifier"]) == (f"local-dir:{folder / 'bert'}", str(folder / "views"))
    assert without_folders(with_absolute_paths(recipe)).stages == recipe.stages
    hub = parse_recipe({"model": {"backbone": {"name": "rad_dino", "weights": "microsoft/rad-dino"}}})
    assert with_absolute_paths(hub).stages == without_folders(hub).stages == hub.stages
    named = parse_recipe({"model": {"backbone": "local-dir:clip"}})
    assert with_absolute_paths(named).stages[0].model.backbone.name == f"local-dir:{folder / 'clip'}"


def test_prompts_train_nothing_and_answer_to_any_name(data, prompts):
    import open_clip  # noqa: F401
    from safetensors.torch import load_file

    folder, _ = data
    kept = load(prompts / "bundle", device="cpu")
    held = load_file(folder / "clip" / "open_clip_model.safetensors")
    block = "transformer.resblocks.0.mlp.c_fc.weight"
    assert torch.equal(
        kept.classifier.state_dict()["backbone.network.blocks.0.mlp.fc1.weight"], held[f"visual.{block}"]
    )
    assert (prompts / "predictions_test.parquet").exists()
    assert (prompts / "report" / "report.html").exists()
    assert (kept.bundle.vocabulary, kept.bundle.licence) == ("open", "mit")
    assert "mimic" in kept.bundle.architecture["backbone"]["facts"]["data"], "what is known of the published one"
    some = kept.predict(prompts / "studies.parquet", findings=["Scoliosis", FINDINGS[0]])
    labels = load_recipe("vlm_prompts_2026").stages[0].model.labels.options
    goal = texts(folder, labels["prompts"], ["Scoliosis"]) - texts(folder, labels["against"], ["Scoliosis"])
    study, expected = probability(kept, folder, prompts, goal[0])
    assert some.filter(study_id=study)["Scoliosis"].item() == pytest.approx(expected, abs=1e-5)
    assert some[FINDINGS[0]].equals(kept.predict(prompts / "studies.parquet")[FINDINGS[0]])


def test_lora_on_an_image_text_model_stays_open(data, tmp_path):
    from safetensors.torch import load_file

    folder, options = data
    lines: list[str] = []
    run = train("lora_vlm_2024", [*options, *of_clip(folder)], run=tmp_path / "run", say=lines.append)
    assert any(line.startswith("lora ") for line in lines)
    model = load(run / "bundle", device="cpu")
    assert model.bundle.vocabulary == "open"
    assert not [key for key in model.classifier.state_dict() if "lora" in key]
    held = load_file(folder / "clip" / "open_clip_model.safetensors")
    names = ("blocks.0.attn.qkv.weight", "blocks.0.mlp.fc1.weight")
    theirs = [held[f"visual.transformer.resblocks.0.{name}"] for name in ("attn.in_proj_weight", "mlp.c_fc.weight")]
    moved = [model.classifier.state_dict()[f"backbone.network.{ours}"] - before for ours, before in zip(names, theirs)]
    assert [int(torch.linalg.matrix_rank(change, atol=1e-7)) for change in moved] == [8, 8], "of LoRA's rank"
    assert not torch.equal(model.classifier.head.scale, torch.tensor(10.0).log()), "the scale learns"
    asked = load_recipe("lora_vlm_2024").stages[0].model.labels.options["prompts"]
    raw = texts(folder, asked, [*FINDINGS, "Bulla"])
    study, expected = probability(model, folder, run, raw[-1] - raw[:-1].mean(dim=0))
    said = model.predict(run / "studies.parquet", findings=["Bulla"]).filter(study_id=study)["Bulla"].item()
    assert said == pytest.approx(expected, abs=1e-4)  # what is left of names that lie close together, less their mean


def test_the_metric_recipe_trains_on_label_vectors(data, tmp_path):
    folder, options = data
    tiny = ["model.backbone=test_resnet", f"model.labels={{name: biobert, model: {folder / 'bert'}}}"]
    run = train("dual_weighted_metric", [*options, *tiny], run=tmp_path / "run")
    architecture = load(run / "bundle", device="cpu").bundle.architecture
    assert (architecture["head"]["name"], architecture["labels"]["name"]) == ("metric", "biobert")
    assert str(folder) not in str(architecture)


def test_a_frozen_foundation_model_is_read_by_label_queries(data, tmp_path):
    """Its patches come from the cache of features; the recipe goes on by LoRA as its page says."""
    transformers = pytest.importorskip("transformers")
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
    transformers.Dinov2Model(transformers.Dinov2Config(**shape)).save_pretrained(tmp_path / "dino")
    _, options = data
    own = [f"model.backbone.weights={tmp_path / 'dino'}", "cache.size=28", f"cache.folder={tmp_path / 'cache'}"]
    run = train("foundation_queries", [*options, *own, "train.feature_cache=on"], run=tmp_path / "run")
    bundle = load(run / "bundle", device="cpu").bundle
    assert (bundle.vocabulary, bundle.licence) == ("open", "mit")
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["stages"]["main"]["features"]["used"]
    train("foundation_queries", [*options, *own, "freeze=[]", "lora.rank=2"], run=tmp_path / "lora")


def test_bag_of_tricks_asks_by_the_vectors_of_its_encoder(data, tmp_path):
    folder, options = data
    tiny = ["model.backbone=test_resnet", f"model.labels={{name: pubmedbert, model: {folder / 'bert'}}}"]
    run = train("bag_of_tricks", [*options, *tiny, "predict.tta=none"], run=tmp_path / "run")
    bundle = load(run / "bundle", device="cpu").bundle
    assert (bundle.architecture["head"]["name"], bundle.architecture["labels"]["width"]) == ("label_query", 16)
    assert bundle.vocabulary == "closed", "classifiers of their own, and queries that see one another"


def test_towers_of_different_models_are_refused(data, tmp_path):
    folder, options = data
    with pytest.raises(InputError, match="one image-text model"):
        train("vlm_prompts_2026", [*options, *of_clip(folder), "model.labels={name: minilm}"], run=tmp_path / "run")
