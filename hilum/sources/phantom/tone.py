"""From density to an 8-bit picture: scatter, quantum noise, the film's curve, the borders of the beam."""

import numpy as np
from numpy.typing import NDArray

from hilum.sources.phantom.canvas import F32, Canvas, Pose
from hilum.sources.phantom.scene import Scene


def develop(scene: Scene, view: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A grey picture uint8 (size, size), bright = dense. `rng` draws exposure, noise and borders of this one image."""
    c, chest = scene.canvas, scene.chest
    portable = view == "AP"
    exposure = rng.normal(0, (0.018, 0.035)[portable])
    contrast = 1.0 + rng.normal(0, (0.05, 0.09)[portable])
    scatter = np.float32((0.10, 0.18)[portable] + 0.08 * chest.habitus)
    mottle = (0.016, 0.026)[portable] * (0.8 + 0.5 * chest.habitus)
    density = (1 - scatter) * scene.density + scatter * c.blur(scene.density, 0.10)
    dark = rng.standard_normal((c.size, c.size), dtype=np.float32)
    # Grains of one size on the patient: white noise at 256 pixels, averaged below, correlated above.
    grain = 1 / 256
    if c.size > 256:
        dark = c.blur(dark, 0.42 * grain) * np.float32(1 + 1.1 * (c.size / 256 - 1))
    else:
        mottle *= (c.size / 256) ** 0.5
    density += dark * np.float32(mottle)
    value = (density - np.float32(0.46 + exposure)) * np.float32(4.3 * contrast)
    picture = np.float32(250) / (1 + np.exp(-value)) - np.float32(8)
    _mark(c, picture, rng)
    _beam(c, picture, rng)
    return np.asarray(np.clip(picture, 0, 255).astype(np.uint8), np.uint8)


def _mark(c: Canvas, picture: F32, rng: np.random.Generator) -> None:
    """The side marker, a bright L in the upper corner on the patient's left, as technologists place it."""
    if rng.random() < 0.6:
        x, y = 0.90 + 0.03 * rng.random(), 0.05 + 0.05 * rng.random()
        letter = np.array([(x, y), (x, y + 0.035), (x + 0.018, y + 0.035)])
        drawn = Canvas(c.size, Pose()).lines([letter], 0.006)
        picture += drawn * (np.float32(245) - picture)


def _beam(c: Canvas, picture: F32, rng: np.random.Generator) -> None:
    """Black borders where the beam was collimated."""
    for axis in range(2):
        for end in range(2):
            width = int(max(0.0, rng.normal(-0.005, 0.015)) * c.size)
            if width:
                rows = slice(0, width) if end == 0 else slice(c.size - width, c.size)
                picture[(rows, slice(None)) if axis == 0 else (slice(None), rows)] = 3.0


def pose_of(rng: np.random.Generator, portable: bool) -> Pose:
    """How the patient stood or lay for this image; portable images are less well centred."""
    loose = 1.8 if portable else 1.0
    z = rng.standard_normal(4)
    return Pose(
        float(1.0 * loose * z[0]),
        float(0.97 + 0.012 * loose * z[1]),
        float(0.008 * loose * z[2]),
        float(0.009 * loose * z[3]),
    )
