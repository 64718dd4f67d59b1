"""What the faults of CheXFusion's published code cost: each one alone, and all of them, against the correct form.

    hilum import phantom --benchmark phantom-26-small -o small
    python bench/fusion_as_published.py small small/as-published      # what is trained there already is not trained again

Four faults of the fusion (bench/faulty_fusion.py, and a learning rate that in effect never falls) are trained as second
stages on the cached features of one first stage, several seeds each, and judged on the truth of the test patients: paired
over patients (and trainings), and over trainings alone. The fifth is the split: images dealt at random, so that most
studies are validated with images of patients, and of studies, that were trained on. Both stages are trained by such a
split and by patient, on as many images of the same pool; how much the split by image flatters is

    (validation mAP - mAP on the truth of unseen patients), split by image, minus the same, split by patient.

The published split dealt 10 % of the images to validation, and so do we. Recipe: chexfusion_small. With the default seeds
there are 3 first stages and 32 second ones; --part measures one of the two and keeps what is stored of the other.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from result import FOLDER, measured_at, save

from hilum.data.splits import hold_out
from hilum.evaluation.compare import difference, over_runs
from hilum.evaluation.intervals import Resampled, macro
from hilum.evaluation.joined import Part, join
from hilum.evaluation.metrics import average_precision
from hilum.progress import shown
from hilum.recipe import Recipe
from hilum.reproductions import Row, System, Table
from hilum.reproductions.judged import judge_table, over_trainings
from hilum.reproductions.page import spoken
from hilum.reproductions.runs import Runs, Seeds
from hilum.sources.phantom.benchmarks import Benchmark, raised_tail
from hilum.sources.phantom.source import draw_benchmark
from hilum.sources.phantom.worlds import WORLDS
from hilum.tables import read_studies, write_studies

NAME, RECIPE, VALID = "fusion_as_published", "chexfusion_small", 0.1
SINGLE, CORRECT = "single view", "correct"
CONSTANT = ["stages.fusion.train.final_lr=1.0", "stages.fusion.train.warmup=0.0"]
WIDTHS = (
    "layers: 2, heads: 4, hidden: 256, dropout: 0.1, reduce: 1"  # as in the recipe, whose own fusion is the correct one
)
SHARED = ["stages.fusion.train.feature_cache=all"]  # the test studies' features too: many second stages on one backbone
QUICK = ["train.epochs=2", "train.batch_size=32", "stages.fusion.train.feature_versions=1", "cache.size=64"]


def faulty(name: str, *faults: str, constant: bool = False) -> Row:
    """A second stage with these faults."""
    said = ", ".join(["name: 'faulty_fusion:as_published'", WIDTHS, *(f"{fault}: true" for fault in faults)])
    overrides = [f"stages.fusion.model.fusion={{{said}}}"] if faults else []
    return Row(name, stage="fusion", start=SINGLE, overrides=[*overrides, *(CONSTANT if constant else [])])


FAULTS = Table(
    name="faults",
    title="Faults of the published fusion",
    against=[CORRECT],
    several_views=True,
    rows=[
        Row(CORRECT, stage="fusion", start=SINGLE),
        faulty("attention across the batch", "across"),
        faulty("absent views not masked", "unmasked"),
        faulty("positions constant over rows", "flat"),
        faulty("constant learning rate", constant=True),
        faulty("all four", "across", "unmasked", "flat", constant=True),
    ],
)
STAGES = [Row(SINGLE, stage="single_view"), FAULTS.rows[0]]


@dataclass(frozen=True)
class Work:
    """The benchmark's folder, where the runs and the decoded images go, and what --quick changes."""

    folder: Path
    runs: Path
    cache: Path
    quick: bool
    replicates: int
    split_size: int | None = None

    @property
    def truth(self) -> Path:
        return self.folder / "truth.parquet"

    @property
    def least(self) -> int:
        """Positive patients that a finding needs to be averaged."""
        return 3 if self.quick else 10

    def trainings(self, name: str, studies: Path, rows: Sequence[Row], seeds: Seeds, size: int | None = None) -> Runs:
        """The runs in a folder of their own, on a table that says its split; size: of the images, if not the recipe's."""
        system = System("", "", "", RECIPE, RECIPE, "rule", [Table(name, "", list(rows), [])])

        def settle(recipe: Recipe) -> Recipe:
            folder = self.cache if size is None else self.cache.with_name(f"{self.cache.name}-{size}")
            cache = replace(recipe.cache, folder=str(folder), size=size or recipe.cache.size)
            return replace(recipe, studies=str(studies), cache=cache, split=replace(recipe.split, column="split"))

        return Runs(
            self.runs / name, system, RECIPE, [*SHARED, *(QUICK if self.quick else [])], settle, seeds=seeds, progress=shown, say=print
        )  # fmt: skip


