from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from experiments.methods.m3bat import datasets
from experiments.methods.m3bat.benchmark import METHODS, Score, methods_of, rows
from experiments.methods.m3bat.command import command
from experiments.methods.m3bat.datasets import (
    Pair,
    read_wisdm,
    seglearn_pairs,
    watch_table_pairs,
    wisdm_pairs,
)
from experiments.methods.m3bat.skada_dann import SkadaDANN, _Domains
from paramcast.errors import InputError
from paramcast.methods.commandline import run

ARFF = "@relation r\n@data\n1,33,{},Jogging\n2,17,{},Walking\n"
CELLS = ",".join(["0.5"] * 42 + ["?"])


def holds(pair: Pair) -> None:
    target = pair.sample_domain < 0
    assert target.any()
    assert not target.all()
    labels = pair.y[target]
    assert (np.isnan(labels) if pair.task == "regression" else labels == -1).all()
    assert 0.8 < target.sum() / len(pair.X_test) < 1.25
    assert pair.X.shape[1:] == pair.X_test.shape[1:]
    adapted = {row.tobytes() for row in pair.X[target]}
    assert sum(row.tobytes() in adapted for row in pair.X_test) <= 0.05 * len(pair.X_test)


def test_wisdm_pairs_hold_out_users(shared_data: Path) -> None:
    path = shared_data / "features" / "wisdm_v1.1_transformed.arff"
    X, y, users = read_wisdm(path)
    assert X.shape == (5418, 43)
    assert len(np.unique(users)) == 36
    assert len(np.unique(y)) == 6
    pairs = list(wisdm_pairs(path, seed=0))
    assert len(pairs) == 3
    for pair in pairs:
        holds(pair)
        sides = [
            set(np.abs(pair.sample_domain[side])) for side in (pair.sample_domain > 0, pair.sample_domain < 0)
        ]
        assert len(sides[0]) == 24
        assert len(sides[1]) == 12
        assert not sides[0] & sides[1]


def test_watch_pairs_keep_recordings_whole() -> None:
    pairs = {pair.name: pair for pair in seglearn_pairs(seed=0)}
    assert len(pairs) == 4
    for pair in pairs.values():
        holds(pair)
        assert pair.X.shape[1:] == (datasets.WINDOW, 6)
        assert len(np.unique(pair.y_test)) == 7
    people = pairs["people 0"].sample_domain
    assert not set(people[people > 0]) & set(-people[people < 0])


@pytest.mark.parametrize("name", ["diabetes", "shifted", "shifted-classes", "shifted-windows"])
def test_pairs_of_other_sets(name: str) -> None:
    pairs = list(datasets.SETS[name](0))
    assert len(pairs) == 4
    for pair in pairs:
        holds(pair)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("@relation r\n", "no @data line"),
        (ARFF.format(CELLS, "0.5,0.5"), "line 4: 5 cells instead of 46"),
        (ARFF.format(CELLS, CELLS.replace("?", "high")), "line 4: .*high"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "wisdm.arff"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_wisdm(path)


def test_a_missing_time_between_peaks_is_zero(tmp_path: Path) -> None:
    path = tmp_path / "wisdm.arff"
    path.write_text(ARFF.format(CELLS, CELLS))
    X, y, users = read_wisdm(path)
    assert X[:, -1].tolist() == [0, 0]
    assert (y.tolist(), users.tolist()) == ([0, 1], [33, 17])


def test_a_watch_table_has_two_numbers_a_channel() -> None:
    windows, table = next(seglearn_pairs(0)), next(watch_table_pairs(0))
    assert table.X.shape == (len(windows.X), 12)
    assert table.modalities == {"accelerometer": [0, 1, 2, 6, 7, 8], "gyroscope": [3, 4, 5, 9, 10, 11]}
    np.testing.assert_allclose(table.X_test[:, 6], windows.X_test[:, :, 0].std(1))


def test_rows_compare_pair_by_pair_with_the_source_model_and_dann() -> None:
    scores = [
        Score(f"pair {pair}", seed, method, 10.0 * pair + seed + (method == "m3bat"), 0.3)
        for seed in range(2)
        for pair in range(2)
        for method in METHODS
    ]
    found = {row["method"]: row for row in rows("wisdm", "classification", scores)}
    assert found["source"]["mean"] == 5.5
    assert found["source"]["pairs"] == {"pair 0": 0.5, "pair 1": 10.5}
    for other in ("source", "dann"):
        assert found["m3bat"][f"against_{other}"] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    assert found["m3bat"]["worse_share"] == 0
    assert found["m3bat"]["scores"][0] == {"pair": "pair 0", "seed": 0, "value": 1.0, "strength": 0.3}
    assert {row["method"]: row for row in rows("shifted", "regression", scores)}["m3bat"]["worse_share"] == 1


@pytest.mark.parametrize(("name", "task"), [("shifted", "regression"), ("seglearn-table", "classification")])
def test_the_command_writes_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, task: str
) -> None:
    pair = next(datasets.SETS[name](0))
    monkeypatch.setitem(datasets.SETS, name, lambda seed: iter([pair]))
    path = tmp_path / "figures.json"
    arguments = ["--data", name, "--seeds", "1", "--steps", "4", "--json", str(path)]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    methods = methods_of(task)
    assert ("dann of skada" in methods) == (task == "classification")
    assert [line[:26].strip() for line in result.output.splitlines() if " against dann " in line] == methods
    figures = json.loads(path.read_text())
    assert figures["command"] == f"python -m experiments m3bat --data {name} --seeds 1 --steps 4"
    assert figures["seed"] == [0]
    assert [row["method"] for row in figures["rows"]] == methods
    assert all(np.isfinite(row["mean"]) for row in figures["rows"])


