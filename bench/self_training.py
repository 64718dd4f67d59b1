"""Self-training measured: how much of what full labels bring it recovers from a quarter of them, for three ways to lack labels.

    hilum import phantom --benchmark phantom-26-small -o small
    python bench/self_training.py small          # trainings that are there already are not repeated
    python bench/self_training.py small-quick --quick        # draws a few hundred studies there itself

Cases, each with about a quarter of the labels (the last with more):
  unlabelled   the benchmark's semi-supervised form: all but the first training patients have no label
  unknown      every training study keeps a random quarter of its entries
  absent       the studies that are unlabelled above come from a source that labels every second finding, by prevalence
Arms: the teacher, trained on what is labelled, as many steps as the others; a control that is trained as the teacher, under
the students' noise; the last student; the teacher's recipe on full labels. What a student gains over the control is due to
pseudo labels, not to noise. All are judged on the truth of the test studies; `compare` draws patients, and runs where there
are several seeds. `python bench/figures_page.py` lays the figures into docs/how-to/self-training.md.
"""

import argparse
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from result import save

from hilum.evaluation.compare import ROWS, compare
from hilum.evaluation.evaluate import evaluate
from hilum.inference.pseudo_rules import Rules
from hilum.progress import shown
from hilum.recipe import load_recipe
from hilum.reproductions.runs import finished
from hilum.sources.phantom.benchmarks import BENCHMARKS, Benchmark
from hilum.sources.phantom.source import draw_benchmark
from hilum.tables import finding_names, read_studies, studies_metadata, write_studies
from hilum.training.self_training import self_training

NAME, RECIPE = "phantom-26-small", "phantom_small"
CASES = ("unlabelled", "unknown", "absent")
OWN, LABELLED, NOISY, FULL = "self-trained", "labelled only", "labelled only, noisy", "full labels"


def draw_quick(folder: Path) -> None:
    """A benchmark of a few hundred studies of 32 px."""
    if (folder / "partly.parquet").exists():
        return
    small = Benchmark(BENCHMARKS[NAME].world, size=32, train=200, valid=80, test=160, labelled=50)
    made = draw_benchmark(folder, "quick", small, workers=1, progress=shown)
    for name in ("studies", "truth", "partly"):
        write_studies(getattr(made, name), folder / f"{name}.parquet", label_level="study", note=made.note)


def case_table(case: str, folder: Path, runs: Path) -> Path:
    """The study table of a case; valid and test are the same in all."""
    whole, partly = (read_studies(folder / f"{name}.parquet") for name in ("studies", "partly"))
    findings = finding_names(whole)
    training = pl.col("split") == "train"
    labelled = partly.filter(training & pl.any_horizontal(pl.col(findings).is_not_null()))["study_id"].unique()
    others = training & ~pl.col("study_id").is_in(labelled.implode())
    if case == "unlabelled":
        table = partly
    elif case == "absent":
        by_prevalence = sorted(findings, key=lambda name: (whole.filter(training)[name] == 1).sum())
        lacking = [pl.when(others).then(None).otherwise(pl.col(name)).alias(name) for name in by_prevalence[::2]]
        source = pl.when(others).then(pl.lit("phantom elsewhere")).otherwise("source").alias("source")
        table = whole.with_columns(*lacking, source)
    else:
        share = len(labelled) / whole.filter(training)["study_id"].n_unique()
        studies = whole.select(pl.col("study_id").unique(maintain_order=True))
        kept = np.random.default_rng(0).random((studies.height, len(findings))) < share
        drawn = studies.with_columns(pl.Series(f"kept {name}", kept[:, i]) for i, name in enumerate(findings))
        rows = whole.join(drawn, on="study_id", how="left", maintain_order="left")
        holed = [
            pl.when(training & ~pl.col(f"kept {name}")).then(None).otherwise(pl.col(name)).alias(name)
            for name in findings
        ]
        table = rows.with_columns(holed).select(whole.columns)
    file = runs / f"{case}.parquet"
    write_studies(table, file, label_level="study", note=studies_metadata(folder / "studies.parquet").get("note"))
    return file


