"""Rendering: one picture in many DICOM encodings must come back as that picture, beside pydicom, torchxrayvision and DCMTK.

    python bench/dicom_encodings.py [--peer-python PYTHON] [--quick]

The encodings (tests/pixels/encodings.py) are worked out backwards from the picture by the rules of the standard, so a reader
right by the standard is within a level of 255; lossy ones are made at their best quality and may lose a level or more of
themselves, which is told. A reader has an encoding right where no pixel is further off than that. The padding encodings follow
our convention (padding is black), and those called contradiction ours too; torchxrayvision promises neither.
--peer-python names a Python with pydicom and torchxrayvision; without it, this Python's packages are asked.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from result import save

sys.path.insert(0, str(Path(__file__).parent.parent))

from hilum.errors import UnreadableImage
from hilum.pixels.dicom.read import read_dicom
from tests.pixels.dicom_files import chest
from tests.pixels.encodings import Encoding, encodings

OURS = "hilum"


def ours(encoding: Encoding, picture: np.ndarray) -> float | None:
    """The largest difference in levels of 255; None where refused."""
    try:
        image = read_dicom(encoding.data).image
    except UnreadableImage:
        return None
    return float(np.abs(image.astype(int) - picture).max()) if image.shape == picture.shape else None


def peers(python: str, made: list[Encoding], picture: np.ndarray) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        for k, encoding in enumerate(made):
            (Path(folder) / f"{k:03d}.dcm").write_bytes(encoding.data)
        np.save(Path(folder) / "picture.npy", picture)
        script = Path(__file__).parent / "dicom_peers.py"
        done = subprocess.run([python, str(script), folder], capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def right(apart: float | None, encoding: Encoding) -> bool:
    """Peers are not rounded to a level, so half of one is theirs."""
    return apart is not None and apart <= encoding.levels + 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", default=sys.executable, help="a Python with pydicom and torchxrayvision")
    parser.add_argument("--quick", action="store_true", help="every fourth encoding; writes nothing")
    options = parser.parse_args()
    picture = chest()
    made = list(encodings(picture))[:: 4 if options.quick else 1]
    answer = peers(options.peer_python, made, picture)
    found = {OURS: [ours(encoding, picture) for encoding in made]}
    found |= {name: [apart[f"{k:03d}.dcm"] for k in range(len(made))] for name, apart in answer["readers"].items()}
    for name, place in (("torchxrayvision", "in that Python"), ("DCMTK", "on the path")):
        if name not in found:
            print(f"{name} is not {place}: left out.\n")

    groups: dict[str, list[int]] = defaultdict(list)
    for k, encoding in enumerate(made):
        groups[encoding.group].append(k)
    names = list(found)
    print(f"{'right of all, by group':<24}{'all':>5}" + "".join(f"{name:>31}" for name in names))
    counts = {}
    for group, places in [*groups.items(), ("all", list(range(len(made))))]:
        counts[group] = {name: sum(right(found[name][k], made[k]) for k in places) for name in names}
        print(f"{group:<24}{len(places):>5}" + "".join(f"{counts[group][name]:>31}" for name in names))
    refused = {name: sum(apart is None for apart in found[name]) for name in names}
    print(f"{'no picture at all (*)':<29}" + "".join(f"{refused[name]:>31}" for name in names))
    print(
        "(*) an exception, or another shape; pydicom has JPEG lossless and 12-bit JPEG only by plugins under the GPL or gdcm"
    )
    lossless = [found[OURS][k] for k, encoding in enumerate(made) if encoding.levels == 1]
    largest = max(256 if apart is None else apart for apart in lossless)
    print(f"\nLargest error of hilum where the encoding itself loses no more than a level: {largest:.0f} of 255.")
    for k, encoding in enumerate(made):
        if encoding.levels > 1:
            print(f"  {encoding.group}, {encoding.name}: {found[OURS][k]:.0f} of 255 (lossy)")

    peer_names = [name for name in names if name != OURS]
    best = max(counts["all"][name] for name in peer_names)
    rows = [
        {"group": encoding.group, "encoding": encoding.name, "allowed": encoding.levels}
        | {name: None if found[name][k] is None else round(found[name][k] or 0, 2) for name in names}
        for k, encoding in enumerate(made)
    ]
    result = {
        "name": "dicom_encodings",
        "ours": counts["all"][OURS],
        "peer": {name: counts["all"][name] for name in peer_names},
        "unit": f"of {len(made)} encodings of one picture right within a grey level (lossy ones within their own loss)",
        "ratio": round(counts["all"][OURS] / max(best, 1), 2),
        "goal": "every one of at least 60, largest error 1 of 255 where nothing is lost",
        "versions": answer["versions"],
        "largest_error": largest,
        "no_picture": refused,
        "groups": {group: {"encodings": len(groups.get(group, made)), **counts[group]} for group in counts},
        "command": "python bench/dicom_encodings.py --peer-python PYTHON",
        "rows": rows,
    }
    if not options.quick:
        save(result)


if __name__ == "__main__":
    main()
