"""Models of transformers that read text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from experiments.architectures.registry import ROWS, Built, model

SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}
WORDS: dict[str, Any] = {"vocab_size": 30, "max_position_embeddings": 16, "pad_token_id": 0}
LENGTH = 6


def hugging(name: str, module: str, inputs: Callable[[], Any], targets: str = "*", **options: Any) -> None:
    """Register a model of transformers by the name of its class and the options of its configuration."""

    @model("transformers", name, targets)
    def _() -> Built:
        import transformers

        kind = getattr(transformers, module)
        for key, value in options.items():
            if isinstance(value, dict) and "model_type" in value:
                given = dict(value)
                options[key] = transformers.AutoConfig.for_model(given.pop("model_type"), **given)
        return kind(kind.config_class(**options)), inputs()


def tokens() -> dict[str, Tensor]:
    """Make token ids, and a mask of ones."""
    mask = torch.ones(ROWS, LENGTH, dtype=torch.int64)
    return {"input_ids": torch.randint(3, 29, (ROWS, LENGTH)), "attention_mask": mask}


def padded() -> dict[str, Tensor]:
    """Make token ids whose last two places are padding in every example, and their mask."""
    given = tokens()
    given["attention_mask"][:, -2:] = 0
    given["input_ids"][:, -2:] = 0
    return given


def two_texts() -> dict[str, Tensor]:
    """Make tokens of a text, and tokens of the text that is decoded."""
    return {**tokens(), "decoder_input_ids": torch.randint(3, 29, (ROWS, 4))}


def ids() -> dict[str, Tensor]:
    """Make token ids alone."""
    return {"input_ids": torch.randint(3, 29, (ROWS, LENGTH))}


_T5: dict[str, Any] = {
    "vocab_size": 30,
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 24,
    "num_layers": 1,
    "num_heads": 2,
}
PAIR: dict[str, Any] = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
}
"""Options of an encoder and a decoder."""

_BART: dict[str, Any] = {"vocab_size": 30, **PAIR, "max_position_embeddings": 16}
GPT2: dict[str, Any] = {
    "vocab_size": 30,
    "n_positions": 16,
    "n_embd": 16,
    "n_layer": 1,
    "n_head": 2,
    "pad_token_id": 0,
}
KEYS: dict[str, Any] = {"num_key_value_heads": 1}

hugging("BERT classifier", "BertForSequenceClassification", padded, **SMALL, **WORDS)
hugging("BERT masked language model", "BertForMaskedLM", tokens, "bert", **SMALL, **WORDS)
hugging("BERT with SDPA off", "BertModel", padded, **SMALL, **WORDS, attn_implementation="eager")
hugging("RoBERTa classifier", "RobertaForSequenceClassification", tokens, **SMALL, **WORDS)
hugging("XLM-RoBERTa tokens", "XLMRobertaForTokenClassification", tokens, **SMALL, **WORDS)
hugging(
    "DistilBERT classifier",
    "DistilBertForSequenceClassification",
    padded,
    vocab_size=30,
    dim=16,
    n_layers=1,
    n_heads=2,
    hidden_dim=24,
    max_position_embeddings=16,
)
hugging("ALBERT classifier", "AlbertForSequenceClassification", tokens, **SMALL, **WORDS, embedding_size=8)
hugging("ELECTRA classifier", "ElectraForSequenceClassification", padded, **SMALL, **WORDS, embedding_size=8)
hugging(
    "DeBERTa",
    "DebertaForSequenceClassification",
    tokens,
    "deberta.encoder.layer classifier",
    **SMALL,
    **WORDS,
    relative_attention=True,
    pos_att_type=["p2c", "c2p"],
    max_relative_positions=8,
)
hugging(
    "DeBERTa v2",
    "DebertaV2ForSequenceClassification",
    padded,
    "deberta.encoder.layer classifier",
    **SMALL,
    **WORDS,
    relative_attention=True,
    pos_att_type=["p2c", "c2p"],
    position_buckets=4,
)
hugging("MPNet", "MPNetForSequenceClassification", tokens, **SMALL, **WORDS)
hugging(
    "MobileBERT",
    "MobileBertForSequenceClassification",
    tokens,
    **SMALL,
    **WORDS,
    embedding_size=8,
    intra_bottleneck_size=8,
    true_hidden_size=8,
)
hugging(
    "SqueezeBERT",
    "SqueezeBertForSequenceClassification",
    tokens,
    **SMALL,
    **WORDS,
    embedding_size=16,
    q_groups=2,
    k_groups=2,
    v_groups=2,
    post_attention_groups=1,
    intermediate_groups=2,
    output_groups=2,
)
hugging(
    "ConvBERT",
    "ConvBertForSequenceClassification",
    tokens,
    **SMALL,
    **WORDS,
    embedding_size=8,
    head_ratio=1,
    conv_kernel_size=3,
)
hugging(
    "FNet",
    "FNetForSequenceClassification",
    ids,
    **{k: v for k, v in SMALL.items() if "heads" not in k},
    **WORDS,
)
hugging(
    "Funnel",
    "FunnelBaseModel",
    tokens,
    vocab_size=30,
    d_model=16,
    n_head=2,
    d_head=8,
    d_inner=24,
    block_sizes=[1, 1],
    num_decoder_layers=1,
)
hugging(
    "Longformer",
    "LongformerForSequenceClassification",
    tokens,
    "longformer.encoder !*.layer.1.attention.self.*",  # the output does not depend on its local attention
    **{**SMALL, "num_hidden_layers": 2},
    **WORDS,
    attention_window=[4, 4],
)
hugging(
    "BigBird",
    "BigBirdForSequenceClassification",
    tokens,
    "* !bert.pooler",
    **SMALL,
    **WORDS,
    attention_type="original_full",
)
hugging("RoFormer", "RoFormerForSequenceClassification", padded, "* !*.embed_positions", **SMALL, **WORDS)
hugging(
    "Nystromformer",
    "NystromformerForSequenceClassification",
    tokens,
    **SMALL,
    **WORDS,
    num_landmarks=8,
    segment_means_seq_len=8,
)
hugging(
    "ModernBERT",
    "ModernBertForSequenceClassification",
    padded,
    **SMALL,
    **WORDS,
    eos_token_id=2,
    bos_token_id=1,
    cls_token_id=1,
    sep_token_id=2,
    global_attn_every_n_layers=1,
)
hugging(
    "XLNet classifier",
    "XLNetForSequenceClassification",
    padded,
    "transformer.layer.*.ff logits_proj",
    vocab_size=30,
    d_model=16,
    n_layer=1,
    n_head=2,
    d_inner=24,
)
hugging(
    "LayoutLM with boxes",
    "LayoutLMForSequenceClassification",
    lambda: {**tokens(), "bbox": torch.randint(0, 16, (ROWS, LENGTH, 4)).sort(-1).values[..., [0, 1, 2, 3]]},
    **SMALL,
    **WORDS,
    max_2d_position_embeddings=16,
)
hugging("T5 encoder", "T5EncoderModel", padded, **_T5)
hugging("T5, encoder and decoder", "T5ForConditionalGeneration", two_texts, **_T5, decoder_start_token_id=0)
hugging("BART", "BartForConditionalGeneration", two_texts, **_BART)
hugging(
    "BART classifier",
    "BartForSequenceClassification",
    lambda: {"input_ids": torch.cat([torch.randint(3, 29, (ROWS, 5)), torch.full((ROWS, 1), 2)], 1)},
    **_BART,
)
hugging("Pegasus", "PegasusForConditionalGeneration", two_texts, "* !*.embed_positions", **_BART)
hugging(
    "Marian",
    "MarianMTModel",
    two_texts,
    "* !*.embed_positions",
    **_BART,
    pad_token_id=0,
    decoder_start_token_id=0,
)
hugging("M2M-100", "M2M100ForConditionalGeneration", two_texts, **_BART)
hugging(
    "LED",
    "LEDForConditionalGeneration",
    two_texts,
    "led.decoder",
    **{k: v for k, v in _BART.items() if k != "max_position_embeddings"},
    attention_window=[4],
    max_encoder_position_embeddings=16,
    max_decoder_position_embeddings=16,
)
