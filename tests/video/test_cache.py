from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from paramcast.video.data.cache import FeatureCache, digest, digest_files

WRITER = """
import sys
from pathlib import Path
import numpy as np
from paramcast.video.data.cache import FeatureCache, digest
cache, who, batches = FeatureCache(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
for batch in range(batches):
    value = np.full((8, 1280), batch, np.float32)
    cache.put({digest(who, batch, place): value for place in range(4)})
    print(batch, flush=True)
"""


def start_writer(path: Path, who: str, batches: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), who, str(batches)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def stored_batches(cache: FeatureCache, who: str, batches: int) -> list[int]:
    """How many of the four arrays of each batch are there; their values are checked."""
    counts = []
    for batch in range(batches):
        found = cache.get([digest(who, batch, place) for place in range(4)])
        assert all(value.shape == (8, 1280) and (value == batch).all() for value in found.values())
        counts.append(len(found))
    return counts


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "features.sqlite")


def test_what_is_put_is_got(cache: FeatureCache) -> None:
    rng = np.random.default_rng(0)
    values = {digest(n): rng.normal(size=(n % 3 + 1, 5)).astype(np.float32) for n in range(1200)}
    cache.put(values)
    found = cache.get([*values, digest("other")])
    assert found.keys() == values.keys()
    assert all((found[key] == values[key]).all() and found[key].dtype == np.float32 for key in values)
    assert not found[digest(0)].flags.writeable


def test_putting_again_replaces(cache: FeatureCache) -> None:
    cache.put({b"k": np.zeros((2, 3), np.float32)})
    cache.put({b"k": np.ones((1, 4), np.float32)})
    np.testing.assert_array_equal(cache.get([b"k"])[b"k"], np.ones((1, 4)))


def test_no_two_lists_of_parts_have_one_digest() -> None:
    lists = [("ab",), ("a", "b"), ("", "ab"), ("ab", ""), (b"ab", b""), ("a", "b", "")]
    assert len({digest(*parts) for parts in lists}) == len(lists) - 1  # bytes are as good as their text


def test_the_digest_of_files_depends_on_content_and_order(tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in "abc")
    first.write_bytes(b"1" * 3_000_000)
    second.write_bytes(b"2")
    third.write_bytes(b"2")
    assert digest_files([first, second]) == digest_files([first, third])
    assert digest_files([first, second]) != digest_files([second, first])


def test_a_killed_writer_leaves_whole_batches(cache: FeatureCache) -> None:
    with start_writer(cache.path, "x", 100_000) as writer:
        assert writer.stdout is not None
        reported = [int(writer.stdout.readline()) for _ in range(10)][-1]
        time.sleep(0.05)  # somewhere in a later batch
        os.kill(writer.pid, signal.SIGKILL)
        writer.stdout.read()
    counts = stored_batches(cache, "x", reported + 200)
    assert counts[: reported + 1] == [4] * (reported + 1)
    assert set(counts) <= {0, 4}
    with sqlite3.connect(cache.path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_two_processes_write_at_once(cache: FeatureCache) -> None:
    writers = [start_writer(cache.path, who, 40) for who in "xy"]
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    assert stored_batches(cache, "x", 40) == stored_batches(cache, "y", 40) == [4] * 40


@pytest.mark.parametrize("damage", ["replaced", "overwritten"])
def test_a_broken_database_is_set_aside(cache: FeatureCache, damage: str) -> None:
    value = np.ones((4, 1280), np.float32)
    cache.put({digest(n): value for n in range(50)})
    whole = cache.path.read_bytes()
    pages = b"\xa5" * (len(whole) - 4096)
    cache.path.write_bytes(b"not a database at all" * 100 if damage == "replaced" else whole[:4096] + pages)
    with pytest.warns(RuntimeWarning, match="the feature cache was broken"):
        assert cache.get([digest(n) for n in range(50)]) == {}
    cache.put({b"k": value})
    assert set(cache.get([b"k"])) == {b"k"}
    assert len(list(cache.path.parent.glob("*.broken-*"))) == 1


def test_a_folder_that_cannot_be_written_is_no_broken_database(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError):
        FeatureCache(tmp_path / "no" / "folder" / "features.sqlite").get([b"k"])


def test_the_default_place_is_the_cache_folder(own_cache: Path) -> None:
    FeatureCache().put({b"k": np.ones((1, 1), np.float32)})
    assert (own_cache / "features" / "features.sqlite").is_file()
