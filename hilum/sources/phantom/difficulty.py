"""How plain each finding is drawn: a contrast multiplier per finding, measured once and frozen with the drawing's version."""

import json
from pathlib import Path

_FROZEN = json.loads(Path(__file__).with_name("difficulty.json").read_text())

VERSION: int = _FROZEN["version"]  # of the drawing: raised whenever the same seed gives another picture
CONTRAST: dict[str, float] = _FROZEN["contrast"]  # 1 for what is not named
