"""The strict safetensors reader and writer, against the library and against lies."""

from __future__ import annotations

import numpy as np
import safetensors.numpy

from paramcast.protocol.tensors import pack, unpack

ARRAYS = {
    "weight": np.arange(6, dtype="f4").reshape(2, 3),
    "codes": np.array([-127, 0, 127], "i1"),
    "clips": np.array([0, 255], "u1"),
    "half": np.array([[0.5]], "f2"),
}


def test_the_library_reads_what_we_write() -> None:
    read = safetensors.numpy.load(pack({"d": "cam-1"}, ARRAYS))
    assert read.keys() == ARRAYS.keys()
    for name, values in ARRAYS.items():
        assert read[name].dtype == values.dtype
        np.testing.assert_array_equal(read[name], values)


def test_we_read_what_the_library_writes() -> None:
    metadata, arrays = unpack(safetensors.numpy.save(ARRAYS, metadata={"d": "cam-1"}), 4096)
    assert metadata == {"d": "cam-1"}
    for name, values in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], values)


def test_writing_is_deterministic_and_arrays_are_aligned() -> None:
    data = pack({"a": "1", "b": "2"}, ARRAYS)
    assert data == pack({"a": "1", "b": "2"}, dict(reversed(ARRAYS.items())))
    _, arrays = unpack(data, 4096)
    assert all(values.flags.aligned for values in arrays.values())