def cost_of_faults(work: Work, seeds: int) -> dict[str, Any]:
    """The faults judged on truth, second stages of `seeds` seeds on one first stage."""
    single = Row(SINGLE, stage="single_view")
    runs = work.trainings("faults", work.folder / "studies.parquet", [single, *FAULTS.rows], Seeds(1, seeds))
    files = {row.name: runs.predictions(row) for row in FAULTS.rows}
    return judge_table(
        FAULTS, files, work.truth, level="study", replicates=work.replicates, min_positives=work.least, progress=shown
    )


def deals(work: Work) -> dict[str, Path]:
    """The benchmark's pool of training and validation patients dealt anew by image and by patient; its test rows as they are."""
    table = read_studies(work.folder / "studies.parquet")
    pool, rest = table.filter(pl.col("split") != "test"), table.filter(pl.col("split") == "test")
    chosen = np.random.default_rng(0).random(pool.height).argsort() < round(VALID * pool.height)
    by_image = pool.with_columns(split=pl.Series(np.where(chosen, "valid", "train").tolist()))
    dealt = {"image": by_image, "patient": hold_out(pool, valid=VALID, test=0.0, seed=0)}
    files = {}
    for name, made in dealt.items():
        files[name] = work.runs / f"split-by-{name}.parquet"
        write_studies(pl.concat([made, rest]), files[name], label_level="study")
    return files


def shared(file: Path) -> dict[str, float]:
    """Shares of the validation studies that have training images of their own, and of their patient."""
    table = read_studies(file)
    valid, training = (table.filter(split=name) for name in ("valid", "train"))
    studies = valid.unique("study_id")
    return {
        f"same {noun}": round(studies.join(training, on=f"{noun}_id", how="semi").height / studies.height, 4)
        for noun in ("study", "patient")
    }


@dataclass(frozen=True)
class Judged:
    """One population (validation or test studies) scored by the trainings of one split."""

    part: Part
    scores: list[np.ndarray]

    @classmethod
    def of(cls, files: Sequence[Path], studies: Path) -> "Judged":
        parts = [join([file], studies, "study").parts[0] for file in files]
        return cls(parts[0], [part.scores for part in parts])

    def positives(self) -> np.ndarray:
        """(F,) patients with a positive entry."""
        return np.array([len(np.unique(self.part.patients[column > 0.5])) for column in self.part.labels.T])

    def resampled(self, replicates: int, seed: int) -> Resampled:
        return over_runs(self.part.labels, self.scores, self.part.patients, replicates=replicates, seed=seed)

    def per_run(self, chosen: np.ndarray) -> np.ndarray:
        return np.array([average_precision(self.part.labels, scores)[chosen].mean() for scores in self.scores])


def flattery(work: Work, seeds: int) -> list[dict[str, Any]]:
    """Per stage: validation and test mAP by either split, what the split by image adds to the former, and does to the latter."""
    files = deals(work)
    runs = {
        name: work.trainings(f"split-by-{name}", file, STAGES, Seeds(seeds, seeds), work.split_size)
        for name, file in files.items()
    }
    rows = []
    for row in STAGES:
        made = {name: [one.trained(row, seed) for seed in range(seeds)] for name, one in runs.items()}
        judged = {
            (name, split): Judged.of(
                [run / f"predictions_{split}.parquet" for run in made[name]],
                files[name] if split == "valid" else work.truth,
            )
            for name in made
            for split in ("valid", "test")
        }
        assert judged["image", "test"].part.ids == judged["patient", "test"].part.ids
        chosen = np.all([side.positives() >= work.least for side in judged.values()], axis=0)
        draws = {("image", "test"): 0, ("patient", "test"): 0, ("image", "valid"): 1, ("patient", "valid"): 2}
        drawn = {key: side.resampled(work.replicates, draws[key]) for key, side in judged.items()}
        per_run = {key: side.per_run(chosen) for key, side in judged.items()}
        gap = {name: per_run[name, "valid"] - per_run[name, "test"] for name in made}
        flatters = [(1, "image", "valid"), (-1, "image", "test"), (-1, "patient", "valid"), (1, "patient", "test")]
        rows.append(
            {
                "what": f"split by image, {row.name}",
                "findings": int(chosen.sum()),
                "map": {
                    f"{name}, {split}": round(float(values.mean()), 4) for (name, split), values in per_run.items()
                },
                "flatters": told(drawn, flatters, chosen),
                "flatters_over_trainings": over_trainings(gap["patient"], gap["image"]),
                "costs": told(drawn, [(1, "image", "test"), (-1, "patient", "test")], chosen),
                "costs_over_trainings": over_trainings(per_run["patient", "test"], per_run["image", "test"]),
            }
        )
    return rows


def told(
    drawn: dict[tuple[str, str], Resampled], parts: Sequence[tuple[int, str, str]], chosen: np.ndarray
) -> list[float]:
    """[value, low, high] of a sum of signed macro mAPs over the same findings."""
    value = sum(sign * float(macro(drawn[name, split].value["ap"], chosen)) for sign, name, split in parts)
    replicates = sum(sign * macro(drawn[name, split].replicates["ap"], chosen) for sign, name, split in parts)
    found = difference(value, np.asarray(replicates))
    return [found.value, found.low, found.high]


