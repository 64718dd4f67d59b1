"""How fast the phantom draws: studies of 256 pixels per second of one core, drawn and written as PNGs.

    python bench/phantom_speed.py

Time is the process's own, so that other work on the machine has little say; the best of three rounds over the same studies.
"""

import argparse
import tempfile
import time
from pathlib import Path

import cv2
from result import save

from hilum.sources.phantom.files import write
from hilum.sources.phantom.patients import first_studies
from hilum.sources.phantom.picture import draw
from hilum.sources.phantom.worlds import WORLDS

GOAL = 60


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="fewer studies; writes nothing")
    given = arguments.parse_args()
    cv2.setNumThreads(1)
    rows = []
    for name, world in WORLDS.items():
        studies = list(first_studies(0, 40 if given.quick else 200, world))
        best = {"drawn": float("inf"), "drawn and written": float("inf")}
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(3):
                drawing, start = 0.0, time.process_time()
                for study in studies:
                    for number in range(len(study.images)):
                        begun = time.process_time()
                        picture, boxes = draw(study, number, 256)
                        drawing += time.process_time() - begun
                        write(Path(folder) / f"{study.image_id(number)}.png", picture, boxes)
                whole = time.process_time() - start
                best = {
                    "drawn": min(best["drawn"], drawing),
                    "drawn and written": min(best["drawn and written"], whole),
                }
        for what, seconds in best.items():
            rows.append({"world": name, "what": what, "studies_per_second": round(len(studies) / seconds, 1)})
            print(f"{name:14} {what:20} {rows[-1]['studies_per_second']:6.1f} studies/s")
    if not given.quick:
        ours = rows[1]["studies_per_second"]
        save({
            "name": "phantom_speed", "ours": ours, "peer": None, "unit": "studies of 256 px per second of one core, written",
            "ratio": round(ours / GOAL, 2), "goal": f">= {GOAL}", "command": "python bench/phantom_speed.py", "rows": rows,
        })  # fmt: skip


if __name__ == "__main__":
    main()
