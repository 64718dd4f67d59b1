"""Three phantom hospitals that label different findings: training on their union, on each alone, and with unknowns as zeros.

    python bench/partial_labels.py FOLDER          # draws the hospitals there; trainings that are done are not repeated
    python bench/partial_labels.py FOLDER --epochs 20       # longer trainings than the stored ones
    python bench/partial_labels.py FOLDER --quick  # 60 studies of 32 px, one epoch; writes nothing

    practice     labels the 14 findings of NIH; two views of people who stand, findings at 0.6 of the published prevalence
    ward         labels the 14 of CheXpert; one view of people in bed (AP), findings at 1.3 of it
    university   labels the 26 of CXR-LT 2023; views, beds and prevalences as published

Each has a device of its own, with its own curve, noise and collimator, by which a network can tell the hospital.
Rare findings are raised to 1.5-3 % before that, so that a thousand test studies hold some of each. All trainings take as many steps, and
are judged on the true labels of the test studies of all three. Arms: `union` is what `hilum merge` makes, unknown where
nobody looked; `zeros` is the same table with zeros there, and No Finding of the two lists as one column.
"""

import argparse
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import cv2
import numpy as np
import polars as pl
from result import save

from hilum.evaluation.compare import ROWS, compare
from hilum.evaluation.evaluate import evaluate
from hilum.findings import FINDING_SETS
from hilum.inference.predict import predict
from hilum.progress import shown
from hilum.sources.merge import merge
from hilum.sources.phantom.benchmarks import Benchmark, raised_tail
from hilum.sources.phantom.source import NOTE, draw_benchmark
from hilum.sources.phantom.worlds import WORLDS, World
from hilum.tables import finding_names, read_predictions, read_studies, write_predictions, write_studies
from hilum.training.run import train

RECIPE, TIERS_BY, SIZE, EPOCHS = "phantom_small", "chexfusion-2023", 64, 4
EVERY = FINDING_SETS["cxr-lt-2023"]
LABELLED = {"practice": FINDING_SETS["nih"], "ward": FINDING_SETS["chexpert"], "university": EVERY}


class Device(NamedTuple):
    """gamma: of its curve; noise: in grey levels; above, beside: the share of the picture that its collimator hides there."""

    name: str
    gamma: float
    noise: float
    above: float
    beside: float


DEVICES = {
    "practice": Device("older cassettes", 0.8, 4.0, 0.0, 0.06),
    "ward": Device("mobile unit", 1.25, 8.0, 0.0, 0.0),
    "university": Device("flat panel", 1.0, 1.0, 0.04, 0.0),
}
SHARED = [name for name in EVERY if all(name in names for names in LABELLED.values())]


def worlds() -> dict[str, World]:
    """The world of each hospital."""
    base = raised_tail(WORLDS["cxr-lt-2023"], low=0.015, high=0.03)

    def share(factor: float) -> dict[str, float]:
        return {name: min(0.5, factor * one) for name, one in base.prevalence.items() if name != "No Finding"}

    return {
        "practice": base.changed("practice", prevalence=share(0.6), images=(0.10, 0.80, 0.09, 0.01), bedside=-3.5),
        "ward": base.changed("ward", prevalence=share(1.3), images=(0.80, 0.15, 0.04, 0.01), bedside=0.5),
        "university": base.changed("university"),
    }


