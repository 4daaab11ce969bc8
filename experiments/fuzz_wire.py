"""Program that `python -m experiments fuzz` runs: atheris over everything that is read from strangers.

    python -m experiments.fuzz_wire [options of libFuzzer]

Every exception other than the intended error for bad bytes is a finding: the input is written to a file, and
the exit code is 77.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["paramcast.protocol"]):
    from paramcast.protocol import AdaptRequest, Credentials, MessageError, PackageError, open_package
    from paramcast.protocol.package import MAGIC
    from paramcast.protocol.signing import SigningKey, sign

KEY = SigningKey(bytes(32))
PUBLIC = bytes(KEY.verify_key).hex()
EXPECTED = {"layer.weight": (4, 6), "layer.bias": (4,)}
WORDS = (
    *('"__metadata__":{', '"dtype":"U8"', '"dtype":"I8"', '"dtype":"F16"', '"dtype":"F32"'),
    *(
        '"shape":[',
        '"data_offsets":[0,',
        '"layer.weight":{',
        '"layer.bias":{',
        "NaN",
        "Infinity",
        "-1",
        "1e308",
    ),
    *(
        "9007199254740991",
        "9007199254740992",
        "18446744073709551616",
        "../",
        "\\u0000",
        "[[[[",
        "{{{{",
        "Paramcast ",
    ),
)
"""Words that the fuzzer may write into inputs: words of the formats, and numbers at their limits."""


def try_one(data: bytes) -> None:
    """Decode `data` as every kind of message."""
    with contextlib.suppress(MessageError):
        request = AdaptRequest.decode(data)
        again = AdaptRequest.decode(request.encode())
        assert (again.device, again.sequence, again.anchors.shape) == (
            request.device,
            request.sequence,
            request.anchors.shape,
        )
    with contextlib.suppress(MessageError):
        Credentials.read(data.decode("latin-1"))
    kind, content = data[:1], data[1:]
    # The signature is valid, so that the code behind its check is reached.
    for package in (data, MAGIC + kind + sign(KEY, kind + content) + content):
        with contextlib.suppress(PackageError):
            open_package(package, PUBLIC, device="cam-1", model="a" * 64, after=0, now=0, expected=EXPECTED)


def seeds() -> list[bytes]:
    """Make valid messages of each kind, from which the fuzzer starts."""
    import numpy as np

    from paramcast.protocol import Package, authorize, seal

    request = AdaptRequest(
        "cam-1", "a" * 64, 7, np.ones((3, 4), "f4"), np.ones((2, 4), "f4"), np.array([0, 2])
    )
    tensors = {name: np.ones(shape, "f4") for name, shape in EXPECTED.items()}
    packages = [
        seal(Package("cam-1", "a" * 64, 5, 9, "full", quantization, tensors), KEY)
        for quantization in ("fp32", "fp16", "int8", "int4")
    ]
    header = authorize(
        KEY, device="cam-1", method="POST", path="/v1/adapt", body=b"", time_us=1, nonce="A" * 22
    )
    return [request.encode(), header.encode(), *(data[4:5] + data[69:] for data in packages)]


def main() -> None:
    """Fuzz from the seeds."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, words = Path(scratch) / "seeds", Path(scratch) / "words"
        folder.mkdir()
        for place, data in enumerate(seeds()):
            (folder / f"seed-{place}").write_bytes(data)
        escaped = ["".join(f"\\x{byte:02x}" for byte in word.encode()) for word in WORDS]
        words.write_text("".join(f'"{word}"\n' for word in escaped), encoding="ascii")
        atheris.Setup([*sys.argv, f"-dict={words}", str(folder)], try_one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
