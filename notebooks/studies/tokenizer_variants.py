"""The variants of the tokenizer ablation: each changes one thing of a base."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from magvit2_pytorch.attend import Attend
from torch import nn


def to(**changes):
    """These arguments, whatever the base has."""
    return lambda base: changes


def fsq(*levels, **options):
    return to(quantizer={"kind": "fsq", "levels": levels} | options)


def lfq(bits, **options):
    return to(quantizer={"kind": "lfq", "bits": bits} | options)


def plus(*layers, **changes):
    """Further layers after the base's last, where the grid is coarsest."""
    return lambda base: {"layers": (*base["layers"], *layers), **changes}


def after_first_halving(layer):
    """One more layer where the grid is finer."""

    def change(base):
        first = 1 + next(i for i, old in enumerate(base["layers"]) if old[0] == "compress_space")
        return {"layers": (*base["layers"][:first], layer, *base["layers"][first:])}

    return change


def time_layer(**changes):
    """Frames are not folded in pairs: a first layer of the library's halves time."""
    return lambda base: {"patch": (1, 4, 4), "layers": (("compress_time", base["dim"]), *base["layers"]), **changes}


def halves_time_not_space(base):
    """The last halving of the picture becomes one of time: 2 x 16 x 16 pixels a token become 4 x 8 x 8."""
    last = max(i for i, layer in enumerate(base["layers"]) if layer[0] == "compress_space")
    layers = list(base["layers"])
    layers[last] = ("compress_time", *layers[last][1:])
    return {"layers": tuple(layers)}


def without_last_norm(model):
    model.net.encoder_layers[-1] = nn.Identity()


def with_flash(model):
    """The library takes `flash_attn=True`, its default, and drops it silently where there is no CUDA."""
    for part in model.modules():
        if isinstance(part, Attend):
            part.flash = True


def in_plain_memory(model):
    model.to(memory_format=torch.contiguous_format)


def its_class(labels):
    return torch.eye(4)[labels]


def zeros(labels):
    return torch.zeros(len(labels), 4)


@dataclass(frozen=True)
class Variant:
    """What is changed, and what that is. Fields left out are as in the base."""

    part: str  # the table's section
    what: str
    tokenizer: Callable[[dict], dict] = field(default=to())  # base arguments -> those that differ
    reference: str = "base"  # the variant to compare with
    alter: Callable[[nn.Module], None] | None = None  # done to the model that was built
    loss: dict[str, Any] = field(default_factory=dict)  # arguments of reconstruction_loss
    train: dict[str, Any] = field(default_factory=dict)  # arguments of fit
    perceptual: str = ""  # whose features: "cnn" or "vgg"
    crops: bool = False  # foreground crops of the same clips in the first steps, as in the recipe
    anneal: bool = False  # LFQ's entropy weighs three times as much at first, as in MAGVIT-v2
    condition: Callable[[torch.Tensor], torch.Tensor] | None = None  # labels (b,) -> condition (b, 4)
    raises: bool = False  # the library cannot run it


