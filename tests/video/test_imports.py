"""`paramcast data import`: each format, on a small set that is laid out as the real one is."""

# ruff: noqa: E501
from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from importing import imported, put, run
from people_media import numbers
from pyarrow import parquet

from paramcast.cli.data import IMPORTS
from paramcast.video.data.clip import Clip
from paramcast.video.data.frames import read_frames
from paramcast.video.imports import FORMATS
from paramcast.video.imports.subtitles import cues


def test_the_choices_are_those_that_there_are() -> None:
    assert set(IMPORTS) == set(FORMATS)


def test_msrvtt_qa(root: Path, video: bytes) -> None:
    def asked(number: int, question: str = "what is it?", answer: str = "box") -> dict[str, Any]:
        return {"answer": answer, "category_id": 3, "id": number, "question": question, "video_id": number}

    put(root, {f"TrainValVideo/video{n}.mp4": video for n in range(3)})
    train = [asked(0), asked(0, "who?", "man"), asked(9)]
    put(root, {"train_qa.json": train, "val_qa.json": [asked(1)], "test_qa.json": [asked(2)]})
    clips, said = imported("msrvtt-qa", root)
    assert [clips[f"video{n}"].split for n in range(3)] == ["train", "validation", "test"]
    assert [(q.question, q.answer) for q in clips["video0"].qa] == [("what is it?", "box"), ("who?", "man")]
    assert clips["video0"].category == "3"
    assert "kept 3 clips, 4 questions" in said
    assert "lost: 1 clips whose video is not in" in said


def test_msvd_qa(root: Path, video: bytes) -> None:
    question = {"answer": "cat", "id": 0, "question": "what plays?", "video_id": 12}
    put(root, {"YouTubeClips/-4wsuPCjDBc_5_15.avi": video, "train_qa.json": [question]})
    put(root, {"youtube_mapping.txt": "-4wsuPCjDBc_5_15 vid12\n"})
    clips, _ = imported("msvd-qa", root)
    assert clips["vid12"].qa[0].answer == "cat"


def test_tgif_qa(root: Path, video: bytes) -> None:
    options = "move\tblink\tstop\tjump\ttalk"
    put(root, {f"gifs/tumblr_{n}.gif": video for n in range(2)})
    put(
        root,
        {
            "csv/Train_frameqa_question.csv": "gif_name\tquestion\tanswer\tvid_id\tkey\ntumblr_0\twhat is it ?\tbox\tID0\t0\n",
            "csv/Test_action_question.csv": "gif_name\tquestion\ta1\ta2\ta3\ta4\ta5\tanswer\tvid_id\tkey\n"
            f"tumblr_1\twhat does it do 2 times ?\t{options}\t3\tID1\t0\n",
            "csv/Train_count_question.csv": "gif_name\tquestion\tanswer\tvid_id\tkey\ntumblr_0\thow often ?\t4\tID0\t1\n",
            "csv/Total_count_question.csv": "gif_name\tquestion\tanswer\tvid_id\tkey\ntumblr_0\tagain ?\t4\tID0\t1\n",
        },
    )
    clips, _ = imported("tgif-qa", root, "--videos", root / "gifs")
    chosen = clips["tumblr_1"].qa[0]
    assert (chosen.answer, chosen.options, chosen.kind) == ("jump", tuple(options.split("\t")), "action")
    assert clips["tumblr_1"].split == "test"
    assert sorted((q.kind, q.answer) for q in clips["tumblr_0"].qa) == [("count", "4"), ("frameqa", "box")]


def test_next_qa(root: Path, video: bytes) -> None:
    put(
        root, {"videos/1164/4010069381.mp4": video, "map_vid_vidorID.json": {"4010069381": "1164/4010069381"}}
    )
    head = "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4\n"
    row = '4010069381,369,640,480,"why does it count, at the end",2,6,CW,to stop,to rest,to tell,to sleep,to turn\n'
    put(root, {"train.csv": head + row, "val.csv": head, "test.csv": head + row.replace(",2,6,", ",,7,")})
    clips, said = imported("next-qa", root)
    (question,) = clips["4010069381"].qa
    assert (question.answer, question.kind) == ("to tell", "CW")
    assert question.options == ("to stop", "to rest", "to tell", "to sleep", "to turn")
    assert "1 questions with options" in said
    assert "lost: 1 questions without a published answer" in said


