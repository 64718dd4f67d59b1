"""Importing a MIMIC-CXR-JPG of full size: seconds and memory.

A release of 377,110 empty images is made in a temporary folder (65,379 patients, folders as in the original), with the
label files of CXR-LT 2024 (40 findings), CheXpert, metadata and split. Each import runs in a process of its own from
the empty table to the written one; seconds are those of the clock, memory is the most the process ever held.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import release
from result import save

ROWS, SECONDS, GIGABYTES = 377_110, 60, 2
IMPORTS = {  # what is read -> its options
    "CXR-LT 2024, labels.csv (45 findings)": {"labels": "cxr-lt-2024/labels.csv"},
    "CXR-LT 2024, task 1 (40 findings)": {"labels": "cxr-lt-2024", "task": 1},
    "CheXpert (14 findings)": {"labels": "mimic-cxr-2.0.0-chexpert.csv.gz"},
}


def make(root: Path, rows: int) -> None:
    """A fake release: 5.8 images per patient, 1.66 per study, as in the original."""
    from hilum.findings import FINDING_SETS

    rng = random.Random(0)
    patients, studies = max(1, round(rows / 5.77)), max(1, round(rows / 1.655))
    task1, task3 = FINDING_SETS["cxr-lt-2024-task1"], FINDING_SETS["cxr-lt-2024-task3"]
    names, images, meta, split, chexpert = (*task1, *task3), [], [], [], []
    for k in range(rows):
        study = k * studies // rows
        patient = study * patients // studies
        side = ("train", "development", "test")[(patient % 10 > 6) + (patient % 10 > 7)]
        begins = not k or study > (k - 1) * studies // rows
        labels = [int(rng.random() < 0.06) for _ in names] if begins else images[-1].labels
        made = release.image(rng, patient, study, rng.choice(["AP", "AP", "PA", "LATERAL", "LL", ""]), side, labels)
        file = root / made.path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        said = (made.dicom, made.subject, made.study)
        if begins:
            chexpert.append((*said[1:], *(rng.choice(["1.0", "0.0", "-1.0", "", "", ""]) for _ in range(14))))
        images.append(made)
        meta.append((*said, "CHEST", made.view, 3056, 2544, 21800506, 213014.531, "CHEST", "", "Erect"))
        split.append((made.dicom, made.study, made.subject, side))
    folder = root / "cxr-lt-2024"
    folder.mkdir()
    cells = ([*row.cells()[:6], row.side, *row.labels] for row in images)
    release.write(folder / "labels.csv", [*release.FACTS, "split", *names], cells)
    files = {"train": "train_labeled", "development": "development_labeled_task1", "test": "test_labeled_task1"}
    for side, name in files.items():
        part = (row.cells()[: 6 + len(task1)] for row in images if row.side == side)
        release.write(folder / f"{name}.csv", [*release.FACTS, *task1], part)
    header = (
        "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate,StudyTime"
    )
    codes = [f"{name}CodeSequence_CodeMeaning" for name in ("Procedure", "View", "PatientOrientation")]
    official = root / "mimic-cxr-2.0.0"
    release.write(Path(f"{official}-metadata.csv.gz"), [*header.split(","), *codes], meta)
    release.write(Path(f"{official}-split.csv.gz"), ["dicom_id", "study_id", "subject_id", "split"], split)
    chexpert_names = ["subject_id", "study_id", *FINDING_SETS["chexpert"]]
    release.write(Path(f"{official}-chexpert.csv.gz"), chexpert_names, chexpert)


def measure(root: Path, output: Path, options: dict[str, object]) -> dict[str, float]:
    """Import once, in a process of its own: seconds, gigabytes and rows."""
    command = [sys.executable, __file__, "--import", str(root), str(output), json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def import_once(root: str, output: str, options: str) -> None:
    before = time.perf_counter()
    from hilum.sources import import_studies

    settings = json.loads(options)
    settings["labels"] = str(Path(root) / settings["labels"])
    _, imported = import_studies("mimic", root, output, **settings)
    seconds = time.perf_counter() - before
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps({"seconds": seconds, "gigabytes": most / 1e9, "rows": imported.studies.height}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=ROWS, help="images of the fake release")
    parser.add_argument("--quick", action="store_true", help="5,000 images; writes nothing")
    parser.add_argument("--import", nargs=3, dest="once", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        import_once(*options.once)
        return
    count = 5_000 if options.quick else options.rows
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "mimic"
        make(root, count)
        measured = {name: measure(root, Path(folder) / "out.parquet", each) for name, each in IMPORTS.items()}
    if wrong := [name for name, found in measured.items() if found["rows"] != count]:
        sys.exit(f"{wrong[0]}: {measured[wrong[0]]['rows']:,} rows were read of {count:,}.")
    rows = [
        {"what": what, "seconds": round(each["seconds"], 2), "gigabytes": round(each["gigabytes"], 2)}
        for what, each in measured.items()
    ]
    worst = {key: max(row[key] for row in rows) for key in ("seconds", "gigabytes")}
    result = {
        "name": "mimic",
        "ours": worst["seconds"],
        "peer": None,
        "unit": f"seconds to import {count:,} images, the slowest label files",
        "ratio": None,
        "goal": f"< {SECONDS} s and < {GIGABYTES} GB for {ROWS:,} images",
        "command": "python bench/mimic.py" + (f" --rows {count}" if count != ROWS else ""),
        "rows": rows,
    }
    print(f"{f'{count:,} images':<42}{'seconds':>9}{'peak GB':>9}")
    for row in rows:
        print(f"{row['what']:<42}{row['seconds']:>9}{row['gigabytes']:>9}")
    print(f"At most {worst['seconds']} s and {worst['gigabytes']} GB; the goal is {result['goal']}.")
    if not options.quick:
        save(result)


if __name__ == "__main__":
    main()
