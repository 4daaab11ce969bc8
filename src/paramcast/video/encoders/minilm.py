"""MiniLM-L6 with 8-bit weights as one ONNX graph, pooling and normalization included, and its tokenizer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer

from paramcast.video.encoders.base import cached_file, fingerprint, onnx_session
from paramcast.video.encoders.weights import BERT_VOCABULARY, MINILM

if TYPE_CHECKING:
    import onnx

FORMAT = 3
"""Part of the names of the cached files: raise it when a change of this module changes these files."""
NAME = "minilm-l6-int8"
TOKENS = 64
DIM = 768
BATCH = 32


def int8() -> MiniLM:
    """Make the encoder from the installed packages; its files are made on first use.

    Raises:
        MissingExtraError: A package is not installed.
    """
    graph = cached_file(f"{NAME}-v{FORMAT}.onnx", _write_graph)
    tokenizer = cached_file(f"minilm-l6-tokenizer-v{FORMAT}.json", _write_tokenizer)
    return MiniLM(NAME, graph, tokenizer)


class MiniLM:
    """Text encoder: 384 numbers of the sentence, then 384 of its words. They do not depend on other texts.

    The first half is the usual sentence embedding; the second half is the mean of the words' input
    embeddings. The words themselves are important in short questions: with both halves, a model for question
    answering gained 1.6 points over the sentence alone. Trained word embeddings gained as much (docs/log.md).

    Padding changes the last bits of a feature, so only texts with the same number of tokens are in one batch.
    A batch of one also changes them, because ONNX Runtime then computes products in another way. So a single
    text is run twice in one batch. The encoder ignores everything after the first 64 tokens of a text.
    """

    dim = DIM
    notice = f"{MINILM.notice} The words: {BERT_VOCABULARY.notice}"

    def __init__(self, name: str, graph: Path, tokenizer: Path) -> None:
        self.name = name
        self.onnx_path: Path | None = graph
        self.tokenizer_path: Path | None = tokenizer
        self.fingerprint = fingerprint(graph, tokenizer)
        self._session = onnx_session(graph)
        self._tokenizer = Tokenizer.from_file(str(tokenizer))

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Encode N >= 0 texts: (N, 768) float32, each half L2-normalized."""
        features = np.empty((len(texts), DIM), np.float32)
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        order = sorted(range(len(ids)), key=lambda place: len(ids[place]))
        for _, group in groupby(order, key=lambda place: len(ids[place])):
            places = list(group)
            for first in range(0, len(places), BATCH):
                some = places[first : first + BATCH]
                features[some] = self._run(np.array([ids[place] for place in some]))
        return features

    def _run(self, ids: np.ndarray) -> np.ndarray:
        """Encode token ids (N >= 1, tokens) int64, without padding: (N, 768) float32."""
        rows = np.repeat(ids, 2, axis=0) if len(ids) == 1 else ids
        feed = {"input_ids": rows, "attention_mask": np.ones_like(rows)}
        return np.asarray(self._session.run(["features"], feed)[0])[: len(ids)]


def _write_tokenizer(path: Path) -> None:
    """Write the model's tokenizer, with truncation at TOKENS and without padding, as devices use it."""
    words = BERT_VOCABULARY.read().decode().removesuffix("\n").split("\n")
    path.write_text(json.dumps(bert_tokenizer(words, TOKENS), ensure_ascii=False), "utf-8")


def bert_tokenizer(words: Sequence[str], tokens: int) -> dict[str, Any]:
    """Return the settings of BERT's uncased tokenizer, in the format of the package `tokenizers`.

    Args:
        words: The vocabulary, in the order of the token ids.
        tokens: Maximal number of tokens; longer texts are truncated.
    """
    vocabulary = {word: number for number, word in enumerate(words)}

    def special(token: str) -> dict[str, Any]:
        plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        return {"id": vocabulary[token], "special": True, "content": token, **plain}

    def framing(token: str) -> dict[str, Any]:
        return {"id": token, "ids": [vocabulary[token]], "tokens": [token]}

    begin, end = ({"SpecialToken": {"id": token, "type_id": 0}} for token in ("[CLS]", "[SEP]"))
    one = [begin, {"Sequence": {"id": "A", "type_id": 0}}, end]
    other = [{"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": "[SEP]", "type_id": 1}}]
    return {
        "version": "1.0",
        "truncation": {"max_length": tokens, "strategy": "LongestFirst", "stride": 0},
        "padding": None,
        "added_tokens": [special(token) for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": one,
            "pair": [*one, *other],
            "special_tokens": {token: framing(token) for token in ("[CLS]", "[SEP]")},
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocabulary,
        },
    }


def _write_graph(path: Path) -> None:
    import onnx

    model = pooled(onnx.load_model_from_string(MINILM.read()))
    path.write_bytes(model.SerializeToString(deterministic=True))


