"""`paramcast device run ARTIFACT --inputs FILE`: predictions of any module before and after."""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from worlds import World, add_server, arrays, make_world

import paramcast as pc
from paramcast.cli.device import command as device
from paramcast.device import CloudError
from paramcast.errors import InputError


def run(*words: object) -> Result:
    return CliRunner().invoke(device, ["run", "--device-id", "cam-1", *map(str, words)])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = make_world(tmp_path_factory.mktemp("conv") / "artifact", labels=list("abcde"))
    add_server(made)
    return made


@pytest.fixture(scope="module")
def inputs(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("inputs") / "inputs.npz"
    np.savez(file, image=np.tile(arrays(world.inputs), (4, 1, 1, 1)))
    return file


def test_a_user_sees_what_an_update_changes(world: World, inputs: Path, tmp_path: Path) -> None:
    told = tmp_path / "told.json"
    server = pc.Server(world.out, key=tmp_path / "signing.key")
    with server.running(port=0) as url:
        done = run(world.out, "--inputs", inputs, "--cloud", url, "--support", 4, "--json", told)
    assert done.exit_code == 0, done.exception
    found = json.loads(told.read_text())
    assert found["base"] == ["abcde"[n] for n in np.tile(world.truth(world.inputs).argmax(1), 4)]
    assert (found["status"]["source"], found["status"]["support"]) == ("cloud", 4)
    changed = sum(a != b for a, b in zip(found["base"], found["own"], strict=True))
    assert f"{changed} of 16 predictions have changed" in done.output
    assert "cam-1: package 1 came from the cloud" in done.output


def test_without_a_server_it_answers_all_the_same(world: World, inputs: Path) -> None:
    done = run(world.out, "--inputs", inputs)
    assert done.exit_code == 0
    assert "0 of 16 predictions have changed" in done.output
    gone = run(world.out, "--inputs", inputs, "--cloud", "http://127.0.0.1:9")
    assert isinstance(gone.exception, CloudError)
    assert "0 of 16 predictions have changed" in gone.output


def test_what_does_not_fit_is_named(world: World, inputs: Path, tmp_path: Path) -> None:
    done = run(world.out)
    assert (done.exit_code, "give ARTIFACT and --inputs, or --bundle and --data" in done.output) == (2, True)
    np.savez(tmp_path / "two.npz", picture=np.zeros(3), other=np.zeros(3))
    (tmp_path / "text.npz").write_text("no arrays")
    for name, what in (("two.npz", "has no array 'image'"), ("text.npz", "no file of NumPy arrays")):
        error = run(world.out, "--inputs", tmp_path / name).exception
        assert isinstance(error, InputError | click.UsageError)
        assert what in str(error)
