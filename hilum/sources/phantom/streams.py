"""Random streams by name: the same seed and keys give the same numbers, whatever else was drawn before."""

import zlib

import numpy as np


def stream(seed: int, *keys: int | str) -> np.random.Generator:
    """A generator of its own for these keys, such as ("patient", 12) or ("lesion", 12, 3, "Mass").

    Every element of a picture draws from its own stream, so leaving one out changes nothing else.
    """
    return np.random.default_rng([seed, *(zlib.crc32(key.encode()) if isinstance(key, str) else key for key in keys)])
