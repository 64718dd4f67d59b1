"""A picture in the making: density so far, and the layers that findings take away or follow."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hilum.sources.phantom.canvas import F32, Canvas
from hilum.sources.phantom.chest import Chest


@dataclass
class Scene:
    """One image being drawn; all arrays are float32 (size, size).

    density: attenuation so far: air 0, aerated lung about 0.2, soft tissue about 0.6, heart and abdomen 0.8, metal above 1.
    air:     how much aerated lung a ray crosses, 0 to 1.
    lung:    1 inside the outline of either lung, the part behind heart and diaphragm included.
    vessels: what the lung markings add to `density`, so that they can be taken away again.
    bones:   what the ribs and clavicles add to `density`.
    body:    1 inside the skin.
    boxes:   per finding, the region it occupies as (x0, y0, x1, y1) in pixels, right and bottom exclusive.
    """

    canvas: Canvas
    chest: Chest
    lateral: bool
    density: F32
    air: F32
    lung: F32
    vessels: F32
    bones: F32
    body: F32
    boxes: dict[str, tuple[int, int, int, int]] = field(default_factory=dict)

    def at(self, side: int, height: float, out: float, back: float) -> tuple[float, float]:
        """A point in a lung on this view: a way out from the mediastinum on the frontal, back from the sternum on the lateral."""
        return self.chest.lateral(height, back) if self.lateral else self.chest.frontal(side, height, out)

    def fill(self, patch: NDArray[np.floating[Any]], amount: float) -> None:
        """Water for air: density rises where there was air, at most to that of soft tissue."""
        self.density += np.clip(patch, 0, 1.2) * self.air * np.float32(0.40 * amount)


def box_of(change: F32, share: float = 0.2) -> tuple[int, int, int, int] | None:
    """The box (x0, y0, x1, y1; pixels) around the pixels that changed by more than `share` of the largest change."""
    size = np.abs(change)
    top = float(size.max())
    if top < 1e-4:
        return None
    rows, columns = np.nonzero((size > share * top).any(axis=1))[0], np.nonzero((size > share * top).any(axis=0))[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