def test_methods_can_be_chosen(tmp_path: Path) -> None:
    arguments = ["--data", "diabetes", "--seeds", "1", "--steps", "2", "--method", "m3bat"]
    result = CliRunner().invoke(command, [*arguments, "--json", str(tmp_path / "f.json")])
    assert result.exit_code == 0
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["command"].endswith("--steps 2 --method m3bat")
    assert [row["method"] for row in figures["rows"]] == ["m3bat"]
    assert set(figures["rows"][0]["pairs"]) == {
        "young to old",
        "old to young",
        "lean to heavy",
        "heavy to lean",
    }


def test_a_run_goes_on_where_it_was_broken_off(tmp_path: Path) -> None:
    path, figures = tmp_path / "scores.jsonl", [tmp_path / "one.json", tmp_path / "two.json"]
    arguments = [
        "--data",
        "diabetes",
        "--seeds",
        "1",
        "--steps",
        "2",
        "--method",
        "source",
        "--scores",
        str(path),
    ]
    assert CliRunner().invoke(command, [*arguments, "--json", str(figures[0])]).exit_code == 0
    lines = path.read_text().splitlines()
    assert len(lines) == 1 + 4
    path.write_text("\n".join(lines[:3]) + "\n" + lines[3][:10])
    result = CliRunner().invoke(command, [*arguments, "--json", str(figures[1])])
    assert result.exit_code == 0
    assert path.read_text().splitlines() == lines
    assert figures[0].read_text() == figures[1].read_text()
    other = CliRunner().invoke(command, [*arguments, "--method", "dann"])
    assert "other settings (command)" in str(other.exception)
    path.write_text("never\n")
    assert "remove it" in str(CliRunner().invoke(command, arguments).exception)


def test_skadas_dann_aligns_and_reads_no_target_label() -> None:
    pair = next(datasets.SETS["seglearn-table"](0))
    wrong = np.where(pair.sample_domain < 0, 3, pair.y)
    found = [
        SkadaDANN(3, 0).fit(pair.X, y, pair.sample_domain).predict_proba(pair.X_test) for y in (pair.y, wrong)
    ]
    np.testing.assert_array_equal(*found)
    np.testing.assert_allclose(found[0].sum(1), 1, rtol=1e-5)
    says = _Domains(64)(torch.randn(5, 64))
    assert says.shape == (5,)
    assert len(set(says.tolist())) == 5


def test_a_missing_file_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, message in (
        (["wisdm"], "needs --file"),
        (["wisdm", "--file", "none.arff"], "none.arff cannot be"),
        (["diabetes", "--method", "dann of skada"], "does not do regression"),
    ):
        monkeypatch.setattr("sys.argv", ["m3bat", "--seeds", "1", "--data", *arguments])
        with pytest.raises(SystemExit) as exit_:
            run(command)
        assert exit_.value.code == 2
        assert message in capsys.readouterr().err
