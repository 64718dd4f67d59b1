"""Images that lie in a folder in several sizes: the largest copy of each is taken, and the count is told."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from hilum.errors import UnreadableImage
from hilum.pixels.read import image_size
from hilum.progress import Progress
from hilum.sources.reading import without_suffix

Sizes = dict[str, tuple[int, int]]


def largest_copies(files: Iterable[Path], progress: Progress) -> tuple[dict[str, str], Sizes, list[str]]:
    """By file name without ending: the path of the largest copy, the sizes (width, height) looked at, a note on them."""
    copies: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        copies[without_suffix(path.name)].append(path)
    several = {name: found for name, found in copies.items() if len(found) > 1}
    sizes: Sizes = {}
    paths = {name: str(found[0]) for name, found in copies.items()}
    if not several:
        return paths, sizes, []
    for name, found in progress(several.items(), total=len(several), label="comparing copies"):
        measured = [size_of(path) for path in found]
        best = max(range(len(found)), key=lambda k: measured[k][0] * measured[k][1])
        paths[name], sizes[name] = str(found[best]), measured[best]
    chosen = Counter(sizes.values())
    listing = ", ".join(f"{count:,} of {w} x {h} px" for (w, h), count in sorted(chosen.items(), reverse=True))
    return paths, sizes, [f"{len(several):,} images have several copies; the largest was taken: {listing}."]


def size_of(path: str | Path) -> tuple[int, int]:
    """(width, height) in pixels; (0, 0) of an unreadable file, so that a whole copy wins. Without one, whoever decodes it says what is wrong."""
    try:
        return image_size(path)
    except UnreadableImage:
        return 0, 0