COND = {"dim_cond": 4}
LIBRARY_LFQ = {"inv_temperature": 100.0, "commitment_weight": 1.0, "diversity": 2.5}
VARIANTS = {
    "base": Variant("quantizer", "FSQ of 1,000 codes"),
    "fsq_512": Variant("quantizer", "FSQ, 8 x 8 x 8", fsq(8, 8, 8)),
    "fsq_4096": Variant("quantizer", "FSQ, 8 x 8 x 8 x 8", fsq(8, 8, 8, 8)),
    "fsq_2x512": Variant("quantizer", "FSQ, two codebooks: 262,144 codes", fsq(8, 8, 8, num_codebooks=2)),
    "no_code_l2": Variant("quantizer", "FSQ's coordinates without the L2 loss", fsq(8, 5, 5, 5, code_l2_weight=0.0)),
    "background_code_weight": Variant("quantizer", "a larger L2 loss where a token's pixels are background",
        fsq(8, 5, 5, 5, background_code_weight=0.3)),
    "fsq_4375": Variant("quantizer", "FSQ, 7 x 5 x 5 x 5 x 5", fsq(7, 5, 5, 5, 5)),
    "fsq_4375_background": Variant("quantizer", "the same with the background weight: the course's tokenizer",
        fsq(7, 5, 5, 5, 5, background_code_weight=0.3), "fsq_4375"),
    "lfq_512": Variant("quantizer", "LFQ, 9 bits", lfq(9)),
    "lfq_1024": Variant("quantizer", "LFQ, 10 bits: MAGVIT's number of codes", lfq(10)),
    "lfq_4096": Variant("quantizer", "LFQ, 12 bits", lfq(12)),
    "lfq_2x512": Variant("quantizer", "LFQ, two codebooks of 9 bits: MAGVIT-v2's 262,144 codes",
        lfq(9, num_codebooks=2)),
    "vq_1024": Variant("quantizer", "vector quantization, 1,024 learnt codes: MAGVIT's",
        to(quantizer={"kind": "vq", "size": 1024}), "lfq_1024"),
    "vq_4096": Variant("quantizer", "vector quantization, 4,096 learnt codes",
        to(quantizer={"kind": "vq", "size": 4096}), "lfq_4096"),
    "lfq_library": Variant("quantizer", "LFQ as VideoTokenizer calls it", lfq(10, **LIBRARY_LFQ), "lfq_1024"),
    "lfq_annealed": Variant("quantizer", "LFQ, entropy weight three times as large at first", lfq(10), "lfq_1024",
        anneal=True),
    "lfq_light": Variant("quantizer", "LFQ, a tenth of the entropy weight", lfq(10, entropy_weight=0.01), "lfq_1024"),

    "foreground_weight_1": Variant("loss", "plain squared error: no extra weight near the dot",
        loss={"foreground_weight": 1.0}),
    "chroma_weight_1": Variant("loss", "no extra weight for errors of hue", loss={"chroma_weight": 1.0}),
    "perceptual": Variant("loss", "features of the 3D CNN that was trained on these clips", perceptual="cnn"),
    "perceptual_vgg": Variant("loss", "features of VGG16, trained on photographs", perceptual="vgg"),

    "strides_4x8x8": Variant("grid", "MAGVIT's strides: 256 tokens of 4 x 8 x 8 pixels", halves_time_not_space),
    "time_layer": Variant("grid", "a layer that halves time, in place of folding pairs", time_layer()),
    "frames_17": Variant("grid", "17 frames, 1 + 16", time_layer(spec={"frames": 17}), "time_layer"),
    "frames_17_separate": Variant("grid", "17 frames, the first through convolutions of its own",
        time_layer(spec={"frames": 17}, separate_first_frame_encoding=True), "frames_17"),

    "residual_more": Variant("layers", "one more residual layer: the gain of any layer", plus("residual")),
    "attend_space": Variant("layers", "attention within a frame", plus("attend_space"), "residual_more"),
    "attend_time": Variant("layers", "attention along time", plus("attend_time"), "residual_more"),
    "linear_attend_space": Variant("layers", "linear attention within a frame", plus("linear_attend_space"),
        "residual_more"),
    "gateloop_time": Variant("layers", "a gated recurrence along time", plus("gateloop_time"), "residual_more"),
    "attend_finer": Variant("layers", "attention on four times the positions", after_first_halving("attend_space")),
    "attend_finer_flash": Variant("layers", "the same by flash attention", after_first_halving("attend_space"),
        "attend_finer", with_flash),

    "cond_residual": Variant("condition", "a layer conditioned on the class", plus("cond_residual", **COND),
        "cond_residual_zeros", condition=its_class),
    "cond_residual_zeros": Variant("condition", "the same layer, conditioned on zeros", plus("cond_residual", **COND),
        condition=zeros),
    "cond_residual_first": Variant("condition", "any layer after a conditioned one",
        plus("cond_residual", "residual", **COND), condition=its_class, raises=True),
    "cond_attend_space": Variant("condition", "conditioned attention", plus("cond_attend_space", **COND),
        condition=its_class, raises=True),
    "cond_linear_attend_space": Variant("condition", "conditioned linear attention",
        plus("cond_linear_attend_space", **COND), condition=its_class, raises=True),
    "cond_attend_time": Variant("condition", "conditioned attention along time", plus("cond_attend_time", **COND),
        condition=its_class, raises=True),

    "float32": Variant("numerics", "float32 in place of bfloat16", train={"bf16": False}),
    "memory_plain": Variant("numerics", "convolutions not channels-last", alter=in_plain_memory),
    "gates_shut": Variant("numerics", "residual branches start shut, as in the library", to(gate_bias=-10.0)),
    "no_last_norm": Variant("numerics", "without the last LayerNorm, as in the library", alter=without_last_norm),
    "adamw": Variant("numerics", "AdamW for all weights: no Muon", train={"muon": None}),
    "foreground_crops": Variant("numerics", "first steps on crops of the same clips: half their cost", crops=True),
    "no_ema": Variant("numerics", "the last weights, not their moving average", train={"ema": 0.0}),
}  # fmt: skip