def draw(folder: Path, quick: bool) -> None:
    """Each hospital's labels (train and valid, what it labels) and truth (test, everything), and their unions."""
    train_, valid, test = (60, 30, 60) if quick else (800, 200, 1000)
    for number, (name, world) in enumerate(worlds().items()):
        if (folder / name / "truth.parquet").exists():
            continue
        plan = Benchmark(
            world, size=32 if quick else SIZE, train=train_, valid=valid, test=test, labelled=train_, seed=61 + number
        )
        made = draw_benchmark(folder / name, name, plan, workers=1, progress=shown)
        assert made.truth is not None
        studies, truth = (taken_by(DEVICES[name], table, folder / name) for table in (made.studies, made.truth))
        given = studies.filter(pl.col("split") != "test").drop(each for each in EVERY if each not in LABELLED[name])
        if name == "ward":
            given = denying_its_own(given)
        write_studies(given, folder / name / "labels.parquet", label_level="study", note=NOTE)
        truth = truth.filter(pl.col("split") == "test")
        write_studies(truth, folder / name / "truth.parquet", label_level="study", note=NOTE)
    for what in ("labels", "truth"):
        merged = merge([f"{name}={folder / name / what}.parquet" for name in LABELLED], folder / f"{what}.parquet")
        print("\n".join(merged.notes))
    write_studies(
        zeros(read_studies(folder / "labels.parquet")), folder / "zeros.parquet", label_level="study", note=NOTE
    )


def taken_by(device: Device, table: pl.DataFrame, folder: Path) -> pl.DataFrame:
    """The study table with the pictures as this device takes them, written to FOLDER/pictures; the same every time."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    paths = []
    for image, path in table.select("image_id", "path").iter_rows():
        paths.append(str(folder / "pictures" / f"{image}.png"))
        if not Path(paths[-1]).exists():
            picture = pictured(device, cv2.imread(path, cv2.IMREAD_GRAYSCALE), seed=crc32(image.encode()))
            cv2.imwrite(paths[-1], picture)
    return table.with_columns(path=pl.Series(paths), device=pl.lit(device.name))


def pictured(device: Device, picture: np.ndarray, seed: int) -> np.ndarray:
    """A picture uint8 (H, W) as the device takes it."""
    grey = 255 * (picture / 255) ** device.gamma
    grey += device.noise * np.random.default_rng(seed).standard_normal(picture.shape)
    rows, columns = (round(share * side) for share, side in zip((device.above, device.beside), picture.shape))
    hidden = np.ones(picture.shape, dtype=bool)
    hidden[rows : len(picture) - rows, columns : picture.shape[1] - columns] = False
    made: np.ndarray = np.where(hidden, 3, grey.clip(0, 255)).astype(np.uint8)
    return made


def denying_its_own(table: pl.DataFrame) -> pl.DataFrame:
    """The ward's labels, whose No Finding denies the ward's list: null where one of that is unknown and none present."""
    listed = [pl.col(each) for each in LABELLED["ward"] if each not in ("No Finding", "Support Devices")]
    normal = (
        pl.when(pl.any_horizontal(each == 1 for each in listed)).then(0)
        .when(pl.all_horizontal(each == 0 for each in listed)).then(1)
    )  # fmt: skip
    return table.with_columns(normal.cast(pl.Int8).alias("No Finding"))


def zeros(union: pl.DataFrame) -> pl.DataFrame:
    """The mistake: what is not labelled is absent, and a word means the same everywhere."""
    relative = [name for name in finding_names(union) if name.startswith("No Finding")]
    one = union.with_columns(pl.coalesce(relative).alias("No Finding")).drop([n for n in relative if n != "No Finding"])
    return one.with_columns(pl.col(finding_names(one)).fill_null(0))


def tables(folder: Path) -> dict[str, Path]:
    """The training table of each arm."""
    alone = {name: folder / name / "labels.parquet" for name in LABELLED}
    return {**alone, "union": folder / "labels.parquet", "zeros": folder / "zeros.parquet"}


def trained(arm: str, table: Path, folder: Path, epochs: int, quick: bool) -> Path:
    """Predictions of all test studies by the arm's model, which takes as many steps as that of the union."""
    run, answer = folder / f"runs-{epochs}" / arm, folder / f"runs-{epochs}" / f"{arm}.parquet"
    size = 32 if quick else SIZE
    if not answer.exists():
        whole, own = (_training_studies(each) for each in (folder / "labels.parquet", table))
        own_epochs = round(epochs * whole / own)
        overrides = [
            f"studies={table}", "findings=null", f"cache.folder={folder / 'cache' / arm}", f"cache.size={size}",
            f"train.epochs={own_epochs}",
        ]  # fmt: skip
        if not (run / "bundle" / "bundle.json").exists():
            resume = (run / "recipe.yaml").is_file()
            train(
                None if resume else RECIPE,
                () if resume else overrides,
                run=run,
                resume=resume,
                progress=shown,
                say=print,
            )
        predict(run / "bundle", folder / "truth.parquet", answer, cache=folder / "cache" / "test", progress=shown)
    return answer


