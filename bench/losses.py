"""What each loss asks of an image that tells nothing: the probability at its minimum, by the finding's prevalence.

    python bench/losses.py

Binary cross-entropy answers with the prevalence. What lies above it calls for calibration before a probability is read as
one; what lies at 0 has given rare findings up. Three findings, independent of one another, of 10,000 known studies.
"""

import argparse
from itertools import product

import torch
from result import save

from hilum.training.losses import LOSSES, Loss, build_loss

COUNTS, KNOWN = (100.0, 1000.0, 4000.0), 10_000
VARIANTS: dict[str, tuple[str, dict[str, object]]] = {
    **{name: (name, {}) for name in LOSSES if name != "softmax"},  # that one is of findings that exclude one another
    "focal, class_balanced": ("focal", {"class_weights": "class_balanced"}),
    "ldam, class_balanced": ("ldam", {"class_weights": "class_balanced"}),
    "class_aware, margin 0": ("class_aware", {"margin": 0.0}),
    "class_aware, not decoupled": ("class_aware", {"decoupled": False}),
    "bce, smoothing 0.1": ("bce", {"smoothing": 0.1}),
}


def minima(loss: Loss, *, steps: int) -> list[float]:
    """The probability of least expected loss for each finding, over every combination of their labels."""
    x = torch.linspace(-16, 16, steps, dtype=torch.float64)
    share = torch.tensor(COUNTS, dtype=torch.float64) / KNOWN
    expected = torch.zeros(steps, len(COUNTS), dtype=torch.float64)
    for labels in product((0.0, 1.0), repeat=len(COUNTS)):
        y = torch.tensor(labels, dtype=torch.float64)
        chance = torch.where(y == 1, share, 1 - share).prod()
        expected += chance * loss.elementwise(x[:, None].expand(-1, len(COUNTS)), y.expand(steps, -1))
    return [round(p, 4) for p in x[expected.argmin(dim=0)].sigmoid().tolist()]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="a coarse grid, no JSON")
    given = arguments.parse_args()
    rows = [
        {"what": what, "p": minima(build_loss(name, COUNTS, KNOWN, **options), steps=1001 if given.quick else 64_001)}
        for what, (name, options) in VARIANTS.items()
    ]
    print(f"{'p at the minimum, for prevalence':<36}" + "".join(f"{count / KNOWN:<10g}" for count in COUNTS))
    for row in rows:
        print(f"{row['what']:<36}" + "".join(f"{p:<10.4f}" for p in row["p"]))
    if not given.quick:
        result = {
            "name": "losses",
            "ours": None,
            "peer": None,
            "unit": "probability at the minimum of the loss, for prevalences .01, .1 and .4",
            "ratio": None,
            "goal": None,
            "command": "python bench/losses.py",
            "rows": rows,
        }
        save(result)


if __name__ == "__main__":
    main()
