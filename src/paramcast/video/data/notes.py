"""Notes on a collection: properties that are no errors, but may have unexpected effects on training."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from paramcast.video.data.answers import normalized, variants
from paramcast.video.data.clip import Clip
from paramcast.video.data.groups import groups

KEYS = (
    "id",
    "frames",
    "video",
    "captions",
    "frame_captions",
    "qa",
    "category",
    "device",
    "start",
    "end",
    "split",
    "source",
)
QUESTION_KEYS = ("question", "answer", "answers", "options", "type")
_MEANT = {
    "text": "captions",
    "sentence": "captions",
    "description": "captions",
    "answer": "qa",
    "question": "qa",
    "query": "captions",
    "path": "video",
    "file": "video",
    "filename": "video",
    "file_name": "video",
    "url": "video",
    "images": "frames",
    "subset": "split",
    "partition": "split",
    "set": "split",
    "fold": "split",
    "camera": "device",
    "from": "start",
    "to": "end",
    "label": "category",
    "class": "category",
    "begin": "start",
    "stop": "end",
    "segment": "start and end",
    "timestamp": "start and end",
    "timestamps": "start and end",
    "span": "start and end",
}
_MEANT_OF_QUESTIONS = {
    "choices": "options",
    "candidates": "options",
    "multiple_choice": "options",
    "wrong_answers": "options",
    "label": "answer",
    "kind": "type",
    "question_type": "type",
}
_AROUND = re.compile(r"^(t|clip)_|_(time|sec|secs|seconds|s|ms|path|file|list)$")
"""Common prefixes and suffixes of the names of keys."""
MANY_ANSWERS = 1000
_FEW_ANSWERS = 20
_SHOWN = 3


def notes(clips: Sequence[Clip]) -> list[str]:
    """List the parts of a collection that are not used as a user may expect, the most harmful first."""
    return [
        *_nothing(clips),
        *_keys(clips),
        *_splits(clips),
        *_same_files(clips),
        *_answers(clips),
        *_captions(clips),
    ]


def _nothing(clips: Sequence[Clip]) -> Iterable[str]:
    if clips and not any(clip.qa or clip.captions or clip.frame_captions for clip in clips):
        yield "no clip has `qa`, `captions` or `frame_captions`: there is nothing to train on"


def _keys(clips: Sequence[Clip]) -> Iterable[str]:
    """Yield notes on keys that are not used and look like a known key."""
    found = Counter(key for clip in clips for key in clip.extra)
    for key, count in found.items():
        meant = _look_alike(key, KEYS, _MEANT)
        if meant:
            yield f"{_lines(count)} the key `{key}`, which is not used; did you mean `{meant}`?"
    found = Counter(key for clip in clips for question in clip.qa for key in question.extra)
    for key, count in found.items():
        meant = _look_alike(key, QUESTION_KEYS, _MEANT_OF_QUESTIONS)
        if meant:
            questions = "1 question has" if count == 1 else f"{count} questions have"
            yield f"{questions} the key `{key}`, which is not used; did you mean `{meant}`?"


def _look_alike(key: str, known: Sequence[str], meant: dict[str, str]) -> str | None:
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key.strip()).lower().replace("-", "_").replace(" ", "_")
    plain = _AROUND.sub("", apart)
    for name in known:
        if plain.rstrip("s") == name.rstrip("s"):
            return name
    for spelled in (apart, plain, plain.rstrip("s")):
        if spelled in meant:
            return meant[spelled]
    close = difflib.get_close_matches(plain, known, 1, 0.8)
    return close[0] if close else None


def _splits(clips: Sequence[Clip]) -> Iterable[str]:
    """Yield notes on videos in several splits, and on lines without a split."""
    given = [clip for clip in clips if clip.split is not None]
    if given and len(given) < len(clips):
        yield (
            f"{_lines(len(clips) - len(given))} no `split`, while others have one; they are used for training"
        )
    of = groups(given)
    sides: dict[str, set[str]] = {}
    for clip in given:
        sides.setdefault(of[clip.id], set()).add(str(clip.split))
    torn = [name for name, splits in sides.items() if len(splits) > 1]
    if torn:
        which = ", ".join(name.split(" ", 1)[-1] for name in torn[:_SHOWN])
        yield f"{_count(len(torn), 'video')} in several splits, as the data set says: {which}"


def _same_files(clips: Sequence[Clip]) -> Iterable[str]:
    shown = Counter((clip.video, clip.frames, clip.start, clip.end) for clip in clips)
    (video, frames, _, _), count = shown.most_common(1)[0] if shown else ((None, (), None, None), 0)
    same = sum(times for times in shown.values() if times > 1)
    if same:
        yield (
            f"{same} clips show the same as another clip, {count} of them {video or frames[0]}: "
            "they cannot be distinguished; give a clip one line, with all its captions and "
            "questions"
        )


def _answers(clips: Sequence[Clip]) -> Iterable[str]:
    counts = Counter(answer for clip in clips for question in clip.qa for answer in question.right)
    if not counts:
        return
    several = variants(counts)
    if several:
        extra = sum(len(spellings) - 1 for spellings in several.values())
        shown = "; ".join(" = ".join(map(repr, each[:3])) for each in list(several.values())[:_SHOWN])
        differ = "1 answer differs" if extra == 1 else f"{extra} answers differ"
        yield (
            f"{differ} from another only by case, blanks, articles, punctuation or number words ({shown}); "
            "these count as the same"
        )
    close = _nearly(counts)
    if close:
        yield f"answers that may be misspelled: {'; '.join(close[:_SHOWN])}"
    known = Counter[str]()
    for answer, count in counts.items():
        known[normalized(answer)] += count
    once = sum(count == 1 for count in known.values())
    if len(known) > MANY_ANSWERS:
        share = 100 * sum(count for _, count in known.most_common(MANY_ANSWERS)) / sum(known.values())
        yield (
            f"{len(known)} different answers, {once} of them once: task qa knows the {MANY_ANSWERS} "
            f"most frequent answers of the training clips; {share:.0f} % of all questions have one "
            f"of the {MANY_ANSWERS} most frequent answers here, any other answer counts as wrong"
        )
    elif len(known) >= _FEW_ANSWERS and once > len(known) / 2:
        yield (
            f"{len(known)} different answers, {once} of them once: task qa chooses among the "
            "answers of the training clips; an answer that no training clip has counts as wrong"
        )
    if any(len(question.options) == 0 for clip in clips for question in clip.qa) and any(
        question.options for clip in clips for question in clip.qa
    ):
        yield "some questions have `options`, others have none: task choice draws options for those"


def _nearly(counts: Counter[str]) -> list[str]:
    """Find rare answers that are spelled almost like a frequent answer."""
    known = Counter[str]()
    for answer, count in counts.items():
        known[normalized(answer)] += count
    frequent = [answer for answer, count in known.most_common(300) if count >= 5 and len(answer) > 5]
    rare = [answer for answer, count in known.items() if count == 1 and len(answer) > 5][:500]
    found = []
    for answer in rare:
        close = difflib.get_close_matches(answer, frequent, 1, 0.9)
        if close and close[0] != f"{answer}s" and answer != f"{close[0]}s":
            found.append(f"{answer!r} beside {close[0]!r}")
    return found


def _captions(clips: Sequence[Clip]) -> Iterable[str]:
    long = sum(len(text.split()) > 48 for clip in clips for text in clip.captions)
    if long:
        yield f"{_count(long, 'caption')} longer than about 48 words: nothing after the 64th token is read"


def _lines(count: int) -> str:
    return "1 line has" if count == 1 else f"{count} lines have"


def _count(count: int, what: str) -> str:
    return f"1 {what} is" if count == 1 else f"{count} {what}s are"
