"""Fleets: no leaks between splits or within a device, the same everywhere, honest about small pools."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paramcast.errors import InputError
from paramcast.video.data.collection import Clip, Collection, Question
from paramcast.video.shifts.cameras import HELD_OUT_KINDS, TRAINING_KINDS
from paramcast.video.shifts.fleet import (
    MINIMUM_QUERY,
    SHIFTS,
    SPLITS,
    Fleet,
    FleetError,
    build_fleet,
    split_clips,
)
from paramcast.video.shifts.vocabulary import Vocabulary

FEW = {"train": 4, "validation": 2, "test": 2}


def collection(clips: int = 600, categories: int = 5, owners: int = 0) -> Collection:
    """A collection without files: every seventh clip has no category and every fifth no question."""
    made = tuple(
        Clip(
            id=f"clip{number}",
            root=Path("nowhere"),
            line=number + 1,
            frames=(f"{number}.png",),
            video=None,
            qa=() if number % 5 == 0 else (Question("what?", "man"),),
            category=None if number % 7 == 0 else f"c{number % categories}",
            device=f"d{number % owners}" if owners else None,
        )
        for number in range(clips)
    )
    return Collection(Path("nowhere"), "made", made, {clip.id: clip for clip in made})


MADE = collection()
SHIFT_SETS = st.lists(st.sampled_from(SHIFTS), unique=True).map(tuple)


@given(SHIFT_SETS, st.integers(0, 2**31), st.integers(1, 12), st.integers(1, 20))
@settings(max_examples=40, deadline=None)
def test_invariants(shifts: tuple[str, ...], seed: int, support: int, query: int) -> None:
    fleet = build_fleet(
        MADE,
        shifts=shifts,
        devices=FEW,
        seed=seed,
        support=support,
        query=query,
        usable=lambda clip: bool(clip.qa),
    )
    assert {split: len(fleet.split(split)) for split in SPLITS} == FEW
    assert len({device.id for device in fleet.devices}) == len(fleet.devices)
    used = {split: {clip for d in fleet.split(split) for clip in (*d.support, *d.query)} for split in SPLITS}
    assert not used["train"] & used["validation"]
    assert not (used["train"] | used["validation"]) & used["test"]
    for device in fleet.devices:
        clips = (*device.support, *device.query)
        assert len(clips) == len(set(clips))
        assert len(device.support) == support
        assert min(query, MINIMUM_QUERY) <= len(device.query) <= query
        assert all(MADE.by_id[clip].qa for clip in clips)
        assert bool(device.cameras) == ("camera" in shifts)
        assert (device.vocabulary is not None) == ("vocabulary" in shifts)
        assert (device.habits is not None) == ("habits" in shifts)
        if "category" in shifts:
            assert sum(device.categories.values()) == pytest.approx(1.0)
    again = build_fleet(
        MADE,
        shifts=shifts,
        devices=FEW,
        seed=seed,
        support=support,
        query=query,
        usable=lambda clip: bool(clip.qa),
    )
    assert again == fleet


@given(SHIFT_SETS, st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_save_and_load_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, shifts: tuple[str, ...], seed: int
) -> None:
    path = tmp_path_factory.mktemp("fleet") / "fleet.json"
    fleet = build_fleet(MADE, shifts=shifts, devices=FEW, seed=seed)
    fleet.save(path)
    assert Fleet.load(path) == fleet


@given(st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_split_shares_out_all_clips(seed: int) -> None:
    pools = split_clips(MADE, seed)
    assert sorted(clip for ids in pools.values() for clip in ids) == sorted(MADE.by_id)
    assert 0.7 < len(pools["train"]) / len(MADE.clips) < 0.9
    fewer = split_clips(collection(300), seed)
    assert all(set(ids) <= set(pools[split]) for split, ids in fewer.items())


def test_the_same_in_another_process(tmp_path: Path) -> None:
    code = (
        "import sys; from test_fleet import MADE, FEW, SHIFTS, build_fleet;"
        "build_fleet(MADE, shifts=SHIFTS, devices=FEW, seed=5).save(sys.argv[1])"
    )
    path = tmp_path / "other.json"
    here = __file__.rpartition("/")[0]
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, cwd=here)
    assert Fleet.load(path) == build_fleet(MADE, shifts=SHIFTS, devices=FEW, seed=5)


def test_a_device_is_the_same_in_a_larger_fleet() -> None:
    small, large = (build_fleet(MADE, shifts=SHIFTS, devices={"test": n}, seed=2) for n in (2, 5))
    assert large.devices[:2] == small.devices


def test_category_shift_makes_devices_see_few_categories() -> None:
    shifted = build_fleet(collection(6000, 10), shifts=("category",), devices={"train": 30})
    alike = build_fleet(collection(6000, 10), shifts=(), devices={"train": 30})
    largest = [np.mean([max(d.categories.values()) for d in fleet.devices]) for fleet in (shifted, alike)]
    assert largest[0] > 0.5 > 0.3 > largest[1]


def test_cameras_of_the_test_split_can_be_held_out() -> None:
    fleet = build_fleet(MADE, shifts=("camera",), devices={"train": 60, "test": 12}, held_out_cameras=True)
    assert {camera.kind for d in fleet.split("test") for camera in d.cameras} == set(HELD_OUT_KINDS)
    assert {camera.kind for d in fleet.split("train") for camera in d.cameras} == set(TRAINING_KINDS)
    assert {len(d.cameras) for d in fleet.split("train")} == {1, 2}
    assert {len(d.cameras) for d in fleet.split("test")} == {1}
    assert all(0.3 <= camera.severity <= 1.0 for d in fleet.devices for camera in d.cameras)


def test_collection_shift_follows_the_collections_own_devices() -> None:
    owned = collection(900, owners=6)
    fleet = build_fleet(owned, shifts=("collection",), devices={"train": 12})
    owners = [{owned.by_id[clip].device for clip in (*d.support, *d.query)} for d in fleet.devices]
    assert all(len(owner) == 1 for owner in owners)
    assert len(set.union(*owners)) == 6


def test_pools_can_be_given() -> None:
    fleet = build_fleet(MADE, devices={"test": 3}, pools={"test": [clip.id for clip in MADE.clips[:120]]})
    assert {clip for d in fleet.devices for clip in d.query} <= {clip.id for clip in MADE.clips[:120]}
    with pytest.raises(FleetError, match="no clip 'elsewhere'"):
        build_fleet(MADE, devices={"test": 3}, pools={"test": ["elsewhere"]})


def test_small_pools_shrink_the_query_first_and_then_fail() -> None:
    ids = [clip.id for clip in MADE.clips if clip.category]
    device = build_fleet(MADE, devices={"test": 1}, pools={"test": ids[:22]}).devices[0]
    assert (len(device.support), len(device.query)) == (16, 6)
    with pytest.raises(FleetError, match=r"19 usable clips .* --support 15"):
        build_fleet(MADE, devices={"test": 1}, pools={"test": ids[:19]})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"shifts": ("weather",)}, "weather"),
        ({"devices": {"tests": 1}}, "tests"),
        ({"support": 0}, "support"),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(FleetError, match=message):
        build_fleet(MADE, **wrong)  # type: ignore[arg-type]


def test_a_file_of_the_first_version_is_read(tmp_path: Path) -> None:
    path = tmp_path / "fleet.json"
    path.write_text(broken({}, {"vocabulary": {"seed": 1, "strength": 0.7}}), encoding="utf-8")
    (device,) = Fleet.load(path).devices
    assert device.vocabulary == Vocabulary(1, 0.7)
    assert device.habits is None


def test_habits_are_heard_in_answers_alone() -> None:
    asks, answers = Vocabulary(0, 1.0), Vocabulary(1, 1.0)
    assert asks.words != answers.words
    (plain,) = build_fleet(MADE, shifts=(), devices={"test": 1}).devices
    device = replace(plain, vocabulary=asks, habits=answers)
    for concept in asks.words:
        assert device.question(concept) == asks.words[concept]
        assert device.answer(concept) == answers.words[concept]
    assert replace(device, vocabulary=None).question("a man") == "a man"
    assert replace(device, habits=None).answer("man") == asks.words["man"]


def broken(change: dict[str, object], device: dict[str, object] | None = None) -> str:
    whole = {
        "id": "test-0000",
        "split": "test",
        "support": ["a"],
        "query": ["b"],
        "cameras": [],
        "vocabulary": None,
        "categories": {},
        "collection": "made",
    }
    stored = {"format": 1, "devices": [whole | (device or {})], "shifts": [], "seed": 0}
    return json.dumps(stored | change)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        "\x00\xff",
        broken({"format": 3}),
        broken({"devices": None}),
        broken({"devices": [3]}),
        broken({"seed": "x"}),
        broken({}, {"split": "other"}),
        broken({}, {"query": ["a"]}),
        broken({}, {"cameras": [{"kind": "fog", "severity": 0.5, "seed": 1}]}),
        broken({}, {"cameras": [{"kind": "haze", "severity": "high", "seed": 1}]}),
        broken({}, {"cameras": [{"kind": "haze"}]}),
        broken({}, {"vocabulary": {"seed": 1, "strength": 3}}),
        broken({}, {"habits": {"seed": 1}}),
        broken({}, {"categories": ["kitchen"]}),
    ],
)
def test_what_is_not_a_fleet_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "fleet.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FleetError, match=r"fleet\.json"):
        Fleet.load(path)


def test_a_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        Fleet.load(tmp_path / "absent.json")
    (tmp_path / "good.json").write_text(broken({}), encoding="utf-8")
    assert Fleet.load(tmp_path / "good.json").devices[0].id == "test-0000"


def test_real_collections_make_fleets(shared_data: Path) -> None:
    opened = Collection.open(shared_data / "msrvtt")
    fleet = build_fleet(opened, devices=FEW, usable=lambda clip: bool(clip.qa))
    assert all(len(device.support) == 16 for device in fleet.devices)