def pooled(model: onnx.ModelProto) -> onnx.ModelProto:
    """Append both halves of the features, pooled and normalized, to a BERT graph; remove its token types.

    Args:
        model: `input_ids`, `attention_mask`, `token_type_ids` -> `last_hidden_state` (batch, sequence, D);
            opset 13 to 17. It is changed in place.

    Returns:
        The model: `input_ids`, `attention_mask` (int64) -> `features` (batch, 2 D) float32: sentence, words.
    """
    import onnx
    from onnx import helper, numpy_helper

    graph = model.graph
    constants = {"pool.axis": np.array([1], np.int64), "pool.last": np.array([-1], np.int64)}
    constants["pool.tiny"] = np.array(1e-9, np.float32)
    constants |= {f"pool.{name}": np.array(token, np.int64) for name, token in _FRAMING_TOKENS.items()}
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    graph.node.insert(0, helper.make_node("Sub", ["input_ids", "input_ids"], ["token_type_ids"]))
    words = _looked_up_in_8_bits(graph)
    chain: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("Cast", ["attention_mask"], "pool.mask", {"to": onnx.TensorProto.FLOAT}),
        *_normed_mean("sentence", "last_hidden_state", "pool.mask"),
        ("Equal", ["input_ids", "pool.first"], "pool.is_first", {}),
        ("Equal", ["input_ids", "pool.end"], "pool.is_end", {}),
        ("Or", ["pool.is_first", "pool.is_end"], "pool.is_framing", {}),
        ("Not", ["pool.is_framing"], "pool.is_word", {}),
        ("Cast", ["pool.is_word"], "pool.word_weight", {"to": onnx.TensorProto.FLOAT}),
        ("Mul", ["pool.mask", "pool.word_weight"], "pool.word_mask", {}),
        *_normed_mean("lexical", words, "pool.word_mask"),
        ("Concat", ["sentence", "lexical"], "features", {"axis": 1}),
    ]
    graph.node.extend(helper.make_node(kind, inputs, [out], **more) for kind, inputs, out, more in chain)
    inputs = [value for value in graph.input if value.name != "token_type_ids"]
    width = 2 * graph.output[0].type.tensor_type.shape.dim[2].dim_value
    output = helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, ["batch", width])
    del graph.input[:], graph.output[:]
    graph.input.extend(inputs)
    graph.output.append(output)
    onnx.checker.check_model(model, full_check=True)
    return model


_FRAMING_TOKENS = {"first": 101, "end": 102}
"""BERT's [CLS] and [SEP]: not words."""


def _looked_up_in_8_bits(graph: onnx.GraphProto) -> str:
    """Convert rows of the 8-bit word table to floats after the lookup; return the name of the rows' tensor.

    If the whole table is converted before the lookup, ONNX Runtime stores the floats when it opens the graph,
    which takes 47 MB.
    """
    from onnx import helper

    lookup = next(node for node in graph.node if _looks_up_words(node))
    maker = {name: node for node in graph.node for name in node.output}
    scaled = maker.get(lookup.input[0])
    if scaled is not None and scaled.op_type == "Mul":
        cast, scale, ids = maker[scaled.input[0]], scaled.input[1], lookup.input[1]
        nodes = [
            helper.make_node("Gather", [cast.input[0], ids], ["words.codes"]),
            helper.make_node("Gather", [scale, ids], ["words.scales"]),
            helper.make_node("Cast", ["words.codes"], ["words.floats"], to=cast.attribute[0].i),
            helper.make_node("Mul", ["words.floats", "words.scales"], list(lookup.output)),
        ]
        for node in nodes:
            graph.node.insert(list(graph.node).index(lookup), node)
        for old in (lookup, scaled, cast):
            graph.node.remove(old)
    return str(lookup.output[0])


def _looks_up_words(node: onnx.NodeProto) -> bool:
    return node.op_type == "Gather" and "input_ids" in node.input


def _normed_mean(name: str, values: str, mask: str) -> list[tuple[str, list[str], str, dict[str, Any]]]:
    """Make nodes for the L2-normalized mean of `values` (batch, sequence, D), `mask` (batch, sequence)."""
    return [
        ("Unsqueeze", [mask, "pool.last"], f"{name}.weights", {}),
        ("Mul", [values, f"{name}.weights"], f"{name}.kept", {}),
        ("ReduceSum", [f"{name}.kept", "pool.axis"], f"{name}.sum", {"keepdims": 0}),
        ("ReduceSum", [mask, "pool.axis"], f"{name}.count", {"keepdims": 1}),
        ("Max", [f"{name}.count", "pool.tiny"], f"{name}.divisor", {}),
        ("Div", [f"{name}.sum", f"{name}.divisor"], f"{name}.mean", {}),
        ("ReduceL2", [f"{name}.mean"], f"{name}.norm", {"axes": [1], "keepdims": 1}),
        ("Max", [f"{name}.norm", "pool.tiny"], f"{name}.length", {}),
        ("Div", [f"{name}.mean", f"{name}.length"], name, {}),
    ]
