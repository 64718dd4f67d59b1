"""The result of a benchmark as a file: what was measured, and on which machine, when, and at which commit."""

import json
import os
import platform
import subprocess
from datetime import date
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"


def measured_at() -> dict[str, str]:
    """Machine, day and commit."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=FOLDER.parent
    )
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "date": date.today().isoformat(),
        "commit": commit.stdout.strip(),
    }


def save(measured: dict[str, Any]) -> None:
    """Write results/NAME.json. measured: name, ours, peer, unit, ratio, goal, command, rows."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{measured['name']}.json").write_text(json.dumps(measured | measured_at(), indent=2) + "\n")