def _training_studies(file: Path) -> int:
    return read_studies(file).filter(pl.col("split") == "train")["study_id"].n_unique()


def part(answer: Path, hospital: str, findings: list[str], folder: Path) -> Path:
    """The predictions of one hospital's test studies (or "all") for some findings, as a file."""
    predictions = read_predictions(answer)
    truth = read_studies(folder / "truth.parquet")
    own = truth if hospital == "all" else truth.filter(pl.col("source") == hospital)
    keys = [name for name in ("study_id", "patient_id") if name in predictions.table.columns]
    rows = predictions.table.filter(pl.col("study_id").is_in(own["study_id"].unique().implode()))
    predictions.table = rows.select(*keys, *findings)
    file = answer.parent / "parts" / hospital / f"{len(findings)}-{answer.name}"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_predictions(predictions, file)
    return file


def matrix(answers: dict[str, Path], folder: Path, replicates: int) -> list[dict[str, Any]]:
    """mAP over the findings that every hospital labels, of each training on the test studies of each hospital."""
    rows = []
    for arm, answer in answers.items():
        cells = {}
        for hospital in (*LABELLED, "all"):
            file = part(answer, hospital, SHARED, folder)
            made = evaluate([file], folder / "truth.parquet", folder / "report", replicates=replicates, tiers=TIERS_BY)
            cells[hospital] = made["macro"]["map"]
        rows.append({"what": "matrix", "train": arm, "test": cells})
    return rows


def against(
    one: str, other: str, findings: list[str], hospital: str, answers: dict[str, Path], folder: Path, replicates: int
) -> dict[str, Any]:
    """`other` minus `one` on a hospital's test studies (or on all), per tier."""
    files = [part(answers[arm], hospital, findings, folder) for arm in (other, one)]
    macro = compare(files, folder / "truth.parquet", replicates=replicates, tiers=TIERS_BY)["pairs"][0]["macro"]
    tiers = {
        row: {"map": macro[row]["map"]["values"][::-1], "difference": macro[row]["map"]["difference"]}
        for row in ROWS
        if macro[row] is not None
    }
    return {"what": "against", "from": one, "to": other, "test": hospital, "findings": len(findings), "tiers": tiers}


