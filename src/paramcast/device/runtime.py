"""The device: answers by itself from its first moment, and takes up parameters that were made for it.

Readers never wait: every call takes one reference to an immutable snapshot (the parameters and their source)
and works with it to its end; taking up a package is one assignment of that reference.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from paramcast.device.answers import Answer, most_probable
from paramcast.device.bundle import Bundle
from paramcast.device.errors import BundleError, CloudError, DeviceInputError, NoPublicKey, ProbeFailed
from paramcast.device.gallery import Gallery
from paramcast.device.graphs import Graphs, Parameters
from paramcast.device.inputs import Frames, check_frames, check_options, check_questions, check_text
from paramcast.device.store import PackageStore
from paramcast.device.support import Seen, SupportMemory
from paramcast.wire import AdaptRequest, Expired, Package, PackageError, open_package
from paramcast.wire.limits import DEVICE_ID, QUERIES_A_CLIP
from paramcast.wire.quantise import Float32
from paramcast.wire.signing import is_public_key

T = TypeVar("T")


@dataclass(frozen=True)
class Hit:
    """A clip found by text. `score` is the cosine of the embeddings, in -1..1."""

    clip_id: str
    score: float


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The parameters in use. `sequence` and `expires` (unix seconds) are the package's; base: 0, None."""

    parameters: Parameters
    source: Literal["base", "cloud", "store"]
    sequence: int
    expires: int | None


