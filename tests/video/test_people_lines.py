"""Lines of `clips.jsonl` as people have them: what is read of them, and what `data check` says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from clip_makers import numbered, picture_clip, write_clips

from paramcast.cli.data import command
from paramcast.video.data.clip import Clip
from paramcast.video.data.collection import Collection, CollectionError, Problem, parse_line
from paramcast.video.data.content import content_of
from paramcast.video.data.groups import groups
from paramcast.video.shifts.fleet import build_fleet, split_clips


def parse(**record: Any) -> Clip:
    found = parse_line(Path("x"), 1, json.dumps({"id": "a", "video": "v.mp4", **record}).encode())
    assert isinstance(found, Clip), found
    return found


def fault(**record: Any) -> str:
    found = parse_line(Path("x"), 1, json.dumps({"id": "a", "video": "v.mp4", **record}).encode())
    assert isinstance(found, list)
    return " | ".join(problem.message for problem in found)


def asked(**question: Any) -> dict[str, Any]:
    return {"qa": [{"question": "why?", **question}]}


def test_start_and_end_are_read() -> None:
    clip = parse(start=1.5, end=3)
    assert (clip.start, clip.end, clip.extra) == (1.5, 3.0, {})
    assert parse(start=None).start is None


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"start": "1"}, "start must be a number of seconds, not a string"),
        ({"start": -1}, "start must be seconds from the start of the file"),
        ({"start": 2, "end": 2}, "end 2 must be later than start 2"),
        ({"end": 0}, "end 0 must be later than start 0"),
        ({"end": True}, "end must be a number of seconds, not a boolean"),
        ({"video": None, "frames": ["0.png"], "start": 1}, "start and end are seconds of a video"),
        ({"split": "trainn"}, "split must be one of train, validation, test, not 'trainn'"),
        ({"source": 1.5}, "source must be a string"),
        (asked(options=["a"], answer="a"), "options must be a list of two"),
        (asked(options=["a", "A."], answer="a"), "holds an answer twice"),
        (asked(options=["b", "c"], answer="a"), "'a' is none of its options"),
        (asked(options=["b", "c"], answer=2), "is 2, but there are 2 options, counted from 0"),
        (asked(answers=[]), "answers is an empty list"),
        (asked(answers=["a"], answer="a"), "both answer and answers"),
        (asked(answers=["a", True]), r"answers[1] must be a string, not a boolean"),
        ({"start": "00:01:02.5"}, "start must be a number of seconds, not a string; write 62.5"),
        ({"end": "1:00:00"}, "end must be a number of seconds, not a string; write 3600"),
        ({"end": "soon"}, "end must be a number of seconds, not a string"),
        ({"qa": [{"Question": "why?", "Answer": "a"}]}, "question is missing; the question has `Question`"),
        ({"video": None, "video_path": "v.mp4"}, "either frames or video, and the line has `id`, `video`,"),
        (asked(options=["to a", "to b"], answer="B"), "'B' is none of its options"),
        (asked(options=["a", "b", "b"], answer="a"), "holds an answer twice"),
        (asked(options=["two", "2"], answer="2"), "holds an answer twice"),
    ],
)
def test_what_is_wrong_is_said(record: dict[str, Any], says: str) -> None:
    assert says in fault(**record)


def test_a_missing_id_is_said_with_the_keys_that_there_are() -> None:
    (found,) = parse_line(Path("x"), 1, b'{"video_id": "a", "video": "v.mp4"}')  # type: ignore[misc]
    assert found.message == "id is missing; the line has `video_id`, `video`"


def test_whole_numbers_may_be_ids_and_devices() -> None:
    clip = parse(id=7, device=3, **asked(answer=2))
    assert (clip.id, clip.device, clip.qa[0].answer) == ("7", "3", "2")


@pytest.mark.parametrize(
    "line", ['{"id": "a", "id": "b", "video": "v.mp4"}', '{"id": "a", "qa": [{"a": 1, "a": 2}]}']
)
def test_a_key_that_is_there_twice(line: str) -> None:
    (found,) = parse_line(Path("x"), 1, line.encode())  # type: ignore[misc]
    assert "occurs twice" in found.message


def test_splits_by_their_usual_names() -> None:
    names = {"train": "train", "Training": "train", "val": "validation", "dev": "validation", "test": "test"}
    assert {name: parse(split=name).split for name in names} == names


@pytest.mark.parametrize("answer", ["c", "C.", 2, "2"])
def test_options_are_kept_and_the_answer_may_be_their_place(answer: object) -> None:
    (question,) = parse(**asked(options=["a", "b", "c", "d", "e"], answer=answer, type="CW")).qa
    assert question.options == ("a", "b", "c", "d", "e")
    assert question.answer.lower().rstrip(".") == "c"
    assert question.kind == "CW"


def test_a_number_that_is_an_option_is_that_option() -> None:
    (question,) = parse(**asked(options=["1", "2", "3"], answer="2")).qa
    assert question.answer == "2"


@pytest.mark.parametrize("key", ["answer", "answers"])
def test_several_answers(key: str) -> None:
    (question,) = parse(**asked(**{key: ["object", "thing", "Thing", "thing"]})).qa
    assert question.answer == "thing"
    assert question.right == ("object", "thing", "Thing", "thing")


def test_blanks_around_an_answer_go() -> None:
    assert parse(**asked(answer=" cat\r\n")).qa[0].answer == "cat"


# What `data check` notes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    picture_clip(tmp_path, [numbered(n) for n in range(4)], "p")
    return tmp_path


def record(number: int, **change: Any) -> dict[str, Any]:
    return {"id": f"c{number}", "frames": [f"p-0{number}.png"], **change}


def checked(root: Path, *records: dict[str, Any], options: Sequence[str] = ()) -> tuple[int, str]:
    write_clips(root, *records)
    done = CliRunner().invoke(command, ["check", str(root), *options])
    return done.exit_code, done.output


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("caption", "captions"),
        ("Captions", "captions"),
        ("CAPTION", "captions"),
        ("question", "qa"),
        ("answer", "qa"),
        ("start_time", "start"),
        ("subset", "split"),
        ("catgory", "category"),
        ("frame-captions", "frame_captions"),
        ("timestamps", "start and end"),
        ("QAs", "qa"),
        ("questions", "qa"),
        ("sentences", "captions"),
        ("video_path", "video"),
        ("startTime", "start"),
        ("start_sec", "start"),
        ("t_end", "end"),
        ("end_ms", "end"),
        ("set", "split"),
        ("camera", "device"),
    ],
)
def test_a_key_that_looks_like_a_known_one(root: Path, key: str, meant: str) -> None:
    code, said = checked(root, *(record(n, captions=["x"], **{key: "a thing"}) for n in range(4)))
    assert code == 0
    assert f"4 lines have the key `{key}`, which is not used; did you mean `{meant}`?" in said
    assert "no problems, 1 note" in said


def test_other_keys_are_nobody_s_business(root: Path) -> None:
    _, said = checked(root, record(0, captions=["x"], mood="calm", tags=[1], recorded="2024", url_id=3))
    assert "note" not in said


def test_keys_of_questions(root: Path) -> None:
    _, said = checked(root, record(0, **asked(answer="a", choices=["a", "b"])))
    assert "1 question has the key `choices`, which is not used; did you mean `options`?" in said


def test_answers_that_count_as_one(root: Path) -> None:
    spellings = ["Donut", "donut.", "donut ", "a donut", "donut\n", "cake"]
    _, said = checked(root, record(0, qa=[{"question": "what?", "answer": each} for each in spellings]))
    assert "3 answers differ from another only by case, blanks" in said


def test_many_answers(root: Path) -> None:
    questions = [{"question": "what?", "answer": f"thing number {n} of all"} for n in range(1200)]
    _, said = checked(root, record(0, qa=questions))
    assert "1200 different answers, 1200 of them once" in said
    assert "83 %" in said


def test_the_same_clip_again_and_again(root: Path) -> None:
    lines = [{"id": f"c{n}", "frames": ["p-00.png"], "captions": ["x"]} for n in range(5)]
    _, said = checked(root, *lines)
    assert "5 clips show the same as another" in said


def test_a_video_on_both_sides_of_a_split(root: Path) -> None:
    other = {"id": "d", "frames": ["p-00.png"], "split": "test"}
    lines = [record(0, captions=["x"], split="train"), other]
    _, said = checked(root, *lines, record(2))
    assert "1 video is in several splits" in said
    assert "1 line has no `split`" in said
    assert "1 for train, 1 for test" in said


def test_nothing_to_learn_from_is_said(root: Path) -> None:
    assert "there is nothing to train on" in checked(root, record(0))[1]


def test_the_right_lines_are_written(root: Path) -> None:
    (root / "p-01.png").write_bytes(b"broken")
    code, said = checked(
        root, *(record(n, captions=["x"]) for n in range(4)), options=["--write", str(root / "clean.jsonl")]
    )
    assert code == 2
    assert "1 problem" in said
    kept = [json.loads(line)["id"] for line in (root / "clean.jsonl").read_text().splitlines()]
    assert kept == ["c0", "c2", "c3"]
    found: list[Problem] = []
    write_clips(root, *(record(n) for n in range(4)), "{bad")
    assert len(Collection.open(root, found).clips) == 4
    assert [problem.line for problem in found] == [5]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("sub\\p.png", "write the path with slashes: sub/p.png"),
        ("cafe\u0301.png", "in other bytes (Unicode NFC)"),
        ("P-00.PNG", "there is p-00.png: upper and lower case differ"),
        ("p-00", "there is p-00.png: give the whole name"),
        ("%04d.png", "patterns are not filled in"),
        ("https://example.org/a.png", "addresses are not fetched"),
        ("sub", "it is a folder"),
        ("/tmp/a.png", "a symbolic link in the folder may point to files elsewhere"),
        ("gone.png", "restore it or remove it"),
    ],
)
def test_paths_that_lead_nowhere_say_why(root: Path, name: str, says: str) -> None:
    (root / "sub").mkdir()
    for other in ("sub/p.png", "caf\u00e9.png"):
        (root / other).write_bytes((root / "p-00.png").read_bytes())
    assert says in checked(root, {"id": "a", "frames": [name], "captions": ["x"]})[1]


# Splits


def lines(count: int, videos: int, **change: Any) -> Collection:
    clips = tuple(
        replace(parse(**change), id=f"c{n}", video=f"v{n % videos}.mp4", split=change.get("split"))
        for n in range(count)
    )
    return Collection(Path("x"), "x", clips, {clip.id: clip for clip in clips})


@pytest.mark.parametrize("seed", [0, 1])
def test_a_video_is_never_in_two_splits(seed: int) -> None:
    made = lines(600, 125)
    splits = split_clips(made, seed)
    videos = [{made.by_id[clip].video for clip in clips} for clips in splits.values()]
    assert all(videos)
    assert sum(map(len, videos)) == len(set.union(*videos))


def test_sources_shared_files_and_other_spellings_of_a_path_are_one_group() -> None:
    clips = [
        parse(id="a", video="v.mp4", start=0, end=1),
        parse(id="b", video="./v.mp4", start=1, end=2),
        parse(id="c", video="sub//w.mp4", source="film"),
        parse(id="d", video="other.mp4", source="film"),
        parse(id="e", video=None, frames=["f/0.png", "f/1.png"]),
        parse(id="f", video=None, frames=["f/1.png", "f/2.png"]),
        parse(id="g", video="alone.mp4"),
    ]
    of = groups(clips)
    assert of["a"] == of["b"]
    assert of["c"] == of["d"]
    assert of["e"] == of["f"]
    assert len(set(of.values())) == 4
    assert of["g"] == "g"


def test_the_data_sets_own_split_holds() -> None:
    made = lines(60, 60)
    given = ["train", "validation", "test"]
    clips = tuple(replace(clip, split=given[n % 3]) for n, clip in enumerate(made.clips))
    own = Collection(made.root, "x", clips, {clip.id: clip for clip in clips})
    for split, ids in split_clips(own, 0).items():
        assert {own.by_id[clip].split for clip in ids} == {split}


def test_what_a_data_set_does_not_split_comes_from_its_training_clips() -> None:
    made = lines(400, 400)
    clips = tuple(replace(clip, split="test" if n < 50 else "train") for n, clip in enumerate(made.clips))
    own = Collection(made.root, "x", clips, {clip.id: clip for clip in clips})
    splits = split_clips(own, 0)
    assert splits["test"] == tuple(f"c{n}" for n in range(50))
    assert 15 < len(splits["validation"]) < 60


def test_a_device_is_not_scored_on_the_videos_of_its_support() -> None:
    made = lines(300, 60)
    fleet = build_fleet(made, shifts=(), devices={"train": 20}, support=8)
    for device in fleet.devices:
        support = {made.by_id[clip].video for clip in device.support}
        assert device.query
        assert not support & {made.by_id[clip].video for clip in device.query}


# Content


def test_content_changes_with_lines_and_files_and_not_with_places(root: Path, tmp_path: Path) -> None:
    def content(*records: dict[str, Any]) -> str:
        return content_of(Collection.open(write_clips(root, *records)))

    first = content(record(0, captions=["x"]), record(1))
    assert content(record(1), record(0, captions=["x"])) == first
    assert content(record(0, captions=["y"]), record(1)) != first
    assert content(record(0, captions=["x"])) != first
    (root / "p-01.png").write_bytes((root / "p-02.png").read_bytes())
    assert content(record(0, captions=["x"]), record(1)) != first
    (root / "p-01.png").unlink()
    with pytest.raises(CollectionError):
        content(record(0, captions=["x"]), record(1))


def test_where_all_is_of_one_video_clips_are_split_one_by_one() -> None:
    splits = split_clips(lines(200, 1), 0)
    assert all(len(ids) >= 10 for ids in splits.values())
