"""What can `hilum compare` tell on phantom-26-small? Its power at a difference of .02 in tail mAP, and its false alarms.

    python bench/power.py small small/runs           # after bench/phantom_small.py

The reference run's test studies stand for the population: every world draws as many patients from them, and both sides
score them by the reference's logits plus noise of their own. The noise is as large as makes two sides agree as much as two
trainings do (the correlation, among the negatives, of the trainings on all and on half of the patients). Under no
difference both sides have that noise; else the second has as much more as costs it .02 of tail mAP in the population.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from result import save

from hilum.evaluation.compare import macro_difference, over_runs
from hilum.evaluation.joined import join
from hilum.evaluation.metrics import average_precision
from hilum.sources.phantom.benchmarks import BENCHMARKS

COST = 0.02


def logits(file: Path, truth: Path, findings: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """(N, F) labels and logits of the test studies, scaled so that each finding's negatives have deviation 1."""
    joined = join([file], truth)
    part, columns = joined.parts[0], [joined.findings.index(name) for name in findings]
    labels, scores = part.labels[:, columns], np.clip(part.scores[:, columns].astype(np.float64), 1e-7, 1 - 1e-7)
    made = np.log(scores / (1 - scores))
    return labels, made / np.array([made[labels[:, k] == 0, k].std() for k in range(len(findings))])


def noise_of(first: np.ndarray, second: np.ndarray, labels: np.ndarray) -> float:
    """The deviation of a side's own noise at which two sides correlate as these logits do, averaged over findings."""
    rows = [labels[:, k] == 0 for k in range(labels.shape[1])]
    agreed = np.mean([np.corrcoef(first[row, k], second[row, k])[0, 1] for k, row in enumerate(rows)])
    return float(np.sqrt(1 / agreed - 1))


def costing(labels: np.ndarray, base: np.ndarray, noise: float) -> float:
    """The deviation at which mAP is COST below that with `noise`, by bisection with the same draws throughout."""
    draws = np.random.default_rng(0).standard_normal((5, *base.shape))

    def level(deviation: float) -> float:
        return float(np.mean([average_precision(labels, base + deviation * draw).mean() for draw in draws]))

    wanted, low, high = level(noise) - COST, noise, noise + 4
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if level(middle) > wanted else (low, middle)
    return (low + high) / 2


def told_apart(world: int, labels: np.ndarray, base: np.ndarray, noises: tuple[float, float], replicates: int) -> bool:
    """Whether one world's sides are told apart by tail mAP."""
    rng = np.random.default_rng([world, 1])
    rows = rng.integers(0, len(labels), len(labels))
    patients = np.arange(len(rows))
    first, second = (
        over_runs(labels[rows], [base[rows] + noise * rng.standard_normal(base.shape)], patients, replicates=replicates, seed=world)
        for noise in noises
    )  # fmt: skip
    return bool(macro_difference(first, second, "ap", np.ones(labels.shape[1], dtype=bool)).told_apart)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("runs", type=Path)
    arguments.add_argument("--quick", action="store_true", help="fewer worlds; writes nothing")
    arguments.add_argument("--jobs", type=int, default=2)
    given = arguments.parse_args()
    tail = [name for name, tier in BENCHMARKS["phantom-26-small"].world.tiers.items() if tier == "tail"]
    truth = given.folder / "truth.parquet"
    labels, base = logits(given.runs / "share-100" / "predictions_test.parquet", truth, tail)
    _, other = logits(given.runs / "share-50" / "predictions_test.parquet", truth, tail)
    noise = noise_of(base, other, labels)
    worse = costing(labels, base, noise)
    worlds, replicates = (30, 100) if given.quick else (400, 400)
    rows = []
    with ProcessPoolExecutor(given.jobs) as pool:
        for what, noises in (("no difference", (noise, noise)), (f"{COST} in tail mAP", (noise, worse))):
            work = partial(told_apart, labels=labels, base=base, noises=noises, replicates=replicates)
            share = float(np.mean(list(pool.map(work, range(worlds), chunksize=5))))
            rows.append({"what": what, "told_apart": round(share, 4), "se": round(float(np.sqrt(share * (1 - share) / worlds)), 4)})  # fmt: skip
            print(f"{what:<24} told apart in {share:.1%} of {worlds} worlds", flush=True)
    if not given.quick:
        save(
            {
                "name": "power",
                "ours": rows[1]["told_apart"],
                "peer": rows[0]["told_apart"],
                "unit": f"share of {worlds} worlds in which the sides are told apart; ours: at a difference of {COST} in tail mAP; peer: at none",
                "ratio": None,
                "goal": "at most .05 at no difference; the power as it is",
                "noise": [round(noise, 3), round(worse, 3)],
                "command": "python bench/power.py phantom-26-small phantom-26-small/runs",
                "rows": rows,
            }
        )


if __name__ == "__main__":
    main()
