"""Tiny text encoders with random weights, saved in the layout of published ones: a BERT, a T5, an open_clip folder."""

import json
from pathlib import Path

import huggingface_hub
import pytest
import torch
import transformers

WORDS = ["pleural", "effusion", "mass", "edema", "fluid", "around", "the", "lung", "of", "a", "hernia", "nodule"]


def out_of_reach(monkeypatch: pytest.MonkeyPatch, kept: Path) -> None:
    """A hub on a port of this machine where nobody listens, and in `kept` nothing of what was fetched before."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(kept))


def write_bert(folder: Path, hidden: int = 16, pooler: bool = True) -> Path:
    """config.json, model.safetensors, tokenizer.json as `transformers` writes them."""
    torch.manual_seed(0)
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    words = {word: i for i, word in enumerate((folder / "vocab.txt").read_text().split("\n"))}
    tokenizer = transformers.BertTokenizer(vocab=words)
    tokenizer.save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=hidden, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=32,
    )  # fmt: skip
    transformers.BertModel(config, add_pooling_layer=pooler).save_pretrained(folder)
    return folder


def write_t5(folder: Path, width: int = 12) -> Path:
    """The same of a T5, of which the encoder alone is read; its words are split at spaces here."""
    torch.manual_seed(0)
    folder.mkdir(parents=True)
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    words = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    plain = Tokenizer(WordLevel(words, unk_token="<unk>"))
    plain.pre_tokenizer = Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="<unk>", pad_token="<pad>", eos_token="</s>")  # fmt: skip
    tokenizer.save_pretrained(folder)
    config = transformers.T5Config(
        vocab_size=len(words), d_model=width, d_kv=4, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    transformers.T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


def write_open_clip(folder: Path, width: int = 8) -> Path:
    """open_clip_config.json and open_clip_model.safetensors, with a BERT for its text tower as BiomedCLIP has one."""
    import open_clip
    from safetensors.torch import save_file

    write_bert(folder)
    torch.manual_seed(0)
    config = {
        "embed_dim": width,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {
            "hf_model_name": "nobody/has-this", "hf_tokenizer_name": "nobody/has-this", "hf_proj_type": "mlp",
            "hf_pooler_type": "cls_last_hidden_state_pooler", "context_length": 16,
        },
    }  # fmt: skip
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    text = {**config["text_cfg"], "hf_model_name": str(folder), "hf_model_pretrained": False}
    model = open_clip.CustomTextCLIP(width, config["vision_cfg"], text)
    save_file(
        {key: value.contiguous() for key, value in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    return folder
