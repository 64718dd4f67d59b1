"""What each way to combine models is worth, on finished runs of one split: learned on their validation studies, judged on test.

    python bench/ensembles.py RUN RUN ... --studies STUDIES --truth TRUTH [--quick]

A RUN holds predictions_valid.parquet and predictions_test.parquet, as `hilum train` leaves them. TRUTH is the table whose
labels judge (STUDIES by default). Every method is compared with the plain mean, in mAP, on the same draws of patients.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from result import save

METHODS: dict[str, dict[str, Any]] = {  # what is shown -> the options of hilum.ensemble; best: -1 = all but one
    "mean": {},
    "mean of logits": {"space": "logit"},
    "weighted": {"method": "weighted"},
    "weighted, shared": {"method": "weighted", "shared": True},
    "per-finding, the best half": {"method": "per-finding"},
    "per-finding, all but the worst": {"method": "per-finding", "best": -1},
    "vote": {"method": "vote"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", help="folders of runs that share one split")
    parser.add_argument("--studies", required=True, help="the study table with the validation labels")
    parser.add_argument("--truth", help="the table that judges the test studies")
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="20 replicates; writes nothing")
    options = parser.parse_args()
    from hilum.evaluation.compare import compare
    from hilum.evaluation.ensemble import ensemble

    test, valid = ([Path(run) / f"predictions_{part}.parquet" for run in options.runs] for part in ("test", "valid"))
    with tempfile.TemporaryDirectory() as folder:
        made, valued = {}, {}
        for name, chosen in METHODS.items():
            best = {"best": max(1, len(test) - 1)} if "best" in chosen else {}
            made[name] = Path(folder) / f"{name}.parquet"
            judged = ensemble(test, made[name], fit_on=valid, studies=options.studies, **{**chosen, **best}).judged
            valued[name] = judged[chosen.get("method", "mean")]
        members = list(judged.values())[: len(test)]
        valued["best member"] = max(members)
        made["best member"] = test[members.index(max(members))]  # on validation
        replicates = 20 if options.quick else options.replicates
        names = [name for name in made if name != "mean"]
        truth = options.truth or options.studies
        pairs = compare([made["mean"], *(made[name] for name in names)], truth, replicates=replicates)["pairs"]
    print(f"{'mAP':<32}{'valid':>7}{'test':>7}   {'minus mean, all':<26}{'head':>8}{'medium':>8}{'tail':>8}")
    mean = pairs[0]["macro"]
    rows = [
        {
            "what": "mean",
            "valid": valued["mean"],
            **{tier: [row["map"]["values"][0]] for tier, row in mean.items() if row},
        }
    ]
    for name, pair in zip(names, pairs):
        found = {tier: row["map"] for tier, row in pair["macro"].items() if row}
        turned = {
            tier: [-row["difference"][0], -row["difference"][2], -row["difference"][1]] for tier, row in found.items()
        }
        rows.append({"what": name, "valid": valued[name], "test": found["all"]["values"][1], "minus_mean": turned})
        value, low, high = turned["all"]
        tiers = "".join(
            f"{turned[tier][0]:>+8.3f}" if tier in turned else f"{'-':>8}" for tier in ("head", "medium", "tail")
        )
        print(
            f"{name:<32}{valued[name]:>7.3f}{rows[-1]['test']:>7.3f}   {f'{value:+.3f} [{low:+.3f}, {high:+.3f}]':<26}{tiers}"
        )
    print(f"{'mean':<32}{valued['mean']:>7.3f}{mean['all']['map']['values'][0]:>7.3f}")
    best = max(rows[1:], key=lambda row: row["test"])
    result = {
        "name": "ensembles",
        "ours": mean["all"]["map"]["values"][0],
        "peer": next(row["test"] for row in rows[1:] if row["what"] == "best member"),
        "unit": f"mAP on test of the mean of {len(test)} runs, beside that of the best of them on validation",
        "ratio": None,
        "goal": None,
        "command": f"python bench/ensembles.py RUN x {len(test)} --studies STUDIES --truth TRUTH --replicates {replicates}",
        "members": ["/".join(Path(run).parts[-2:]) for run in options.runs],
        "best": best["what"],
        "rows": rows,
    }
    if not options.quick:
        save(result)


if __name__ == "__main__":
    main()
