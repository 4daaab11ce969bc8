"""Importers of moments of long videos with sentences: DiDeMo, YouCook2, LSMDC."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from paramcast.video.imports.job import Job, Record, read_json, split_of

_DIDEMO_SECONDS = 5
_SUBSETS = {"training": "train", "validation": "validation", "testing": "test"}


def didemo(job: Job) -> Iterator[Record]:
    """Read `train_data.json` and so on; a moment is the span that most people marked, in steps of 5 s."""
    for path in job.files("train_data.json", "val_data.json", "test_data.json"):
        for moment in read_json(path):
            video = job.video(moment["video"])
            if video is None:
                continue
            (first, last), count = Counter(tuple(times) for times in moment["times"]).most_common(1)[0]
            job.lost["annotations of people who marked another moment"] += len(moment["times"]) - count
            yield {
                "id": str(moment["annotation_id"]),
                "video": video,
                "start": _DIDEMO_SECONDS * first,
                "end": _DIDEMO_SECONDS * (last + 1),
                "captions": [moment["description"]],
                "source": moment["video"],
                "split": split_of(path),
            }


def youcook2(job: Job) -> Iterator[Record]:
    """Read `youcookii_annotations_trainval.json`: steps of recipes."""
    for path in job.files("*annotations*.json"):
        for name, video in read_json(path)["database"].items():
            found = job.video(name)
            if found is None:
                job.lost["steps of these videos"] += len(video.get("annotations", ()))
                continue
            for step in video.get("annotations", ()):
                start, end = step["segment"]
                yield {
                    "id": f"{name}_{step['id']}",
                    "video": found,
                    "start": start,
                    "end": end,
                    "captions": [step["sentence"]],
                    "category": str(video["recipe_type"]),
                    "source": name,
                    "split": _SUBSETS.get(video.get("subset", ""), "train"),
                }
            job.lost["the order of steps, in words (start and end keep it)"] += 1


def lsmdc(job: Job) -> Iterator[Record]:
    """Read `LSMDC16_annos_training.csv` and so on: separated by tabs, no header; one video file per clip."""
    for path in job.files("*annos*.csv"):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            name, *times, sentence = line.rstrip("\n").split("\t")
            if len(times) != 4 or not sentence.strip():
                job.lost["lines without a sentence"] += 1
                continue
            video = job.video(f"{name}.avi", name)
            if video is None:
                continue
            yield {
                "id": name,
                "video": video,
                "captions": [sentence.strip()],
                "source": name.rsplit("_", 1)[0],  # the movie
                "split": split_of(path),
            }
            job.lost["times within the movie (the clips are cut already)"] += 1
