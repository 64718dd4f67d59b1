"""Damaged files through the isolated decoder: it answers each one, and the process that asks neither dies, hangs nor grows.

    python bench/mutations.py [--count 5000] [--first 0] [--quick]

DICOM in every transfer syntax that is read, PNG and JPEG, damaged by chance and by design (tests/pixels/mutations.py). A file
follows from its number; those that cost a decoder process are listed by number. Every 100 files a whole one must be read rightly.
"""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from result import save

sys.path.insert(0, str(Path(__file__).parent.parent))  # the files are made as those of the tests are

from hilum.errors import UnreadableImage
from hilum.pixels.isolated.decoder import Decoder
from tests.pixels.dicom_files import DEFLATED
from tests.pixels.files import picture, png
from tests.pixels.mutations import damaged, seeds

WARM = 500  # files before the parent's memory is followed
GREY = picture()


def resident() -> float:
    """MB of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0, help="number of the first file")
    parser.add_argument("--quick", action="store_true", help="500 files, and no result is written")
    options = parser.parse_args()
    count = 500 if options.quick else options.count
    with Decoder() as decoder:
        for name, whole in seeds().items():
            if DEFLATED not in name:  # which is refused
                decoder.decode(whole)
        answers: Counter[str] = Counter()
        seconds, costly, memory = [], [], []
        for number in range(options.first, options.first + count):
            made, data = damaged(number)
            decoder.start()  # every 500 files a fresh process, which is no file's time
            lost, before = decoder.lost.copy(), time.perf_counter()
            try:
                decoder.decode(data)
                answer = "read"
            except UnreadableImage as error:
                answer = error.code
            seconds.append(time.perf_counter() - before)
            answers[answer] += 1
            if decoder.lost != lost:
                why = next(iter((decoder.lost - lost).keys()))
                costly.append({"number": number, "made": made, "why": why})
            if number % 100 == 0:
                assert (decoder.decode(png(GREY)).image == GREY).all()
                memory.append((number, resident()))
        tail = np.array(memory[WARM // 100 :] if len(memory) > WARM // 50 else memory)
        slope = np.polyfit(tail[:, 0], tail[:, 1], 1)[0] * 1000
        slowest = int(np.argmax(seconds))
        rows: list[dict[str, Any]] = [
            {"what": "files", "ours": count},
            *({"what": answer, "ours": number} for answer, number in answers.most_common()),
            {"what": "decoder processes that died", "ours": decoder.lost["died"]},
            {"what": "decoder processes that were late", "ours": decoder.lost["late"]},
            {"what": "decoder processes that talked nonsense", "ours": decoder.lost["garbled"]},
            {"what": "decoder processes started", "ours": decoder.started},
            {"what": "seconds: median, 99 %, slowest", "ours": [round(float(x), 4) for x in (*np.quantile(seconds, (0.5, 0.99)), max(seconds))]},
            {"what": "the slowest file", "ours": [options.first + slowest, damaged(options.first + slowest)[0]]},
            {"what": "MB of the parent at the end", "ours": round(float(tail[-1, 1]), 1)},
            {"what": "MB that 1,000 files add to the parent", "ours": round(float(slope), 3)},
            {"what": "files that cost a process", "ours": costly},
        ]  # fmt: skip
    for row in rows:
        print(f"{row['what']:<45}{row['ours']}")
    if not options.quick:
        save({
            "name": "mutations", "ours": sum(answers.values()), "peer": None, "unit": f"of {count} damaged files answered", "ratio": None,
            "goal": "all, by a parent that neither dies, hangs nor grows", "command": f"python bench/mutations.py --count {count} --first {options.first}",
            "rows": rows,
        })  # fmt: skip


if __name__ == "__main__":
    main()
