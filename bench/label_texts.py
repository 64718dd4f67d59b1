"""How close labels lie to one another as vectors, and which known finding is nearest to each that two challenges left unseen.

    python bench/label_texts.py                                    # minilm, which needs no network
    python bench/label_texts.py --encoder pubmedbert --model FOLDER   # no JSON

Closeness is the mean cosine of two different findings of CXR-LT 2023's 26: of raw vectors, which is what a head reads without
`centre`; spread is the mean of its absolute value after centring, and after whitening, too. An orthogonal set has 0.
"""

import argparse
from typing import Any

import numpy as np
from result import save

from hilum.findings import FINDING_SETS
from hilum.models.label_vectors import LabelText, closeness, label_vectors

PROMPTS = {
    "name": ("{name}",),
    "a sentence with the name": ("chest X-ray with {name}",),
    "description": ("{description}",),
    "name: description": ("{name}: {description}",),
    "name and description, averaged": ("{name}", "{description}"),
}
TRAINED, UNSEEN = (
    FINDING_SETS["cxr-lt-2023"],
    (*FINDING_SETS["cxr-lt-2024-task3"], "Infarction", "Adenopathy", "Goiter"),
)


def row(words: str, prompts: tuple[str, ...], encoder: str, model: str | None) -> dict[str, Any]:
    """Closeness and spread of the 26 findings with these prompts, and the nearest of them to each unseen one, centred."""
    kinds = [(False, False), (True, False), (True, True)]
    plain, centred, white = (
        label_vectors(LabelText(encoder, model, prompts=prompts, centre=centre, whiten=whiten), TRAINED, UNSEEN)
        for centre, whiten in kinds
    )
    near = cosines(centred.of(UNSEEN), centred.of(TRAINED))
    return {
        "prompts": words, "encoder": encoder, "width": plain.vectors.shape[1],
        "closeness": closeness(plain.of(TRAINED)), "spread_centred": spread(centred.of(TRAINED)), "spread_white": spread(white.of(TRAINED)),
        "nearest": {name: [TRAINED[int(line.argmax())], float(line.max())] for name, line in zip(UNSEEN, near)},
    }  # fmt: skip


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    unit = [vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (one, other)]
    product: np.ndarray = unit[0] @ unit[1].T
    return product


def spread(vectors: np.ndarray) -> float:
    return float(np.abs(cosines(vectors, vectors))[~np.eye(len(vectors), dtype=bool)].mean())


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--encoder", default="minilm")
    arguments.add_argument("--model", help="the encoder's folder or hub name")
    arguments.add_argument("--quick", action="store_true", help="two kinds of prompts, no JSON")
    given = arguments.parse_args()
    kinds = list(PROMPTS.items())[:: 3 if given.quick else 1]
    rows = [row(words, prompts, given.encoder, given.model) for words, prompts in kinds]
    print(f"{'prompts':<32}{'closeness':>10}{'centred':>9}{'whitened':>9}")
    for one in rows:
        print(f"{one['prompts']:<32}{one['closeness']:>10.3f}{one['spread_centred']:>9.3f}{one['spread_white']:>9.3f}")
    for name in UNSEEN:
        print(f"{name:<16}" + "  ".join(f"{one['nearest'][name][0]} {one['nearest'][name][1]:.2f}" for one in rows))
    if given.encoder == "minilm" and not given.quick:
        save(
            {
                "name": "label_texts", "ours": rows[-1]["spread_centred"], "peer": rows[0]["closeness"],
                "unit": "mean cosine between findings: name and description centred (absolute), and the raw name",
                "ratio": round(rows[-1]["spread_centred"] / rows[0]["closeness"], 2), "goal": "below 1",
                "command": "python bench/label_texts.py", "rows": rows,
            }
        )  # fmt: skip


if __name__ == "__main__":
    main()
