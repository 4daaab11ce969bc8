from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from clip_makers import picture_clip, texture, write_clips

from paramcast.errors import InputError
from paramcast.video.data.collection import Collection, CollectionError
from paramcast.video.data.features import FRAMES_A_BATCH, FeatureStore

pytestmark = pytest.mark.usefixtures("own_cache")


class MeanColour:
    """Stands for an image encoder: the mean colour of a frame. Counts what it is given."""

    name, dim, onnx_path = "mean", 3, None

    def __init__(self, fingerprint: str = "1", fail_after: int = 10**9) -> None:
        self.fingerprint = fingerprint
        self.batches: list[int] = []
        self.fail_after = fail_after

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        if len(self.batches) == self.fail_after:
            raise KeyboardInterrupt
        self.batches.append(len(frames))
        return frames.mean(axis=(1, 2)).astype(np.float32)


class Lengths:
    """Stands for a text encoder."""

    name, dim, fingerprint, onnx_path, tokenizer_path = "lengths", 2, "1", None, None

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        self.seen += texts
        turns = np.array([len(text) for text in texts], np.float32)
        return np.stack([np.cos(turns), np.sin(turns)], axis=1)


class Half:
    key = "half"

    def apply(self, frames: np.ndarray) -> np.ndarray:
        return frames // 2


class Lift:
    key = "lift"

    def apply(self, frames: np.ndarray) -> np.ndarray:
        return np.minimum(frames, 155) + 100


def store(
    root: Path, image: MeanColour | None = None, text: Lengths | None = None, frames: int = 8
) -> FeatureStore:
    return FeatureStore(Collection.open(root), image or MeanColour(), text or Lengths(), frames)


def test_features_come_in_the_order_of_the_requests(collection_root: Path) -> None:
    a, b, c, again = store(collection_root).clips([("a", ()), ("b", ()), ("c", ()), ("a", ())])
    assert (a.shape, b.shape, c.shape) == ((2, 3), (3, 3), (5, 3))
    assert a is again
    assert a.dtype == np.float32
    np.testing.assert_allclose(a[1], texture(1).mean(axis=(0, 1)), atol=0.01)
    with pytest.raises(ValueError, match="read-only"):
        a[0] = 0


def test_cameras_are_applied_in_order(collection_root: Path) -> None:
    plain, half_lift, lift_half = store(collection_root).clips(
        [("a", ()), ("a", (Half(), Lift())), ("a", (Lift(), Half()))]
    )
    assert (half_lift > lift_half + 20).all()
    np.testing.assert_allclose(half_lift, plain / 2 + 100, atol=1)


def test_a_second_store_encodes_nothing(collection_root: Path) -> None:
    requests = [("a", ()), ("b", (Half(),))]
    first = store(collection_root).clips(requests)
    image = MeanColour()
    second = store(collection_root, image).clips(requests)
    assert image.batches == []
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_cache_goes_by_content_settings_and_encoder(collection_root: Path) -> None:
    store(collection_root).clips([("a", ())])
    for image, frames in [(MeanColour("2"), 8), (MeanColour(), 1)]:
        store(collection_root, image, frames=frames).clips([("a", ())])
        assert image.batches
    (collection_root / "a-00.png").write_bytes((collection_root / "a-01.png").read_bytes())
    image = MeanColour()
    changed = store(collection_root, image).clips([("a", ())])[0]
    assert image.batches == [2]
    np.testing.assert_array_equal(changed[0], changed[1])


def many(root: Path, count: int = 60) -> list[str]:
    clips = [picture_clip(root, [texture(n), texture(n + 500)], f"m{n}") for n in range(count)]
    write_clips(root, *({"id": clip.id, "frames": clip.frames} for clip in clips))
    return [clip.id for clip in clips]


def test_batches_reach_over_clips(tmp_path: Path) -> None:
    image = MeanColour()
    ids = many(tmp_path)
    store(tmp_path, image).clips([(clip_id, ()) for clip_id in ids])
    assert sum(image.batches) == 120
    assert set(image.batches[:-1]) == {FRAMES_A_BATCH}


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path) -> None:
    ids = many(tmp_path)
    requests = [(clip_id, ()) for clip_id in ids]
    with pytest.raises(KeyboardInterrupt):
        store(tmp_path, MeanColour(fail_after=2)).clips(requests)
    image = MeanColour()
    store(tmp_path, image).clips(requests)
    assert sum(image.batches) == 120 - 2 * FRAMES_A_BATCH


def test_unknown_and_broken_clips_are_named(collection_root: Path) -> None:
    features = store(collection_root)
    with pytest.raises(InputError, match="no clip 'z' in collection 'made'"):
        features.clips([("z", ())])
    (collection_root / "c.mp4").write_bytes(b"noise")
    with pytest.raises(CollectionError, match=r"clips\.jsonl:3: clip 'c': cannot decode"):
        features.clips([("a", ()), ("c", ())])
    (collection_root / "b-00.png").unlink()
    with pytest.raises(CollectionError, match=r"clips\.jsonl:2: clip 'b': cannot read .*b-00\.png"):
        features.clips([("b", ())])


def test_a_text_is_encoded_once(collection_root: Path) -> None:
    text = Lengths()
    features = store(collection_root, text=text)
    found = features.texts(["longer", "on", "longer", ""])
    assert sorted(text.seen) == ["", "longer", "on"]
    assert found.shape == (4, 2)
    np.testing.assert_allclose(found[:, 0], np.cos([6, 2, 6, 0]), rtol=1e-6)
    features.texts(["on"])
    again = Lengths()
    np.testing.assert_array_equal(store(collection_root, text=again).texts(["on"]), found[1:2])
    assert len(text.seen) == 3
    assert again.seen == []


def test_no_requests_are_no_features(collection_root: Path) -> None:
    assert store(collection_root).clips([]) == []
    assert store(collection_root).texts([]).shape == (0, 2)


def test_wrong_settings_are_refused_at_once(collection_root: Path) -> None:
    with pytest.raises(InputError, match="unknown sampling"):
        FeatureStore(Collection.open(collection_root), MeanColour(), Lengths(), sampling="random")
