"""The verb `merge`: study tables of several data sets as one; a finding that a table does not label is unknown in its rows.

Findings meet by name and alias. "No Finding" and "Normal" deny a list of findings, and lists differ: so the word is kept
only for a table that labels everything the others label, and elsewhere becomes "No Finding (LIST)". Else a chest with a
fracture, normal to a list without fractures, would teach that nothing is there. Ids meet where the source is the same
(NIH-CXR-LT labels images of NIH) and are kept apart where it is not. Labels that contradict one another are refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import polars as pl

from hilum.atomic import ensure_folder, refuse_replacing
from hilum.errors import InputError
from hilum.findings import FINDING_SETS, IMPLIES, RELATIVE, aliases, canonical
from hilum.sources.imported import Imported
from hilum.tables import SYNTHETIC, Level, check_studies, finding_names, read_studies, studies_metadata, write_studies

_IDS = ("patient_id", "study_id", "image_id")
_ANYWHERE = ("folder", "phantom", SYNTHETIC)  # sources that say how images came, not from where


@dataclass
class _Table:
    """A study table under way: its name for messages, its rows, what its labels belong to, and its note."""

    name: str
    rows: pl.DataFrame
    level: Level
    note: str | None

    @property
    def labelled(self) -> set[str]:
        """The findings with a known entry, without those that deny a list."""
        names = [name for name in finding_names(self.rows) if not _relative(name)]
        return {name for name in names if self.rows[name].null_count() < self.rows.height}


def merge(tables: Sequence[str | Path], output: str | Path, *, parents: bool = False) -> Imported:
    """Unite study tables and write the result to `output`; what was decided stands in the notes.

    tables:  paths of study tables, in any order. NAME=TABLE says where a table's images are from, for tables imported by
             `folder` or drawn by `phantom`, which do not say it themselves: one name for one place.
    parents: a finding that another implies (Fracture of Rib Fracture) becomes present where it is unknown and that is present.

    The split is carried over where no image and no patient stands on two sides of it, and is left out otherwise.
    Raises InputError where two tables say different things of an image, where nobody says whether two ids mean one
    patient, and where the output is one of the tables.
    """
    target = Path(output)
    refuse_replacing(target, *(placed(place)[1] for place in tables))
    merged = unite(tables, parents=parents)
    ensure_folder(target.parent)
    write_studies(merged.studies, target, label_level=merged.label_level, note=merged.note)
    return merged


def unite(tables: Sequence[str | Path], *, parents: bool = False) -> Imported:
    """What `merge` writes, as a run on a list of tables takes it."""
    if not tables:
        raise InputError("there is no table to merge", do="name two or more study tables")
    read = [_read(place) for place in tables]
    notes = [note for each in read for note in _in_our_words(each)]
    notes += _lists_apart(read)
    _refuse_unsaid(read)
    level: Level = "study" if all(each.level == "study" for each in read) else "image"
    rows = pl.concat([each.rows.with_columns(__table=pl.lit(k)) for k, each in enumerate(read)], how="diagonal")
    rows, known = _patients(rows)
    rows, apart = _ids_apart(rows)
    rows, split = _split(rows)
    names = [each.name for each in read]
    rows = _united(rows, names, level)
    findings = finding_names(rows)
    if any(finding_names(each.rows) != findings for each in read):
        findings = sorted(findings, key=str.casefold)
    rows = rows.select([name for name in rows.columns if rows.schema[name] != pl.Int8] + findings)
    notes += [*known, *apart, *split]
    if parents:
        rows, told = _with_parents(rows)
        notes += told
    said = sorted({note for note in (*(each.note for each in read), *known) if note})
    whole = check_studies(rows, ", ".join(names))
    return Imported(whole, level, [*notes, *_counts(rows)], note=" ".join(said) or None)


def placed(table: str | Path) -> tuple[str, str]:
    """NAME=TABLE as (name, path); the name of any other path is empty."""
    name, equals, path = str(table).partition("=")
    return (name, path) if equals and not Path(table).exists() else ("", str(table))


def _read(table: str | Path) -> _Table:
    name, path = placed(table)
    rows, facts = read_studies(path), studies_metadata(path)
    if name:
        source = pl.when(pl.col("source") == SYNTHETIC).then("source").otherwise(pl.lit(name))
        rows = rows.with_columns(source=source)
    # Ids that an earlier merge wrote SOURCE/ID are themselves again, so that merging in steps is merging at once.
    rows = rows.with_columns(pl.col(kind).str.strip_prefix(pl.format("{}/", "source")) for kind in _IDS)
    return _Table(path, rows, "image" if facts.get("label_level") == "image" else "study", facts.get("note"))


def _in_our_words(table: _Table) -> list[str]:
    """Rename the table's findings to our names, and tell the aliases used."""
    given = finding_names(table.rows)
    ours = {name: canonical(name) for name in given}
    if twice := [name for name in given if list(ours.values()).count(ours[name]) > 1]:
        raise InputError(
            f"the columns {' and '.join(map(repr, twice[:2]))} are both the finding {ours[twice[0]]!r}",
            where=table.name,
            do="keep one of them",
        )
    table.rows = table.rows.rename(ours)
    return [f"{name} of {table.name} is {our}." for name, our in aliases(given).items()]


