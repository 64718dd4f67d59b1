"""Runs `hilum reproduce` and keeps what it measured, with machine, date, commit and command, under results/.

    python bench/reproduced.py chexfusion --small --table views --studies small/studies.parquet --runs small/reproduced ...

Takes the verb's own arguments; what is trained in --runs already is only judged again.
"""

import json
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

from result import save


def main() -> None:
    arguments = sys.argv[1:]
    if "--help" in arguments or "--runs" not in arguments:
        raise SystemExit(f"{__doc__}\n--runs must be given.")
    if code := subprocess.run([sys.executable, "-m", "hilum.cli", "reproduce", *arguments], check=False).returncode:
        raise SystemExit(code)
    file = Path(arguments[arguments.index("--runs") + 1]) / "reproduction.json"
    measured = json.loads(file.read_text(encoding="utf-8"))
    del measured["files"]
    asked = [value for option, value in pairwise(arguments) if option == "--table"]
    name = "_".join(["reproduce", measured["system"], *asked])
    save({"name": name, "command": shlex.join(["hilum", "reproduce", *arguments]), **measured})


if __name__ == "__main__":
    main()
