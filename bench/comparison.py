"""False alarms: how often `hilum compare` tells two recipes of equal expected skill apart, which 5 % of the time is right.

    python bench/comparison.py [--quick]

200 patients of 1-3 studies, six findings of 6-30 %. All models see the finding through the same noise (a test set is hard
for all alike) and through noise of their own; a training moves the skill of its model by a random amount, in all
findings at once. Both sides draw their trainings from one recipe, so every difference that is told is a false alarm.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
from result import save

from hilum.evaluation.compare import macro_difference, over_runs

PREVALENCE = np.array([0.30, 0.30, 0.12, 0.12, 0.06, 0.06])  # of patients
PATIENTS = 200
SETTINGS = ((0.0, 1), (0.0, 3), (0.15, 1), (0.15, 2), (0.15, 3), (0.15, 5))  # scatter of trainings, runs a side


def told_apart(number: int, scatter: float, runs: int, replicates: int) -> tuple[bool, bool]:
    """Whether one world's sides are told apart by macro mAP and by macro AUROC."""
    rng = np.random.default_rng([number, runs, round(100 * scatter)])
    patients = np.repeat(np.arange(PATIENTS), 1 + rng.integers(0, 3, PATIENTS))
    ill = rng.random((PATIENTS, len(PREVALENCE))) < PREVALENCE
    labels = (ill[patients] & (rng.random((len(patients), len(PREVALENCE))) < 0.8)).astype(np.float32)
    shared = 0.7 * rng.standard_normal(labels.shape)

    def training() -> np.ndarray:
        skill = 1 + scatter * rng.standard_normal()
        return skill * labels + shared + 0.5 * rng.standard_normal(labels.shape)

    first, second = (
        over_runs(labels, [training() for _ in range(runs)], patients, replicates=replicates, seed=number)
        for _ in range(2)
    )
    everything = np.ones(len(PREVALENCE), dtype=bool)
    ap, auroc = (macro_difference(first, second, measure, everything).told_apart for measure in ("ap", "auroc"))
    return bool(ap), bool(auroc)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer worlds; writes nothing")
    parser.add_argument("--jobs", type=int, default=2, help="worlds at once")
    options = parser.parse_args()
    worlds, replicates = (40, 100) if options.quick else (300, 200)
    rows = []
    with ProcessPoolExecutor(options.jobs) as pool:
        for scatter, runs in SETTINGS:
            work = partial(told_apart, scatter=scatter, runs=runs, replicates=replicates)
            share = np.mean(list(pool.map(work, range(worlds), chunksize=10)), axis=0)
            rows.append({"scatter": scatter, "runs": runs, "map": round(share[0], 4), "auroc": round(share[1], 4)})
            print(*rows[-1].values(), sep="\t", flush=True)
    steady = [row["map"] for row in rows if not row["scatter"]]
    result = {
        "name": "comparison",
        "ours": max(steady),
        "peer": next(row["map"] for row in rows if row["scatter"] and row["runs"] == 1),
        "unit": f"share of {worlds} worlds in which equal recipes are told apart by mAP; ours: trainings alike; "
        "peer: one run a side where trainings scatter",
        "ratio": None,
        "goal": "<= 0.10",
        "command": "python bench/comparison.py",
        "rows": rows,
    }
    if not options.quick:
        save(result)


if __name__ == "__main__":
    main()
