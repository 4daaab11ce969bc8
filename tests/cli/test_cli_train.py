"""`paramcast train`, on a world of pixels."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from commands import TINY, Run

from paramcast.cli.train import ADAPTERS, SAMPLINGS, TASKS
from paramcast.installed import install_command


def test_it_says_what_it_made(trained: tuple[Path, str]) -> None:
    out, said = trained
    assert said.count("\n") == 1
    assert str(out) in said
    assert (out / "config.json").exists()
    assert not (out / "checkpoints").exists()


def test_its_figures(trained: tuple[Path, str]) -> None:
    figures = json.loads((trained[0].parent / "train.json").read_text())
    assert figures.keys() == {"command", "version", "commit", "seed", "machine", "rows"}
    assert figures["command"].startswith("train --data ")
    assert {row["name"] for row in figures["rows"]} >= {"train", "validation_base", "validation_support"}


def test_a_finished_run_is_not_run_again(world: Path, model: Path, run: Run) -> None:
    written = (model / "config.json").stat().st_mtime_ns
    again = run("train", "--data", world, "--task", "qa", "--out", model, *TINY)
    assert again.returncode == 0, again.stderr
    assert (model / "config.json").stat().st_mtime_ns == written


def one_line(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("paramcast: ")
    assert all(word in done.stderr for word in words)


def test_other_settings_do_not_go_over_a_run(world: Path, model: Path, run: Run) -> None:
    one_line(run("train", "--data", world, "--task", "qa", "--out", model, *TINY, "--seed", 1), "seed")


def test_bad_input_is_one_line(tmp_path: Path, run: Run) -> None:
    data = tmp_path / "data"
    arguments = ["train", "--data", data, "--task", "qa", "--out", tmp_path / "m"]
    one_line(run(*arguments), "clips.jsonl")
    data.mkdir()
    (data / "clips.jsonl").write_text("{not json\n")
    one_line(run(*arguments), "line 1")


def test_a_missing_extra_is_named(tmp_path: Path, run: Run) -> None:
    code = "import sys; sys.modules['torch'] = None; from paramcast.cli import main; main()"
    done = run("train", "--data", tmp_path, "--task", "qa", "--out", tmp_path / "m", python=("-c", code))
    one_line(done, install_command("train"))


def test_the_choices_are_those_that_there_are() -> None:
    from paramcast.adapters.configs import CONFIGS
    from paramcast.hypernet.forms import FORMS
    from paramcast.video.data.sampling import SAMPLINGS as ALL
    from paramcast.video.tasks import TASKS as ALL_TASKS

    assert set(TASKS) == set(ALL_TASKS)
    assert set(ADAPTERS) == set(CONFIGS) - {"statistics"}
    assert set(ADAPTERS.values()) == set(FORMS)
    assert SAMPLINGS == ALL
