"""Label columns of a table: found by name whatever their order, and read as 1, 0, -1 (uncertain) and blank."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

import polars as pl

from hilum.errors import InputError, nearest
from hilum.findings import aliases, canonical

Blank = Literal["zero", "null"]  # what a blank (not mentioned) becomes: absent, or not labelled
_VALUES = {"1": 1, "0": 0, "-1": -1, "1.0": 1, "0.0": 0, "-1.0": -1}


def label_columns(
    table: pl.DataFrame,
    findings: Sequence[str],
    file: Path,
    *,
    of: str,
    facts: Collection[str] = (),
    uncertain: bool = False,
) -> dict[str, pl.Series]:
    """The column of each finding, in the order of `findings`, as Int8; a blank is null.

    table: every cell as text. of: whose findings they are, for a message. facts: columns that are no labels.
    uncertain: whether -1 is allowed.
    Raises InputError naming a column that is missing, unknown or there twice, a value that is no label, and an empty table.
    """
    if table.is_empty():
        raise InputError("the table has no rows", where=file, do="download the file again")
    columns: dict[str, str] = {}  # our name of a finding -> the file's
    for name in table.columns:
        said = name.partition("_duplicated_")[0]  # what the reader adds to a name that stands twice
        if said in facts or not said or said.startswith("Unnamed"):  # nameless: row numbers
            continue
        ours = canonical(said)
        if ours not in findings:
            raise InputError(
                f"{name!r} is no finding of {of}",
                where=file,
                do=f"take the column out or mend it: {nearest(ours, findings)}",
            )
        if ours in columns:
            raise InputError(f"two columns are the finding {ours!r}", where=file, do="keep one of them")
        columns[ours] = name
    if missing := [name for name in findings if name not in columns]:
        raise InputError(
            f"the label column {missing[0]!r} is missing ({len(missing)} of {len(findings)} are)",
            where=file,
            do="download the file again, or name another with --labels",
        )
    return {ours: _numbers(table[columns[ours]], file, uncertain) for ours in findings}


def _numbers(column: pl.Series, file: Path, uncertain: bool) -> pl.Series:
    numbers = column.replace_strict(_VALUES, default=None, return_dtype=pl.Int8)
    wrong = column.is_not_null() & (numbers.is_null() | (numbers == -1 if not uncertain else False))
    if wrong.fill_null(False).any():
        value = column.filter(wrong.fill_null(False))[0]
        allowed = "1, 0, -1 (uncertain) and blank" if uncertain else "1 and 0"
        raise InputError(
            f"the label column {column.name!r} holds {value!r}", where=file, do=f"correct it: it may hold {allowed}"
        )
    return numbers


def alias_notes(names: Collection[str]) -> list[str]:
    """A sentence on names of a file that are known as others here, where there are any."""
    told = ", ".join(f"{given} is {ours}" for given, ours in aliases(names).items())
    return [f"Known under another name: {told}."] if told else []
