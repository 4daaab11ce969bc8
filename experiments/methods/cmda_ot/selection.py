"""Sets on which settings were chosen; none of them is a target of the benchmarks.

They differ in what helps. `noiseless` and rotated digits need their domains moved. WISDM's users differ
mainly in the shares of activities. Words are sparse counts in hundreds of columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from experiments.methods.cmda_ot.datasets import Problem, existing, mgr, scaled, turned
from experiments.methods.m3bat.datasets import read_wisdm
from paramcast.video.data.collection import Clip, Collection

WISDM_FILE = "wisdm_v1.1_transformed.arff"
WISDM_GROUPS, WISDM_WINDOWS = 4, 700
CATEGORIES, WORDS = 8, 400
FEW_QUESTIONS = 3


def noiseless(folder: Path) -> Iterator[Problem]:
    """Yield the domain of `mgr` that is no target of its published table; folds 1 and 3."""
    return (problem for problem in mgr(folder, ("noiseless",)) if problem.fold in (1, 3))


def digits(folder: Path) -> Iterator[Problem]:
    """Yield scikit-learn's digits in four parts: unchanged, rotated by 35 degrees, blurred, noisy."""
    from scipy import ndimage
    from sklearn.datasets import load_digits

    pixels, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    parts = np.array_split(rng.permutation(len(pixels)), 4)
    plain, rotated, blurred, noisy = (pixels[rows].reshape(-1, 8, 8) for rows in parts)
    images = {
        "plain": plain,
        "rotated": np.stack([ndimage.rotate(each, 35, reshape=False, order=1) for each in rotated]),
        "blurred": ndimage.gaussian_filter(blurred, (0, 1, 1)),
        "noisy": noisy + 6 * rng.normal(size=noisy.shape),
    }
    domains = zip(images.items(), parts, strict=True)
    return turned({name: (each.reshape(len(each), -1), y[rows]) for (name, each), rows in domains})


def wisdm(folder: Path) -> Iterator[Problem]:
    """Yield four groups of WISDM's users, at most 700 windows of each."""
    X, y, users = read_wisdm(existing(folder, WISDM_FILE))
    X, rng = scaled(X), np.random.default_rng(0)
    domains = {}
    for number, group in enumerate(np.array_split(rng.permutation(np.unique(users)), WISDM_GROUPS)):
        rows = rng.permutation(np.flatnonzero(np.isin(users, group)))[:WISDM_WINDOWS]
        domains[f"users {number}"] = X[rows], y[rows]
    return turned(domains)


def words(folder: Path) -> Iterator[Problem]:
    """Yield categories of clips of a collection, from words about them: captions, questions, answers.

    The domains have different clips, of the 8 most frequent categories. A feature is the share of a word
    among the words of a clip.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    clips = [clip for clip in Collection.open(folder).clips if clip.category is not None]
    common = [name for name, _ in Counter(clip.category for clip in clips).most_common(CATEGORIES)]
    clips = [clip for clip in clips if clip.category in common]
    parts = np.array_split(np.random.default_rng(0).permutation(len(clips)), 3)
    kinds = ("captions", "questions", "answers")
    texts = [_text(clips[row], kind) for kind, rows in zip(kinds, parts, strict=True) for row in rows]
    counter = CountVectorizer(max_features=WORDS, stop_words="english")
    counts = counter.fit_transform(texts).toarray().astype(float)
    X = scaled(counts / np.maximum(counts.sum(1, keepdims=True), 1))
    y = np.array([common.index(clips[row].category) for rows in parts for row in rows])
    rows = np.split(np.arange(len(y)), np.cumsum([len(part) for part in parts])[:-1])
    return turned({name: (X[each], y[each]) for name, each in zip(kinds, rows, strict=True)})


def _text(clip: Clip, kind: str) -> str:
    asked = [each.question for each in clip.qa]
    said: dict[str, Sequence[str]] = {
        "captions": [*clip.captions, *clip.extra.get("frame_descriptions", ()), *asked[:FEW_QUESTIONS]],
        "questions": asked,
        "answers": [each.answer for each in clip.qa],
    }
    return " ".join(said[kind])
