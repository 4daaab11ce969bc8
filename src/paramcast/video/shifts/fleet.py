"""Fleets: simulated devices that differ in their clips, cameras, vocabularies or habits.

The devices of a fleet differ in a subset of `SHIFTS`. The generator of each draw depends on the seed, the
split and the device's number, so that device 7 is the same in a fleet of ten and of a thousand devices.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from paramcast.errors import InputError
from paramcast.files import write_json
from paramcast.training.seeding import generator_for, seed_from
from paramcast.video.shifts.cameras import HELD_OUT_KINDS, TRAINING_KINDS, Camera
from paramcast.video.shifts.vocabulary import Vocabulary

if TYPE_CHECKING:
    from paramcast.video.data.collection import Clip
    from paramcast.video.data.collection import Collection as ClipCollection

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
SHIFTS: tuple[str, ...] = ("category", "camera", "vocabulary", "habits", "collection")
FORMAT = 2
"""Version of the file that `Fleet.save` writes. Version 1, which has no habits, can be read too."""

MINIMUM_QUERY = 4
"""Least number of query clips that are drawn for a device, unless fewer are requested."""

_CONCENTRATION = 0.2  # of the Dirichlet over categories: most devices have one or two categories
_DEVICES = {"train": 200, "validation": 40, "test": 40}


class FleetError(InputError):
    """A fleet cannot be built from these clips, or a fleet file cannot be read."""


@dataclass(frozen=True)
class Device:
    """One simulated device.

    Attributes:
        id: Unique within the fleet, such as 'test-0003'.
        split: Devices of two splits share no clip.
        support: Clip ids, ordered: a support set of K clips is `support[:K]`.
        query: Clip ids on which the device is scored; disjoint from `support`.
        cameras: Applied to every frame, in this order; empty for clean frames.
        vocabulary: The device's own words, or None for the common words.
        categories: Category -> its share of the device's clips; sums to 1 if all clips have a category.
        collection: Name of the collection of the clips.
        habits: The words of the device's answers, if they are independent of the words of its questions;
            None: the answers use `vocabulary`.
    """

    id: str
    split: Split
    support: tuple[str, ...]
    query: tuple[str, ...]
    cameras: tuple[Camera, ...]
    vocabulary: Vocabulary | None
    categories: Mapping[str, float]
    collection: str
    habits: Vocabulary | None = None

    def question(self, text: str) -> str:
        """Rewrite a question or a caption in the words of the device's users."""
        return self.vocabulary.rewrite(text) if self.vocabulary else text

    def answer(self, answer: str) -> str:
        """Rewrite an answer in the words of the device's users."""
        words = self.answers_in
        return words.answer(answer) if words else answer

    @property
    def answers_in(self) -> Vocabulary | None:
        """The words of the device's answers; None for the common words."""
        return self.habits or self.vocabulary


@dataclass(frozen=True)
class Fleet:
    """Devices, with the shifts and the seed with which they were drawn."""

    devices: tuple[Device, ...]
    shifts: tuple[str, ...] = field(default=())
    seed: int = 0

    def split(self, name: str) -> tuple[Device, ...]:
        """Return the devices of one split, in order."""
        return tuple(device for device in self.devices if device.split == name)

    def save(self, path: Path | str) -> None:
        """Write the fleet as JSON, completely or not at all."""
        write_json(path, {"format": FORMAT, **asdict(self)})

    @classmethod
    def load(cls, path: Path | str) -> Fleet:
        """Read a fleet that `save` wrote.

        Raises:
            FleetError: The file cannot be read, is not a fleet, or has an unknown format version.
        """
        try:
            stored = json.loads(Path(path).read_text(encoding="utf-8"))
            if stored["format"] not in (1, FORMAT):
                raise FleetError(
                    f"{path}: fleet format {stored['format']!r} is unknown; build the fleet again"
                )
            devices = tuple(_device(entry) for entry in stored["devices"])
            return cls(devices, tuple(map(str, stored["shifts"])), int(stored["seed"]))
        except OSError as error:
            raise FleetError(f"{path}: the fleet cannot be read: {error.strerror}") from error
        except FleetError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, InputError) as error:
            raise FleetError(f"{path} is not a fleet file ({type(error).__name__}: {error})") from error


