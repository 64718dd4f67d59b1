"""The benchmark phantom-26-small measured: the reference recipe on truth and on mined labels, floors, oracle, learning curve.

    hilum import phantom --benchmark phantom-26-small -o small
    python bench/phantom_small.py small small/runs        # trainings that are there already are not repeated

The learning curve trains on the first 25 and 50 % of the training patients with as many steps as on all of them. The
oracle (hilum.sources.phantom.oracle) is measured on the first --oracle test studies: it draws every finding anew.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from calibrate_phantom import RANGES
from floors import floors
from result import save

from hilum.evaluation.evaluate import evaluate
from hilum.findings import TIERS
from hilum.progress import shown
from hilum.recipe import load_recipe
from hilum.sources.phantom.benchmarks import BENCHMARKS, cohort
from hilum.sources.phantom.oracle import oracle_scores
from hilum.tables import Predictions, read_predictions, read_studies, write_predictions, write_studies
from hilum.training.run import train

NAME = "phantom-26-small"
SHARES = (0.25, 0.5, 1.0)


def trained(folder: Path, runs: Path, share: float) -> Path:
    """Predictions of the reference recipe trained on the first `share` of the training patients, in as many steps as on all."""
    run = runs / f"share-{round(100 * share)}"
    file = run / "predictions_test.parquet"
    if file.exists():
        return file
    table = read_studies(folder / "studies.parquet")
    patients = table.filter(split="train")["patient_id"].unique(maintain_order=True)
    kept = patients.head(round(share * patients.len()))
    studies = runs / f"studies-{round(100 * share)}.parquet"
    part = table.filter((pl.col("split") != "train") | pl.col("patient_id").is_in(kept.implode()))
    write_studies(part, studies, label_level="study")
    epochs = round(load_recipe("phantom_small").stages[0].train.epochs / share)
    overrides = [f"studies={studies}", f"cache.folder={folder / 'cache'}", f"train.epochs={epochs}"]
    resume = (run / "recipe.yaml").exists()
    train(None if resume else "phantom_small", [] if resume else overrides, run=run, resume=resume, progress=shown, say=print)  # fmt: skip
    return file


def in_the_same_tiers(file: Path, reference: Path) -> Path:
    """The predictions with the reference's training counts, so that every row averages the same findings in a tier."""
    made, counts = read_predictions(file), read_predictions(reference)
    made.positives, made.known = counts.positives, counts.known
    same = file.with_name("predictions_same_tiers.parquet")
    write_predictions(made, same)
    return same


def oracle(reference: Path, runs: Path, studies: int) -> Path:
    """The oracle's scores for the first test studies, squeezed into 0..1, as a predictions table."""
    file = runs / f"oracle-{studies}.parquet"
    if not file.exists():
        benchmark = BENCHMARKS[NAME]
        first = cohort(benchmark)["test"][:studies]
        chunks = [first[k : k + 50] for k in range(0, len(first), 50)]
        drawn = [
            oracle_scores(chunk, benchmark.world, benchmark.size)
            for chunk in shown(chunks, total=len(chunks), label="oracle")
        ]
        score = 1 / (1 + np.exp(-np.concatenate(drawn) / 4))
        columns = {name: score[:, k].astype(np.float32) for k, name in enumerate(benchmark.world.findings)}
        known = read_predictions(reference)
        frame = pl.DataFrame({"study_id": [study.study_id for study in first], **columns})
        write_predictions(Predictions(frame, positives=known.positives, known=known.known, split="test"), file)
    return file


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path, help=f"where `hilum import phantom --benchmark {NAME}` drew it")
    arguments.add_argument("runs", type=Path, help="where the trainings go")
    arguments.add_argument("--oracle", type=int, default=3000, help="test studies that the oracle is measured on")
    arguments.add_argument("--quick", action="store_true", help="the full training alone, 100 replicates, no JSON")
    given = arguments.parse_args()
    given.runs.mkdir(parents=True, exist_ok=True)
    truth, mined = given.folder / "truth.parquet", given.folder / "studies.parquet"
    shares = SHARES[-1:] if given.quick else SHARES
    reference = trained(given.folder, given.runs, 1.0)
    judged = {
        f"reference, {share:.0%} of the patients": (in_the_same_tiers(trained(given.folder, given.runs, share), reference), truth)
        for share in shares
    }  # fmt: skip
    judged["reference, judged by mined labels"] = (reference, mined)
    if not given.quick:
        judged |= {name: (file, truth) for name, file in floors(read_studies(mined), given.runs).items()}
        judged[f"oracle, {given.oracle:,} studies"] = (oracle(reference, given.runs, given.oracle), truth)
    metrics: dict[str, dict[str, Any]] = {}
    print(f"{'mAP':<36}" + "".join(f"{tier:<24}" for tier in TIERS) + "all")
    for name, (file, labels) in judged.items():
        metrics[name] = evaluate([file], labels, given.runs / "report", replicates=100 if given.quick else 1000)
        macro = metrics[name]["macro"]
        parts = [*((macro[tier] or {}).get("map") for tier in TIERS), macro["map"]]
        print(f"{name:<36}" + "".join(f"{_text(part):<24}" for part in parts), flush=True)
    own = metrics[f"reference, {1:.0%} of the patients"]
    tiers = BENCHMARKS[NAME].world.tiers
    ap = {name: facts["ap"][0] for name, facts in own["findings"].items()}
    within = {name: RANGES[tiers[name]][0] <= value <= RANGES[tiers[name]][1] for name, value in ap.items()}
    print(f"{sum(within.values())} of {len(within)} findings lie in their tier's range; outside:")
    for name, inside in within.items():
        if not inside:
            print(f"  {name} ({tiers[name]}): {ap[name]:.3f}")
    if not given.quick:
        floor = {tier: own["macro"][tier]["floor"] for tier in TIERS}
        save(
            {
                "name": "phantom_small",
                "ours": own["macro"]["map"][0],
                "peer": metrics["ridge on 16 x 16"]["macro"]["map"][0],
                "unit": "mAP on truth: the reference recipe, and ridge on thumbnails",
                "ratio": round(own["macro"]["map"][0] / metrics["ridge on 16 x 16"]["macro"]["map"][0], 2),
                "goal": f"tier means within {RANGES}",
                "command": f"python bench/phantom_small.py {NAME} {NAME}/runs",
                "rows": [
                    {"what": name, **{tier: one["macro"][tier] and one["macro"][tier]["map"] for tier in TIERS},
                     "all": one["macro"]["map"]}
                    for name, one in metrics.items()
                ] + [{"what": "random ranking (expected)", **floor}],
                "findings": {
                    name: {"tier": tiers[name], "positives": own["findings"][name]["positives"], "ap": own["findings"][name]["ap"],
                           "within": within[name]}
                    for name in ap
                },
            }
        )  # fmt: skip


def _text(value: Any) -> str:
    return "-" if not value else f"{value[0]:.3f} [{value[1]:.3f}, {value[2]:.3f}]"


if __name__ == "__main__":
    main()