def draw(folder: Path) -> None:
    """A few hundred studies with a split, for --quick."""
    world = raised_tail(WORLDS["cxr-lt-2023"]).changed("quick")
    made = draw_benchmark(folder, "quick", Benchmark(world, size=64, train=180, valid=60, test=120, labelled=40))
    for name, table in (("studies", made.studies), ("truth", made.truth)):
        if table is not None:
            write_studies(table, folder / f"{name}.parquet", label_level="study", note=made.note)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument(
        "folder", type=Path, help="a phantom benchmark: studies.parquet and truth.parquet, with a split"
    )
    arguments.add_argument("runs", type=Path, help="where the trainings go")
    arguments.add_argument("--cache", type=Path, help="decoded images and features, by default RUNS/cache")
    arguments.add_argument("--seeds", type=int, default=5, help="second stages of each fault")
    arguments.add_argument("--split-seeds", type=int, default=1, help="trainings of both stages for each split")
    arguments.add_argument(
        "--split-size", type=int, help="side of the images in these, in pixels; by default the recipe's"
    )
    arguments.add_argument(
        "--part", nargs="+", choices=list(PARTS), default=list(PARTS), help="only this; the other stays as stored"
    )
    arguments.add_argument("--quick", action="store_true", help="360 studies (drawn if need be), two epochs; no JSON")
    given = arguments.parse_args()
    work = Work(
        given.folder,
        given.runs,
        given.cache or given.runs / "cache",
        given.quick,
        replicates=100 if given.quick else 1000,
        split_size=given.split_size,
    )
    if given.quick and not (given.folder / "studies.parquet").exists():
        draw(given.folder)
    given.runs.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    if given.quick:
        given.seeds, given.split_seeds = min(given.seeds, 2), min(given.split_seeds, 2)
    made = {name: PARTS[name](work, given) for name in given.part}
    print(f"{(time.monotonic() - started) / 60:.0f} minutes")
    if given.quick:
        return
    file = FOLDER / f"{NAME}.json"
    parts = (json.loads(file.read_text())["parts"] if file.exists() else {}) | made
    every = {row["what"]: row for row in parts.get("faults", {"rows": []})["rows"] if row["on"] == "every study"}
    four = every.get("all four")
    save(
        {
            "name": NAME,
            "ours": four and round(four["ours"]["all"][0], 4),
            "peer": four and round(four["peer"]["all"][0], 4),
            "unit": "mAP on the truth of test studies; peer: with the four faults of the published fusion",
            "ratio": None,
            "goal": "what each published fault costs, and how much a split by image flatters; there is no target",
            "parts": parts,
        }
    )


def faults_part(work: Work, given: argparse.Namespace) -> dict[str, Any]:
    """What each fault costs, printed, as rows with the command."""
    judged = cost_of_faults(work, given.seeds)
    rows: list[dict[str, Any]] = []
    for panel in judged["panels"]:
        print(f"\n{panel['name']}: mAP, fault minus correct, over patients and trainings; over trainings alone")
        figures = {row["name"]: row["ours"] for row in panel["rows"]}
        print(f"{CORRECT:<30}{spoken(figures[CORRECT]['all'])}")
        for pair in (pair for pair in panel["differences"] if pair["from"] == CORRECT):
            found = {column: one for column, one in pair["columns"].items() if one is not None}
            rows.append({"what": pair["to"], "on": panel["name"], "ours": figures[CORRECT], "peer": figures[pair["to"]], "costs": found})  # fmt: skip
            print(
                f"{pair['to']:<30}{spoken(found['all']['difference'], '+')}   {spoken(found['all']['over_trainings'], '+')}"
            )
    command = f"python bench/{NAME}.py {given.folder} {given.runs} --part faults --seeds {given.seeds}"
    return {"rows": rows, "seeds": given.seeds, "command": command} | measured_at()


def split_part(work: Work, given: argparse.Namespace) -> dict[str, Any]:
    """How much a split by image flatters, printed, as rows with the command."""
    rows = flattery(work, given.split_seeds)
    leaks = {name: shared(work.runs / f"split-by-{name}.parquet") for name in ("image", "patient")}
    print(f"\nvalidation studies that share a study or a patient with training: {leaks}")
    for row in rows:
        print(f"{row['what']:<30}{row['map']}")
        print(
            f"  flatters validation mAP by  {spoken(row['flatters'], '+')}   {spoken(row['flatters_over_trainings'], '+')}"
        )
        print(f"  changes the test mAP by     {spoken(row['costs'], '+')}   {spoken(row['costs_over_trainings'], '+')}")
    command = f"python bench/{NAME}.py {given.folder} {given.runs} --part split --split-seeds {given.split_seeds}"
    command += f" --split-size {given.split_size}" if given.split_size else ""
    return {"rows": rows, "seeds": given.split_seeds, "shared": leaks, "command": command} | measured_at()


PARTS = {"faults": faults_part, "split": split_part}

if __name__ == "__main__":
    main()
