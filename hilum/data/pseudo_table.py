"""The table of pseudo labels: a teacher's answers for entries that nobody labelled, with weights, for a person to open."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from hilum.atomic import atomic_path
from hilum.data.seen import Seen
from hilum.errors import InputError
from hilum.tables import read_kind

_IDS = ("study_id", "patient_id", "weight")
Counts = dict[str, dict[str, dict[str, float]]]


@dataclass
class PseudoLabels:
    """One row per study.

    table:   study_id, patient_id, weight (Float32, 0 or more), then one Float32 per finding: a label in [0, 1], null = none.
    teacher: identity of the bundle that made them.
    rule:    the options that they were chosen by.
    counts:  case -> finding -> entries (unknown ones, of studies that could be scored), labelled, positives (sum of the
             labels), between (left unknown: not sure enough), dropped (left out by the cap on negatives).
    prevalence: per finding, among the labels that the teacher was trained on; null where it had none.
    seen:    whom the teacher has seen; None: not known, and then no training takes these labels.
    note:    a sentence on the data that every report repeats.
    """

    table: pl.DataFrame
    teacher: str | None = None
    rule: dict[str, Any] = field(default_factory=dict)
    counts: Counts = field(default_factory=dict)
    prevalence: dict[str, float | None] = field(default_factory=dict)
    seen: Seen | None = None
    note: str | None = None

    @property
    def findings(self) -> list[str]:
        return [name for name in self.table.columns if name not in _IDS]


def check_pseudo(pseudo: PseudoLabels, where: str | Path = "pseudo labels") -> PseudoLabels:
    """Hand the pseudo labels back, or raise InputError naming the first fault."""
    table = pseudo.table
    for name, dtype in (("study_id", pl.String), ("weight", pl.Float32)):
        if table.schema.get(name) != dtype:
            found = f"is {table.schema[name]}, not {dtype}" if name in table.columns else "is missing"
            raise InputError(f"column {name!r} {found}", where=where, do=f"store it as {dtype}")
        if table[name].null_count():
            raise InputError(f"column {name!r} has empty entries", where=where, do="fill them")
    if table.is_empty():
        raise InputError("the table has no rows", where=where, do="make it with `hilum pseudo`")
    if table["study_id"].n_unique() < table.height:
        twice = table["study_id"].filter(table["study_id"].is_duplicated())[0]
        raise InputError(f"study {twice!r} has several rows", where=where, do="keep one")
    if not (table["weight"].is_finite() & (table["weight"] >= 0)).all():
        raise InputError("a weight is below 0 or no number", where=where, do="give 0 or more")
    for name in pseudo.findings:
        labels = table[name].drop_nulls()
        if table.schema[name] != pl.Float32 or not labels.is_finite().all() or not labels.is_between(0, 1).all():
            raise InputError(
                f"finding {name!r} holds what is no label", where=where, do="store Float32 from 0 to 1, null where none"
            )
    return pseudo


def write_pseudo(pseudo: PseudoLabels, path: str | Path) -> None:
    """Check and write the table; its facts go into the parquet metadata as JSON."""
    check_pseudo(pseudo, path)
    facts = {name: value for name, value in vars(pseudo).items() if name not in ("table", "seen")}
    facts["seen"] = None if pseudo.seen is None else pseudo.seen.page()
    with atomic_path(path) as temporary:
        pseudo.table.write_parquet(temporary, metadata={"hilum": "pseudo", "facts": json.dumps(facts)})


def read_pseudo(path: str | Path) -> PseudoLabels:
    """Read and check a table of pseudo labels. One that lost its metadata on the way does not say whom its teacher saw."""
    table = read_kind(path, "pseudo", "hilum pseudo")
    facts = json.loads(pl.read_parquet_metadata(path).get("facts", "{}"))
    page = facts.pop("seen", None)
    return check_pseudo(PseudoLabels(table, seen=None if page is None else Seen.from_page(page), **facts), path)


def lines_of(pseudo: PseudoLabels) -> str:
    """The counts as lines for a terminal: each case, then each finding over all cases."""
    lines = [f"{'case':<28}{'entries':>10}{'labelled':>10}{'positive':>10}{'between':>10}{'dropped':>10}"]
    kinds = ("entries", "labelled", "positives", "between", "dropped")
    for case, findings in pseudo.counts.items():
        sums = [sum(one[kind] for one in findings.values()) for kind in kinds]
        lines.append(f"{case:<28}" + "".join(f"{value:>10,.0f}" for value in sums))
    lines += ["", f"{'finding':<28}{'labelled':>10}{'positive':>10}{'share':>10}{'in training':>13}"]
    for name in pseudo.findings:
        labelled, positives = (
            sum(case[name][kind] for case in pseudo.counts.values()) for kind in ("labelled", "positives")
        )
        share, known = (f"{positives / labelled:.2%}" if labelled else "-"), pseudo.prevalence.get(name)
        told = "-" if known is None else f"{known:.2%}"
        lines.append(f"{name:<28}{labelled:>10,.0f}{positives:>10,.0f}{share:>10}{told:>13}")
    return "\n".join(lines)
