"""Fine-tuning of a large backbone: LoRA, learning rates by layer, another image size, a model that is judged as it is."""

import json

import polars as pl
import pytest
import torch

from hilum.bundle import read_bundle
from hilum.data.seen import seen_by_backbone
from hilum.errors import InputError
from hilum.inference.predict import load, predict
from hilum.models.backbones import build_backbone
from hilum.models.classifier import build_classifier
from hilum.recipe import LoraSpec, ModelSpec, load_recipe, parse_recipe
from hilum.tables import read_predictions, read_studies, studies_metadata, write_studies
from hilum.training.checkpoint import load_checkpoint
from hilum.training.lora import add_lora
from hilum.training.optim import build_optimizer, layer_scales
from hilum.training.plan import check_recipe
from hilum.training.run import train
from tests.small import FINDINGS, short_run, write_small_studies

pytest.importorskip("peft")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_small_studies(folder, patients=16)
    return short_run(folder)


def vit():
    torch.manual_seed(0)
    return build_backbone("test_vit", 32)


def test_maps_of_low_rank_begin_as_nothing_and_end_in_the_weights():
    network, images = vit().eval(), torch.rand(2, 1, 32, 32)
    names, before = list(network.state_dict()), {key: value.clone() for key, value in network.state_dict().items()}
    said = network(images)
    add_in = add_lora(network, LoraSpec(rank=2, alpha=4.0))
    torch.testing.assert_close(network(images), said)
    learnt = {name: value for name, value in network.named_parameters() if value.requires_grad}
    assert learnt
    assert all("lora_" in name for name in learnt)
    for value in learnt.values():
        torch.nn.init.normal_(value, std=0.2)
    changed = network(images)
    assert not torch.allclose(changed, said, atol=1e-3)
    add_in()
    assert list(network.state_dict()) == names, "plain weights again"
    torch.testing.assert_close(network(images), changed, atol=1e-5, rtol=1e-4)
    moved = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    assert moved
    for key in moved:
        change = network.state_dict()[key] - before[key]
        assert torch.linalg.matrix_rank(change, atol=1e-4) == 2, key
    assert all(value.requires_grad for value in network.parameters())


def test_a_run_by_lora_leaves_a_plain_bundle_that_another_stage_goes_on_from(data, tmp_path):
    page = tmp_path / "two.yaml"
    page.write_text(
        "stages:\n"
        "  - {name: one, lora: {rank: 2}, model: {backbone: {name: test_vit}}, train: {level: image, lr: 0.01}}\n"
        "  - {name: two, init: one, freeze: backbone, augment: {name: none}}\n"
    )
    said: list[str] = []
    folder = train(page, data, run=tmp_path / "run", say=said.append)
    assert any(line.startswith("lora      of rank 2: ") for line in said)
    bundle = load(folder / "bundle", device="cpu")
    weights = bundle.classifier.state_dict()
    assert not [key for key in weights if "lora" in key or "base_layer" in key]
    _, groups = load_checkpoint(folder / "one" / "checkpoints" / "best.safetensors")
    kept = {key: value for key, value in groups["model"].items() if "qkv" in key}
    low, high = ("backbone.network.blocks.0.attn.qkv." + f"lora_{part}.default.weight" for part in "AB")
    merged = kept["backbone.network.blocks.0.attn.qkv.base_layer.weight"] + 8.0 * kept[high] @ kept[low]
    torch.testing.assert_close(weights["backbone.network.blocks.0.attn.qkv.weight"], merged)
    assert kept[high].abs().sum() > 0, "it learnt"


def test_what_lora_does_not_go_with():
    for override, match in [
        ("freeze=[backbone]", "frozen backbone"),
        ("lora.rank=0", "rank of at least 1"),
        ("lora.ranks=4", "id you mean 'rank'"),
        ("objective={name: none}", "lora does not go with none"),
        ("model.backbone={name: by_view, frontal: test_vit}", "backbones by view"),
    ]:
        with pytest.raises(InputError, match=match):
            check_recipe(load_recipe("demo", ["lora.rank=2", override]))
    with pytest.raises(InputError, match="no such layers"):
        add_lora(build_backbone("test_resnet", 32), LoraSpec(targets=["qkv"]))
    add_lora(build_backbone("test_resnet", 32), LoraSpec(targets=["conv2"]))()


