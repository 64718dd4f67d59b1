"""Would the demo's claim be made of a predictor that knows nothing? Random scores on the demo's own test studies, many times.

    python bench/random_predictor.py demo            # after `make demo`

Each draw goes through `hilum evaluate` as the demo's own predictions do. The claim needs head and medium above their
floors with the whole 95 % interval each, so about .025 x .025 of the draws may pass by chance.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from hilum.demo import claim, passes
from hilum.evaluation.evaluate import evaluate
from hilum.tables import read_predictions, write_predictions


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("demo", type=Path, help="the folder that `make demo` filled")
    arguments.add_argument("--draws", type=int, default=20)
    given = arguments.parse_args()
    predictions = read_predictions(given.demo / "run" / "predictions_test.parquet")
    passed = 0
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(given.draws):
            random = np.random.default_rng(seed)
            columns = [
                pl.Series(name, random.random(predictions.table.height), dtype=pl.Float32)
                for name in predictions.findings
            ]
            predictions.table = predictions.table.with_columns(columns)
            write_predictions(predictions, Path(folder) / "random.parquet")
            metrics = evaluate([Path(folder) / "random.parquet"], given.demo / "truth.parquet", Path(folder) / "report")
            passed += passes(metrics)
            parts = [
                f"{tier} {part['map'][0]:.3f} [{part['map'][1]:.3f}, {part['map'][2]:.3f}] floor {part['floor']:.3f}"
                for tier in ("head", "medium", "tail")
                if (part := metrics["macro"][tier])
            ]
            print(f"seed {seed:>2}  {'   '.join(parts)}   {'PASSES' if passes(metrics) else 'does not pass'}")
    print(
        f"{passed} of {given.draws} random predictors pass the demo's claim: {claim(metrics)!r} is what the last one is told"
    )


if __name__ == "__main__":
    main()