def _relative(name: str) -> bool:
    """Whether a finding denies a list: No Finding, Normal, No Finding (chexpert)."""
    return name in RELATIVE or name.startswith(tuple(f"{word} (" for word in RELATIVE))


def _lists_apart(tables: Sequence[_Table]) -> list[str]:
    """Rename No Finding and Normal of tables that label less than all of them together."""
    every = set[str]().union(*(table.labelled for table in tables))
    notes: list[str] = []
    lists: dict[str, set[str]] = {}  # new name -> the list it denies
    for table in tables:
        own = table.labelled
        for word in [name for name in RELATIVE if name in table.rows.columns and own != every]:
            name = f"{word} ({_list_name(word, own, table.rows)})"
            if lists.setdefault(name, own) != own or name in table.rows.columns:
                raise InputError(
                    f"{name!r} would stand for two lists of findings",
                    where=table.name,
                    do=f"rename or take out its column {word!r}",
                )
            table.rows = table.rows.rename({word: name})
            notes.append(f"{word} of {table.name} denies its own {len(own)} findings, of {len(every)}: it is {name}.")
    return notes


def _list_name(word: str, own: set[str], rows: pl.DataFrame) -> str:
    """The published set that the list is, else the sources that use it."""
    published = [name for name, of in FINDING_SETS.items() if word in of and own == {f for f in of if not _relative(f)}]
    return published[0] if published else ", ".join(rows.filter(pl.col(word).is_not_null())["source"].unique().sort())


def _refuse_unsaid(tables: Sequence[_Table]) -> None:
    """Where tables whose source says nothing of the place share an id, but no image."""
    for one, other in combinations(tables, 2):
        for source in _ANYWHERE:
            first, second = (table.rows.filter(pl.col("source") == source) for table in (one, other))
            if first.join(second, on=["image_id", "path"], how="semi").height:
                continue
            for kind in _IDS:
                shared = first.join(second, on=kind, how="semi")[kind].drop_nulls()
                if shared.len():
                    raise InputError(
                        f"{one.name} and {other.name} are both of the source {source!r} and share the "
                        f"{kind.removesuffix('_id')} {shared[0]!r}, but no image: nobody says whether it is the same",
                        do=f"write NAME={one.name} NAME={other.name}, one name for one place and two for two",
                    )


