from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from clip_makers import write_clips
from hypothesis import given
from hypothesis import strategies as st

from paramcast.errors import InputError
from paramcast.video.data.collection import Clip, Collection, CollectionError, Problem, Question, parse_line

ROOT = Path("somewhere")
KNOWN = ["id", "frames", "video", "captions", "frame_captions", "qa", "category", "domain", "device", "mood"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


def parse(record: object) -> Clip | list[Problem]:
    return parse_line(ROOT, 5, json.dumps(record).encode())


def faults(record: dict[str, Any]) -> str:
    found = parse(record)
    assert isinstance(found, list)
    assert found
    return " | ".join(problem.message for problem in found)


def test_every_key_is_read_and_unknown_ones_are_kept(collection_root: Path) -> None:
    collection = Collection.open(collection_root)
    a, b, c = collection.clips
    assert collection.name == "made"
    assert collection.by_id == {"a": a, "b": b, "c": c}
    assert (a.line, a.category, a.captions, a.extra) == (1, "3", ("one",), {"mood": "calm"})
    assert (b.category, b.frame_captions, len(b.paths)) == ("kitchen", ("x", "y", "z"), 3)
    assert (c.frames, c.video, c.qa, c.device) == ((), "c.mp4", (Question("what?", "noise"),), "cam-1")
    assert hash(a) != hash(b)


def test_null_is_the_same_as_missing() -> None:
    nothing = dict.fromkeys(["video", "captions", "frame_captions", "qa", "category", "domain", "device"])
    assert parse({"id": "a", "frames": ["0.png"]}) == parse({"id": "a", "frames": ["0.png"], **nothing})


def test_a_domain_beside_a_category_is_kept_as_unknown() -> None:
    clip = parse({"id": "a", "video": "v.mp4", "category": "x", "domain": "y"})
    assert isinstance(clip, Clip)
    assert (clip.category, clip.extra) == ("x", {"domain": "y"})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"id": None}, "id must be a string, not null"),
        ({"id": 1.5}, "id must be a string, not a number"),
        ({"id": " "}, "id is blank"),
        ({"id": "\ud800"}, "surrogate"),
        ({"frames": None}, "either frames or video"),
        ({"video": "v.mp4"}, "either frames or video"),
        ({"frames": []}, "empty clip"),
        ({"frames": "0.png"}, "frames must be a list, not a string"),
        ({"frames": [1]}, r"frames\[0\] must be a string, not a number"),
        ({"frames": ["../0.png"]}, "leaves the collection folder"),
        ({"frames": ["a/../../0.png"]}, "leaves the collection folder"),
        ({"frames": ["/etc/passwd"]}, "leaves the collection folder"),
        ({"frames": ["C:\\x.png"]}, "leaves the collection folder"),
        ({"frames": ["..\\x.png"]}, "leaves the collection folder"),
        ({"frames": ["a\0b"]}, "zero byte"),
        ({"frames": None, "video": ["v.mp4"]}, "video must be a string, not a list"),
        ({"captions": "x"}, "captions must be a list"),
        ({"captions": ["x", True]}, r"captions\[1\] must be a string, not a boolean"),
        ({"frame_captions": ["x", "y"]}, "2 frame_captions for 1 frames"),
        ({"qa": [{"question": "q"}]}, r"qa\[0\].answer is missing; the question has `question`"),
        ({"qa": [{"question": "q", "answer": None}]}, r"qa\[0\].answer must be a string, not null"),
        ({"qa": ["q"]}, r"qa\[0\] must be an object"),
        ({"category": 1.5}, "category must be a string, not a number"),
        ({"category": True}, "category must be a string, not a boolean"),
        ({"device": [4]}, "device must be a string"),
    ],
)
def test_wrong_lines_say_what_is_wrong(change: dict[str, Any], says: str) -> None:
    assert re.search(says, faults({"id": "a", "frames": ["0.png"], **change}))


def test_all_faults_of_a_line_are_found() -> None:
    assert faults({"id": 1, "frames": [], "captions": 2}).count("|") >= 1


@pytest.mark.parametrize("raw", [b"{", b"[1]", b'"x"', b"\xff", b'{"id": NaN}', b"[" * 100_000, b"9" * 5_000])
def test_what_is_not_an_object_of_json_is_a_problem_of_its_line(raw: bytes) -> None:
    (problem,) = parse_line(ROOT, 9, raw)  # type: ignore[misc]
    assert problem.line == 9


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_line_parses_or_is_a_problem_with_its_number(raw: bytes) -> None:
    assert_clip_or_problems(parse_line(ROOT, 3, raw))


@given(st.dictionaries(st.sampled_from(KNOWN), JSON | st.lists(st.text(min_size=1), max_size=3)))
def test_any_object_parses_or_is_a_problem_with_its_number(record: dict[str, Any]) -> None:
    assert_clip_or_problems(parse_line(ROOT, 3, json.dumps(record).encode()))


def assert_clip_or_problems(found: Clip | list[Problem]) -> None:
    if isinstance(found, Clip):
        assert bool(found.frames) != bool(found.video)
        assert all(path.is_relative_to(ROOT) and ".." not in path.parts for path in found.paths)
    else:
        assert found
        assert all(problem.line == 3 and problem.message for problem in found)


def test_open_names_file_line_and_clip(collection_root: Path) -> None:
    (collection_root / "b-01.png").unlink()
    with pytest.raises(
        CollectionError, match=r"clips\.jsonl:2: clip 'b': missing file .*b-01\.png"
    ) as caught:
        Collection.open(collection_root)
    assert caught.value.problem is not None
    assert (caught.value.problem.line, caught.value.problem.id, caught.value.exit_code) == (2, "b", 2)


def test_ids_are_unique(tmp_path: Path) -> None:
    (tmp_path / "0.png").touch()
    line = {"id": "a", "frames": ["0.png"]}
    with pytest.raises(CollectionError, match=r"clips\.jsonl:3: clip 'a': the id is already that of line 1"):
        Collection.open(write_clips(tmp_path, line, "", line))


def test_a_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    (tmp_path / "0.png").touch()
    (tmp_path / "clips.jsonl").write_bytes(b'\xef\xbb\xbf{"id": "a", "frames": ["0.png"]}')
    assert len(Collection.open(tmp_path).clips) == 1


def test_a_folder_without_clips_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a collection is a folder with clips\.jsonl"):
        Collection.open(tmp_path / "nowhere")
    with pytest.raises(InputError, match="has no clips"):
        Collection.open(write_clips(tmp_path))


@pytest.mark.parametrize(("name", "clips"), [("msrvtt", 4415), ("youcook2", 450), ("exercise", 873)])
def test_real_collections_open(shared_data: Path, name: str, clips: int) -> None:
    assert len(Collection.open(shared_data / name).clips) >= min(clips, 100)
