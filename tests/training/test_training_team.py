"""Several workers, one model: with torch alone, and on a real Ray of this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import corners
import module_run
import pytest
import ray_run
import team_run
from click.testing import CliRunner
from train_run import options

import paramcast as pc
from paramcast.cli import paramcast
from paramcast.training.team import Team
from paramcast.video.data.collection import Collection
from paramcast.video.training.model import TrainedModel
from paramcast.video.training.plan import Plan
from paramcast.video.world import make_world

CLIPS = 60


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("team") / "world"
    make_world(folder, clips=CLIPS)
    return folder


def both(script: str, folder: Path) -> list[dict[str, Any]]:
    """Run two processes that train together, and return what each prints."""
    workers = [
        subprocess.Popen([sys.executable, script, str(rank), str(folder)], stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    return [json.loads(worker.communicate(timeout=200)[0]) for worker in workers]


def test_two_workers_end_with_the_same_weights_and_learn_what_each_has_seen(tmp_path: Path) -> None:
    first, second = both(team_run.__file__, tmp_path)
    assert first == second
    assert first["gradients"] == [0.5] * 4
    assert (first["agreed"], first["everyones"]) == ("of 0", [0, 1])
    assert first["weight"] == pytest.approx([1, 2, 3], abs=0.05)


def test_two_workers_train_one_module_and_it_is_as_good_as_that_of_one(tmp_path: Path) -> None:
    first, second = both(module_run.__file__, tmp_path)
    assert first == second
    assert not (tmp_path / "work").exists()
    alone = module_run.told(module_run.train(tmp_path / "alone"))
    # Each base is trained by one worker, from the same draws as by a single process.
    assert first["base"] == alone["base"]
    gains = [one["summary"]["own"] - one["summary"]["base"] for one in (first, alone)]
    assert gains[0] > 0.7 * gains[1] > 0


def test_workers_share_the_training_clips_and_have_the_rest_in_common(world: Path) -> None:
    collection = Collection.open(world)
    alone = Plan(collection, options("qa"))
    plans = [Plan(collection, options("qa"), Team(rank, 2)) for rank in range(2)]
    assert sorted(clip for plan in plans for clip in plan.train) == sorted(alone.train)
    for plan in plans:
        assert (plan.pools, plan.answers, plan.validation) == (alone.pools, alone.answers, alone.validation)
        seen = {clip for fold in (*plan.devices, *plan.plain) for device in fold for clip in device.support}
        assert seen <= set(plan.train)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(find_spec("ray") is None, reason="pip install 'paramcast[ray]'")
def test_models_are_trained_on_ray_though_a_worker_is_killed(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "video"
    command = [sys.executable, ray_run.__file__, str(world), str(tmp_path), "qa"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr[-3000:]
    killed, said = done.stdout.splitlines()[-2:]
    assert killed == "1"
    assert "validation devices" in said
    model = TrainedModel.load(out)
    assert model.config.clips == Plan(Collection.open(world), options("qa")).pools
    assert {path.name for path in out.iterdir()} >= {"config.json", "run.json"}
    module = pc.load(tmp_path / "module", corners.Corners())
    assert len(module.fitted.hypernets) == 2
    for folder in (out, tmp_path / "module"):
        assert not [path for path in folder.iterdir() if path.is_dir()]


def test_without_ray_the_extra_is_named(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    arguments = [
        "train",
        "--data",
        str(world),
        "--task",
        "qa",
        "--out",
        str(tmp_path / "m"),
        "--workers",
        "2",
    ]
    done = CliRunner().invoke(paramcast, arguments)
    assert "paramcast[ray]" in str(done.exception)
