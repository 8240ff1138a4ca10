"""Seeds for the random streams, one for each purpose, all derived from the setting `seed`."""

from __future__ import annotations

import zlib
from typing import Literal

import numpy as np

Stream = Literal[
    "initial weights",
    "order of batches",
    "training noise",
    "shuffled genres",
    "intervals of errors",
    "intervals of groups",
    "inspection",
]


def seed_of(seed: int, stream: Stream, *parts: int) -> int:
    """A 63-bit seed for one random stream.

    Streams with different names or parts are independent, and so are those of neighbouring seeds
    (`numpy.random.SeedSequence`).

    Args:
        seed: the setting `seed`.
        stream: what the random numbers are for.
        parts: numbers that tell streams of one name apart, such as the epoch.
    """
    entropy = [seed, zlib.crc32(stream.encode()), len(parts), *parts]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)
