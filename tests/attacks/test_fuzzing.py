"""A short run of the fuzzer, and of schemathesis over the service's OpenAPI schema."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from backends import TinyBackend, serving

from experiments.fuzz import FindingError, bench_fuzz
from paramcast.protocol import make_key
from paramcast.server import Database, create_app
from paramcast.server.db import identities

RUNS = 20_000


needs_atheris = pytest.mark.skipif(find_spec("atheris") is None, reason="pip install 'paramcast[fuzz]'")


@needs_atheris
def test_a_short_run_of_the_fuzzer_finds_nothing(tmp_path: Path) -> None:
    rows = {row["name"]: row for row in bench_fuzz(RUNS, seed=1, findings=tmp_path / "findings")}
    assert rows["fuzz_inputs"]["value"] >= RUNS
    assert rows["fuzz_reached"]["value"] > 150  # it gets inside
    assert rows["fuzz_memory"]["ratio"] < 1
    assert not list((tmp_path / "findings").iterdir())


@needs_atheris
def test_the_fuzzer_finds_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that breaks on some bytes is found out, and the bytes are kept."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'experiments.fuzz_wire' in sys.orig_argv:\n"
        "    from paramcast.protocol.credentials import Credentials\n"
        "    read = Credentials.read\n"
        "    def broken(header):\n"
        "        if 'Q' in header:\n"
        "            raise ZeroDivisionError\n"
        "        return read(header)\n"
        "    Credentials.read = broken\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(FindingError, match="ZeroDivisionError"):
        bench_fuzz(RUNS, seed=1, findings=tmp_path / "findings")
    (kept,) = (tmp_path / "findings").iterdir()
    assert b"Q" in kept.read_bytes()


def test_the_service_keeps_to_its_schema(tmp_path: Path) -> None:
    """What schemathesis sends, right and wrong, is answered as the OpenAPI schema says."""
    database = Database.temporary()
    with database.writing() as connection:
        token = identities.grant(connection, "fuzzer", "admin", 1)
    # The command, as the plugin for pytest wants an older pytest.
    tool = Path(sys.executable).with_name("schemathesis")
    options = ["--max-examples=10", "--seed=1", "--no-color", f"--header=Authorization: Bearer {token}"]
    # That a body is no package's request cannot be said in a schema; and a stream has no end to wait for.
    (tmp_path / "schemathesis.toml").write_text(
        '[[operations]]\ninclude-name = "POST /v1/adapt"\nchecks.positive_data_acceptance.enabled = false\n'
        '[[operations]]\ninclude-name = "GET /v1/operator/live"\nenabled = false\n'
    )
    with serving(create_app(TinyBackend(), make_key(), database=database)) as url:
        done = subprocess.run(
            [tool, "run", f"{url}/openapi.json", *options],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=250,
        )
    assert done.returncode == 0, done.stdout[-6000:]
