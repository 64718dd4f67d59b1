"""Findings taken out of training for bench/zero_shot.py: six families, and what else must not be known where one of them is."""

from collections.abc import Sequence

import polars as pl

from hilum.findings import IMPLIES
from hilum.tables import finding_names

DEVICES, NO_FINDING = "Support Devices", "No Finding"

# Whole families, so that no near relative of a held-out finding teaches it; of a table, those findings that it has.
FAMILIES: dict[str, tuple[str, ...]] = {
    "nodule, mass, lesion": ("Nodule", "Mass", "Lung Lesion", "Granuloma"),
    "fractures": ("Fracture", "Rib Fracture", "Clavicle Fracture"),
    "air leaks": (
        "Pneumothorax", "Hydropneumothorax", "Pneumomediastinum", "Pneumoperitoneum", "Subcutaneous Emphysema",
    ),
    "pleura": ("Pleural Effusion", "Pleural Thickening", "Pleural Other", "Hydropneumothorax"),
    "aorta": ("Calcification of the Aorta", "Tortuous Aorta"),
    "heart": ("Cardiomegaly", "Enlarged Cardiomediastinum", "Cardiomyopathy"),
}  # fmt: skip


def relatives(held: Sequence[str]) -> set[str]:
    """Findings that a held-out one implies or that imply one, but for the held-out ones themselves."""
    parents = {parent for name in held for parent in IMPLIES.get(name, ())}
    children = {name for name, implied in IMPLIES.items() if set(implied) & set(held)}
    return (parents | children) - set(held)


def without(table: pl.DataFrame, held: Sequence[str]) -> pl.DataFrame:
    """The study table without the columns of these findings, and without what would tell of them.

    Where one of them is positive, uncertain or unknown, its parents and children are unknown, and so is No Finding where of
    what is left nothing is positive but devices: a zero there would say that something unnamed is to be seen. Where all of
    them are known to be absent, what stands there tells nothing of them, and stays.
    """
    findings = finding_names(table)
    there = [name for name in held if name in findings]
    shown = pl.any_horizontal(pl.col(name).ne_missing(0) for name in there)
    near = relatives(there)
    others = [name for name in findings if name not in (*there, *near, NO_FINDING, DEVICES)]
    alone = shown & ~pl.any_horizontal(pl.col(name).eq(1).fill_null(False) for name in others)
    hidden = {name: shown for name in near if name in findings} | (
        {NO_FINDING: alone} if NO_FINDING in findings else {}
    )
    holed = [pl.when(where).then(None).otherwise(pl.col(name)).alias(name) for name, where in hidden.items()]
    return table.with_columns(holed).drop(there)
