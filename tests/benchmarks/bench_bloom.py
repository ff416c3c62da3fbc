"""The Bloom filter on one core, beside rbloom: adding and looking up keys of 64 bits."""

import numpy as np
from numba import njit
from rbloom import Bloom

from datalake.dedup.repeats.bloom import BloomFilter
from tests.benchmarks.report import Result, seconds_in_turn, show

NUM_KEYS = 4_000_000
RATE = 1e-4


@njit
def _touch(words, keys):  # type: ignore[no-untyped-def]
    """One word of one line of the cache a key, which no filter can do without."""
    lines = np.uint64(words.size // 8)
    total = np.uint64(0)
    for key in keys:
        total += words[((key >> np.uint64(32)) * lines >> np.uint64(32)) * np.uint64(8)]
    return total


def main() -> None:
    """Run every case and print the results."""
    draw = np.random.default_rng(0)
    keys = draw.integers(0, 2**63, NUM_KEYS, np.uint64)
    others = draw.integers(0, 2**63, NUM_KEYS, np.uint64)
    # rbloom takes objects and Python's hash of them: integers are the cheapest there are, and
    # ``update`` and ``map`` its shortest ways through a list of them.
    key_list, other_list = keys.tolist(), others.tolist()
    ours, peer = BloomFilter(NUM_KEYS, RATE), Bloom(NUM_KEYS, RATE)

    def add_ours() -> None:
        nonlocal ours
        ours = BloomFilter(NUM_KEYS, RATE)
        ours.add(keys)

    def add_peer() -> None:
        peer.clear()
        peer.update(key_list)

    adding = seconds_in_turn(
        {"ours": add_ours, "peer": add_peer, "floor": lambda: _touch(ours._words, keys)}, repeats=3
    )
    known = seconds_in_turn(
        {
            "ours": lambda: ours.contains(keys),
            "peer": lambda: sum(map(peer.__contains__, key_list)),
            "floor": lambda: _touch(ours._words, keys),
        },
        repeats=3,
    )
    unknown = seconds_in_turn(
        {
            "ours": lambda: ours.contains(others),
            "peer": lambda: sum(map(peer.__contains__, other_list)),
            "floor": lambda: _touch(ours._words, others),
        },
        repeats=3,
    )
    errors = (ours.contains(others).mean(), sum(map(peer.__contains__, other_list)) / NUM_KEYS)
    print(
        f"{NUM_KEYS:,} keys, false positives stated {RATE:g}: ours {errors[0]:.3g} in "
        f"{ours.num_bytes / 1e6:.1f} MB, rbloom {errors[1]:.3g} in {peer.size_in_bits / 8e6:.1f} MB"
    )
    results = [
        Result(
            case=case,
            unit="keys/s",
            ours=NUM_KEYS / taken["ours"],
            peer_name="rbloom",
            peer=NUM_KEYS / taken["peer"],
            floor=NUM_KEYS / taken["floor"],
        )
        for case, taken in (("add", adding), ("look up, held", known), ("look up, new", unknown))
    ]
    show("bloom", results, ("numba", "numpy", "rbloom"))


if __name__ == "__main__":
    main()
