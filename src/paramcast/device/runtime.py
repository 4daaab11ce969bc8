"""Device of the video application: it answers questions about clips without any server, and adapts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paramcast.device.answers import Answer, most_probable
from paramcast.device.bundle import Bundle
from paramcast.device.core import DeviceCore, check_device_id, check_public_key
from paramcast.device.errors import BundleError, DeviceInputError, ProbeFailed
from paramcast.device.gallery import Gallery
from paramcast.device.graphs import Graphs
from paramcast.device.inputs import (
    Frames,
    Parameters,
    check_frames,
    check_options,
    check_queries,
    check_questions,
    check_text,
)
from paramcast.device.noise import UplinkNoise
from paramcast.device.parameters import WhenExpired
from paramcast.device.support import SeenClip
from paramcast.protocol.limits import QUERIES_A_CLIP
from paramcast.protocol.quantize import Float32


@dataclass(frozen=True)
class Hit:
    """Clip found by text. `score` is the cosine of the embeddings, in -1..1."""

    clip_id: str
    score: float


class DeviceRuntime(DeviceCore):
    """One device with one bundle. Several threads may call every method at once."""

    def __init__(
        self,
        bundle: Bundle,
        graphs: Graphs,
        device_id: str,
        store: Path | str | None,
        keys: tuple[str, ...],
        noise: UplinkNoise,
        root: str | None = None,
        when_expired: WhenExpired = "keep",
    ) -> None:
        """Use `DeviceRuntime.load`."""
        self.bundle = bundle
        self._graphs = graphs
        self._noise = noise
        self._gallery = Gallery()
        super().__init__(
            model=bundle.model,
            device_id=device_id,
            base=bundle.base,
            feed=bundle.base,
            store=store,
            keys=keys,
            root=root,
            when_expired=when_expired,
        )

    @classmethod
    def load(
        cls,
        bundle_dir: Path | str,
        device_id: str,
        store: Path | str | None = None,
        public_key: str | None = None,
        uplink_noise: float = 0.0,
        *,
        root: str | None = None,
        when_expired: WhenExpired = "keep",
    ) -> DeviceRuntime:
        """Start a device with the last package in `store`, if that may run, else with the base model.

        The start needs no network.

        Args:
            bundle_dir: Folder that `paramcast export` wrote.
            device_id: A letter or digit, then up to 127 of letters, digits and `._:@+-`.
            store: Folder for packages and the pinned key. Any number of devices, users and tasks may share
                it, with one process at a time for each; without a store, a restart begins at the base.
            public_key: Hex of the cloud's key; else the manifest's key, else the key pinned in `store`.
            uplink_noise: Standard deviation of the Gaussian noise that is added to the numbers sent; the
                features have the standard deviation 1. docs/threat_model.md reports what it hides and costs.
            root: Hex of the root's key; None for the root that the manifest names, if any. The root must have
                signed the manifest, and only keys that it delegates are trusted.
            when_expired: Parameters to run after the running package or the newest notice has expired: the
                package ("keep"), or the base model ("base").

        Raises:
            BundleError: The bundle is damaged or its model does not work.
            DeviceInputError: The id or the key is malformed, or the noise is negative.
        """
        check_device_id(device_id)
        noise = UplinkNoise(uplink_noise)
        check_public_key(public_key)
        check_public_key(root)
        bundle = Bundle.load(bundle_dir, root)
        graphs = Graphs(bundle)
        given = public_key or bundle.public_key
        keys = () if given is None else (given,)
        root = root or bundle.root
        runtime = cls(graphs.bundle, graphs, device_id, store, keys, noise, root, when_expired)
        try:
            runtime._try_out(bundle.base)
        except ProbeFailed as error:
            raise BundleError(f"{bundle.path}: the base model does not work: {error}") from error
        return runtime

    def for_user(self, user: str) -> DeviceRuntime:
        """Return a runtime for another user of this device.

        The users share the model in memory, the store and the pinned key, but no support set or packages. The
        cloud treats the user as a separate device with the id `device_id:user`.

        Args:
            user: Letters, digits and `._:@+-`.

        Raises:
            DeviceInputError: The user's name is malformed, or is too long together with the device's id.
        """
        device_id = self._user_id(user)
        return DeviceRuntime(
            self.bundle,
            self._graphs,
            device_id,
            self._store,
            self._parameters.keys,
            self._noise,
            self.root,
            self._when_expired,
        )

    def at_base(self) -> DeviceRuntime:
        """Return this device with the base model and without a store; the model in memory is shared."""
        return DeviceRuntime(
            self.bundle,
            self._graphs,
            self.device_id,
            None,
            self._parameters.keys,
            self._noise,
            self.root,
            self._when_expired,
        )

    def observe(self, frames: Frames, queries: Sequence[str]) -> None:
        """Add a clip to the support set: its middle frame, and the mean of its first 8 queries' features.

        Args:
            frames: (T, H, W, 3) uint8 RGB, 1..64 frames.
            queries: Questions or queries about the clip; may be empty.

        Raises:
            DeviceInputError: The frames or a query cannot be used.
        """
        frames = check_frames(frames)
        middle = len(frames) // 2
        features = self._graphs.image(frames[middle : middle + 1])
        asked = check_queries(queries)[:QUERIES_A_CLIP]
        query_features = (
            self._graphs.text(asked) if asked else np.empty((0, len(self.bundle.text.mean)), np.float32)
        )
        mean_query = query_features.mean(axis=0, keepdims=True) if asked else query_features
        self._support.add(
            SeenClip(
                anchor=self._noise(self.bundle.image(features)[0]),
                queries=self._noise(self.bundle.text(mean_query)),
                features=features,
                query_features=query_features,
            )
        )

    def answer(self, frames: Frames, questions: Sequence[str]) -> list[Answer]:
        """Answer questions about a clip.

        Args:
            frames: (T, H, W, 3) uint8 RGB, 1..64 frames.
            questions: At least one question; each is cut after 64 tokens.

        Raises:
            DeviceInputError: The frames or a question cannot be used, or the task of the bundle is not `qa`.
        """
        self._need_task("qa")
        snapshot = self._parameters.current
        texts = check_questions(questions)
        graphs = snapshot.graphs or self._graphs
        features = graphs.image(check_frames(frames))
        logits = graphs.answer(features, graphs.text(texts), snapshot.parameters)
        return [most_probable(row, self.bundle.answers) for row in logits]

    def choose(
        self, frames: Frames, questions: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[Answer]:
        """Answer questions about a clip by choosing among the given options.

        Args:
            frames: (T, H, W, 3) uint8 RGB, 1..64 frames.
            questions: At least one question. Each question and each option is cut after 64 tokens.
            options: The answers to choose from, for each question.

        Raises:
            DeviceInputError: The frames, a question or an option cannot be used, or the task of the bundle is
                not `choice`.
        """
        self._need_task("choice")
        snapshot = self._parameters.current
        texts = check_questions(questions)
        offered = check_options(options, len(texts))
        graphs = snapshot.graphs or self._graphs
        features = graphs.image(check_frames(frames))
        return [
            most_probable(graphs.choose(features, question, graphs.text(those), snapshot.parameters), those)
            for question, those in zip(graphs.text(texts), offered, strict=True)
        ]

    def index(self, clip_id: str, frames: Frames) -> None:
        """Put a clip into the gallery that `retrieve` searches; an older clip with the same id is replaced.

        Raises:
            DeviceInputError: The frames cannot be used, or the task of the bundle is not `retrieval`.
        """
        self._need_task("retrieval")
        self._gallery.add(clip_id, self._graphs.image(check_frames(frames)))

    def retrieve(self, text: str, top: int = 5) -> list[Hit]:
        """Find the `top` clips of the gallery that match `text` best, the best one first.

        Raises:
            DeviceInputError: The text cannot be used, the gallery is empty, `top` is below 1, or the task of
                the bundle is not `retrieval`.
        """
        self._need_task("retrieval")
        snapshot = self._parameters.current
        if len(self._gallery) == 0:
            raise DeviceInputError("the gallery is empty: index at least one clip before retrieving")
        if top < 1:
            raise DeviceInputError(f"top must be at least 1, not {top}")
        graphs = snapshot.graphs or self._graphs
        query = graphs.embed_texts(graphs.text([check_text(text)]), snapshot.parameters)[0]
        ids, embeddings = self._gallery.embeddings(
            snapshot.parameters, lambda clips: graphs.embed_clips(clips, snapshot.parameters)
        )
        scores = embeddings @ query
        best = np.argsort(-scores, kind="stable")[:top]
        return [Hit(ids[place], float(scores[place])) for place in best]

    def clear_cache(self) -> None:
        """Drop the cached features of the last 256 frames and 256 texts.

        The support set and the gallery stay.
        """
        self._graphs.clear_cache()

    def status(self) -> dict[str, Any]:
        """Return `DeviceCore.status` with the bundle's `task` and `form`, and the length of the `gallery`."""
        return {
            **super().status(),
            "task": self.bundle.task,
            "form": self.bundle.form,
            "gallery": len(self._gallery),
        }

    def _baked(self, feed: Parameters) -> Graphs:
        return self._graphs.baked(feed)

    def _try_out(self, parameters: Parameters, effect: bytes | None = None) -> Parameters:
        """Run the model once, on the last clip if there is one, else on the mean features.

        Raises:
            ProbeFailed: The model cannot run, or an output is not finite.
        """
        seen = self._support.last()
        clip = seen if isinstance(seen, SeenClip) else None
        frames = self.bundle.image.mean[None] if clip is None else clip.features
        has_query = clip is not None and len(clip.query_features) > 0
        texts = clip.query_features if clip is not None and has_query else self.bundle.text.mean[None]
        try:
            outputs = self._outputs(frames, texts, parameters)
        except Exception as error:  # onnxruntime's classes have no common base but Exception
            raise ProbeFailed(f"the model cannot run with these parameters: {error}") from error
        if not all(np.isfinite(output).all() for output in outputs):
            raise ProbeFailed("with these parameters the model's outputs are not finite")
        return parameters

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

    def _need_task(self, task: str) -> None:
        if self.bundle.task != task:
            raise DeviceInputError(f"this bundle is for {self.bundle.task}, the call needs one for {task}")