def split_clips(collection: ClipCollection, seed: int) -> dict[str, tuple[str, ...]]:
    """Split the clips: as the data set says, else 80 / 10 / 10 by a hash of seed and group.

    All clips of one video are in the same split (`collection.groups`). A clip keeps its split when other
    clips are added to or removed from the collection. If the data set has no validation clips or no test
    clips, a tenth of its training clips is used instead.

    Returns:
        'train', 'validation' and 'test' -> clip ids, in the collection's order.
    """
    pools: dict[str, list[str]] = {split: [] for split in SPLITS}
    given = {clip.split for clip in collection.clips}
    places = {"validation": 8, "test": 9}
    drawn = {place: split for split, place in places.items() if split not in given}
    for clip in collection.clips:
        place = seed_from("split", seed, collection.groups[clip.id]) % 10
        if clip.split in (None, "train"):
            among = drawn if given != {None} else {8: "validation", 9: "test"}
            pools[among.get(place, "train")].append(clip.id)
        else:
            pools[clip.split].append(clip.id)
    return {split: tuple(ids) for split, ids in pools.items()}


def build_fleet(
    collection: ClipCollection,
    *,
    shifts: Collection[str] = ("category",),
    devices: Mapping[str, int] = _DEVICES,
    seed: int = 0,
    support: int = 16,
    query: int = 24,
    held_out_cameras: bool = False,
    pools: Mapping[str, Sequence[str]] | None = None,
    usable: Callable[[Clip], bool] | None = None,
) -> Fleet:
    """Draw devices that differ in `shifts` and in nothing else.

    The clips of a device are drawn without replacement; two devices of one split may share clips. If a pool
    is too small, a device gets fewer query clips, down to `MINIMUM_QUERY`. Then query clips that share a
    video with a support clip are dropped.

    Args:
        collection: The collection of the clips.
        shifts: Any of `SHIFTS`; empty for devices that are all alike.
            category: each device sees only a few categories (clips without a category are left out);
            camera: each device has a camera of one kind, some training devices of two kinds;
            vocabulary: each device has its own words;
            habits: each device has its own words for answers, which its questions do not show;
            collection: each device is a device of the collection (`device` of the lines; if no line has one,
            the clips are drawn at random).
        devices: Split -> number of devices.
        seed: Seed of the whole fleet.
        support: Number of support clips of a device.
        query: Number of query clips of a device, if there are enough.
        held_out_cameras: Give test devices cameras of `HELD_OUT_KINDS` instead of `TRAINING_KINDS`.
        pools: Split -> the clip ids it may use; `split_clips(collection, seed)` by default.
        usable: Decides whether a clip can be used for the task; by default all clips can.

    Raises:
        FleetError: A shift or split is unknown, or there are too few clips.
    """
    if unknown := sorted(set(shifts) - set(SHIFTS)):
        raise FleetError(f"no shift is called {', '.join(unknown)}; there are: {', '.join(SHIFTS)}")
    if unknown := sorted(set(devices) - set(SPLITS)):
        raise FleetError(f"no split is called {', '.join(unknown)}; there are: {', '.join(SPLITS)}")
    if support < 1 or query < 1:
        raise FleetError(f"a device needs support and query clips, not {support} and {query}")
    pools = split_clips(collection, seed) if pools is None else pools
    built = []
    for split in SPLITS:
        if devices.get(split, 0):
            clips = _useful(collection, pools.get(split, ()), "category" in shifts, usable)
            source = _Source(split, clips, frozenset(shifts), support, query)
            kinds = HELD_OUT_KINDS if held_out_cameras and split == "test" else TRAINING_KINDS
            for number in range(devices[split]):
                name = f"{split}-{number:04d}"
                ids = _apart(
                    source.draw(generator_for(seed, "clips", name), number), support, collection.groups
                )
                built.append(
                    Device(
                        id=name,
                        split=split,
                        support=ids[:support],
                        query=ids[support:],
                        cameras=_cameras(seed, name, kinds) if "camera" in shifts else (),
                        vocabulary=_words(seed, "vocabulary", name) if "vocabulary" in shifts else None,
                        categories=_shares(ids, collection.by_id),
                        collection=collection.name,
                        habits=_words(seed, "habits", name) if "habits" in shifts else None,
                    )
                )
    return Fleet(tuple(built), tuple(shift for shift in SHIFTS if shift in shifts), seed)


