"""placeholder"""

from typing import Any

from hilum.evaluation.joined import Joined


def render(content: dict[str, Any], joined: Joined, *, images: bool = False) -> str:
    return "<html></html>"
