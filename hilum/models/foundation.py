"""Foundation backbones: published vision models and image towers of image-text models, read from their folders into timm networks.

Whatever wrote the folder (`transformers`, `open_clip`, EVA-X), the network is timm's: a bundle needs none of these libraries,
and is rebuilt without a download, a hub name or a path. Plain vision transformers alone; others say so.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import torch
from timm.models import eva, vision_transformer
from torch import Tensor, nn

from hilum.errors import InputError
from hilum.models.hub import model_folder, read_json, read_tensors
from hilum.models.positions import resample_positions
from hilum.models.weights import load_weights

Output = Literal["maps", "embedding"]
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Published:
    """What is known of a published model.

    reader: how its folder is read, of READERS; weights: its hub name; licence: of its weights; data: the sets it was trained
    on, by the names that study tables have in `source` where hilum reads them; size, mean, std: of its input, grey, where no
    file of the folder says them; architecture, file: of EVA-X, whose folder has no configuration.
    """

    reader: Literal["transformers", "open_clip", "eva_x"]
    weights: str
    licence: str
    data: tuple[str, ...]
    size: int
    mean: float
    std: float
    architecture: str = ""
    file: str = ""


_CLIP = (fmean((0.48145466, 0.4578275, 0.40821073)), fmean((0.26862954, 0.26130258, 0.27577711)))  # OpenAI's, as grey


def _eva_x(size: str) -> Published:
    """EVA-X (Yao et al. 2024; hustvl/EVA-X): EVA-02 with patches of 16 px; grey levels as in its segmentation code."""
    return Published(
        "eva_x", "MapleF/eva_x", "mit", ("chexpert", "mimic", "nih"), 224, 0.49185243, 0.28509309,
        f"eva02_{size}_patch14_224", f"eva_x_{size}_patch16_merged520k_mim.pt",
    )  # fmt: skip


PUBLISHED: dict[str, Published] = {
    # Perez-Garcia et al. 2025: DINOv2 ViT-B/14 on 882,775 images of BRAX, CheXpert, MIMIC-CXR, NIH, PadChest and a private set
    "rad_dino": Published(
        "transformers",
        "microsoft/rad-dino",
        "mit",
        ("brax", "chexpert", "mimic", "nih", "padchest"),
        518,
        0.5307,
        0.2583,
    ),
    "eva_x_tiny": _eva_x("tiny"),
    "eva_x_small": _eva_x("small"),
    "eva_x_base": _eva_x("base"),
    # Zhang et al. 2023: ViT-B/16 and PubMedBERT on PMC-15M, the figures of papers with their captions
    "biomedclip": Published(
        "open_clip", "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224", "mit", ("pmc-15m",), 224, *_CLIP
    ),
    # Yang et al. 2024: ViT-L/14 on MIMIC-CXR with its reports; the model of the winner of CXR-LT 2026, task 2
    "whyxrayclip": Published("open_clip", "yyupenn/whyxrayclip", "mit", ("mimic",), 224, *_CLIP),
}


@dataclass(frozen=True)
class Tower:
    """A timm network that stands for a folder: its name, the options it is built with (plain values), its input, its weights.

    convert: brings the weights' names to timm's, for the network that was built. mean, std: grey.
    """

    architecture: str
    options: dict[str, Any]
    size: int
    mean: float
    std: float
    weights: Tensors = field(default_factory=dict)
    convert: Callable[[Tensors, Any], Mapping[str, Tensor]] = lambda given, network: given


def read_tower(name: str, options: Mapping[str, Any], *, weights: bool) -> Tower:
    """What a foundation backbone's name and options stand for.

    name: of READERS, with the option `weights` (a folder or a hub name), or of PUBLISHED, where it may stand for a local copy.
    output: `embedding` instead of maps, for image-text models. weights: false leaves the weights unread.
    Raises InputError for what is no such folder, or no plain vision transformer, MachineError for a hub out of reach.
    """
    known = PUBLISHED.get(name)
    source = str(options.get("weights") or (known.weights if known else ""))
    if not source:
        raise InputError(f"backbone {name!r} names no weights", do="add `weights: FOLDER`, or a hub name")
    return READERS[known.reader if known else name](source, options.get("output", "maps"), known, weights)


def fill_tower(network: nn.Module, tower: Tower, where: str) -> None:
    """The tower's weights into its network, of whatever image size: colours summed into grey, positions resampled.

    Raises InputError where a weight of the network is not in the file; what else the file holds is left.
    """
    own = network.state_dict()
    given = {key: value.float() for key, value in tower.convert(dict(tower.weights), network).items() if key in own}
    patches = "patch_embed.proj.weight"
    if patches in given:
        given[patches] = given[patches].sum(dim=1, keepdim=True)
    load_weights(network, resample_positions(given, network), where=where)


# -- folders of transformers ----------------------------------------------------------------------------------------------

_OF_TRANSFORMERS = (  # names on disk, and timm's
    ("embeddings.patch_embeddings.projection", "patch_embed.proj"), ("embeddings.cls_token", "cls_token"),
    ("embeddings.position_embeddings", "pos_embed"), ("encoder.layer.", "blocks."), ("layernorm_before", "norm1"),
    ("layernorm_after", "norm2"), ("attention.output.dense", "attn.proj"), ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"), ("layer_scale1.lambda1", "ls1.gamma"), ("layer_scale2.lambda1", "ls2.gamma"),
    ("layernorm.", "norm."),
)  # fmt: skip


def _transformers(source: str, output: Output, known: Published | None, weights: bool) -> Tower:
    """A vision folder as `save_pretrained` writes it (ViT, DINOv2): config.json, weights, grey levels in preprocessor_config.json."""
    what, files = "vision model of transformers", ("model.safetensors", "pytorch_model.bin")
    folder = model_folder(source, ["config.json", "preprocessor_config.json", *files], what=what)
    page = read_json(folder, "config.json", what=what)
    kind = page.get("model_type")
    if kind not in ("vit", "dinov2") or page.get("use_swiglu_ffn") or output != "maps":
        raise InputError(
            f"this folder holds a {kind} that is read for {output}", where=source, do="vit and dinov2 are read for maps"
        )
    width = page["hidden_size"]
    options = {
        "patch_size": page["patch_size"], "embed_dim": width, "depth": page["num_hidden_layers"],
        "num_heads": page["num_attention_heads"], "qkv_bias": page.get("qkv_bias", True),
        "mlp_ratio": page.get("mlp_ratio") or page["intermediate_size"] / width,
    }  # fmt: skip
    levels = (
        read_json(folder, "preprocessor_config.json", what=what)
        if (folder / "preprocessor_config.json").exists()
        else {}
    )
    given = read_tensors(folder, files, what=what) if weights else {}
    name = "vit_small_patch14_dinov2" if kind == "dinov2" else "vit_small_patch16_224"
    grey = _grey(known, levels.get("image_mean"), levels.get("image_std"))
    return Tower(name, options, page["image_size"], *grey, given, lambda held, _: _from_transformers(held))


def _from_transformers(given: Tensors) -> Tensors:
    renamed: Tensors = {}
    for key, value in given.items():
        name = key.removeprefix("vit.").removeprefix("dinov2.")
        for theirs, ours in _OF_TRANSFORMERS:
            name = name.replace(theirs, ours)
        renamed[name] = value
    for key in [
        key for key in renamed if ".attention.attention.query." in key
    ]:  # three maps of theirs are one of timm's
        parts = [renamed.pop(key.replace("query", part)) for part in ("query", "key", "value")]
        renamed[key.replace("attention.attention.query", "attn.qkv")] = torch.cat(parts)
    return renamed


# -- folders of open_clip -------------------------------------------------------------------------------------------------

_OTHERWISE = (  # what makes a tower of open_clip compute something else than timm's
    "attentional_pool", "ls_init_value", "no_ln_pre", "act_kwargs", "norm_kwargs", "block_type", "qk_norm",
    "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc",
)  # fmt: skip
_POOLED: dict[str, dict[str, Any]] = {"tok": {}, "token": {}, "avg": {"global_pool": "avg", "fc_norm": False}}


def _open_clip(source: str, output: Output, known: Published | None, weights: bool) -> Tower:
    """An open_clip folder: open_clip_config.json, and the weights of both towers, of which the image tower is taken."""
    what = "model of open_clip"
    files = tuple(
        f"open_clip_{name}" for name in ("model.safetensors", "pytorch_model.safetensors", "pytorch_model.bin")
    )
    folder = model_folder(source, ["open_clip_config.json", *files], what=what)
    page = read_json(folder, "open_clip_config.json", what=what)
    told, levels = page.get("model_cfg", page), page.get("preprocess_cfg", {})
    vision = told["vision_cfg"]
    if trunk := vision.get("timm_model_name"):  # a timm network within, and a projection
        name, options = trunk, {}
        plain = trunk.startswith(("vit_", "test_vit")) and vision.get("timm_proj", "linear") == "linear"
        pool = vision.get("timm_pool", "avg") or "tok"  # left to the network, whose way is the class token
    else:
        width = vision["width"]
        name = "vit_base_patch16_clip_quickgelu_224" if told.get("quick_gelu") else "vit_base_patch16_clip_224"
        plain = isinstance(vision["layers"], int) and not any(vision.get(other) for other in _OTHERWISE)
        pool = vision.get("pool_type", "tok")
        options = {
            "patch_size": vision["patch_size"], "embed_dim": width, "depth": vision["layers"],
            "num_heads": width // vision.get("head_width", 64), "mlp_ratio": vision.get("mlp_ratio", 4.0),
        }  # fmt: skip
    if not plain:
        raise InputError(
            "the image tower of this folder is no plain vision transformer", where=source, do="choose another"
        )
    if output == "embedding":
        if pool not in _POOLED or (pool == "avg" and vision.get("final_ln_after_pool")):
            raise InputError(
                f"the image tower of this folder makes its embedding by the pooling {pool!r}, which is not read",
                where=source,
                do="leave output out, to have its maps",
            )
        options |= {"embedding": told["embed_dim"], **_POOLED[pool]}
    given = read_tensors(folder, files, what=what) if weights else {}
    grey = _grey(known, levels.get("mean"), levels.get("std"))
    return Tower(name, options, vision.get("image_size", 224), *grey, given, _from_open_clip)


def _from_open_clip(given: Tensors, network: Any) -> Tensors:
    renamed: Tensors = vision_transformer.checkpoint_filter_fn(given, network)
    bias = given.get("visual.head.proj.bias")  # timm takes the projection without it
    return renamed | ({} if bias is None else {"head.bias": bias})


# -- EVA-X ----------------------------------------------------------------------------------------------------------------


def _read_eva_x(source: str, output: Output, known: Published | None, weights: bool) -> Tower:
    """EVA-X: a file of weights, in a folder of that name or named itself."""
    if known is None or output != "maps":
        raise InputError("EVA-X gives maps, by the name eva_x_tiny, eva_x_small or eva_x_base", do="name one of these")
    file = Path(source).expanduser()
    given: Tensors = {}
    if weights:
        folder = file.parent if file.is_file() else model_folder(source, [known.file], what="EVA-X model")
        given = read_tensors(folder, (file.name if file.is_file() else known.file,), what="EVA-X model")
    options = {"patch_size": 16, "ref_feat_shape": [14, 14]}
    return Tower(known.architecture, options, known.size, known.mean, known.std, given, eva.checkpoint_filter_fn)


def _grey(known: Published | None, mean: Any, std: Any) -> tuple[float, float]:
    """Grey mean and std: averages over a file's colours, else what is known of the published model, else CLIP's."""
    if mean and std:
        return fmean(mean), fmean(std)
    return (known.mean, known.std) if known else _CLIP


READERS: dict[str, Callable[[str, Output, Published | None, bool], Tower]] = {
    "transformers": _transformers,
    "open_clip": _open_clip,
    "eva_x": _read_eva_x,
}
FOUNDATION = ("transformers", "open_clip", *PUBLISHED)


def foundation(*, weights: str | None = None, output: Output = "maps") -> None:
    """The options of a foundation backbone, for checks: weights, a folder or a hub name; output, maps or an embedding."""
