"""A map over a model's square input, as the reader of the image needs it: on the image, in words, as its highest point."""

import cv2
import numpy as np
from numpy.typing import NDArray

from hilum.pixels.spec import PixelSpec

Map = NDArray[np.float32]

# Heights where a frontal chest is cut into zones, as shares of the image: lungs reach from about .1 to .85, and are cut into
# thirds. The midline is what lies between the hila. Ours: a name for a place, not a measurement.
_HEIGHTS = (0.36, 0.6)
_MIDLINE = (0.42, 0.58)
_THIRDS = (1 / 3, 2 / 3)
_ENOUGH, _MOST = 0.6, 3  # share of the map that the named zones hold; more zones than this are no place
_FAINT = 0.25  # of the highest value over a study's views: a view that stays below has nothing to show


def onto_image(square: Map, spec: PixelSpec, shape: tuple[int, int]) -> Map:
    """A map (S, S) over the input of a model as a map over the image (H, W) of that `shape`, at the input's resolution.

    Padding is cut off, what a crop left out is 0. The longer side is S, with `crop` the shorter one.
    """
    size, (height, width) = spec.size, shape
    square = _resized(square, size, size)
    scale = size / (min(shape) if spec.fit == "crop" else max(shape))
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    if spec.fit == "stretch":
        return _resized(square, rows, columns)
    top, left = abs(size - rows) // 2, abs(size - columns) // 2
    if spec.fit == "pad":
        return np.ascontiguousarray(square[top : top + rows, left : left + columns])
    whole = np.zeros((rows, columns), dtype=np.float32)
    whole[top : top + size, left : left + size] = square
    return whole


def words_of(heat: Map, view: str) -> str:
    """Where a map (H, W) over an image is high: "right lower zone", "both lower zones", "upper left of the picture".

    view: on a PA or AP image the patient's right is on the left, as images are hung; of a lateral or unknown view only
    parts of the picture are named. Counted is what reaches half of the highest value, by its square; the zone of the
    highest point comes first, others follow until together they hold most of it. A map that stays below a quarter of the
    study's highest value, which is 1, is "nowhere in particular".
    """
    if heat.max(initial=0.0) < _FAINT:
        return "nowhere in particular"
    high = np.where(heat >= heat.max() / 2, heat, 0.0) ** 2
    frontal = view in ("PA", "AP")
    rows, columns = (_HEIGHTS, _MIDLINE) if frontal else (_THIRDS, _THIRDS)
    shares = {
        (r, c): float(part.sum() / high.sum())
        for r, band in enumerate(np.split(high, _cuts(rows, heat.shape[0])))
        for c, part in enumerate(np.split(band, _cuts(columns, heat.shape[1]), axis=1))
    }
    x, y = peak_of(heat)
    peak = (sum(y >= cut for cut in rows), sum(x >= cut for cut in columns))
    named = [peak]
    for place in sorted(shares, key=lambda place: -shares[place]):
        if sum(shares[each] for each in named) >= _ENOUGH:
            break
        named += [place] if place != peak else []
    if len(named) > _MOST:
        return "spread over the picture"
    return _frontal(named) if frontal else _picture(named)


def peak_of(heat: Map) -> tuple[float, float]:
    """The highest point of a map (H, W): (x, y), each 0 to 1 from the top left."""
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    return (float(column) + 0.5) / heat.shape[1], (float(row) + 0.5) / heat.shape[0]


def as_png(heat: Map) -> bytes:
    """A map (H, W) in 0..1 as an 8-bit grey PNG."""
    done, coded = cv2.imencode(".png", np.round(np.clip(heat, 0, 1) * 255).astype(np.uint8))
    assert done
    return coded.tobytes()


def _frontal(named: list[tuple[int, int]]) -> str:
    said = []
    for row in dict.fromkeys(row for row, _ in named):
        level, sides = ("upper", "mid", "lower")[row], [column for r, column in named if r == row]
        if {0, 2} <= set(sides):
            said.append(f"both {level} zones")
            sides = [column for column in sides if column == 1]
        words = (f"right {level} zone", f"midline, {level} third", f"left {level} zone")
        said += [words[column] for column in sides]
    return " and ".join(said)


def _picture(named: list[tuple[int, int]]) -> str:
    across, down = ("left", "middle", "right"), ("upper", "middle", "lower")
    said = ["centre" if place == (1, 1) else f"{down[place[0]]} {across[place[1]]}" for place in named]
    return f"{' and '.join(said)} of the picture"


def _cuts(shares: tuple[float, float], length: int) -> list[int]:
    return [round(share * length) for share in shares]


def _resized(heat: Map, height: int, width: int) -> Map:
    if heat.shape == (height, width):
        return heat
    return np.asarray(cv2.resize(heat, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.float32)
