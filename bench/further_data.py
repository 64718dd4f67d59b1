"""Cuts a benchmark into a small one and further training studies that label the 14 findings of ChestX-ray14 alone.

    python bench/further_data.py small OUT
    python bench/reproduced.py bag_of_tricks --small --studies OUT/studies.parquet --extra OUT/extra.parquet \\
        --truth OUT/truth.parquet --cache small/cache-64 --runs OUT/runs cache.size=64

studies.parquet keeps most training patients, every validation study and some test patients; extra.parquet has the other training
patients, whose further findings are unknown, as those of another hospital's are.
"""

import argparse
from pathlib import Path

import polars as pl

from hilum.findings import finding_set
from hilum.tables import finding_names, read_studies, studies_metadata, write_studies


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("benchmark", type=Path, help="a folder with studies.parquet and truth.parquet")
    arguments.add_argument("output", type=Path)
    arguments.add_argument(
        "--further", type=float, default=0.4, help="the share of training patients that goes into extra.parquet"
    )
    arguments.add_argument("--patients", type=int, help="training patients kept in all, by default every one")
    arguments.add_argument("--valid", type=int, default=2000, help="validation studies kept")
    arguments.add_argument("--test", type=int, default=2000, help="test studies kept")
    given = arguments.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    table = read_studies(given.benchmark / "studies.parquet")
    part = pl.col("split")
    patients = table.filter(part == "train")["patient_id"].unique().sort().to_list()[: given.patients]
    further = patients[int((1 - given.further) * len(patients)) :]
    kept = [
        study
        for split, most in (("valid", given.valid), ("test", given.test))
        for study in table.filter(part == split)["study_id"].unique().sort().to_list()[:most]
    ]
    elsewhere = pl.col("patient_id").is_in(further) & (part == "train")
    mine = (part == "train") & ~elsewhere & pl.col("patient_id").is_in(patients) | pl.col("study_id").is_in(kept)
    unlabelled = [name for name in finding_names(table) if name not in finding_set("nih")]
    blank = [pl.lit(None, dtype=pl.Int8).alias(name) for name in unlabelled]
    tables = {
        "studies": table.filter(mine),
        "extra": table.filter(elsewhere).with_columns(*blank, source=pl.lit("further")),
        "truth": read_studies(given.benchmark / "truth.parquet").filter(mine),
    }
    for name, one in tables.items():
        whole = given.benchmark / f"{'truth' if name == 'truth' else 'studies'}.parquet"
        facts = studies_metadata(whole)
        write_studies(
            one, given.output / f"{name}.parquet", label_level=facts.get("label_level", "study"), note=facts.get("note")
        )
        print(f"{name:<8} {one['study_id'].n_unique():>6,} studies of {one['patient_id'].n_unique():,} patients")


if __name__ == "__main__":
    main()
