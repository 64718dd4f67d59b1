"""What every source reads alike: image files beneath a folder, tables as text, and cells for view, age and sex."""

import gzip
import os
import zlib
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import polars as pl

from hilum.errors import InputError, from_os_error
from hilum.tables import VIEWS

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
DICOM_SUFFIXES = (".dcm", ".dicom")
_ROUNDED = r"^(\d\.\d+[eE]\+?\d+|\d+[eE]\+\d+)$"  # 3.24e+38; a hexadecimal 12e5 is none
OLDEST = 110  # years; what is above is a slip of the pen (NIH has patients of 148 and 411)


def image_files(root: Path) -> list[Path]:
    """Every PNG and JPEG beneath `root` by its name, sorted; nothing is opened."""
    return [path for path in files_beneath(root) if is_image_name(path)]


def is_image_name(path: Path) -> bool:
    """Whether a file is called a PNG or a JPEG."""
    return path.name.lower().endswith(IMAGE_SUFFIXES)


def files_beneath(root: Path) -> list[Path]:
    """Every file beneath `root`, sorted, links followed once; nothing hidden."""
    found: list[Path] = []
    seen: set[str] = set()

    def refuse(error: OSError) -> None:
        raise from_os_error(error, error.filename or root) from error

    for folder, below, names in os.walk(root, followlinks=True, onerror=refuse):
        real = os.path.realpath(folder)
        if real in seen:  # a link to a folder above would lead round for ever
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(name for name in below if not name.startswith("."))
        found += [Path(folder, name) for name in sorted(names) if not name.startswith(".")]
    return found


def without_suffix(name: str) -> str:
    """A file name without the ending of an image; the dots of a UID stay."""
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in (*IMAGE_SUFFIXES, *DICOM_SUFFIXES) else name


def file_content(path: Path) -> bytes:
    """The bytes of a file, unpacked where it ends in .gz. Raises InputError or MachineError naming the file."""
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix == ".gz" else data
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError("this is no whole gzip file", where=path, do="download it again") from error
    except OSError as error:
        raise from_os_error(error, path) from error


def text_table(content: bytes, where: Path, *, separator: str = ",") -> pl.DataFrame:
    """A CSV with every cell as text, trimmed, blank = null: ids of 39 digits survive nothing else."""
    try:
        table = pl.read_csv(
            BytesIO(content.removeprefix(b"\xef\xbb\xbf")),
            separator=separator,
            infer_schema=False,
            truncate_ragged_lines=True,  # a trailing comma in the rows but not in the header
        )
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(
            f"this table cannot be read ({reason})", where=where, do="save it as CSV in UTF-8 with a header line"
        ) from error
    return trimmed(table)


def trimmed(table: pl.DataFrame) -> pl.DataFrame:
    """A table of text with cells and column names trimmed; a blank cell is null."""
    cells = pl.all().str.strip_chars()
    names = [name.strip() for name in table.columns]
    if len(set(names)) == len(names):  # else "Mass" and " Mass" stay apart
        table.columns = names
    return table.with_columns(pl.when(cells != "").then(cells))


def column_of(table: pl.DataFrame, names: Sequence[str], where: Path) -> pl.Series:
    """The first of these columns that the table has. Raises InputError naming what it has instead."""
    for name in names:
        if name in table.columns:
            return table[name]
    has = ", ".join(repr(column) for column in table.columns[:12])
    raise InputError(
        f"the table has no column {' or '.join(map(repr, names))}", where=where, do=f"check the file; it has {has}"
    )


def refuse_rounded(ids: pl.Series, where: Path) -> None:
    """Raises InputError where a long id was rounded to 3.24e+38, as spreadsheets and pandas do: such ids merge patients."""
    rounded = ids.drop_nulls().filter(ids.drop_nulls().str.contains(_ROUNDED))
    if rounded.len():
        raise InputError(
            f"column {ids.name!r} holds {rounded[0]}, a long id that was rounded when it was read as a number",
            where=where,
            do="make the table again with this column as text: rounded ids merge patients",
        )


def views(raw: pl.Series, names: Mapping[str, str] | None = None) -> pl.Series:
    """PA, AP, LATERAL or unknown of raw codes, by their first word: AP_horizontal is AP, LL and L are LATERAL.

    names: what further codes stand for, in capitals (see `own_views`); they come first.
    """
    code = raw.str.to_uppercase()
    word = code.str.extract(r"^(PA|AP|LATERAL|LAT|LL|L)(?:[\s_-]|$)")
    known = word.replace({"LAT": "LATERAL", "LL": "LATERAL", "L": "LATERAL"})
    own = code.replace_strict(dict(names or {}), default=None, return_dtype=pl.String)
    return own.fill_null(known).fill_null("unknown")


def own_views(text: str) -> dict[str, str]:
    """A person's own codes and the views they stand for, in capitals, of `front=PA,side=LATERAL`."""
    names = {}
    for pair in text.upper().split(","):
        code, _, view = (part.strip() for part in pair.partition("="))
        if view not in VIEWS[1:] or not code:
            raise InputError(
                f"{pair.strip()!r} does not say what a view stands for", do="write front=PA,side=LATERAL, or AP"
            )
        names[code] = view
    return names


def ages(raw: pl.Series) -> pl.Series:
    """Years, Float32, of 57, 57.0, 057Y, 011M, 012W or 005D; null where unreadable or above OLDEST."""
    number = raw.str.extract(r"^(\d+(?:\.\d+)?)\s*[YMWDymwd]?$").cast(pl.Float64, strict=False)
    per_year = raw.str.to_uppercase().str.extract(r"([MWD])$").replace_strict(
        {"M": 12.0, "W": 52.18, "D": 365.25}, default=1.0, return_dtype=pl.Float64
    )  # fmt: skip
    years = (number / per_year).cast(pl.Float32)
    return years.set(years > OLDEST, None)


def sexes(raw: pl.Series) -> pl.Series:
    """F or M of F, M, female, Male; null for anything else."""
    return raw.str.to_uppercase().str.extract(r"^(F|M)(?:EMALE|ALE)?$")