def test_activitynet_qa(root: Path, video: bytes) -> None:
    questions = [
        {"question_id": f"n0_{k}", "video_name": "n0", "question": "is it outside"} for k in range(2)
    ]
    put(root, {"v_n0.mkv": video, "train_q.json": questions})
    put(root, {"train_a.json": [{"question_id": "n0_0", "answer": "no", "type": 3}]})
    clips, said = imported("activitynet-qa", root)
    assert [(q.answer, q.kind) for q in clips["n0"].qa] == [("no", "3")]
    assert "lost: 1 questions without an answer" in said


def shown(clip: Clip) -> list[int]:
    return numbers(read_frames(clip, 64))


def test_didemo(root: Path, video: bytes) -> None:
    times = [[1, 1], [0, 1], [1, 1], [1, 1]]
    moment = {"annotation_id": 7, "video": "a@N00_1.mov", "description": "it grows", "times": times}
    put(root, {"videos/a@N00_1.mov": video, "val_data.json": [moment]})
    clips, said = imported("didemo", root)
    clip = clips["7"]
    assert (clip.start, clip.end, clip.source, clip.split) == (5.0, 10.0, "a@N00_1.mov", "validation")
    assert shown(clip) == [5, 6, 7, 8, 9]
    assert "lost: 1 annotations of people who marked another moment" in said


def test_youcook2(root: Path, video: bytes) -> None:
    steps = [{"id": k, "segment": [2 + 4 * k, 5 + 4 * k], "sentence": f"step {k}"} for k in range(2)]
    about = {"duration": 12, "subset": "validation", "recipe_type": "113", "annotations": steps}
    put(root, {"raw/vid0.mp4": video, "youcookii_annotations_trainval.json": {"database": {"vid0": about}}})
    clips, _ = imported("youcook2", root)
    assert [shown(clip) for clip in clips.values()] == [[2, 3, 4], [6, 7, 8]]
    assert {(clip.category, clip.split, clip.source) for clip in clips.values()} == {
        ("113", "validation", "vid0")
    }


def test_lsmdc(root: Path, video: bytes) -> None:
    names = [f"0001_American_Beauty_00.00.5{k}.926-00.00.54.129" for k in range(2)]
    put(root, {f"0001_American_Beauty/{name}.avi": video for name in names})
    lines = "".join(f"{name}\t00.00.51\t00.00.54\t00.00.51\t00.00.54\tSOMEONE walks.\n" for name in names)
    put(root, {"LSMDC16_annos_training.csv": lines})
    clips, _ = imported("lsmdc", root)
    assert set(clips) == set(names)
    assert {(clip.source, clip.split) for clip in clips.values()} == {("0001_American_Beauty", "train")}
    assert clips[names[0]].captions == ("SOMEONE walks.",)


def test_subtitles(root: Path, video: bytes) -> None:
    srt = (
        "\ufeff1\r\n00:00:01,000 --> 00:00:04,000\r\nthe numbers\r\ngrow &amp; grow\r\n\r\n"
        "2\r\n00:00:05,500 --> 00:00:09,000\r\n<i>and then</i>\r\n7\r\n"
    )
    vtt = (
        "WEBVTT - film\n\nNOTE\nwritten by hand\n\nSTYLE\n::cue { color: red }\n\nintro\n00:01.000 --> 00:04.000 "
        "align:start\nthe <c.x>numbers</c> grow\n\nNOTE more --> text\n\n00:05.500 --> 00:09.000\n42"
    )
    put(root, {"talk.mp4": video, "film.mp4": video, "talk.en.srt": srt, "film.vtt": vtt})
    clips, _ = imported("subtitles", root)
    said = {clip.id: (clip.start, clip.end, *clip.captions) for clip in clips.values()}
    assert said == {
        "talk.en_0001": (1.0, 4.0, "the numbers grow & grow"),
        "talk.en_0002": (5.5, 9.0, "and then 7"),
        "film_0001": (1.0, 4.0, "the numbers grow"),
        "film_0002": (5.5, 9.0, "42"),
    }
    assert shown(clips["film_0001"]) == [1, 2, 3]
    assert {clip.source for clip in clips.values()} == {"talk", "film"}


