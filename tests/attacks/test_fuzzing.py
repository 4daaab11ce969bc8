"""A short run of the fuzzer, and of schemathesis over the service's OpenAPI schema."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from backends import TinyBackend, serving

from paramcast.cloud import Database, create_app
from paramcast.cloud.state import identities
from paramcast.wire import make_key

RUNS = 20_000


@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed: pip install atheris")
def test_a_short_run_of_the_fuzzer_finds_nothing(tmp_path: Path) -> None:
    fuzzer = Path(__file__).parent / "fuzz_wire.py"
    options = [f"-runs={RUNS}", "-seed=1", "-max_len=2048", "-rss_limit_mb=512", "-timeout=5"]
    # By a shell, as a process counts the memory of the one that started it as its own at first.
    command = ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, str(fuzzer), *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(re.findall(r"^Done (\d+) runs", done.stderr, re.MULTILINE)[0]) >= RUNS
    assert max(map(int, re.findall(r"cov: (\d+)", done.stderr))) > 150  # it gets inside


def test_the_service_keeps_to_its_schema(tmp_path: Path) -> None:
    """What schemathesis sends, right and wrong, is answered as the OpenAPI schema says."""
    database = Database.temporary()
    with database.writing() as connection:
        token = identities.grant(connection, "fuzzer", "admin", 1)
    # The command, as the plugin for pytest wants an older pytest.
    tool = Path(sys.executable).with_name("schemathesis")
    options = ["--max-examples=10", "--seed=1", "--no-color", f"--header=Authorization: Bearer {token}"]
    # That a body is no package's request cannot be said in a schema.
    (tmp_path / "schemathesis.toml").write_text(
        '[[operations]]\ninclude-name = "POST /v1/adapt"\nchecks.positive_data_acceptance.enabled = false\n'
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
