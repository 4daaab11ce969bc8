"""The service as a deployment of Ray Serve, on a real Ray of this machine."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import httpx2
import pytest
import yaml
from artifacts import make_artifact
from backends import serving

from paramcast.cli.on_ray import application
from paramcast.errors import InputError, MissingExtraError
from paramcast.server.on_ray import NAME, replica

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="pip install 'paramcast[ray]'")
DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.mark.slow
@needs_ray
def test_a_replica_killed_under_load_loses_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).with_name("ray_run.py")), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["before"], told["new"], told["errors"]) == (2, 1, [])
    for numbers in told["seen"].values():
        assert len(numbers) >= 20
        assert numbers == sorted(set(numbers))


@needs_ray
def test_the_configuration_for_a_cluster_is_one() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _READ, str(DEPLOY / "ray.yaml")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["paramcast.cli.on_ray:application", NAME]


_READ = """
import sys, yaml
from ray.serve.schema import ServeDeploySchema
with open(sys.argv[1]) as file:
    schema = ServeDeploySchema.model_validate(yaml.safe_load(file))
(one,) = schema.applications
print(one.import_path, one.deployments[0].name)
"""


def test_it_names_the_settings_file_of_the_others() -> None:
    told = yaml.safe_load((DEPLOY / "ray.yaml").read_text())
    assert (
        f"PARAMCAST_CONFIG={told['applications'][0]['args']['config']}"
        in (DEPLOY / "Containerfile").read_text()
    )


def test_a_replica_is_a_whole_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = make_artifact(tmp_path / "artifact", device=False)
    lines = (f'key = "{tmp_path}/cloud.key"', f'artifact = ["{artifact}"]', "lifetime_s = 77")
    (tmp_path / "cloud.toml").write_text("\n".join(lines))
    monkeypatch.setattr(logging.root, "handlers", [])
    with serving(replica(tmp_path / "cloud.toml")) as url:
        assert httpx2.get(f"{url}/readyz").json()["status"] == "ready"
        assert httpx2.get(f"{url}/v1/model").json()["lifetime_s"] == 77


def test_what_is_wrong_is_told_before_a_replica_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="unknown argument port"):
        application({"port": "1"})
    (tmp_path / "x.toml").write_text("ports = 1\n")
    with pytest.raises(InputError, match="ports"):
        application({"config": str(tmp_path / "x.toml")})
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"paramcast\[ray\]"):
        application({})