def trained(folder: Path, runs: Path, seed: int, given: argparse.Namespace) -> dict[str, dict[str, Path]]:
    """case -> arm -> predictions of the test studies."""
    size = 32 if given.quick else given.size
    shared = [f"cache.folder={folder / f'cache-{size}'}", f"cache.size={size}", f"train.seed={seed}"]
    shared += ["train.epochs=2"] if given.quick else []
    full = _run([f"studies={folder / 'studies.parquet'}", *shared], runs / f"full-seed{seed}")
    whole = _training_studies(folder / "studies.parquet")
    files: dict[str, dict[str, Path]] = {}
    for case in CASES:
        table = case_table(case, folder, runs)
        epochs = load_recipe(RECIPE, shared).stages[0].train.epochs
        longer = round(epochs * whole / _training_studies(table))
        base = runs / f"{case}-seed{seed}"
        last = self_training(
            RECIPE, [f"studies={table}", *shared], folder=base, rounds=given.rounds, teacher=[f"train.epochs={longer}"],
            student=given.student, start=given.start, weight=given.weight, seed=seed, progress=shown, say=print,
            rules=Rules(match_prevalence=given.match_prevalence, cases=(case,)),
        )  # fmt: skip
        labelled = [f"studies={base / 'labelled.parquet'}", *shared, f"train.epochs={longer}"]
        noisy = _run([*labelled, *given.student], runs / f"{case}-noisy-seed{seed}")
        arms = {OWN: last, LABELLED: base / "teacher", NOISY: noisy, FULL: full}
        files[case] = {arm: run / "predictions_test.parquet" for arm, run in arms.items()}
    return files


def _run(overrides: list[str], run: Path) -> Path:
    return finished(load_recipe(RECIPE, overrides), run, run.with_suffix(".yaml"), progress=shown, say=print)


def runs_folder(given: argparse.Namespace) -> Path:
    """A folder for everything that the options decide."""
    rule = "matched" if given.match_prevalence else "soft"
    student = re.sub(r"[^\w.=-]+", "_", " ".join(given.student)) or "as-teacher"
    size = 32 if given.quick else given.size
    name = f"{rule}-{given.start}-{given.weight:g}-{size}px-{given.rounds}-rounds-{student}"
    return given.folder / "self-training" / name


def _training_studies(file: Path) -> int:
    """Training studies with any label."""
    table = read_studies(file).filter(pl.col("split") == "train")
    return table.filter(pl.any_horizontal(pl.col(finding_names(table)).is_not_null()))["study_id"].n_unique()


def judged(case: str, runs: list[dict[str, Path]], truth: Path, report: Path, replicates: int) -> dict[str, Any]:
    """Per tier: mAP of each arm with its interval; what self-training gains over labelled studies alone, and over these
    under the students' noise; and which shares of the gaps to full labels this is.
    """
    arms = list(runs[0])
    alone = {arm: evaluate([runs[0][arm]], truth, report, replicates=replicates)["macro"] for arm in arms}
    sides = [[one[arm] for one in runs] for arm in arms]
    compared = compare(sides, truth, replicates=replicates)
    over = dict(zip(arms[1:], (pair["macro"] for pair in compared["pairs"])))
    tiers: dict[str, Any] = {}
    for row in ROWS:
        if over[LABELLED][row] is None:
            continue
        found = {arm: pair[row]["map"] for arm, pair in over.items()}
        own, high = found[LABELLED]["values"][0], found[FULL]["values"][1]
        low, noisy = (found[arm]["values"][1] for arm in (LABELLED, NOISY))
        one = {arm: (alone[arm] if row == "all" else alone[arm][row] or {}).get("map") for arm in arms}
        tiers[row] = {
            "map": {OWN: own, LABELLED: low, NOISY: noisy, FULL: high},
            "first_seed": one,
            "gain": found[LABELLED]["difference"],
            "gain_over_noisy": found[NOISY]["difference"],
            "short_of_full": found[FULL]["difference"],
            "recovered": share(own, low, high),
            "recovered_over_noisy": share(own, noisy, high),
        }
    return {"case": case, "runs": len(runs), "tiers": tiers}