def _patients(rows: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Where only some tables know their patients, a study of the others counts as one."""
    if rows["patient_id"].null_count() in (0, rows.height):
        return rows, []
    told = pl.col("patient_id").max().over("source", "image_id")  # another table may know an image's patient
    rows = rows.with_columns(pl.coalesce("patient_id", told).alias("patient_id"))
    if not rows["patient_id"].null_count():
        return rows, []
    sources = ", ".join(rows.filter(pl.col("patient_id").is_null())["source"].unique().sort())
    note = f"Patients of {sources} are unknown: each of its studies counts as one, and a split may leak."
    return rows.with_columns(pl.coalesce("patient_id", "study_id").alias("patient_id")), [note]


def _ids_apart(rows: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """SOURCE/ID in the place of ID for the sources that share an id with another source."""
    notes = []
    for kind in _IDS:
        owners = rows.drop_nulls(kind).group_by(kind).agg(pl.col("source").unique().sort())
        shared = owners.filter(pl.col("source").list.len() > 1).sort(kind)
        if shared.height:
            sources = sorted({source for several in shared["source"] for source in several})
            qualified = pl.when(pl.col("source").is_in(sources)).then(pl.format("{}/{}", "source", kind))
            rows = rows.with_columns(qualified.otherwise(kind).alias(kind))
            example = shared[kind][0]
            written = ", ".join(f"{source}/{example}" for source in shared["source"][0])
            what = kind.removesuffix("_id")
            notes.append(
                f"{shared.height:,} {what} ids stand in several of {', '.join(sources)}: {example} is written {written}."
            )
    return rows, notes


def _split(rows: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """The split where it is consistent, else without."""
    if "split" not in rows.columns:
        return rows, []
    for kind in ("image_id", "patient_id"):
        sides = rows.drop_nulls([kind, "split"]).group_by(kind).agg(pl.col("split").unique().sort())
        torn = sides.filter(pl.col("split").list.len() > 1).sort(kind)
        if torn.height:
            name, where = torn.row(0)
            what = kind.removesuffix("_id")
            return rows.drop("split"), [
                f"The split is left out: {torn.height:,} {what}s stand on two sides, such as {name} ({', '.join(where)})."
            ]
    without = rows.group_by("image_id").agg(pl.col("split").is_null().all())["split"].sum()
    return rows, [f"{without:,} images have no split."] if without else []


def _united(rows: pl.DataFrame, names: Sequence[str], level: Level) -> pl.DataFrame:
    """One row per image, in order of first appearance, with all that its rows say. Raises InputError where they disagree."""
    rows = rows.with_row_index("__row").with_columns(
        pl.when(pl.col("view") != "unknown").then("view").alias("view")
    )  # fmt: skip
    several = pl.col("image_id").is_duplicated()
    again = rows.filter(several)
    told = [name for name in rows.columns if name not in ("image_id", "source", "__table", "__row")]
    kinds = again.group_by("image_id").agg(pl.col(told).drop_nulls().n_unique())
    for name in told:
        if (kinds[name] > 1).any():
            _refuse(again, kinds.filter(pl.col(name) > 1).sort("image_id"), name, names)
    first = again.group_by("image_id").agg(
        pl.col("source").first(), pl.col(told).drop_nulls().first(), pl.col("__row").min(), __tables=pl.len()
    )
    alone = rows.filter(~several).drop("__table").with_columns(__tables=pl.lit(1, dtype=pl.UInt32))
    whole = pl.concat([alone, first.select(alone.columns)]).sort("__row")
    if level == "study":
        whole = _of_whole_studies(whole)
    return whole.drop("__row", "__tables").with_columns(pl.col("view").fill_null("unknown"))


def _refuse(rows: pl.DataFrame, kinds: pl.DataFrame, name: str, names: Sequence[str]) -> None:
    """Raise InputError about the first image of `kinds`, of which tables say different things in the column `name`."""
    image = kinds["image_id"][0]
    said = rows.filter(pl.col("image_id") == image).drop_nulls(name).unique(name, keep="first", maintain_order=True)
    words = " and ".join(f"{value} in {names[table]}" for value, table in said.select(name, "__table").iter_rows())
    more = f" ({kinds.height - 1:,} more images disagree)" if kinds.height > 1 else ""
    if name == "path":
        do = "import both tables from one folder"
    elif name in finding_names(rows):
        do = f"decide which table labels {name}, and take the column out of the other"
    else:
        do = "correct one of the tables, and merge again"
    raise InputError(f"image {image!r} has {name} {words}{more}", do=do)


def _of_whole_studies(rows: pl.DataFrame) -> pl.DataFrame:
    """Labels of studies for all their images, where a table lacks some of a study's images."""
    partly = pl.col("__tables").n_unique().over("study_id") > 1
    filled = []
    for name in finding_names(rows):
        agreed = pl.col(name).drop_nulls().n_unique().over("study_id") == 1
        filled.append(
            pl.when(partly & agreed & pl.col(name).is_null()).then(pl.col(name).max().over("study_id"))
            .otherwise(name).alias(name)
        )  # fmt: skip
    return rows.with_columns(filled) if (rows["__tables"] > 1).any() else rows


def _with_parents(rows: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Unknown findings that a present one implies as present, each pair told; what a source denies stays denied."""
    notes = []
    for child, implied in IMPLIES.items():
        for parent in implied:
            if not {child, parent} <= set(rows.columns):
                continue
            shown = pl.col(child) == 1
            counts = rows.select(
                filled=(shown & pl.col(parent).is_null()).sum(), denied=(shown & (pl.col(parent) == 0)).sum()
            )
            filled, denied = counts.row(0)
            if filled:
                present = pl.when(shown & pl.col(parent).is_null()).then(pl.lit(1, dtype=pl.Int8)).otherwise(parent)
                rows = rows.with_columns(present.alias(parent))
                notes.append(f"{parent}: present in {filled:,} images more, where {child} is.")
            if denied:
                notes.append(f"{parent}: absent in {denied:,} images with {child}, left as their source says.")
    return rows, notes


def _counts(rows: pl.DataFrame) -> list[str]:
    """What each source brings."""
    findings = finding_names(rows)
    notes = []
    for (source,), part in rows.group_by("source", maintain_order=True):
        known = sum(part[name].null_count() < part.height for name in findings)
        notes.append(f"{source}: {part.height:,} images, {known} of {len(findings)} findings labelled.")
    return sorted(notes)
