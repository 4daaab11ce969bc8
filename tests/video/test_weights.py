"""Trunks are made of the very files that they were written for, and what holds them says whose they are."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from paramcast.video.encoders import image_encoder, text_encoder
from paramcast.video.encoders.minilm import TOKENS, bert_tokenizer
from paramcast.video.encoders.weights import (
    BERT_VOCABULARY,
    EFFICIENTNET_LITE0,
    MINILM,
    Weights,
    WrongWeightsError,
    notices_of,
)


def changed_package(weights: Weights, root: Path, data: bytes, patch: pytest.MonkeyPatch) -> None:
    """Let a package of the same name be found first, with another file."""
    file = root / weights.package / weights.file
    file.parent.mkdir(parents=True)
    file.write_bytes(data)
    (root / weights.package / "__init__.py").touch()
    patch.syspath_prepend(str(root))
    patch.delitem(sys.modules, weights.package, raising=False)
    importlib.invalidate_caches()


@pytest.mark.parametrize("weights", [EFFICIENTNET_LITE0, MINILM], ids=lambda one: one.package)
def test_one_changed_bit_is_refused(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another file in a package of the same name and version would be every device's trunk."""
    data = bytearray(weights.read())
    data[len(data) // 2] ^= 1
    changed_package(weights, tmp_path, bytes(data), monkeypatch)
    with pytest.raises(WrongWeightsError, match=r"not the weights that paramcast was made for"):
        weights.read()


@pytest.mark.parametrize("weights", [EFFICIENTNET_LITE0, MINILM], ids=lambda one: one.package)
def test_no_trunk_is_made_of_another_file(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARAMCAST_CACHE", str(tmp_path / "cache"))
    changed_package(weights, tmp_path, b"another model", monkeypatch)
    with pytest.raises(WrongWeightsError, match="sha256"):
        text_encoder() if weights is MINILM else image_encoder()
    assert not list((tmp_path / "cache").rglob("*.onnx"))


def test_the_tokenizer_is_berts() -> None:
    """By what is known of it: numbers of words, lower case, accents, framing, pieces, what is cut."""
    words = BERT_VOCABULARY.read().decode().removesuffix("\n").split("\n")
    tokenizer = Tokenizer.from_str(json.dumps(bert_tokenizer(words, TOKENS)))
    assert len(words) == tokenizer.get_vocab_size() == 30522
    assert tokenizer.encode("Hello, world!").ids == [101, 7592, 1010, 2088, 999, 102]
    assert tokenizer.encode("Café").tokens == ["[CLS]", "cafe", "[SEP]"]
    assert tokenizer.encode("embeddings").tokens == ["[CLS]", "em", "##bed", "##ding", "##s", "[SEP]"]
    assert tokenizer.encode("\U0001f984").tokens == ["[CLS]", "[UNK]", "[SEP]"]
    assert len(tokenizer.encode("word " * 100).ids) == TOKENS
    assert tokenizer.encode("one", "two").type_ids == [0, 0, 0, 1, 1]


def test_notices_name_each_trunk_and_hold_the_license() -> None:
    text = notices_of({"image.onnx": image_encoder("efficientnet-lite0-conse"), "text.onnx": text_encoder()})
    for part in ("image.onnx: EfficientNet-Lite0", "text.onnx: all-MiniLM-L6-v2", "BERT", "MIT License"):
        assert part in text
    assert "Grant of Copyright License" in text  # the license itself has to go along

    class Own:
        name = "mine"

    assert "image.onnx: mine, whose license paramcast does not know" in notices_of({"image.onnx": Own()})
