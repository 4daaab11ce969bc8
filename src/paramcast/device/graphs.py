"""ONNX graphs of a bundle as functions on numpy arrays, which several threads may call at once."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from paramcast.artifact.onnx_file import bake
from paramcast.device.bundle import GRAPHS, Bundle
from paramcast.device.errors import BundleError
from paramcast.device.inputs import Frames, Parameters
from paramcast.device.recent import RecentFeatures
from paramcast.protocol.quantize import Float32

MAX_TOKENS = 64
RECENT_FRAMES, RECENT_TEXTS = 256, 256
"""Numbers of frames and of texts whose features are kept in memory: about 2 MB."""
# The graph resizes frames as float32; a run of this many pixels takes about 200 MB.
_PIXELS_PER_RUN = 8 * 1024 * 1024
_FRAMES_PER_RUN = 16
_CLIPS_PER_RUN = 64


class Graphs:
    """Sessions of the two trunks and of the task's graphs. Dynamic parameters are inputs of the latter."""

    def __init__(self, bundle: Bundle) -> None:
        """Open a session for each graph of `bundle`.

        Raises:
            BundleError: ONNX Runtime or the tokenizer library refuses a file.
        """
        self._sessions = {
            name: _session(bundle, name) for name in ("image.onnx", "text.onnx", *GRAPHS[bundle.task])
        }
        self._inputs = _inputs(self._sessions)
        for name in GRAPHS[bundle.task]:
            unknown = self._inputs[name] - bundle.base.keys() - {"frames", "questions", "options", "texts"}
            if unknown:
                raise BundleError(
                    f"{bundle.path / name} needs {sorted(unknown)}, which base.safetensors lacks"
                )
        self._tokenizer = _tokenizer(bundle)
        self._frames, self._texts = RecentFeatures(RECENT_FRAMES), RecentFeatures(RECENT_TEXTS)
        self.bundle = bundle.opened()

    def baked(self, parameters: Parameters) -> Graphs:
        """Return graphs with `parameters` as constants of the task's graphs; the trunks are shared."""
        made = copy.copy(self)
        files = {name: bake(self.bundle.files[name], parameters) for name in GRAPHS[self.bundle.task]}
        bundle = replace(self.bundle, files=files)
        made._sessions = self._sessions | {name: _session(bundle, name) for name in files}
        made._inputs = _inputs(made._sessions)
        return made

    def image(self, frames: Frames) -> Float32:
        """Compute trunk features (T, D) float32 of checked frames (T, H, W, 3) uint8.

        Frames that are among the last encoded ones are not encoded again. The other frames are split into
        runs of bounded memory.
        """
        keys = [_digest(frame) for frame in np.ascontiguousarray(frames)]
        return self._frames.get(keys, lambda places: self._encoded(frames[places]))

    def _encoded(self, frames: Frames) -> Float32:
        step = max(1, min(_FRAMES_PER_RUN, _PIXELS_PER_RUN // (frames.shape[1] * frames.shape[2])))
        parts = [
            self._run("image.onnx", {"frames": frames[start : start + step]})
            for start in range(0, len(frames), step)
        ]
        return np.concatenate(parts)

    def text(self, texts: Sequence[str]) -> Float32:
        """Compute trunk features (N, Dt) float32 of 1 or more texts; each text is cut after 64 tokens.

        Texts that are among the last encoded ones are not encoded again.

        The texts are run one by one. With padding, or with the scales that a quantized trunk computes from
        the whole batch, the features of a text would depend on the other texts.
        """
        return self._texts.get(
            [text.encode("utf-8", "surrogatepass") for text in texts],
            lambda places: np.concatenate(
                [self._run("text.onnx", self._tokens(texts[place])) for place in places]
            ),
        )

    def clear_cache(self) -> None:
        """Drop the cached features of frames and texts."""
        self._frames.clear()
        self._texts.clear()

    def answer(self, features: Float32, questions: Float32, parameters: Parameters) -> Float32:
        """Compute logits (N, A) of questions (N, Dt) about one clip (T, D)."""
        return self._run("answer.onnx", {"frames": features[None], "questions": questions, **parameters})

    def choose(
        self, features: Float32, question: Float32, options: Float32, parameters: Parameters
    ) -> Float32:
        """Compute logits (O,) of options (O, Dt) for one question (Dt,) about one clip (T, D)."""
        data = {"frames": features[None], "questions": question[None], "options": options[None]}
        logits: Float32 = self._run("choose.onnx", {**data, **parameters})[0]
        return logits

    def embed_clips(self, clips: Sequence[Float32], parameters: Parameters) -> list[Float32]:
        """Compute embeddings (E,) of clips (T, D); clips of equal length are run together."""
        embeddings: dict[int, Float32] = {}
        by_length: dict[int, list[int]] = {}
        for place, features in enumerate(clips):
            by_length.setdefault(len(features), []).append(place)
        for places in by_length.values():
            for start in range(0, len(places), _CLIPS_PER_RUN):
                chunk = places[start : start + _CLIPS_PER_RUN]
                frames = np.stack([clips[place] for place in chunk])
                rows = self._run("embed_clips.onnx", {"frames": frames, **parameters})
                embeddings.update(zip(chunk, rows, strict=True))
        return [embeddings[place] for place in range(len(clips))]

    def embed_texts(self, texts: Float32, parameters: Parameters) -> Float32:
        """Compute embeddings (N, E) of text features (N, Dt)."""
        return self._run("embed_texts.onnx", {"texts": texts, **parameters})

    def _tokens(self, text: str) -> dict[str, Any]:
        encoding = self._tokenizer.encode(text)
        return {
            "input_ids": np.array([encoding.ids], np.int64),
            "attention_mask": np.array([encoding.attention_mask], np.int64),
        }

    def _run(self, name: str, values: Mapping[str, Any]) -> Float32:
        """Run a graph with the inputs that it declares; of the parameters, it declares only the used ones."""
        feed = {key: value for key, value in values.items() if key in self._inputs[name]}
        output: Float32 = self._sessions[name].run(None, feed)[0]
        return output


def _digest(frame: Frames) -> bytes:
    made = blake2b(repr(frame.shape).encode(), digest_size=16)
    made.update(frame.data)
    return made.digest()


def _inputs(sessions: Mapping[str, Any]) -> dict[str, set[str]]:
    return {name: {node.name for node in session.get_inputs()} for name, session in sessions.items()}


def _session(bundle: Bundle, name: str) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Threads that spin while they wait for work drain the battery and take a core from other programs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(bundle.files[name], options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's classes have no common base but Exception
        raise BundleError(f"{bundle.path / name} is refused by ONNX Runtime: {error}") from error


def _tokenizer(bundle: Bundle) -> Any:
    try:
        tokenizer = Tokenizer.from_buffer(bundle.files["tokenizer.json"])
    except Exception as error:  # the library raises plain Exception
        raise BundleError(f"{bundle.path / 'tokenizer.json'} is no tokenizer: {error}") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    return tokenizer
