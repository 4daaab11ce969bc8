"""Tiny models of many architectures, with random weights: name -> build() -> (module, inputs, target
patterns).

`inputs` is what one device gives: a tensor, a tuple (positional) or a dictionary (keywords). Packages are
imported when a model is built; `is_missing` says which models need one that this installation lacks.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

Built = tuple[nn.Module, Any, list[str]]
ARCHITECTURES: dict[str, Callable[[], Built]] = {}
NEEDS: dict[str, str] = {}
ROWS = 2


def is_missing(name: str) -> str | None:
    """The package that a model needs and that is not installed."""
    package = NEEDS.get(name)
    folder = Path(sys.prefix) / "clip"
    here = package is None or importlib.util.find_spec(package) or (folder / package).is_dir()
    return None if here else package


def architecture(name: str, needs: str | None = None) -> Callable[[Callable[[], Built]], Callable[[], Built]]:
    def add(build: Callable[[], Built]) -> Callable[[], Built]:
        def seeded() -> Built:
            torch.manual_seed(0)
            module, inputs, targets = build()
            return module.eval(), inputs, targets

        ARCHITECTURES[name] = seeded
        if needs:
            NEEDS[name] = needs
        return build

    return add


def another(inputs: Any, seed: int) -> Any:
    """Inputs of the same shapes for another device: other numbers, tokens in another order."""
    draws = torch.Generator().manual_seed(seed)

    def changed(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or leaf.dtype == torch.bool:
            return leaf
        if leaf.is_floating_point():
            return torch.randn(leaf.shape, generator=draws).to(leaf.dtype)
        order = torch.randperm(leaf.numel(), generator=draws)
        return leaf.flatten()[order].reshape(leaf.shape)

    return pytree.tree_map(changed, inputs)


# ---- plain torch -----------------------------------------------------------------------------------------


@architecture("mlp of sensors")
def _mlp() -> Built:
    net = nn.Sequential(nn.Linear(9, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 4))
    return net, torch.randn(5, 9), ["*"]


@architecture("cnn of sensors, time last")
def _cnn1d() -> Built:
    net = nn.Sequential(
        nn.Conv1d(6, 8, 5, padding=2, bias=False),
        nn.BatchNorm1d(8),
        nn.GELU(),
        nn.Conv1d(8, 8, 3, groups=4),
        nn.GroupNorm(2, 8),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )
    return net, torch.randn(4, 6, 20), ["*"]


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], **options: Any) -> None:
        super().__init__()
        self.recurrent = kind(6, 8, **options)
        self.head = nn.Linear(8 * (2 if options.get("bidirectional") else 1), 3)
        self.time = 1 if options.get("batch_first") else 0

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.recurrent(x)[0].mean(self.time))


@architecture("GRU, batch first")
def _gru() -> Built:
    return Recurrent(nn.GRU, batch_first=True), torch.randn(4, 7, 6), ["*"]


@architecture("LSTM, time first, two ways")
def _lstm() -> Built:
    return Recurrent(nn.LSTM, bidirectional=True, num_layers=2), torch.randn(6, 3, 6), ["*"]


@architecture("GRU cell in a loop")
def _cell() -> Built:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.head = nn.GRUCell(6, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            state = x.new_zeros(len(x), 8)
            for step in x.unbind(1):
                state = self.cell(step, state)
            return self.head(state)

    return Loop(), torch.randn(4, 5, 6), ["*"]


@architecture("TransformerEncoder, batch first")
def _encoder() -> Built:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return nn.TransformerEncoder(layer, 2), torch.randn(3, 6, 8), ["*"]


@architecture("TransformerEncoder, time first")
def _encoder_time() -> Built:
    layer = nn.TransformerEncoderLayer(8, 2, 16)
    return nn.TransformerEncoder(layer, 1, enable_nested_tensor=False), torch.randn(6, 3, 8), ["*"]


@architecture("Transformer, encoder and decoder")
def _transformer() -> Built:
    net = nn.Transformer(8, 2, 1, 1, 16, batch_first=True)
    return net, (torch.randn(3, 6, 8), torch.randn(3, 4, 8)), ["*"]


class Attending(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, **options)

    def forward(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        return self.attention(query, key, key, average_attn_weights=False)


@architecture("MultiheadAttention, packed")
def _attention() -> Built:
    return Attending(batch_first=True), (torch.randn(3, 4, 8), torch.randn(3, 5, 8)), ["*"]


@architecture("MultiheadAttention, time first, other keys")
def _attention_unpacked() -> Built:
    inputs = (torch.randn(6, 3, 8), torch.randn(3, 3, 6))
    return Attending(kdim=6, vdim=6, add_bias_kv=True), inputs, ["*"]


@architecture("ConvTranspose, InstanceNorm, PReLU")
def _transposed() -> Built:
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1, padding_mode="reflect"),
        nn.InstanceNorm2d(6, affine=True, track_running_stats=True),
        nn.PReLU(6),
        nn.ConvTranspose2d(6, 4, 4, stride=2, padding=1),
    )
    with torch.no_grad():
        net[1].running_mean.normal_()
    return net, torch.randn(2, 3, 8, 8), ["*"]


@architecture("Conv3d of clips")
def _conv3d() -> Built:
    net = nn.Sequential(
        nn.Conv3d(3, 4, (3, 2, 2)), nn.BatchNorm3d(4), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)
    )
    clip = torch.randn(2, 3, 4, 5, 5)
    net.eval()(clip)
    return net, clip, ["*"]


@architecture("weight norm, spectral norm, orthogonal")
def _parametrized() -> Built:
    made = nn.utils.parametrizations
    net = nn.Sequential(
        made.weight_norm(nn.Linear(6, 8)),
        nn.Tanh(),
        made.spectral_norm(nn.Linear(8, 8)),
        nn.Tanh(),
        made.orthogonal(nn.Linear(8, 8)),
        nn.Linear(8, 3),
    )
    return net, torch.randn(4, 6), ["*"]


@architecture("tied embeddings of a language model")
def _tied() -> Built:
    class Language(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.mix = nn.Embedding(20, 8), nn.GRU(8, 8, batch_first=True)
            self.out = nn.Linear(8, 20, bias=False)
            self.out.weight = self.words.weight

        def forward(self, tokens: Tensor) -> Tensor:
            return self.out(self.mix(self.words(tokens))[0])

    return Language(), torch.randint(20, (3, 6)), ["*"]


@architecture("one layer used twice")
def _shared() -> Built:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 6)
            self.again = self.layer

        def forward(self, x: Tensor) -> Tensor:
            return self.again(self.layer(x).tanh())

    return Twice(), torch.randn(4, 6), ["again"]


@architecture("causal convolutions (WaveNet)")
def _causal() -> Built:
    class Causal(nn.Conv1d):
        def forward(self, x: Tensor) -> Tensor:
            padding = (self.kernel_size[0] - 1) * self.dilation[0]
            return super().forward(F.pad(x, (padding, 0)))

    net = nn.Sequential(Causal(2, 6, 2), nn.Tanh(), Causal(6, 6, 2, dilation=2), nn.Tanh(), Causal(6, 3, 2))
    return net, torch.randn(3, 2, 9), ["*"]


class LayerNorm2d(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@architecture("LayerNorm2d where the width is the number of channels")
def _layer_norm() -> Built:
    return nn.Sequential(nn.Conv2d(3, 6, 1), LayerNorm2d(6)), torch.randn(2, 3, 6, 6), ["*"]


@architecture("weights that are read and not called")
def _read() -> Built:
    class Read(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 3)
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            y = F.linear(x, self.first.weight, self.first.bias).relu()
            return self.scale * self.second.forward(y)

    return Read(), torch.randn(4, 6), ["*"]


@architecture("two modalities, one dictionary")
def _modalities() -> Built:
    class Fused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image = nn.Sequential(
                nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 8)
            )
            self.sound = nn.Sequential(nn.Conv1d(1, 4, 5, stride=2), nn.ReLU(), nn.AdaptiveAvgPool1d(2))
            self.head = nn.Bilinear(8, 8, 3)

        def forward(self, *, image: Tensor, sound: Tensor) -> dict[str, Tensor]:
            seen, heard = self.image(image), self.sound(sound).flatten(1)
            return {"logits": self.head(seen, heard), "seen": seen}

    return Fused(), {"image": torch.randn(2, 3, 8, 8), "sound": torch.randn(2, 1, 21)}, ["*"]


@architecture("bag of words, RMSNorm and a gate")
def _bag() -> Built:
    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.norm = nn.EmbeddingBag(15, 8), nn.RMSNorm(8)
            self.gated = nn.Linear(8, 6)

        def forward(self, tokens: Tensor) -> Tensor:
            return F.glu(self.gated(self.norm(self.words(tokens))))

    return Bag(), torch.randint(15, (4, 5)), ["*"]


# ---- transformers ----------------------------------------------------------------------------------------

_SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
_IMAGE = {**_SMALL, "image_size": 16, "patch_size": 8}
_WORDS = {"vocab_size": 30, "max_position_embeddings": 16}


def _hugging(name: str, model: str, inputs: Callable[[], Any], targets: list[str], **options: Any) -> None:
    @architecture(f"transformers {name}")
    def _() -> Built:
        if importlib.util.find_spec("torchvision"):
            import_torchvision()  # which transformers imports where it finds it
        import transformers

        module = getattr(transformers, model)
        return module(module.config_class(**options)), inputs(), targets


def _tokens() -> dict[str, Tensor]:
    return {
        "input_ids": torch.randint(3, 29, (ROWS, 6)),
        "attention_mask": torch.ones(ROWS, 6, dtype=torch.int64),
    }


def _pixels(side: int = 16) -> Callable[[], dict[str, Tensor]]:
    return lambda: {"pixel_values": torch.randn(ROWS, 3, side, side)}


_hugging("BERT", "BertModel", _tokens, ["*"], **_SMALL, **_WORDS)
_hugging("ALBERT, shared layers", "AlbertModel", _tokens, ["encoder"], **_SMALL, **_WORDS, embedding_size=8)
_hugging("ELECTRA", "ElectraModel", _tokens, ["encoder"], **_SMALL, **_WORDS, embedding_size=8)
_hugging("GPT-2", "GPT2Model", _tokens, ["*"], vocab_size=30, n_positions=16, n_embd=16, n_layer=1, n_head=2)
_hugging("Llama", "LlamaModel", _tokens, ["*"], **_SMALL, **_WORDS)
_hugging(
    "T5 encoder",
    "T5EncoderModel",
    _tokens,
    ["encoder"],
    vocab_size=30,
    d_model=16,
    d_kv=8,
    d_ff=24,
    num_layers=1,
    num_heads=2,
)
_hugging(
    "XLNet",
    "XLNetModel",
    _tokens,
    ["layer.0.ff", "word_embedding"],
    vocab_size=30,
    d_model=16,
    n_layer=1,
    n_head=2,
    d_inner=24,
)
_hugging(
    "DistilBERT",
    "DistilBertModel",
    _tokens,
    ["*"],
    vocab_size=30,
    dim=16,
    n_layers=1,
    n_heads=2,
    hidden_dim=24,
)
_hugging("ViT", "ViTModel", _pixels(), ["*"], **_IMAGE)
_hugging("DeiT", "DeiTModel", _pixels(), ["encoder", "layernorm"], **_IMAGE)
_hugging("DINOv2", "Dinov2Model", _pixels(), ["encoder"], **_IMAGE)
_hugging("BEiT", "BeitModel", _pixels(), ["encoder", "pooler"], **_IMAGE, use_relative_position_bias=True)
_hugging(
    "Swin v2",
    "Swinv2Model",
    _pixels(),
    ["encoder"],
    image_size=16,
    patch_size=2,
    embed_dim=8,
    depths=[2],
    num_heads=[2],
    window_size=4,
)
_hugging(
    "VideoMAE",
    "VideoMAEModel",
    lambda: {"pixel_values": torch.randn(ROWS, 4, 3, 16, 16)},
    ["*"],
    **_IMAGE,
    num_frames=4,
)
_hugging(
    "CLIP, two towers",
    "CLIPModel",
    lambda: {**_tokens(), **_pixels()()},
    ["text_model", "vision_model", "*projection"],
    text_config={**_SMALL, **_WORDS, "eos_token_id": 29, "bos_token_id": 1},
    vision_config=_IMAGE,
    projection_dim=8,
)
_hugging(
    "wav2vec 2",
    "Wav2Vec2Model",
    lambda: {"input_values": torch.randn(ROWS, 320)},
    ["encoder", "feature_projection", "feature_extractor"],
    **_SMALL,
    conv_dim=(8, 8),
    conv_stride=(5, 4),
    conv_kernel=(10, 4),
    num_feat_extract_layers=2,
    num_conv_pos_embeddings=4,
    num_conv_pos_embedding_groups=2,
)
_hugging(
    "audio spectrogram transformer",
    "ASTModel",
    lambda: {"input_values": torch.randn(ROWS, 24, 16)},
    ["*"],
    **_SMALL,
    max_length=24,
    num_mel_bins=16,
    patch_size=8,
    frequency_stride=8,
    time_stride=8,
)
_hugging(
    "PatchTST of time series",
    "PatchTSTModel",
    lambda: {"past_values": torch.randn(ROWS, 16, 3)},
    ["encoder.layers"],
    num_input_channels=3,
    context_length=16,
    patch_length=4,
    patch_stride=4,
    d_model=16,
    num_attention_heads=2,
    num_hidden_layers=1,
    ffn_dim=24,
)
_hugging(
    "SegFormer",
    "SegformerModel",
    _pixels(32),
    ["encoder"],
    num_encoder_blocks=2,
    depths=[1, 1],
    sr_ratios=[2, 1],
    hidden_sizes=[8, 16],
    patch_sizes=[7, 3],
    strides=[4, 2],
    num_attention_heads=[1, 2],
    mlp_ratios=[2, 2],
)
_hugging(
    "ConvNeXt V2",
    "ConvNextV2Model",
    _pixels(32),
    ["encoder"],
    hidden_sizes=[8, 16],
    depths=[1, 1],
    num_stages=2,
)
_hugging("ResNet", "ResNetModel", _pixels(32), ["*"], embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])


# ---- timm ------------------------------------------------------------------------------------------------


def _timm(name: str, model: str, targets: list[str], side: int = 32, **options: Any) -> None:
    @architecture(f"timm {name}", needs="timm")
    def _() -> Built:
        import_torchvision()
        import timm

        module = timm.create_model(model, pretrained=False, num_classes=3, **options)
        return module, torch.randn(ROWS, 3, side, side), targets


def import_torchvision() -> None:
    """Find torchvision, timm and open_clip where the Makefile puts them, apart from all other packages."""
    if (packages := str(Path(sys.prefix) / "clip")) not in sys.path:
        sys.path.append(packages)
    from paramcast.video.encoders.optional import _import_torchvision

    _import_torchvision()


_TINY_VIT = {"img_size": 32, "embed_dim": 16, "depth": 1, "num_heads": 2}
_timm("ViT", "vit_tiny_patch16_224", ["*"], **_TINY_VIT)
_timm("ResNet", "test_resnet", ["*"])
_timm("EfficientNet", "test_efficientnet", ["*"])
_timm("MobileNetV3", "tf_mobilenetv3_small_minimal_100", ["conv_stem", "bn1", "blocks.0", "classifier"])
_timm("NFNet, standardized convolutions", "test_nfnet", ["*"], side=64)
_timm("ConvNeXt", "test_convnext", ["*"])
_timm("RepVGG", "test_byobnet", ["*"])
_timm(
    "Swin",
    "swin_tiny_patch4_window7_224",
    ["*"],
    img_size=32,
    window_size=4,
    embed_dim=8,
    depths=(2,),
    num_heads=(2,),
)
_timm(
    "EVA-02",
    "eva02_tiny_patch14_224",
    ["*"],
    img_size=28,
    side=28,
    embed_dim=16,
    depth=1,
    num_heads=2,
)


@architecture("timm MLP-Mixer", needs="timm")
def _mixer() -> Built:
    import_torchvision()
    from timm.models.mlp_mixer import MlpMixer

    return MlpMixer(3, 32, patch_size=16, num_blocks=1, embed_dim=16), torch.randn(ROWS, 3, 32, 32), ["*"]


@architecture("timm MaxViT, position biases from an MLP", needs="timm")
def _maxvit() -> Built:
    import_torchvision()
    from timm.models.maxxvit import MaxxVit, MaxxVitCfg, MaxxVitTransformerCfg

    attention = MaxxVitTransformerCfg(dim_head=4, rel_pos_type="mlp", window_size=(4, 4), grid_size=(4, 4))
    config = MaxxVitCfg((8,), (1,), ("M",), stem_width=8, transformer_cfg=attention)
    return MaxxVit(config, 16, num_classes=3), torch.randn(ROWS, 3, 16, 16), ["*"]


# ---- torchvision and open_clip ---------------------------------------------------------------------------


@architecture("torchvision Swin", needs="torchvision")
def _vision_swin() -> Built:
    import_torchvision()
    from torchvision.models.swin_transformer import SwinTransformer

    net = SwinTransformer([4, 4], 8, [2], [2], [4, 4], num_classes=3)
    return net, torch.randn(ROWS, 3, 16, 16), ["*"]


@architecture("torchvision MobileNetV3", needs="torchvision")
def _vision_mobile() -> Built:
    import_torchvision()
    from torchvision.models import mobilenet_v3_small

    net = mobilenet_v3_small(width_mult=0.25, num_classes=3)
    return net, torch.randn(ROWS, 3, 32, 32), ["features.0", "features.1", "classifier"]


@architecture("open_clip ViT with text", needs="open_clip")
def _open_clip() -> Built:
    import_torchvision()
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    vision = CLIPVisionCfg(layers=1, width=16, head_width=8, patch_size=8, image_size=16)
    text = CLIPTextCfg(context_length=6, vocab_size=30, width=16, heads=2, layers=1)
    inputs = (torch.randn(ROWS, 3, 16, 16), torch.randint(1, 30, (ROWS, 6)))
    return CLIP(8, vision, text), inputs, ["visual", "transformer"]


@architecture("open_clip ResNet with attention pooling", needs="open_clip")
def _open_clip_resnet() -> Built:
    import_torchvision()
    from open_clip.modified_resnet import ModifiedResNet

    return ModifiedResNet([1, 1, 1, 1], 8, 2, image_size=32, width=4), torch.randn(ROWS, 3, 32, 32), ["*"]