def test_earlier_layers_learn_slower():
    model = build_classifier(ModelSpec(backbone={"name": "test_vit"}), FINDINGS, 32)
    scales = layer_scales(model, 0.5)
    assert scales["backbone.network.blocks.5.norm1.weight"] == 0.5
    assert scales["backbone.network.blocks.4.norm1.weight"] == 0.25
    assert scales["backbone.network.cls_token"] == min(scales.values()) == 0.5**7
    assert set(scales) == {f"backbone.{name}" for name, _ in model.backbone.named_parameters()}
    optimizer = build_optimizer(model, 0.1, 0.05, torch.optim.SGD, layer_decay=0.5)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    for value in model.parameters():
        value.grad = torch.ones_like(value)
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.0
    optimizer.step()
    for name, value in model.named_parameters():
        assert torch.allclose(before[name] - value, torch.tensor(0.1 * scales.get(name, 1.0)), atol=1e-6), name
    plain = build_optimizer(model, 0.1, 0.05)
    assert [(group["scale"], group["weight_decay"]) for group in plain.param_groups] == [(1.0, 0.05), (1.0, 0.0)]
    with pytest.raises(InputError, match="tells no layers apart"):
        layer_scales(build_classifier(ModelSpec(backbone={"name": "custom_cnn", "widths": [4]}), FINDINGS, 32), 0.5)
    with pytest.raises(InputError, match="layer_decay"):
        check_recipe(parse_recipe({"train": {"layer_decay": 0.0}}))


def test_from_one_image_size_to_another_and_judged_as_it_is(data, tmp_path):
    """The weights of a run at 32 px in a run at 64 px: positions resampled, and nothing trained there."""
    vit = ["model.backbone={name: test_vit}", "train.level=image", "train.layer_decay=0.7"]
    first = train("demo", [*data, *vit], run=tmp_path / "first")
    more = ["cache.size=64", f"cache.folder={tmp_path / 'cache'}", f"init={first / 'bundle'}", "objective={name: none}"]
    second = train("demo", [*data, *vit, *more], run=tmp_path / "second")
    small, large = (load(run / "bundle", device="cpu").classifier.state_dict() for run in (first, second))
    assert large["backbone.network.pos_embed"].shape[1] == 1 + 16
    assert small["backbone.network.pos_embed"].shape[1] == 1 + 4
    for key in small:
        if not key.endswith("pos_embed"):
            assert torch.equal(small[key], large[key]), key
    assert len(list(pl.read_csv(second / "log.csv")["epoch"])) == 1


def test_a_backbone_that_saw_the_data_before_is_told(data, tmp_path):
    transformers = pytest.importorskip("transformers")
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
    transformers.Dinov2Model(transformers.Dinov2Config(**shape)).save_pretrained(tmp_path / "rad-dino")
    source = data[0].removeprefix("studies=")
    table = read_studies(source).with_columns(source=pl.lit("nih"))
    write_studies(table, tmp_path / "nih.parquet", label_level="study", note=studies_metadata(source).get("note"))
    model = f"model.backbone={{name: rad_dino, weights: {tmp_path / 'rad-dino'}}}"
    more = [
        f"studies={tmp_path / 'nih.parquet'}",
        f"cache.folder={tmp_path / 'cache'}",
        "cache.size=28",
        "freeze=backbone",
        model,
    ]
    said: list[str] = []
    run = train("demo", [*data, *more], run=tmp_path / "run", say=said.append)
    sentence = "The backbone was trained on images of nih before: held-out studies may be among them."
    assert f"overlap   {sentence}" in said
    bundle = read_bundle(run / "bundle")
    assert sentence in bundle.note
    assert bundle.licence == "mit"
    assert sentence in (run / "report" / "report.html").read_text().replace("&#39;", "'")
    predict(run / "bundle", tmp_path / "nih.parquet", tmp_path / "p.parquet", cache=tmp_path / "cache")
    assert read_predictions(tmp_path / "p.parquet").note.count(sentence) == 1
    assert bundle.backbone_data == ["brax", "chexpert", "mimic", "nih", "padchest"]
    assert seen_by_backbone(bundle.backbone_data, ["phantom"]) is None
    assert "mimic" in seen_by_backbone(bundle.backbone_data, ["mimic-cxr-lt"])
    told = json.dumps(bundle.architecture)
    assert "rad_dino" in told
    assert str(tmp_path) not in told
