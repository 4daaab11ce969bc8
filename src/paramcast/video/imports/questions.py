"""Importers of question answering data sets: MSRVTT-QA, MSVD-QA, TGIF-QA, NExT-QA, ActivityNet-QA."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from paramcast.video.imports.job import Job, Record, by_clip, read_json, split_of

Found = Iterator[tuple[str, Record]]
_LETTERS = 5  # number of options of a question of TGIF-QA and NExT-QA


def msrvtt_qa(job: Job) -> Iterator[Record]:
    """Read lists of questions in `train_qa.json`, `val_qa.json`, `test_qa.json`; videos: `video7010.mp4`."""
    return by_clip(_qa_json(job, "video"))


def msvd_qa(job: Job) -> Iterator[Record]:
    """Read files as in MSRVTT-QA; videos: `vid12.avi`, or YouTube names by `youtube_mapping.txt`."""
    return by_clip(_qa_json(job, "vid"))


def _qa_json(job: Job, prefix: str) -> Found:
    names = _youtube_names(job.folder)
    for path in job.files("train_qa.json", "val_qa.json", "test_qa.json"):
        for question in read_json(path):
            name = f"{prefix}{str(question['video_id']).removeprefix(prefix)}"
            video = job.video(name, *names.get(name, ()), str(question["video_id"]))
            if video:
                category = question.get("category_id")
                asked = {"question": question["question"], "answer": str(question["answer"])}
                about = {"video": video, "split": split_of(path), "category": category}
                yield name, {**about, "qa": [asked]}
            job.lost["ids of questions"] += 1


def _youtube_names(folder: Path) -> dict[str, tuple[str, ...]]:
    """Read the mapping of MSVD, if there is one: 'vid12' -> the name of its video on YouTube."""
    for path in folder.rglob("youtube_mapping.txt"):
        pairs = (line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
        return {own: (theirs,) for theirs, own, *_ in pairs}
    return {}


def tgif_qa(job: Job) -> Iterator[Record]:
    """Read `Train_frameqa_question.csv` and so on, separated by tabs; action and transition have options."""
    return by_clip(_tgif_qa(job))


def _tgif_qa(job: Job) -> Found:
    for path in job.files(
        "*_frameqa_question.csv", "*_action_question.csv", "*_transition_question.csv", "*_count_question.csv"
    ):
        if path.stem.startswith("Total"):
            continue  # this file repeats the questions of the others
        kind = path.stem.split("_")[1]
        for row in _rows(path, "\t"):
            video = job.video(row["gif_name"])
            if not video:
                continue
            asked: Record = {"question": row["question"], "answer": row["answer"], "type": kind}
            if "a1" in row:
                asked["options"] = [row[f"a{place}"] for place in range(1, _LETTERS + 1)]
                asked["answer"] = _place(row)
            yield row["gif_name"], {"video": video, "split": split_of(path), "qa": [asked]}
            job.lost["ids of questions (vid_id, key)"] += 1


def next_qa(job: Job) -> Iterator[Record]:
    """Read `train.csv`, `val.csv`, `test.csv`: five options and an index; NExT-OE has no options."""
    return by_clip(_next_qa(job))


def _next_qa(job: Job) -> Found:
    paths: dict[str, str] = {}
    for mapping in job.folder.rglob("map_vid_vidorID.json"):
        paths = read_json(mapping)
    for path in job.files("train.csv", "val.csv", "test.csv"):
        for row in _rows(path, ","):
            video = job.video(paths.get(row["video"], row["video"]), row["video"])
            if not video:
                continue
            about = {"video": video, "split": split_of(path)}
            job.lost["ids of questions (qid)"] += 1
            if "a0" not in row:  # NExT-OE: the same format without options
                answers = [row["answer"], row.get("additional_ref_answer") or ""]
                given = {"answers": [answer for answer in answers if answer.strip()]}
                yield (
                    row["video"],
                    {**about, "qa": [{"question": row["question"], **given, "type": row["type"]}]},
                )
                continue
            options = [row[f"a{place}"] for place in range(_LETTERS)]
            if _place(row) is None:
                job.lost["questions without a published answer"] += 1
                continue
            asked = {"question": row["question"], "answer": _place(row), "options": options}
            yield row["video"], {**about, "qa": [{**asked, "type": row["type"]}]}


def activitynet_qa(job: Job) -> Iterator[Record]:
    """Read `train_q.json` and `train_a.json`, and so on; videos: `v_NAME.mp4`."""
    return by_clip(_activitynet_qa(job))


def _activitynet_qa(job: Job) -> Found:
    for path in job.files("train_q.json", "val_q.json", "test_q.json"):
        answers_path = path.with_name(path.name.replace("_q.", "_a."))
        answers: dict[Any, Record] = {}
        if answers_path.exists():
            answers = {answer["question_id"]: answer for answer in read_json(answers_path)}
        for question in read_json(path):
            answer = answers.get(question["question_id"])
            if answer is None:
                job.lost["questions without an answer"] += 1
                continue
            name = question["video_name"]
            video = job.video(f"v_{name}", name)
            if video:
                asked = {"question": question["question"], "answer": str(answer["answer"])}
                about = {"video": video, "split": split_of(path)}
                yield name, {**about, "qa": [{**asked, "type": str(answer.get("type", ""))}]}
            job.lost["ids of questions"] += 1


def _place(row: dict[str, str]) -> int | None:
    """Return the index of the right option; None if it is not given."""
    given = (row["answer"] or "").strip()
    return int(given) if given.isdecimal() else None


def _rows(path: Path, delimiter: str) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file, delimiter=delimiter)
