"""Models of transformers that generate text."""

from __future__ import annotations

import torch

from experiments.architectures.language import GPT2, KEYS, SMALL, WORDS, hugging, ids, padded, tokens
from experiments.architectures.registry import ROWS

hugging("GPT-2 language model", "GPT2LMHeadModel", tokens, **GPT2)
hugging(
    "GPT-Neo",
    "GPTNeoForSequenceClassification",
    padded,
    vocab_size=30,
    max_position_embeddings=16,
    hidden_size=16,
    num_layers=2,
    num_heads=2,
    attention_types=[[["global", "local"], 1]],
    window_size=4,
    pad_token_id=0,
)
hugging("GPT-NeoX", "GPTNeoXForSequenceClassification", padded, **SMALL, **WORDS)
hugging(
    "GPT-J",
    "GPTJForSequenceClassification",
    padded,
    vocab_size=30,
    n_positions=16,
    n_embd=16,
    n_layer=1,
    n_head=2,
    rotary_dim=4,
    pad_token_id=0,
)
hugging(
    "OPT",
    "OPTForSequenceClassification",
    padded,
    vocab_size=30,
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    ffn_dim=24,
    max_position_embeddings=16,
    word_embed_proj_dim=16,
    pad_token_id=0,
)
hugging(
    "Bloom",
    "BloomForSequenceClassification",
    padded,
    vocab_size=30,
    hidden_size=16,
    n_layer=1,
    n_head=2,
    pad_token_id=0,
)
hugging("Llama", "LlamaModel", tokens, **SMALL, **WORDS)
hugging("Llama classifier, padded", "LlamaForSequenceClassification", padded, **SMALL, **WORDS, **KEYS)
hugging("Llama language model", "LlamaForCausalLM", tokens, "model.layers", **SMALL, **WORDS)
hugging("Mistral", "MistralForSequenceClassification", padded, **SMALL, **WORDS, **KEYS, sliding_window=4)
hugging(
    "Mixtral of experts",
    "MixtralForCausalLM",
    tokens,
    "model.layers.*.self_attn",
    **SMALL,
    **WORDS,
    **KEYS,
    num_local_experts=2,
)
hugging("Qwen2", "Qwen2ForSequenceClassification", padded, **SMALL, **WORDS, **KEYS)
hugging("Qwen3", "Qwen3ForSequenceClassification", padded, **SMALL, **WORDS, **KEYS, head_dim=8)
hugging("Gemma", "GemmaForSequenceClassification", padded, **SMALL, **WORDS, **KEYS, head_dim=8)
hugging("Gemma 2", "Gemma2ForSequenceClassification", padded, **SMALL, **WORDS, **KEYS, head_dim=8)
hugging("Phi", "PhiForSequenceClassification", padded, **SMALL, **WORDS)
hugging("Phi-3", "Phi3ForSequenceClassification", padded, **SMALL, **WORDS)
hugging(
    "Falcon",
    "FalconForSequenceClassification",
    padded,
    vocab_size=30,
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    pad_token_id=0,
)
hugging("OLMo", "OlmoForCausalLM", tokens, **SMALL, **WORDS)
hugging("StableLM", "StableLmForSequenceClassification", padded, **SMALL, **WORDS, num_key_value_heads=2)
hugging(
    "MPT",
    "MptForSequenceClassification",
    padded,
    vocab_size=30,
    d_model=16,
    n_heads=2,
    n_layers=1,
    max_seq_len=16,
    pad_token_id=0,
)
hugging("SmolLM3", "SmolLM3ForCausalLM", tokens, **SMALL, **WORDS, **KEYS)
hugging(
    "Mamba",
    "MambaModel",
    ids,
    vocab_size=30,
    hidden_size=16,
    num_hidden_layers=1,
    state_size=4,
    conv_kernel=3,
)
hugging(
    "Mamba 2",
    "Mamba2Model",
    ids,
    vocab_size=30,
    hidden_size=16,
    num_hidden_layers=1,
    state_size=4,
    num_heads=4,
    head_dim=8,
    n_groups=1,
    chunk_size=4,
)
hugging(
    "RWKV",
    "RwkvModel",
    ids,
    vocab_size=30,
    hidden_size=16,
    num_hidden_layers=2,
    attention_hidden_size=16,
    context_length=16,
)
hugging(
    "CTRL",
    "CTRLForSequenceClassification",
    ids,
    vocab_size=30,
    n_positions=16,
    n_embd=16,
    dff=24,
    n_layer=1,
    n_head=2,
    pad_token_id=0,
)
hugging(
    "CANINE of characters",
    "CanineForSequenceClassification",
    lambda: {"input_ids": torch.randint(3, 29, (ROWS, 16))},
    "canine.encoder classifier",
    **SMALL,
    max_position_embeddings=16,
    downsampling_rate=2,
    upsampling_kernel_size=2,
    local_transformer_stride=8,
    num_hash_buckets=16,
    num_hash_functions=2,
)
