from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from paramcast.errors import InputError
from paramcast.methods.commandline import run
from paramcast.methods.m3bat import __main__ as cli
from paramcast.methods.m3bat import datasets
from paramcast.methods.m3bat.benchmark import METHODS, Score, rows
from paramcast.methods.m3bat.datasets import Pair, read_wisdm, seglearn_pairs, shifted_pairs, wisdm_pairs

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
    assert len(pairs) == cli.PAIRS["wisdm"]
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
    assert len(pairs) == cli.PAIRS["seglearn"]
    for pair in pairs.values():
        holds(pair)
        assert pair.X.shape[1:] == (datasets.WINDOW, 6)
        assert len(np.unique(pair.y_test)) == 7
    people = pairs["people 0"].sample_domain
    assert not set(people[people > 0]) & set(-people[people < 0])


@pytest.mark.parametrize("name", ["diabetes", "shifted"])
def test_regression_pairs(name: str) -> None:
    pairs = list(datasets.SETS[name](0))
    assert len(pairs) == cli.PAIRS[name]
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


def test_rows_compare_pair_by_pair_with_the_source_model() -> None:
    scores = [
        Score(f"pair {pair}", seed, method, {}, 10.0 * pair + seed + (method == "m3bat"))
        for seed in range(2)
        for pair in range(2)
        for method in METHODS
    ]
    found = {row["method"]: row for row in rows("wisdm", scores)}
    assert found["source"]["mean"] == 5.5
    assert found["source"]["pairs"] == {"pair 0": 0.5, "pair 1": 10.5}
    assert found["m3bat"]["against_source"] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    assert found["m3bat"]["worse_share"] == 0
    assert {row["method"]: row for row in rows("shifted", scores)}["m3bat"]["worse_share"] == 1


def test_the_command_writes_its_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(datasets.SETS, "shifted", lambda seed: iter([next(shifted_pairs(seed))]))
    path = tmp_path / "figures.json"
    arguments = ["--data", "shifted", "--seeds", "1", "--steps", "4", "--json", str(path)]
    result = CliRunner().invoke(cli.command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert len([line for line in result.output.splitlines() if " mae " in line]) == len(METHODS)
    figures = json.loads(path.read_text())
    assert figures["command"] == "python -m paramcast.methods.m3bat --data shifted --seeds 1 --steps 4"
    assert figures["seed"] == [0]
    assert [row["method"] for row in figures["rows"]] == list(METHODS)
    assert len(figures["rows"][0]["chosen"]) == 1


def test_a_missing_file_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, message in (
        (["wisdm"], "needs --file"),
        (["wisdm", "--file", "none.arff"], "none.arff cannot be"),
    ):
        monkeypatch.setattr("sys.argv", ["m3bat", "--seeds", "1", "--data", *arguments])
        with pytest.raises(SystemExit) as exit_:
            run(cli.command)
        assert exit_.value.code == 2
        assert message in capsys.readouterr().err
