"""Files in the layout of public releases: small grey images, and tables plain, gzipped or with a byte-order mark."""

import csv
import gzip
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from hilum.sources.imported import Imported


def image(path: Path, width: int = 8, height: int = 8, bits: int = 8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = np.uint16 if bits == 16 else np.uint8
    assert cv2.imwrite(str(path), np.full((height, width), 90, kind))
    return path


def table(file: Path, header: Sequence[str], rows: Iterable[Sequence[object]], bom: bool = False) -> Path:
    """A CSV, gzipped where its name ends so."""
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    content = (b"\xef\xbb\xbf" if bom else b"") + text.getvalue().encode()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)
    return file


def notes(imported: Imported) -> str:
    return "\n".join(imported.notes)
