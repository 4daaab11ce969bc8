"""The figures file, its rows, and the multiply-accumulates in it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from paramcast.bench.macs import count_macs
from paramcast.bench.rows import evaluation_rows
from paramcast.bench.table import by_metric, controls_table
from paramcast.results import results, write_results
from paramcast.training.controls import Metric, Result


def result(metric: Metric, own: float, oracle: float = 60.0) -> Result:
    base = np.array([40.0, 50.0])
    values = {"base": base, "constant": base - 1, "shuffled": base - 2, "own": np.full(2, own)}
    return Result(metric, 4, ("a", "b"), values | {"oracle": np.full(2, oracle)})


def test_a_row() -> None:
    cost = {4: {"labels": 0}}
    (row,) = evaluation_rows([result(Metric("top1"), 49.0)], "qa", "category", cost)
    assert row["controls"]["base"]["mean"] == 45
    assert row["gain"] == {"mean": 4.0, "low": -59.531, "high": 67.531}  # Student's t of two devices
    assert row["own_minus_shuffled"]["mean"] == 6
    assert row["recovery"] == round(4 / 15, 4)
    assert row["worse_share"] == 0.0
    assert row["cost"] == {"labels": 0}
    assert "gallery" not in row
    json.dumps(row)


def test_no_recovery_where_the_oracle_gains_nothing() -> None:
    (row,) = evaluation_rows([result(Metric("r@1", "device"), 49.0, 45.0)], "retrieval", "none", None)
    assert row["recovery"] is None
    assert row["cost"] is None
    assert row["gallery"] == "device"


def test_the_table_of_devices_whose_domains_nobody_knows() -> None:
    known = result(Metric("top1"), 49.0)
    blind = Result(known.metric, 8, known.devices, {n: v for n, v in known.values.items() if n != "oracle"})
    (row,) = evaluation_rows([blind], "activity", "people", None)
    assert row["recovery"] is None
    table = controls_table([row])
    assert "own (its own package)" in table
    assert "oracle (" not in table


def test_what_stands_around_the_rows(tmp_path: Path) -> None:
    write_results(tmp_path / "f.json", "bench x", 3, [{"name": "n"}])
    found = json.loads((tmp_path / "f.json").read_text())
    assert found == results("bench x", 3, [{"name": "n"}])
    assert found["machine"]["cores"] > 0
    assert found["commit"] is None or len(found["commit"].removesuffix("-dirty")) == 40


def test_the_table_of_the_terminal() -> None:
    results = [result(Metric("r@1", "device"), 49.0), result(Metric("r@1", "collection"), 39.0)]
    rows = evaluation_rows(results, "retrieval", "category", None)
    assert list(by_metric(rows)) == ["r@1 among the device's clips", "r@1 among all clips"]
    table = controls_table(rows)
    assert "own (its own package)" in table
    assert "49.0 [49.0, 49.0]" in table
    assert "+4.0 [-59.5, +67.5]" in table


def graph(node: onnx.NodeProto, shape: list[int], weight: np.ndarray, path: Path) -> Path:
    made = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["same"]), node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight.astype(np.float32), "w")],
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


@pytest.mark.parametrize(
    ("node", "shape", "weight", "macs"),
    [
        (helper.make_node("MatMul", ["same", "w"], ["y"]), [2, 3, 4], np.ones((4, 5)), 2 * 3 * 5 * 4),
        (helper.make_node("Gemm", ["same", "w"], ["y"], transB=1), [3, 4], np.ones((5, 4)), 3 * 5 * 4),
        (helper.make_node("Gemm", ["same", "w"], ["y"], transA=1), [4, 3], np.ones((4, 5)), 3 * 5 * 4),
        (helper.make_node("Conv", ["same", "w"], ["y"]), [1, 3, 8, 8], np.ones((6, 3, 3, 3)), 36 * 6 * 27),
        (helper.make_node("Conv", ["same", "w"], ["y"], group=4), [1, 4, 5, 5], np.ones((4, 1, 3, 3)), 324),
    ],
)
def test_multiply_accumulates(
    tmp_path: Path, node: onnx.NodeProto, shape: list[int], weight: np.ndarray, macs: int
) -> None:
    path = graph(node, shape, weight, tmp_path / "g.onnx")
    assert count_macs(path, {"x": np.ones(shape, np.float32)}) == macs