@dataclass(frozen=True)
class _Source:
    """Clips of one split, from which the clips of a device are drawn."""

    split: str
    clips: tuple[Clip, ...]
    shifts: frozenset[str]
    support: int
    query: int

    def draw(self, rng: np.random.Generator, number: int) -> tuple[str, ...]:
        """Draw the clip ids of one device in random order, support clips first."""
        clips = self._own_clips(number) if "collection" in self.shifts else self.clips
        least = self.support + min(self.query, MINIMUM_QUERY)
        if len(clips) < least:
            raise FleetError(
                f"{len(clips)} usable clips for a device of split {self.split!r}, but {self.support} support "
                f"and {least - self.support} query clips are needed; add clips, or adapt with fewer: "
                f"--support {max(1, len(clips) - min(self.query, MINIMUM_QUERY))}"
            )
        wanted = self.support + self.query
        if "category" in self.shifts:
            return self._by_category(rng, clips, wanted)
        picked = rng.permutation(len(clips))[:wanted]
        return tuple(clips[place].id for place in picked)

    def _own_clips(self, number: int) -> tuple[Clip, ...]:
        """Return the clips of one of the collection's devices, in turn; all clips if it names no devices."""
        owners: dict[str, list[Clip]] = {}
        for clip in self.clips:
            if clip.device is not None:
                owners.setdefault(clip.device, []).append(clip)
        if not owners:
            return self.clips
        least = self.support + min(self.query, MINIMUM_QUERY)
        large = [owner for owner in sorted(owners) if len(owners[owner]) >= least]
        largest = max(owners, key=lambda owner: (len(owners[owner]), owner))
        return tuple(owners[large[number % len(large)] if large else largest])

    def _by_category(self, rng: np.random.Generator, clips: Sequence[Clip], wanted: int) -> tuple[str, ...]:
        """Draw clips by a random mixture of categories.

        If the categories of the mixture have too few clips, the device gets fewer query clips, down to half
        of them. Clips of other categories are added only below that, because they make all devices alike.
        """
        left: dict[str, list[str]] = {}
        for place in rng.permutation(len(clips)):
            left.setdefault(str(clips[place].category), []).append(clips[place].id)
        names = sorted(left)
        mixture = dict(zip(names, rng.dirichlet([_CONCENTRATION] * len(names)), strict=True))
        counts = rng.multinomial(wanted, list(mixture.values()))
        picked = [
            left[name].pop() for name, n in zip(names, counts, strict=True) for _ in range(n) if left[name]
        ]
        enough = self.support + max(min(self.query, MINIMUM_QUERY), self.query // 2)
        while len(picked) < enough and (open_names := [name for name in names if left[name]]):
            weights = np.array([mixture[name] for name in open_names]) + 1e-9
            name = open_names[rng.choice(len(open_names), p=weights / weights.sum())]
            picked.append(left[name].pop())
        return tuple(picked[place] for place in rng.permutation(len(picked)))


def _apart(ids: tuple[str, ...], support: int, groups: Mapping[str, str]) -> tuple[str, ...]:
    """Leave out query clips that share a video with a support clip, unless no query clip would be left."""
    seen = {groups[clip] for clip in ids[:support]}
    query = tuple(clip for clip in ids[support:] if groups[clip] not in seen)
    return ids[:support] + query if query else ids


def _useful(
    collection: ClipCollection, ids: Sequence[str], categorised: bool, usable: Callable[[Clip], bool] | None
) -> tuple[Clip, ...]:
    if missing := [name for name in ids if name not in collection.by_id]:
        raise FleetError(f"collection {collection.name!r} has no clip {missing[0]!r} that a pool names")
    clips = (collection.by_id[name] for name in ids)
    return tuple(
        clip
        for clip in clips
        if (clip.category is not None or not categorised) and (usable is None or usable(clip))
    )


def _cameras(seed: int, name: str, kinds: tuple[str, ...]) -> tuple[Camera, ...]:
    rng = generator_for(seed, "camera", name)
    several = 2 if name.startswith("train") and rng.random() < 0.2 else 1
    chosen = rng.permutation(len(kinds))[:several]
    return tuple(Camera(kinds[k], float(rng.uniform(0.3, 1.0)), int(rng.integers(2**31))) for k in chosen)


def _words(seed: int, use: str, name: str) -> Vocabulary:
    rng = generator_for(seed, use, name)
    return Vocabulary(int(rng.integers(2**31)), float(rng.uniform(0.6, 1.0)))


def _shares(ids: Sequence[str], by_id: Mapping[str, Clip]) -> dict[str, float]:
    counts = Counter(category for name in ids if (category := by_id[name].category) is not None)
    return {category: counts[category] / len(ids) for category in sorted(counts)}


def _device(entry: dict[str, Any]) -> Device:
    """Build a device from its JSON; raise ValueError, KeyError or TypeError if it is not valid."""
    if entry["split"] not in SPLITS:
        raise ValueError(f"device {entry['id']!r} is of split {entry['split']!r}")
    support, query = tuple(map(str, entry["support"])), tuple(map(str, entry["query"]))
    if set(support) & set(query):
        raise ValueError(f"device {entry['id']!r} is scored on its own support clips")
    return Device(
        id=str(entry["id"]),
        split=entry["split"],
        support=support,
        query=query,
        cameras=tuple(Camera(**camera) for camera in entry["cameras"]),
        vocabulary=_stored_words(entry["vocabulary"]),
        categories={str(name): float(share) for name, share in entry["categories"].items()},
        collection=str(entry["collection"]),
        habits=_stored_words(entry.get("habits")),
    )


def _stored_words(entry: Mapping[str, Any] | None) -> Vocabulary | None:
    return None if entry is None else Vocabulary(**entry)