def share(own: float, low: float, high: float) -> float | None:
    """The part of the gap between low and high that is recovered; None where there is no gap."""
    return (own - low) / (high - low) if high > low else None


def table(rows: list[dict[str, Any]]) -> str:
    """Every case and tier, for a terminal."""
    lines = [f"{'case':<12}{'tier':<8}{'labelled':>9}{'noisy':>8}{'self':>8}{'full':>8}   {'gain':<26}{'gap':>6}   "
             f"{'over noisy':<26}{'gap':>6}"]  # fmt: skip
    for row in rows:
        for tier, one in row["tiers"].items():
            line = f"{row['case']:<12}{tier:<8}{one['map'][LABELLED]:>9.3f}"
            line += "".join(f"{one['map'][arm]:>8.3f}" for arm in (NOISY, OWN, FULL))
            for gain, part in (("gain", "recovered"), ("gain_over_noisy", "recovered_over_noisy")):
                value, low, high = one[gain]
                told = f"{value:+.3f}" + ("" if low is None else f" [{low:+.3f}, {high:+.3f}]")
                line += f"   {told:<26}" + ("-" if one[part] is None else f"{one[part]:.0%}").rjust(6)
            lines.append(line)
    return "\n".join(lines)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path, help=f"where `hilum import phantom --benchmark {NAME}` drew it")
    arguments.add_argument("--seeds", type=int, default=1, help="trainings of every arm")
    arguments.add_argument("--rounds", type=int, default=2, help="students after one another")
    arguments.add_argument("--start", choices=("scratch", "continued"), default="scratch", help="how students begin")
    arguments.add_argument("--weight", type=float, default=1.0, help="of pseudo labels")
    arguments.add_argument("--match-prevalence", action="store_true", help="hard labels, not calibrated soft ones")
    arguments.add_argument("--student", nargs="*", default=["augment.erase=0.3"], help="what is noisier in students")
    arguments.add_argument("--size", type=int, default=96, help="side of the images in pixels")
    arguments.add_argument("--quick", action="store_true", help="a few hundred studies of 32 px, one round, no JSON")
    given = arguments.parse_args()
    if given.quick:
        draw_quick(given.folder)
        given.rounds = 1
    runs = runs_folder(given)
    runs.mkdir(parents=True, exist_ok=True)
    made = [trained(given.folder, runs, seed, given) for seed in range(given.seeds)]
    replicates = 100 if given.quick else 1000
    truth = given.folder / "truth.parquet"
    rows = [judged(case, [one[case] for one in made], truth, runs / "report", replicates) for case in CASES]
    print(table(rows))
    if not given.quick:
        first = rows[0]["tiers"]["all"]
        save(
            {
                "name": "self_training",
                "ours": first["map"][OWN],
                "peer": first["map"][LABELLED],
                "unit": f"mAP on truth, {NAME}, unlabelled studies: self-trained, and labelled only",
                "ratio": round(first["map"][OWN] / first["map"][LABELLED], 3),
                "goal": "part of the gap to full labels is recovered: the interval of the gain lies above 0",
                "command": f"python bench/self_training.py {NAME} --seeds {given.seeds} --rounds {given.rounds} --size {given.size}"
                f" --start {given.start} --weight {given.weight:g}{' --match-prevalence' if given.match_prevalence else ''}"
                f" --student {' '.join(given.student)}",
                "rows": rows,
            }
        )


if __name__ == "__main__":
    main()
