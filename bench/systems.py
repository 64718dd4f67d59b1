"""Every published single-view system side by side, and ours: heads on the same frozen features, and whole networks.

    hilum import phantom --benchmark phantom-26-small -o small
    python bench/systems.py small small/systems --nih FOLDER_OF_CHESTXRAY14      # writes hilum/recipes/README.md
    python bench/systems.py small small/systems --tables heads                   # one table anew, the others as stored
    python bench/systems.py small small/systems --only LDAM Focal                # these rows alone, no page
    python bench/systems.py --page                                               # the page anew from what is stored
    python bench/systems.py small small/systems --choose                         # which head `hilum` takes, on validation
    python bench/systems.py quick quick/systems --quick                          # draws a few hundred studies itself

Tables: (a) losses, samplers, mixing, re-training, ensembles and rules as a linear head on the frozen features of one
backbone, which the recipe phantom_small trains on the same training studies unless --backbone names a bundle; (b) whole
networks on the first --train training studies at 64 px, and on five folds of the images of ChestX-ray14 in --nih. Rows of
(b) name the small network that stands in for theirs. All rows of a table take equally many steps at one learning rate
and schedule: what differs is loss, sampling, model, augmentation and test-time transforms. What is trained in the second
folder already is not trained again. bench/system_rows.py holds the rows. Of ChestX-ray14 give a folder whose images all have
one size (of several copies the largest is read, and a network could see which were enlarged).
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
from floors import floors
from fusion_as_published import draw
from part import part_of
from result import FOLDER, measured_at, save
from system_page import judged, page
from system_rows import BASELINE, CANDIDATES, FLOORS, HEAD_RATE, HEADS, RATE, REFERENCE, WHOLE, Entry, chosen
from system_runs import Data, Files, Heads, head_files, seconds, whole_files

from hilum.atomic import ensure_folder, write_text
from hilum.errors import InputError
from hilum.evaluation.ensemble import ensemble
from hilum.evaluation.joined import join
from hilum.evaluation.metrics import average_precision
from hilum.progress import shown
from hilum.recipe import RECIPES, load_recipe
from hilum.reproductions.runs import finished
from hilum.sources import import_studies
from hilum.tables import read_studies, studies_metadata, write_studies

TABLES = ("heads", "whole", "nih")
TITLES = {
    "heads": "(a) One linear head on the same frozen features",
    "whole": "(b) Whole networks on the phantom",
    "nih": "(b) Whole networks on five folds of real images (ChestX-ray14)",
}
FOLDS = 5  # with --quick 2
FACTS = [
    "Every system was trained here from nothing, small, on little data: the tables say which of their ideas make a difference"
    " under equal conditions, not how good the published models are.",
    "Training seconds are wall time of one thread on a machine that did other things besides: hold only their order.",
]


def main() -> None:
    given = _arguments()
    if given.page:
        write_text(RECIPES / "README.md", page_of(stored()))
        return
    if given.quick:
        given.seeds, given.head_epochs, given.epochs, given.replicates = 2, 1, 1, 50
        given.train, given.valid, given.test = 100, 40, 80
        if not (given.folder / "studies.parquet").exists():
            draw(given.folder)
    ensure_folder(given.work)
    if given.choose:
        choose(heads_of(given), given.seeds)
        return
    made = {name: one for name in given.tables if (one := table(name, given)) is not None}
    if given.quick or given.only:
        print(page_of(made))
        return
    tables = {name: one for name, one in (stored() | made).items() if name in TABLES}
    told = page_of(tables)
    print(told)
    of = {row["name"]: row["figures"]["all"][0] for row in tables["whole"]["rows"]} if "whole" in tables else {}
    save(
        {
            "name": "systems",
            "ours": of.get("hilum"),
            "peer": of.get(REFERENCE),
            "unit": "mAP on truth, whole networks on the phantom: our recipe, and the reference",
            "ratio": round(of["hilum"] / of[REFERENCE], 3) if of else None,
            "goal": "which published differences are real, and which are noise",
            "command": _command(given),
            "rows": tables["heads"]["rows"] if "heads" in tables else [],
            "tables": tables,
        }
    )
    write_text(RECIPES / "README.md", told)
    print(f"written: {RECIPES / 'README.md'} and {FOLDER / 'systems.json'}")


def stored() -> dict[str, Any]:
    """The tables measured before; each says by which command and at which commit."""
    file = FOLDER / "systems.json"
    tables: dict[str, Any] = json.loads(file.read_text())["tables"] if file.exists() else {}
    return tables


def page_of(tables: Mapping[str, Any]) -> str:
    """The page of the tables that there are."""
    return page(FACTS, {TITLES[name]: (tables[name], entries_of(name)) for name in TABLES if name in tables})


# -- the tables -------------------------------------------------------------------------------------------------------


def entries_of(name: str, only: Sequence[str] = ()) -> list[Entry]:
    """The rows of a table, floors last."""
    return [*chosen(HEADS if name == "heads" else WHOLE, only), *FLOORS]


def table(name: str, given: argparse.Namespace) -> dict[str, Any] | None:
    """A judged table, and how it was made; None where --only names no row of it, or there are no NIH images."""
    entries = [one for one in entries_of(name, given.only) if one not in FLOORS]
    if not entries or (name == "nih" and given.nih is None):
        return None
    if name == "heads":
        heads = heads_of(given)
        files, data = head_files(entries, heads, given.seeds), heads.data
        files |= floor_files(read_studies(data.studies), given.work / "floors-heads")
    elif name == "whole":
        data = part(given)
        files = whole_files(entries, data, given.work / "whole", given.epochs, seeds=given.whole_seeds)
        files |= floor_files(read_studies(data.studies), given.work / "floors-whole")
    else:
        data = nih_of(given)
        files = whole_files(entries, data, given.work / "nih", given.epochs, folds=2 if given.quick else FOLDS)
        floored = [
            floor_files(read_studies(file.parent / "studies.parquet"), given.work / f"floors-nih-{fold}")
            for fold, file in enumerate(files[REFERENCE])
        ]
        files |= {floor: [one[floor][0] for one in floored] for floor in floored[0]}
    baseline = BASELINE if name == "heads" else REFERENCE
    made = judged(
        files,
        entries,
        judge_of(data, given.work / f"truth-{name}.parquet"),
        baseline,
        replicates=given.replicates,
        least=3 if given.quick else 10,
    )
    stand_in = {one.name: one.stand_in for one in entries if one.stand_in}
    for row in made["rows"]:
        spent = [one for file in files[row["name"]] if (one := seconds(file)) is not None]
        row["stand_in"] = stand_in.get(row["name"])  # as it was when measured
        row["seconds"] = sum(spent) / (1 if name == "nih" else len(spent)) if spent else None
    return made | {"how": how(name, given), "command": _command(given)} | measured_at()


def heads_of(given: argparse.Namespace) -> Heads:
    """What trains table (a): the backbone is that of a given bundle, or of a run of the reference recipe made here."""
    data = Data(
        given.folder / "studies.parquet", given.folder / "truth.parquet", given.cache or given.work / "cache-96"
    )
    bundle = given.backbone
    if bundle is None:
        quick = ["train.epochs=1", "cache.size=64"] if given.quick else []
        plan = load_recipe("phantom_small", [f"studies={data.studies}", f"cache.folder={data.cache}", *quick])
        run = given.work / "backbone"
        bundle = finished(plan, run, given.work / "backbone.yaml", progress=shown, say=print) / "bundle"
    return Heads(data, bundle, given.work / "heads", given.head_epochs)


def part(given: argparse.Namespace) -> Data:
    """The first training, validation and test studies of the phantom."""
    most = {split: getattr(given, split) for split in ("train", "valid", "test")}
    file = part_of(given.folder / "studies.parquet", given.work / "part.parquet", most)
    return Data(file, given.folder / "truth.parquet", given.work / "cache-64")


def nih_of(given: argparse.Namespace) -> Data:
    """The images of ChestX-ray14 at hand."""
    file = given.work / "nih.parquet"
    if not file.exists():
        import_studies("nih", given.nih, file, progress=shown)
        if given.quick:
            rows = read_studies(file)
            patients = rows["patient_id"].unique(maintain_order=True).head(60)
            write_studies(rows.filter(pl.col("patient_id").is_in(patients.implode())), file, label_level="image")
    return Data(file, file, given.work / "cache-nih-64")


def judge_of(data: Data, file: Path) -> Path:
    """The truth of the test studies, a row for each, as a table that can be held beside hundreds of predictions."""
    if data.truth == data.studies:  # dealt into folds: every study is tested once
        return data.truth
    rows = read_studies(data.truth).filter(split="test").unique("study_id", keep="first", maintain_order=True)
    write_studies(rows, file, label_level="study", note=studies_metadata(data.truth).get("note"))
    return file


def floor_files(studies: pl.DataFrame, folder: Path) -> Files:
    """What knows nothing of disease (bench/floors.py), for the test studies of a table with a split."""
    made = {one.name: folder / f"floor-{number}.parquet" for number, one in enumerate(FLOORS)}
    if not all(file.exists() for file in made.values()):
        ensure_folder(folder)
        found = floors(studies, folder)
        assert found == made, "bench/floors.py has other floors"
    return {name: [file] for name, file in made.items()}


# -- which head is ours -----------------------------------------------------------------------------------------------


def choose(heads: Heads, seeds: int) -> None:
    """Validation mAP of every candidate for the second stage of `hilum`, and of their means; test studies are not looked at."""
    entries, made = list(CANDIDATES), {}
    for one in entries:
        runs = [heads.predicted(one, seed, ("valid",)) for seed in range(seeds)]
        made[one.name] = [run / "predictions_valid.parquet" for run in runs]
    for place, one in enumerate(entries):
        for other in entries[place + 1 :]:
            name = f"{one.name} and {other.name}, mean"
            made[name] = []
            for seed, pair in enumerate(zip(made[one.name], made[other.name])):
                file = heads.folder / "means" / f"{replace(one, name=name).folder}-seed-{seed}.parquet"
                ensure_folder(file.parent)
                ensemble(pair, file)
                made[name].append(file)
    worth = {name: [validation_map(file, heads.data.studies) for file in files] for name, files in made.items()}
    print(f"{'mAP on validation':<80}mean of {seeds} trainings, least, most")
    for name in sorted(worth, key=lambda name: -sum(worth[name])):
        print(f"{name:<80}{sum(worth[name]) / seeds:.4f}  {min(worth[name]):.4f}  {max(worth[name]):.4f}")


def validation_map(file: Path, studies: Path) -> float:
    """Mean average precision over the findings with 20 or more positives among the validation studies."""
    part = join([file], studies, "study").parts[0]
    enough = (part.labels > 0.5).sum(axis=0) >= 20
    return float(average_precision(part.labels, part.scores)[enough].mean())


# -- what is said of it -----------------------------------------------------------------------------------------------


def how(name: str, given: argparse.Namespace) -> str:
    """A sentence on how the figures of a table were made."""
    if name == "heads":
        backbone = given.backbone or "phantom_small, trained on the same training studies"
        return (
            f"Features of the frozen backbone of {backbone}, of the images as they are; {given.seeds} trainings a row of"
            f" {given.head_epochs} epochs' steps (batches of 128, learning rate {HEAD_RATE:g}); judged on the truth of test patients,"
            " while all learn from mined labels. tau-normalisation orders studies as its first stage does: only its Brier skill moves."
        )
    told = "" if name == "nih" else f" {given.train:,} training studies."
    return (
        f"64 px, {given.epochs} epochs' steps of single images in batches of 32, AdamW at {RATE:g} (networks without batch"
        f" norm at a third), averaged weights.{told} Second stages on frozen features come on top. Each row's network stands in"
        " for the one named: a small one of its kind, or the nearest in timm, from nothing."
    )


def _command(given: argparse.Namespace) -> str:
    nih = " --nih FOLDER_OF_CHESTXRAY14" if given.nih else ""
    backbone = " --backbone BUNDLE" if given.backbone else ""
    sizes = "".join(
        f" --{name.replace('_', '-')} {value}"
        for name, value in (("seeds", given.seeds), ("head_epochs", given.head_epochs), ("epochs", given.epochs), ("train", given.train))
    )  # fmt: skip
    tables = "" if set(given.tables) == set(TABLES) else f" --tables {' '.join(given.tables)}"
    return f"python bench/systems.py phantom-26-small RUNS{nih}{backbone}{tables}{sizes}"


def _arguments() -> argparse.Namespace:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(
        "folder", type=Path, nargs="?", help="a phantom benchmark: studies.parquet and truth.parquet, with a split"
    )
    made.add_argument("work", type=Path, nargs="?", help="where the trainings go")
    made.add_argument("--nih", type=Path, help="a folder of ChestX-ray14, or of a part; its images in one size")
    made.add_argument("--backbone", type=Path, help="a bundle whose backbone makes the features of (a)")
    made.add_argument("--cache", type=Path, help="decoded images for (a), by default WORK/cache-96")
    made.add_argument(
        "--tables", nargs="+", choices=TABLES, default=list(TABLES), help="only these; the page keeps the others"
    )
    made.add_argument(
        "--only", nargs="+", default=[], metavar="ROW", help="only these rows and what they need; no page then"
    )
    made.add_argument("--seeds", type=int, default=5, help="trainings of each row of (a)")
    made.add_argument("--whole-seeds", type=int, default=1, help="trainings of each row of (b) on the phantom")
    made.add_argument("--head-epochs", type=int, default=10, help="whose steps every row of (a) takes")
    made.add_argument("--epochs", type=int, default=12, help="whose steps every row of (b) takes")
    made.add_argument("--train", type=int, default=2000, help="training studies of (b)")
    made.add_argument("--valid", type=int, default=500, help="validation studies of (b)")
    made.add_argument("--test", type=int, default=5000, help="test studies of (b)")
    made.add_argument("--replicates", type=int, default=500, help="draws of patients behind the intervals")
    made.add_argument("--choose", action="store_true", help="hold the candidates for our own head against each other")
    made.add_argument(
        "--quick", action="store_true", help="360 studies (drawn if need be), one epoch; prints the page only"
    )
    made.add_argument("--page", action="store_true", help="only make the page anew from the tables that are stored")
    given = made.parse_args()
    if given.work is None and not given.page:
        made.error("name the benchmark's folder, and where the trainings go")
    known = {one.name for one in (*HEADS, *WHOLE)} | {one.folder for one in (*HEADS, *WHOLE)}
    if unknown := [name for name in given.only if name not in known]:
        raise SystemExit(
            str(InputError(f"there is no row {unknown[0]!r}", do=f"choose among {', '.join(sorted(known))}"))
        )
    return given


if __name__ == "__main__":
    main()
