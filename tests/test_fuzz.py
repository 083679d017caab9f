"""Readers on spoilt files: tensors or one clear line, whatever the bytes.

`ZOO_FUZZ_EXAMPLES=20000 pytest tests/test_fuzz.py` (`make fuzz`) tries for longer.
"""

import os
import time

import files
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_hostile import attempt

from weights.formats import FORMATS

EXAMPLES = int(os.environ.get("ZOO_FUZZ_EXAMPLES", "300"))
EDGES = [0, 1, 2, 127, 128, 255, 256, 2**15 - 1, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1]
SECONDS = 2
"""The most seconds of processor time for a file of a few kilobytes."""

RENAMED = [("set", -300, b"dat_.pkl")]
ENDLESS_INDEX = [
    *[("delete", 0.5688969527888204, 2)] * 2,
    ("cut", 0.9999999999999998, None),
    ("copy", -1, 0.4609230065093373),
    *[("delete", 0.5688969527888204, 2)] * 2,
]
"""Cases that went wrong once (an error of Python's; libhdf5 taking all memory there is); they are tried first."""


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """A good file of each format, and a place for the spoilt ones."""
    folder = tmp_path_factory.mktemp("fuzz")
    for name in FORMATS:
        files.write(folder / name, name)
    return {name: (folder / name).read_bytes() for name in FORMATS}, folder / "spoilt"


def edge(value, size):
    return (value % 256**size).to_bytes(size, "little")


PLACES = st.floats(0, 1, exclude_max=True) | st.integers(0, 400) | st.integers(-500, -1)
"""Anywhere, or near an end, where headers and directories are."""

BYTES = st.binary(min_size=1, max_size=8) | st.builds(edge, st.sampled_from(EDGES), st.sampled_from([1, 2, 4, 8]))
CHANGES = st.lists(
    st.tuples(st.sampled_from(["set", "insert"]), PLACES, BYTES)
    | st.tuples(st.sampled_from(["flip", "delete"]), PLACES, st.integers(0, 20))
    | st.tuples(st.just("copy"), PLACES, PLACES)
    | st.tuples(st.just("cut"), PLACES, st.none()),
    min_size=1,
    max_size=8,
)


def spoil(data, changes):
    data = bytearray(data)
    for kind, place, what in changes:
        at = position(data, place)
        match kind:
            case "set":
                data[at : at + len(what)] = what
            case "insert":
                data[at:at] = what
            case "flip" if at < len(data):
                data[at] ^= 1 << what % 8
            case "delete":
                del data[at : at + what]
            case "copy":
                start = position(data, what)
                data[at : at + 40] = data[start : start + 40]
            case "cut":
                del data[at:]
    return bytes(data)


def position(data, place):
    if isinstance(place, float):
        return int(place * len(data))
    return min(place, len(data)) if place >= 0 else max(0, len(data) + place)


@pytest.mark.parametrize("format_", FORMATS)
def test_spoilt_files(seeds, format_):
    good, path = seeds

    @settings(
        max_examples=EXAMPLES // 10 if format_ in files.PROCESSES else EXAMPLES,
        deadline=None,
        database=None,
        derandomize=EXAMPLES < 1000,
        suppress_health_check=list(HealthCheck),
    )
    @given(changes=CHANGES)
    @example(changes=RENAMED)
    @example(changes=ENDLESS_INDEX)
    def spoilt(changes):
        path.write_bytes(spoil(good[format_], changes))
        begin = time.process_time()
        attempt(path)
        assert time.process_time() - begin < SECONDS

    spoilt()


def test_the_mutations_do_spoil(seeds):
    """Most of the changed files are refused and some are not: the changes are neither all harmless nor all fatal."""
    good, path = seeds
    refused = []

    @settings(max_examples=200, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(changes=CHANGES)
    def spoilt(changes):
        path.write_bytes(spoil(good["torch"], changes))
        refused.append(isinstance(attempt(path), str))

    spoilt()
    assert 50 < sum(refused) < 199
