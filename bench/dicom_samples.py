"""pydicom's own test files: what is read, what is refused and why, and whether the stored numbers are pydicom's.

    python bench/dicom_samples.py [--quick]

These are other people's files, CT and MR and broken ones among them, so most must be refused: by kind, not by accident. To test
the decoders on all of them, a second column takes every file with a grey or colour frame that a codec here knows, whatever its
kind and size, and compares the stored values with pydicom's pixel_array where pydicom can decode it too. Only files that came with
the package are looked at; nothing is downloaded.
"""

import argparse
import io
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.pixels import pixel_array
from result import save

from hilum.errors import UnreadableImage
from hilum.pixels.dicom import admission
from hilum.pixels.dicom.codecs import TRANSFER_SYNTAXES
from hilum.pixels.dicom.elements import PIXEL_DATA
from hilum.pixels.dicom.header import elements_of
from hilum.pixels.dicom.read import read_dicom, stored_samples
from hilum.pixels.dicom.tags import Tag

FOLDER = Path(pydicom.__file__).parent / "data" / "test_files"


def outcome(data: bytes) -> str:
    """read, with its warnings, or the code of the refusal."""
    try:
        warned = read_dicom(data).provenance.warnings
    except UnreadableImage as error:
        return error.code
    except Exception as error:
        return f"exception {type(error).__name__}"
    return "read" + (f" ({', '.join(warned)})" if warned else "")


def decoded(data: bytes) -> tuple[str, str]:
    """(transfer syntax, how the stored values compare with pydicom's), both empty where no codec here is meant for the file."""
    try:
        elements = elements_of(data)
        if PIXEL_DATA not in elements or elements.syntax not in TRANSFER_SYNTAXES:
            return "", ""
        if (elements.number(Tag.NUMBER_OF_FRAMES) or 1) > 1:
            return "", ""
        layout = admission.layout_of(elements)
        name = TRANSFER_SYNTAXES[elements.syntax].name
    except UnreadableImage:
        return "", ""
    try:
        stored = stored_samples(elements, layout)
    except UnreadableImage as error:
        return name, f"refused: {error.code}"
    mask = (1 << stored.bits) - 1
    try:
        dataset = pydicom.dcmread(io.BytesIO(data))
        theirs = pixel_array(dataset, raw=True).astype(np.int64) & mask
    except Exception:
        return name, "pydicom has no decoder for it here"
    apart = int(np.abs((stored.samples.astype(np.int64) & mask) - theirs).max())
    return name, "equal" if apart == 0 else f"{apart} apart"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="every fourth file; writes nothing")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    files = sorted(path for path in FOLDER.rglob("*") if path.is_file())[:: 4 if options.quick else 1]
    smallest = admission.SMALLEST
    rows: list[dict[str, Any]] = []
    slowest = 0.0
    for path in files:
        data = path.read_bytes()
        before = time.process_time()
        came = outcome(data)
        slowest = max(slowest, time.process_time() - before)
        admission.SMALLEST = 1  # thumbnails too are something to decode
        syntax, compared = decoded(data)
        admission.SMALLEST = smallest
        rows.append(
            {"file": path.relative_to(FOLDER).as_posix(), "outcome": came, "syntax": syntax, "stored values": compared}
        )
    print(f"{'file':<50}{'outcome':<26}{'stored values':<40}transfer syntax")
    for row in rows:
        print(f"{row['file'][-48:]:<50}{row['outcome'][:24]:<26}{row['stored values']:<40}{row['syntax']}")
    outcomes = Counter(row["outcome"].partition(" ")[0] for row in rows)
    compared = Counter(row["stored values"] for row in rows if row["stored values"])
    print(f"\n{len(rows)} files: " + ", ".join(f"{count} {code}" for code, count in outcomes.most_common()))
    print("stored values: " + ", ".join(f"{count} {what}" for what, count in compared.most_common()))
    print(f"slowest file: {slowest:.2f} CPU seconds; exceptions other than a refusal: {outcomes['exception']}")
    result = {
        "name": "dicom_samples",
        "ours": compared["equal"],
        "peer": sum(count for what, count in compared.items() if what == "equal" or "apart" in what),
        "unit": "files of pydicom whose stored values equal pydicom's, of those that both decode",
        "ratio": None,
        "goal": "all equal but lossy JPEG; every file read or refused with a code",
        "versions": {"pydicom": pydicom.__version__, "python": sys.version.split()[0]},
        "outcomes": dict(outcomes),
        "stored_values": dict(compared),
        "command": "python bench/dicom_samples.py",
        "rows": rows,
    }
    if not options.quick:
        save(result)


if __name__ == "__main__":
    main()