class DeviceRuntime:
    """One device with one bundle. Every method may be called by several threads at once."""

    def __init__(
        self, bundle: Bundle, device_id: str, store: PackageStore | None, public_key: str | None
    ) -> None:
        """Use `DeviceRuntime.load`."""
        self.bundle = bundle
        self.device_id = device_id
        self._graphs = Graphs(bundle)
        self._store = store
        self._public_key = public_key
        self._support = SupportMemory()
        self._gallery = Gallery()
        self._snapshot = Snapshot(bundle.base, "base", 0, None)
        self._highest = 0  # the highest sequence number ever taken up: nothing at or below it is accepted
        self._changing = threading.Lock()
        self._refused: dict[str, str] | None = None
        self._store_error: str | None = None

    @classmethod
    def load(
        cls,
        bundle_dir: Path | str,
        device_id: str,
        store: Path | str | None = None,
        public_key: str | None = None,
    ) -> DeviceRuntime:
        """Start a device: needs no network, goes on with the last package that `store` holds if it may.

        Args:
            bundle_dir: What `paramcast export` wrote.
            device_id: A letter or digit, then up to 127 of letters, digits and `._:@+-`.
            store: A folder for the last good package and the pinned key; without it a restart is at the base.
            public_key: Hex of the cloud's key; else the manifest's, else the one that `store` has pinned.

        Raises:
            BundleError: If the bundle is damaged or its model does not work.
            DeviceInputError: If the id or the key is malformed.
        """
        if not DEVICE_ID.fullmatch(device_id):
            raise DeviceInputError(
                "a device id begins with a letter or digit and has at most 128 letters, digits and ._:@+-"
            )
        if public_key is not None and not is_public_key(public_key):
            raise DeviceInputError("a public key is 64 lower-case hex digits")
        bundle = Bundle.load(bundle_dir)
        files = None if store is None else PackageStore(store, device=device_id, model=bundle.model)
        runtime = cls(bundle, device_id, files, public_key or bundle.public_key)
        runtime._start()
        return runtime

    @property
    def public_key(self) -> str | None:
        """Hex of the cloud key that packages are checked with, or None if none is known yet."""
        return self._public_key

    def observe(self, frames: Frames, queries: Sequence[str]) -> None:
        """Add a clip to the support set: its middle frame, and the mean of its first 8 queries' features.

        Args:
            frames: (T, H, W, 3) uint8 RGB, 1..64 frames.
            queries: What was asked about the clip; may be empty.

        Raises:
            DeviceInputError: If the frames or a query cannot be used.
        """
        frames = check_frames(frames)
        middle = len(frames) // 2
        features = self._graphs.image(frames[middle : middle + 1])
        asked = [check_text(query) for query in queries][:QUERIES_A_CLIP]
        query_features = (
            self._graphs.text(asked) if asked else np.empty((0, len(self.bundle.text.mean)), np.float32)
        )
        mean_query = query_features.mean(axis=0, keepdims=True) if asked else query_features
        self._support.add(
            Seen(
                anchor=self.bundle.image(features)[0],
                queries=self.bundle.text(mean_query),
                features=features,
                query_features=query_features,
            )
        )

    def answer(self, frames: Frames, questions: Sequence[str]) -> list[Answer]:
        """Answer questions about a clip.

        Args:
            frames: (T, H, W, 3) uint8 RGB, 1..64 frames.
            questions: At least one; each is read up to its 64th token.

        Raises:
            DeviceInputError: If the frames or a question cannot be used, or the bundle is not one for `qa`.
        """
        self._need_task("qa")
        snapshot = self._snapshot
        texts = check_questions(questions)
        features = self._graphs.image(check_frames(frames))
        logits = self._graphs.answer(features, self._graphs.text(texts), snapshot.parameters)
        return [most_probable(row, self.bundle.answers) for row in logits]

    def choose(
        self, frames: Frames, questions: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[Answer]:
        """Answer questions about a clip by choosing among the options given for each.

        Args:
            frames: (T, H, W, 3) uint8 RGB, 1..64 frames.
            questions: At least one; each is read up to its 64th token, as the options are.
            options: For each question, the answers to choose from.

        Raises:
            DeviceInputError: If the frames, a question or an option cannot be used, or the bundle is not one
                for `choice`.
        """
        self._need_task("choice")
        snapshot = self._snapshot
        texts = check_questions(questions)
        offered = check_options(options, len(texts))
        features = self._graphs.image(check_frames(frames))
        return [
            most_probable(
                self._graphs.choose(features, question, self._graphs.text(those), snapshot.parameters), those
            )
            for question, those in zip(self._graphs.text(texts), offered, strict=True)
        ]

    def index(self, clip_id: str, frames: Frames) -> None:
        """Put a clip into the gallery that `retrieve` searches; an older clip of the same id is replaced.

        Raises:
            DeviceInputError: If the frames cannot be used or the bundle is not one for `retrieval`.
        """
        self._need_task("retrieval")
        self._gallery.add(clip_id, self._graphs.image(check_frames(frames)))

    def retrieve(self, text: str, top: int = 5) -> list[Hit]:
        """Find the `top` clips of the gallery that fit `text` best, the best one first.

        Raises:
            DeviceInputError: If the text cannot be used, the gallery is empty, or the bundle is not one for
                `retrieval`.
        """
        self._need_task("retrieval")
        snapshot = self._snapshot
        if len(self._gallery) == 0:
            raise DeviceInputError("the gallery is empty: index at least one clip before retrieving")
        if top < 1:
            raise DeviceInputError(f"top must be at least 1, not {top}")
        query = self._graphs.embed_texts(self._graphs.text([check_text(text)]), snapshot.parameters)[0]
        ids, embeddings = self._gallery.embeddings(
            snapshot, lambda clips: self._graphs.embed_clips(clips, snapshot.parameters)
        )
        scores = embeddings @ query
        best = np.argsort(-scores, kind="stable")[:top]
        return [Hit(ids[place], float(scores[place])) for place in best]

    def request(self) -> AdaptRequest:
        """What to send to the cloud: all that leaves the device.

        Raises:
            DeviceInputError: If no clip has been observed yet.
        """
        return self._support.request(self.device_id, self.bundle.model, self._highest)

    def apply(self, data: bytes) -> Package:
        """Check a sealed package, try it, keep it in the store, and answer with it from now on.

        Raises:
            PackageError: If the package may not be run; the device keeps the parameters that it has, and
                `status()["refused"]` says why.
        """
        with self._changing:
            try:
                package = self._open(data, after=self._highest, now=_now())
                self._probe(package.tensors)
            except PackageError as error:
                self._refused = _reason(error)
                raise
            if self._store is not None:
                self._to_store(lambda store: store.save(data))
            self._take(package, "cloud")
        return package

    def trust(self, public_key: str) -> None:
        """Pin the key of the first cloud that is met (trust on first use); kept in the store if there is one.

        Whoever controls the first connection can pass for the cloud. Where that matters, export the bundle
        with a key or give one to `load`.

        Raises:
            CloudError: If the key is malformed, or another one is trusted already.
        """
        if not is_public_key(public_key):
            raise CloudError("the cloud gave a public key that is not 64 lower-case hex digits")
        with self._changing:
            known = self._public_key
            if known is None:
                self._public_key = public_key
                self._to_store(lambda store: store.save_key(public_key))
            elif known != public_key:
                raise CloudError(
                    f"the cloud's key is {public_key[:12]}..., this device trusts {known[:12]}... only"
                )

    def status(self) -> dict[str, Any]:
        """What the device runs and why it runs nothing newer, as JSON types.

        `source` is `base`, `cloud` or `store`. `expired`: the running package could not be taken up now; it
        is still run, as the device may be offline for long. `refused`: the last refusal since a success.
        `store_error`: the last failure of the store.
        """
        snapshot = self._snapshot
        return {
            "device": self.device_id,
            "model": self.bundle.model,
            "task": self.bundle.task,
            "form": self.bundle.form,
            "source": snapshot.source,
            "sequence": snapshot.sequence,
            "expires": snapshot.expires,
            "expired": snapshot.expires is not None and _now() >= snapshot.expires,
            "support": len(self._support),
            "gallery": len(self._gallery),
            "public_key": self._public_key,
            "refused": self._refused,
            "store_error": self._store_error,
        }

    def _start(self) -> None:
        """See that the base model works, then go on with what the store holds."""
        try:
            self._probe(self.bundle.base)
        except ProbeFailed as error:
            raise BundleError(f"{self.bundle.path}: the base model does not work: {error}") from error
        if self._public_key is None:
            self._public_key = self._to_store(lambda store: store.load_key())
        data = self._to_store(lambda store: store.load())
        if data is None:
            return
        try:
            # First without the clock: an expired package still tells which sequence numbers are used up.
            package = self._open(data, after=0, now=0)
            self._highest = package.sequence
            if _now() >= package.expires:
                raise Expired(f"the stored package expired at {package.expires} (unix seconds)")
            self._probe(package.tensors)
            self._take(package, "store")
        except PackageError as error:
            self._refused = _reason(error)

    def _open(self, data: bytes, *, after: int, now: float) -> Package:
        if self._public_key is None:
            raise NoPublicKey("this device knows no cloud key: call CloudClient.trust, or load it with one")
        return open_package(
            data,
            self._public_key,
            device=self.device_id,
            model=self.bundle.model,
            after=after,
            now=now,
            expected={name: values.shape for name, values in self.bundle.base.items()},
        )

    def _take(self, package: Package, source: Literal["cloud", "store"]) -> None:
        """Swap. Readers that have the old snapshot finish with it."""
        for values in package.tensors.values():
            values.flags.writeable = False
        self._snapshot = Snapshot(package.tensors, source, package.sequence, package.expires)
        self._highest = package.sequence
        self._refused = None

    def _probe(self, parameters: Parameters) -> None:
        """Run the model once, on the last clip if there is one, else on the mean features.

        Raises:
            ProbeFailed: If that fails or gives anything but finite numbers.
        """
        seen = self._support.last()
        frames = self.bundle.image.mean[None] if seen is None else seen.features
        has_query = seen is not None and len(seen.query_features) > 0
        texts = seen.query_features if seen is not None and has_query else self.bundle.text.mean[None]
        try:
            outputs = self._outputs(frames, texts, parameters)
        except Exception as error:  # onnxruntime's classes have no common base but Exception
            raise ProbeFailed(f"the model cannot run with these parameters: {error}") from error
        if not all(np.isfinite(output).all() for output in outputs):
            raise ProbeFailed("with these parameters the model's outputs are not finite")

    def _outputs(self, frames: Float32, texts: Float32, parameters: Parameters) -> list[Float32]:
        if self.bundle.task == "retrieval":
            clips = self._graphs.embed_clips([frames], parameters)
            return [*clips, self._graphs.embed_texts(texts, parameters)]
        if self.bundle.task == "choice":
            return [self._graphs.choose(frames, texts[0], texts, parameters)]
        logits = self._graphs.answer(frames, texts, parameters)
        if logits.shape[1] != len(self.bundle.answers):
            raise ValueError(f"{logits.shape[1]} logits for {len(self.bundle.answers)} answers")
        return [logits]

    def _to_store(self, use: Callable[[PackageStore], T]) -> T | None:
        """Call `use` with the store, if there is one; a full or broken disk must not stop the device."""
        if self._store is None:
            return None
        try:
            result = use(self._store)
        except OSError as error:
            self._store_error = str(error)
            return None
        self._store_error = None
        return result

    def _need_task(self, task: str) -> None:
        if self.bundle.task != task:
            raise DeviceInputError(f"this bundle is for {self.bundle.task}, the call needs one for {task}")


def _now() -> float:
    """Unix time in seconds."""
    return time.time()


def _reason(error: PackageError) -> dict[str, str]:
    return {"error": type(error).__name__, "message": str(error)}
