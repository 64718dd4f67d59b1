"""Short texts as vectors, by name: what a model reads of an indication until an encoder of language takes this place."""

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

BUCKETS = 512


@dataclass(frozen=True)
class TextEncoder:
    """encode(texts) -> float32 (n, width), the same numbers on every machine and in every process."""

    width: int
    encode: Callable[[Sequence[str]], np.ndarray]


def hashed_words(texts: Sequence[str]) -> np.ndarray:
    """float32 (n, BUCKETS): lower-cased words and pairs of neighbours, counted by their CRC-32, each row of length 1.

    A text without a letter or digit is a row of zeros. Hashing as in Weinberger et al. 2009, without signs; the choice of
    words and pairs is ours.
    """
    counted = np.zeros((len(texts), BUCKETS), np.float32)
    for row, text in zip(counted, texts):
        words = re.findall(r"[^\W_]+", text.lower())
        for term in [*words, *map(" ".join, pairwise(words))]:
            row[zlib.crc32(term.encode()) % BUCKETS] += 1
    length = np.linalg.norm(counted, axis=1, keepdims=True)
    return counted / np.where(length > 0, length, 1)


TEXTS: dict[str, TextEncoder] = {"hashed_words": TextEncoder(BUCKETS, hashed_words)}
