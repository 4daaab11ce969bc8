"""Key files: private, whole, never overwritten."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from paramcast.protocol import KeyFileError, load_key, load_or_make_key, make_key, public_key_hex, save_key


def test_a_key_survives_its_file(tmp_path: Path) -> None:
    key = make_key()
    save_key(key, tmp_path / "new" / "cloud.key")
    assert bytes(load_key(tmp_path / "new" / "cloud.key")) == bytes(key)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["cloud.key"]


@pytest.mark.skipif(os.name != "posix", reason="permission bits are a POSIX thing")
def test_a_key_is_its_owners_only(tmp_path: Path) -> None:
    path = tmp_path / "cloud.key"
    save_key(make_key(), path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="chmod 600"):
        load_key(path)


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "cloud.key"
    key = load_or_make_key(path)
    with pytest.raises(KeyFileError, match="exists already"):
        save_key(make_key(), path)
    assert bytes(load_or_make_key(path)) == bytes(key)


def test_many_first_uses_agree_on_one_key(tmp_path: Path) -> None:
    start = threading.Barrier(8)
    keys: list[str] = []

    def use() -> None:
        start.wait()
        keys.append(public_key_hex(load_or_make_key(tmp_path / "cloud.key")))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8
    assert len(set(keys)) == 1


@pytest.mark.parametrize("content", [b"", b"00", b"\xff" * 64, b"0" * 65, b"0" * 63])
def test_what_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "cloud.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="64 hex digits"):
        load_key(path)


def test_a_missing_or_unwritable_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="cannot read"):
        load_key(tmp_path / "none.key")
    (tmp_path / "file").write_text("")
    with pytest.raises(KeyFileError, match="cannot write"):
        load_or_make_key(tmp_path / "file" / "cloud.key")
