"""The sweep: runs what is missing, once; trains what is missing; gathers seeds in a table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from scipy import stats

from experiments.sweep import CONFIGURATION, RESULTS, Configuration, Places, command, table
from paramcast.errors import InputError

PROGRAM = """
import json, pathlib, sys
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
pathlib.Path(words["--calls"]).open("a").write(f"{sys.argv[1:]}\\n")
if "--out" in words:
    sys.exit(pathlib.Path(words["--out"]).mkdir(parents=True))
if words["--shift"] == "bad":
    sys.exit(3)
assert pathlib.Path(words["--model"]).is_dir()
seed = int(words["--seed"])
rows = [
    {"method": name, "gain": {"mean": seed + "ab".index(name)}, "none": None, "support": 8} for name in "ab"
]
rows += [{"method": "a", "gain": {"mean": 100}, "support": 1}]
pathlib.Path(words["--json"]).write_text(json.dumps({"command": "x", "seed": seed, "rows": rows}))
"""

SWEEPS = """
[train]
big = "python {program} --calls {calls} --seed {{seed}}"
[models.big]
on = "--model {{models}}big-{{seed}}"
[sweeps.gains]
command = "python {program} --calls {calls} {{on}} --shift {{shift}} --seed {{seed}}"
record = "gains/{{shift}}-{{seed}}"
axes = [{{ model = ["big"], shift = {shifts}, seed = [0, 1, 4] }}]
by = ["model", "shift", "method"]
values = {{ gain = "gain.mean", none = "none" }}
where = {{ support = 8 }}
"""


class World:
    """A folder with a configuration whose command tells when it is called."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls = folder, folder / "calls.txt"
        (folder / "program.py").write_text(PROGRAM)
        self.configure(["u", "v"])

    def configure(self, shifts: list[str]) -> None:
        known = {"program": self.folder / "program.py", "calls": self.calls, "shifts": json.dumps(shifts)}
        (self.folder / "sweeps.toml").write_text(SWEEPS.format(**known))

    def run(self, *more: str) -> Result:
        options = [f"--{name}={self.folder / name}" for name in ("data", "models", "results")]
        configuration = f"--configuration={self.folder / 'sweeps.toml'}"
        return CliRunner().invoke(command, ["gains", *options, configuration, *more])

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def made(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_sweep_runs_each_point_once_and_trains_each_model_once(made: World) -> None:
    done = made.run("--json", str(made.folder / "table.json"))
    assert done.exit_code == 0, done.output
    assert len(made.called()) == 3 + 2 * 3
    assert sorted(path.name for path in (made.folder / "models").iterdir()) == ["big-0", "big-1", "big-4"]
    assert len(list((made.folder / "results/gains").iterdir())) == 6
    record = json.loads((made.folder / "results/gains/v-4.json").read_text())
    assert record["command"].endswith("--model big-4 --shift v --seed 4")
    rows = json.loads((made.folder / "table.json").read_text())["rows"]
    assert [(row["shift"], row["method"]) for row in rows] == [(s, m) for s in "uv" for m in "ab"]
    low, high = stats.t.interval(0.95, 2, np.mean([1, 2, 5]), stats.sem([1, 2, 5]))
    assert rows[1]["gain"] == {
        "mean": 2.6667,
        "low": round(low, 4),
        "high": round(high, 4),
        "values": [1, 2, 5],
    }
    assert rows[1]["none"] is None
    assert f"2.67 [{low:.2f}, {high:.2f}]" in done.output
    assert made.run().exit_code == 0
    assert len(made.called()) == 9


def test_a_stopped_sweep_goes_on_and_a_part_can_be_asked_for(made: World) -> None:
    made.configure(["u", "bad", "v"])
    stopped = made.run()
    assert "ended with code 3" in str(stopped.exception)
    assert len(list((made.folder / "results/gains").iterdir())) == 3
    before = len(made.called())
    assert made.run("--only", "shift=v", "--only", "seed=1").exit_code == 0
    assert len(made.called()) == before + 1
    assert "write AXIS=VALUE; axes are model, seed, shift" in made.run("--only", "place=here").output
    shown = made.run("--table")
    assert len(made.called()) == before + 1
    assert [line.split()[1:4] for line in shown.output.splitlines()[2:]] == [
        ["u", "a", "3"],
        ["u", "b", "3"],
        ["v", "a", "1"],
        ["v", "b", "1"],
    ]


@pytest.mark.parametrize(
    ("text", "message"), [("{", "is no results file"), ('{"seed": 7, "rows": []}', "is of seed 7, not 0")]
)
def test_a_record_that_is_none_is_told(made: World, text: str, message: str) -> None:
    (made.folder / "results/gains").mkdir(parents=True)
    (made.folder / "results/gains/u-0.json").write_text(text)
    assert message in str(made.run().exception)


def test_a_configuration_that_is_none_is_told(made: World) -> None:
    file = made.folder / "sweeps.toml"
    good = file.read_text()
    for text, message in (
        (good.replace("record =", "recrod ="), "is no configuration of sweeps"),
        (good.replace("[train]", "train]"), "is no configuration of sweeps"),
        (good.replace("{on}", "{no}"), "asks for 'no'"),
        (good.replace("[train]\nbig", "[train]\nsmall"), "nothing says how it is trained"),
        (good.replace('command = "python', 'command = "sh'), "neither of paramcast nor of python"),
    ):
        file.write_text(text)
        assert message in str(made.run("--only", "seed=0").exception)


def test_rows_that_are_not_told_apart_are_told(made: World) -> None:
    assert made.run().exit_code == 0
    file = made.folder / "sweeps.toml"
    file.write_text(file.read_text().replace("where = { support = 8 }", ""))
    assert "`by` has to tell them apart" in str(made.run("--table").exception)


def test_the_committed_records_are_finished_runs_of_the_committed_sweeps() -> None:
    made, places = Configuration.read(CONFIGURATION), Places(Path("data"), Path("models"), RESULTS)
    for name, sweep in made.sweeps.items():
        rows = table(made, sweep, places, {})
        assert rows, name
        for point in sweep.points({}):
            assert made.filled(sweep.command, point, places)
            assert (RESULTS / f"{made.filled(sweep.record, point, None)}.json").exists(), point
    with pytest.raises(InputError, match="asks for"):
        made.filled("{nothing}", {}, places)