def where_nobody_looked(arm: str, answer: Path, folder: Path, replicates: int) -> dict[str, Any]:
    """Sum of probabilities per true case, and mean log loss, with 95 % intervals over studies; entries labelled at home and not."""
    truth = read_studies(folder / "truth.parquet").unique("study_id", keep="first", maintain_order=True)
    scores = truth.select("study_id").join(read_predictions(answer).table, on="study_id", maintain_order="left")
    findings = [name for name in EVERY if name != "No Finding"]
    told = scores.select(findings).to_numpy().astype(np.float64).clip(1e-6, 1 - 1e-6)
    true = truth.select(findings).to_numpy().astype(np.float64)
    looked = np.array([[name in LABELLED[source] for name in findings] for source in truth["source"]])
    loss = -true * np.log(told) - (1 - true) * np.log(1 - told)
    row: dict[str, Any] = {"what": "entries", "train": arm}
    for name, mask in (("not labelled", ~looked), ("labelled", looked)):
        sums = np.stack([(each * mask).sum(axis=1) for each in (told, true, loss, np.ones_like(true))])  # (4, studies)
        drawn = np.random.default_rng(0).multinomial(
            sums.shape[1], np.full(sums.shape[1], 1 / sums.shape[1]), replicates
        )
        for what, above, below in (("told per case", 0, 1), ("log loss", 2, 3)):
            several = (drawn @ sums[above]) / (drawn @ sums[below])
            low, high = np.quantile(several, [0.025, 0.975])
            row[f"{what}, {name}"] = [float(sums[above].sum() / sums[below].sum()), float(low), float(high)]
    return row


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path, help="where the hospitals are drawn and the trainings lie")
    arguments.add_argument("--epochs", type=int, default=EPOCHS, help="of the union; the others take as many steps")
    arguments.add_argument("--quick", action="store_true", help="a hundred studies and one epoch; writes nothing")
    given = arguments.parse_args()
    folder, replicates = given.folder, 100 if given.quick else 1000
    epochs = 1 if given.quick else given.epochs
    draw(folder, given.quick)
    answers = {arm: trained(arm, table, folder, epochs, given.quick) for arm, table in tables(folder).items()}
    rows = matrix(answers, folder, replicates)
    drawn = (answers, folder, replicates)
    for source, names in LABELLED.items():
        # The ward's No Finding denies another list than the truth's.
        judged = [name for name in names if not (source == "ward" and name == "No Finding")]
        rows += [against(source, "union", judged, hospital, *drawn) for hospital in ("all", source)]
    rows += [against(*pair, list(EVERY), "all", *drawn) for pair in (("zeros", "union"), ("university", "zeros"))]
    rows += [where_nobody_looked(arm, answers[arm], folder, replicates) for arm in ("union", "zeros")]
    said(rows)
    if not given.quick:
        first = next(
            row for row in rows if row["what"] == "against" and row["from"] == "zeros" and row["test"] == "all"
        )
        union, naive = reversed(first["tiers"]["all"]["map"])
        save(
            {
                "name": "partial_labels",
                "ours": union,
                "peer": naive,
                "unit": "mAP of 26 findings on the truth of three hospitals' test studies: union with unknowns, and with zeros",
                "ratio": round(union / naive, 3),
                "goal": "unknown kept unknown is better than zero: the interval of the difference lies above 0",
                "command": f"python bench/partial_labels.py FOLDER --epochs {epochs}",
                "rows": rows,
            }
        )


def said(rows: list[dict[str, Any]]) -> None:
    """Print both tables."""
    places = (*LABELLED, "all")
    print(
        f"\nmAP of the {len(SHARED)} findings that all label\n{'trained on':<14}" + "".join(f"{p:>24}" for p in places)
    )
    for row in (row for row in rows if row["what"] == "matrix"):
        cells = [row["test"][place] for place in places]
        print(f"{row['train']:<14}" + "".join(f"{_interval(cell):>24}" for cell in cells))
    print(f"\n{'from':<12}{'to':<8}{'tested on':<12}{'findings':>8}  tier")
    for row in (row for row in rows if row["what"] == "against"):
        for tier, one in row["tiers"].items():
            low, high = one["map"]
            head = f"{row['from']:<12}{row['to']:<8}{row['test']:<12}{row['findings']:>8}"
            print(f"{head}  {tier:<8}{low:.3f} -> {high:.3f}  {_interval(one['difference'], '+')}")

    for row in (row for row in rows if row["what"] == "entries"):
        print(f"{row['train']:<8}" + "   ".join(f"{k}: {_interval(v)}" for k, v in row.items() if isinstance(v, list)))


def _interval(values: list[float | None], sign: str = "") -> str:
    value, low, high = values
    if value is None or low is None:
        return "-" if value is None else f"{value:{sign}.3f}"
    return f"{value:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


if __name__ == "__main__":
    main()