def test_hours_and_old_encodings(root: Path, video: bytes) -> None:
    assert list(cues("01:02:03,5 --> 01:02:04,250\nx")) == [(3723.5, 3724.25, "x")]
    put(root, {"a.mp4": video, "a.srt": "1\n00:00:01,000 --> 00:00:02,000\ncaf\u00e9\n".encode("cp1252")})
    clips, _ = imported("subtitles", root)
    assert clips["a_0001"].captions == ("caf\u00e9",)


def test_a_folder_of_videos(root: Path, video: bytes) -> None:
    put(root, {"cats/a.mp4": video, "dogs/b.MP4": video, "c.webm": video, "cats/a.txt": "one\n\ntwo\n"})
    clips, _ = imported("folder", root)
    assert {clip.id: clip.category for clip in clips.values()} == {
        "c": None,
        "cats/a": "cats",
        "dogs/b": "dogs",
    }
    assert clips["cats/a"].captions == ("one", "two")


def shards(root: Path, samples: dict[str, dict[str, bytes]], name: str = "train-00000.tar") -> None:
    root.mkdir(parents=True, exist_ok=True)
    with tarfile.open(root / name, "w") as tar:
        for key, members in samples.items():
            for ending, data in members.items():
                info = tarfile.TarInfo(f"{key}.{ending}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def test_webdataset(root: Path, video: bytes) -> None:
    about = json.dumps({"caption": "from json", "category": "x", "start": 1.0}).encode()
    shards(
        root,
        {
            "00000": {"mp4": video, "txt": b"a counter\n", "json": about},
            "0001_Beauty_00.00.51.926-00.00.54.129": {"mp4": video, "txt": b"one"},
            "0001_Beauty_00.00.55.926-00.00.57.129": {"mp4": video, "txt": b"two"},
            "00003": {"txt": b"no video"},
        },
    )
    clips, said = imported("webdataset", root)
    assert len(clips) == 3
    assert clips["00000"].captions == ("a counter", "from json")
    assert (clips["00000"].category, clips["00000"].start, clips["00000"].split) == ("x", 1.0, "train")
    assert clips["0001_Beauty_00.00.55.926-00.00.57.129"].captions == ("two",)
    assert "lost: 1 samples without a video" in said


def test_huggingface(root: Path, video: bytes) -> None:
    root.mkdir(parents=True)
    for split in ("train", "test"):
        rows = {"video": [{"bytes": video, "path": None}] * 2, "caption": ["a counter", "the same"]}
        parquet.write_table(pyarrow.table(rows), root / f"{split}.parquet")
    clips, _ = imported("huggingface", root)
    assert sorted((clip.id, clip.split) for clip in clips.values()) == [
        ("test-000000", "test"),
        ("test-000001", "test"),
        ("train-000000", "train"),
        ("train-000001", "train"),
    ]
    assert clips["train-000001"].captions == ("the same",)


NOTHING: dict[str, Callable[[Path], None]] = {
    "no such files": lambda root: put(root, {"readme.txt": "x"}),
    "other json": lambda root: put(root, {"train_qa.json": {"a": 1}}),
    "broken json": lambda root: put(root, {"train_qa.json": "{"}),
    "no videos": lambda root: put(root, {"train_qa.json": [{"video_id": 1, "question": "q", "answer": "a"}]}),
}


@pytest.mark.parametrize("kind", NOTHING)
def test_what_cannot_be_imported_leaves_nothing_behind(root: Path, kind: str) -> None:
    from paramcast.errors import InputError

    NOTHING[kind](root)
    done = run("msrvtt-qa", root, "--out", root.parent / "made")
    assert isinstance(done.exception, InputError), (done.exception, done.output)
    assert not (root.parent / "made").exists()


def test_a_collection_is_not_written_over(root: Path, video: bytes) -> None:
    put(root, {"a.mp4": video})
    imported("folder", root)
    assert "already holds a collection" in str(run("folder", root, "--out", root.parent / "made").exception)
    assert "KEY one of" in str(run("folder", root, "--out", root.parent / "x", "--column", "a=b").exception)


# What sets hold beside what their papers say


def test_questions_that_cannot_be_asked_are_lost_and_the_others_are_not(root: Path, video: bytes) -> None:
    head = "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4\n"
    row = "1,9,3,2,why,{},6,CW,to run,to sit,{},to go,no\n"
    rows = row.format(1, "to sit") + row.format(1, "") + row.format(7, "to eat") + row.format(4, "to eat")
    put(root, {"1.mp4": video, "train.csv": head + rows})
    clips, said = imported("next-qa", root)
    assert [question.answer for question in clips["1"].qa] == ["no"]
    assert "lost: 1 questions that cannot be used: options holds an answer twice" in said
    assert "lost: 1 questions that cannot be used: options[2] is blank" in said
    assert "answer is 7, but there are 5 options" in said


def test_next_oe_has_no_options(root: Path, video: bytes) -> None:
    head = "video,frame_count,width,height,question,answer,qid,type,additional_ref_answer\n"
    put(root, {"1.mp4": video, "val.csv": head + "1,9,3,2,why,to rest,6,CW,rest\n"})
    clips, _ = imported("next-qa", root)
    assert clips["1"].qa[0].right == ("to rest", "rest")


def test_ids_that_hold_their_prefix_already(root: Path, video: bytes) -> None:
    question = {"answer": "cat", "id": 0, "question": "what plays?", "video_id": "video7"}
    put(root, {"video7.mp4": video, "train_qa.json": [question]})
    assert list(imported("msrvtt-qa", root)[0]) == ["video7"]


def test_a_video_that_is_kept_in_another_container(root: Path, video: bytes) -> None:
    moment = {"annotation_id": 1, "video": "8@N00_2.AVI", "description": "x", "times": [[0, 0]]}
    put(root, {"8@N00_2.mp4": video, "train_data.json": [moment]})
    assert imported("didemo", root)[0]["1"].video == "videos/8@N00_2.mp4"


def test_moments_without_length_are_lost(root: Path, video: bytes) -> None:
    steps = [{"segment": [k, 3], "id": k, "sentence": "pour"} for k in (1, 3)]
    found = {"a": {"subset": "training", "recipe_type": "1", "annotations": steps}}
    put(root, {"a.mp4": video, "youcookii_annotations_trainval.json": {"database": found}})
    clips, said = imported("youcook2", root)
    assert list(clips) == ["a_1"]
    assert "lost: 1 clips that cannot be used: end 3 must be later than start 3" in said


def test_cues_without_blank_lines_between_them() -> None:
    text = "1\n0:0:0,4 --> 0:0:0,5\nup\n2\n00:00:00,500-->00:00:01,550\ndown\n42\n"
    assert list(cues(text)) == [(0.4, 0.5, "up"), (0.5, 1.55, "down 42")]


def test_a_folder_with_hidden_files_and_one_name_twice(root: Path, video: bytes) -> None:
    put(root, {"cat/1.mp4": video, "cat/1.mkv": video, ".2.mp4": video, "__MACOSX/._1.mp4": b"x"})
    assert sorted(imported("folder", root)[0]) == ["cat/1", "cat/1-2"]
