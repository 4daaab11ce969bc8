"""`bench adr` and `bench bytes`: what they say of adaptors of which more is known than of trained ones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from filelock import FileLock

from experiments.adr import bench_adr, judge, others
from experiments.bytes import FORMS, bench_bytes, bytes_table, verdict
from experiments.bytes_page import packages_chart, write_bytes_page
from paramcast.hypernet.adr import AnchorReasoner
from paramcast.results import results
from paramcast.video.data.collection import Collection
from paramcast.video.training.model import TrainedModel
from paramcast.video.training.options import TrainingOptions
from paramcast.video.training.pipeline import train_variants

torch.set_num_threads(1)
OPTIONS = TrainingOptions("retrieval", seed=1, frames=2, devices=4, adaptor_steps=3)


@pytest.fixture
def run(everyones: Path) -> Iterator[Path]:
    """Lock and return the folder of all variants, whose base models are trained once."""
    with FileLock(everyones / "variants.lock"):
        yield everyones / "variants"


def drawn(count: int, noise: float = 0.5) -> tuple[torch.Tensor, torch.Tensor]:
    """Anchors of three entries, and clips: eight tenths of them, and noise."""
    anchors = torch.randn(count, 3)
    return anchors, 0.8 * anchors + noise * torch.randn(count, 3)


def test_intervals_and_densities_of_a_reasoner_that_knows_the_truth() -> None:
    torch.manual_seed(0)
    reasoner = AnchorReasoner(3, latent=2)
    reasoner.fit(*drawn(5000))
    held, density = judge(reasoner, *drawn(2000))
    assert held.mean(0).numpy() == pytest.approx(0.9, abs=0.03)
    reasoner.temperature.fill_(-2.0)
    narrow, unlikely = judge(reasoner, *drawn(2000))
    assert narrow.mean() < 0.6
    assert unlikely.mean() < density.mean() - 0.3


def test_what_the_reasoner_is_compared_with() -> None:
    torch.manual_seed(0)
    found = {name: -values.mean().item() for name, values in others(drawn(5000), drawn(5000)).items()}
    wanted = {"plain": 0.8**2 + 0.5**2, "anchor": 0.2**2 + 0.5**2, "shrunk_anchor": 0.5**2}
    for name, variance in wanted.items():
        assert found[name] == pytest.approx(0.5 * np.log(2 * np.pi * np.e * variance), abs=0.03)


def test_variants_share_the_base_and_add_to_a_run(small: Collection, run: Path) -> None:
    first = train_variants(small, run, {"codes": OPTIONS})["codes"]
    clip = replace(OPTIONS, evidence="clip", anchors=1)
    rank1 = replace(OPTIONS, form="lowrank", form_options={"rank": 1})
    more = train_variants(small, run, {"codes": OPTIONS, "clip": clip, "rank 1": rank1})
    again = train_variants(small, run, {"rank 1": rank1})["rank 1"]
    assert more["codes"].sha256() == first.sha256() == TrainedModel.load(run / "codes-reasoner-1").sha256()
    assert (again.config.form_options, again.sha256()) == ({"rank": 1}, more["rank 1"].sha256())
    assert more["clip"].adaptor.reasoner is None
    assert more["clip"].config.evidence == "clip"
    for model in more.values():
        assert all(torch.equal(a, b) for a, b in zip(parts(model.base), parts(first.base), strict=True))
    known = parts(first.adaptors["constant"])
    for ours, theirs in zip(parts(more["clip"].adaptors["constant"]), known, strict=True):
        # Directions are inverted anew, of a matrix that is far from orthogonal: not bit by bit the same.
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)


def parts(module: torch.nn.Module) -> list[torch.Tensor]:
    return list(module.state_dict().values())


def test_bench_adr(small: Collection, run: Path) -> None:
    rows = {row["name"]: row for row in bench_adr(small, OPTIONS, run, devices=3, seed=0)}
    assert 0 <= rows["coverage"]["value"] <= 100
    assert rows["clips"]["value"] > 0
    assert rows["clips_camera"]["value"] > rows["clips"]["value"]
    for name in ("reasoner", "plain", "anchor", "shrunk_anchor"):
        row = rows[f"nll_{name}"]
        assert row["low"] <= row["value"] <= row["high"]
    saved = rows["nll_anchor"]["value"] - rows["nll_reasoner"]["value"]
    assert rows["nll_saved_on_anchor"]["value"] == pytest.approx(saved, abs=1e-3)
    gains = {name: row for name, row in rows.items() if name.startswith("gain_")}
    assert gains.keys() == {
        f"gain_{name}"
        for name in ("reasoner", "anchor", "clip", "reasoner, 2 anchors", "reasoner, 4 anchors")
    }
    # As many numbers for a whole clip's mean as for a frame; 128 and a few for each further frame.
    assert rows["bytes_up_clip"]["value"] == rows["bytes_up_anchor"]["value"]
    further = rows["bytes_up_reasoner, 2 anchors"]["value"] - rows["bytes_up_reasoner"]["value"]
    assert 128 <= further <= 140


def test_bench_bytes(small: Collection, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some = ("lowrank 1", "codes 64", "codes 8")  # every further one is trained anew
    monkeypatch.setattr("experiments.bytes.FORMS", {name: FORMS[name] for name in some})
    rows = bench_bytes(small, OPTIONS, run, devices=3, seed=0)
    named = {row["name"]: row for row in rows}
    assert named.keys() == {f"{form}, {q}" for form in some for q in ("fp32", "fp16", "int8", "int4")}
    best = max(rows, key=lambda row: row["value"])
    for row in rows:
        assert row["low"] <= row["value"] <= row["high"]
        assert row["value"] == pytest.approx(row["own"]["mean"] - row["reference"]["mean"], abs=1e-3)
        assert row["against"] == best["name"]
    for form in some:
        fp32, fp16, int8, int4 = (
            named[f"{form}, {q}"]["bytes_down"] for q in ("fp32", "fp16", "int8", "int4")
        )
        # Scales have entries of their own: of very few numbers, int8 may take more than fp32.
        assert fp32 > fp16
        assert int8 > int4
    assert bytes_table(rows).count("\n") == len(rows) + 1


def test_the_page_has_every_package_and_needs_nothing_else(tmp_path: Path) -> None:
    rows = []
    for place, form in enumerate(FORMS):
        for bits, quantization in ((32, "fp32"), (16, "fp16"), (8, "int8"), (4, "int4")):
            rows.append(
                package(form, 296.0, 400 + bits * 10 ** (6 - place), 1 - place / 100)
                | {"name": f"{form}, {quantization}", "low": 0.5, "high": 1.5, "metric": "top1", "task": "qa"}
                | {"own": {"mean": 26.0 - place, "low": 25.0 - place, "high": 27.0 - place}, "devices": 3}
                | {"reference": {"mean": 20.0}, "shift": "category+camera", "support": 8}
            )
    write_bytes_page(tmp_path / "page.html", results("bench bytes", 0, rows))
    text = (tmp_path / "page.html").read_text()
    assert verdict(rows).split(":")[0] in text
    assert not re.search(r"(src|href)\s*=|url\(|@import|<script", text)
    for row in rows:
        assert f"<th>{row['name']}</th>" in text
    for width in (356, 760):
        picture = ElementTree.fromstring(packages_chart(rows, width))
        assert len(picture.findall("circle")) == len(rows)
        places = [float(circle.attrib["cx"]) for circle in picture.findall("circle")]
        assert 0 < min(places) < max(places) < width


def package(form: str, up: float, down: int, ratio: float | None) -> dict[str, Any]:
    known = {"bytes_up_a_clip": up, "bytes_down": down, "ratio": ratio, "value": ratio or -1.0}
    return {"name": f"{form}, int8", "form": form, "against": "full, fp32", **known}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([package("full", 290, 90_000, 1.0), package("codes 64", 290, 420, 0.96)], "Met: "),
        ([package("full", 290, 90_000, 1.0), package("codes 64", 290, 420, 0.94)], "Missed: "),
        ([package("codes 64", 290, 700, 1.0), package("codes 8", 290, 420, 0.9)], "Missed: "),
        ([package("codes 64", 310, 420, 1.0)], "a clip takes 310 bytes up"),
        ([package("codes 64", 290, 420, None)], "Not to be told: "),
    ],
)
def test_the_verdict_is_that_of_the_target(rows: list[dict[str, Any]], said: str) -> None:
    assert said in verdict(rows)
