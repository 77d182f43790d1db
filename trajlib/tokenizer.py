"""Clips <-> tokens: `magvit2_pytorch.VideoTokenizer`, with its pixels folded into channels.

16 x 64 x 64 RGB -> patches of 2 x 4 x 4 pixels -> 8 x 16 x 16 of 96 channels -> the library's causal encoder
-> 8 x 4 x 4 latents -> finite scalar quantization (FSQ, Mentzer et al., arXiv 2309.15505) -> 128 tokens.
"""

import math

import torch
from einops import rearrange
from magvit2_pytorch.magvit2_pytorch import SqueezeExcite, VideoTokenizer
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from vector_quantize_pytorch import FSQ

from trajlib.metrics import INK, follow_dot
from trajlib.render import FRAMES, SIZE

FOLD = "b c (t p) (h q) (w r) -> b (c p q r) t h w"
UNFOLD = "b (c p q r) t h w -> b c (t p) (h q) (w r)"
WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)  # dtypes of an index; bool is none
LAYERS = (
    ("consecutive_residual", 1),  # at 8 x 16 x 16
    ("compress_space", 96),
    ("consecutive_residual", 1),  # at 8 x 8 x 8
    ("compress_space", 192),
    ("consecutive_residual", 2),  # at 8 x 4 x 4
)
# MAGVIT-v2's weights (arXiv 2310.05737); the library's are a commitment of 1 and a diversity of 2.5
LFQ_LOSS = {"lfq_entropy_loss_weight": 0.1, "lfq_commitment_loss_weight": 0.25, "lfq_diversity_gamma": 1.0}


class FastELU(nn.Module):
    """torch's ELU, which takes a sixth of a training step on a CPU: exp(x) - 1 in place of the careful expm1."""

    def forward(self, x):
        return _ELU.apply(x)


class _ELU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        slope = x.clamp(max=0).exp()  # 1 above zero
        ctx.save_for_backward(slope)
        return x.relu() + (slope - 1)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        return gradient * ctx.saved_tensors[0]


def with_fast_elu(module):
    """Put `FastELU` wherever the library has an ELU."""
    for name, part in module.named_children():
        setattr(module, name, FastELU()) if isinstance(part, nn.ELU) else with_fast_elu(part)


class Tokenizer(nn.Module):
    """A video tokenizer: one token for 16 x 16 pixels of 2 frames, 512 positions.

    Decoding sees token indices and nothing else.

    `levels`: FSQ's steps per latent dimension; their product is the codebook's size. `layers` are VideoTokenizer's.
    `ends`: kernel of the first and the last convolution. `pull`: weight of a loss that draws FSQ's coordinates to their
    middle, so that what has nothing to say, such as paper, says it in few words; `hush`: the same, added where a
    token's own pixels are all paper, so that they leave the dot to the tokens that it is in.

    `lfq_bits`: lookup-free quantization of so many signs in place of FSQ. `books`: so many codebooks, each of that
    size, and as many indices a token. `frames`: an odd number means 1 + the rest. `library`: VideoTokenizer's own
    arguments; with `dim_cond` and layers that take it, every method wants `cond=` (b, dim_cond) beside its input.
    """

    def __init__(
        self, levels=(8, 5, 5, 5), dim=64, layers=LAYERS, patch=(2, 4, 4), ends=(1, 3, 3), gate_bias=0.0, pull=5e-3,
        hush=0.0, lfq_bits=None, books=1, inv_temperature=1.0, frames=FRAMES, **library,
    ):  # fmt: skip
        super().__init__()
        if frames % patch[0]:
            raise ValueError(f"{frames} frames cannot be folded {patch[0]} at a time: take a patch of 1 frame.")
        levels = None if lfq_bits else levels
        self.config = {"levels": levels, "dim": dim, "layers": layers, "patch": patch, "ends": ends}
        self.config |= {"gate_bias": gate_bias, "pull": pull, "hush": hush}
        self.config |= {"lfq_bits": lfq_bits, "books": books, "inv_temperature": inv_temperature, "frames": frames}
        self.config |= library
        self.codebook_size = 2**lfq_bits if lfq_bits else math.prod(levels)
        self.frames = frames
        self.timing = {"video_contains_first_frame": frames % 2 == 1}
        # VideoTokenizer calls LFQ at an inverse temperature of 100, where its entropy has no gradient left
        self.temperature = {"inv_temperature": inv_temperature} if lfq_bits else {}
        fsq = {"use_fsq": True, "fsq_levels": list(levels or ())}
        quantizer = {"codebook_size": self.codebook_size, **LFQ_LOSS} if lfq_bits else fsq
        self.patch = dict(zip("pqr", patch, strict=True))
        self.net = VideoTokenizer(
            image_size=SIZE // patch[1],
            channels=3 * math.prod(patch),
            init_dim=dim,
            layers=tuple(layer if isinstance(layer, str) else tuple(layer) for layer in layers),
            input_conv_kernel_size=tuple(ends),
            output_conv_kernel_size=tuple(ends),
            num_codebooks=books,
            perceptual_loss_weight=0,  # else it downloads VGG16 here
            use_gan=False,
            discr_kwargs={"dim": 8, "image_size": 16, "channels": 3, "max_dim": 8},  # it builds one even without a GAN
            **quantizer | library,
        )
        del self.net.discr
        with_fast_elu(self.net)
        for part in self.net.modules():
            if isinstance(part, nn.Conv3d):
                part.to(memory_format=torch.channels_last_3d)  # the layout that CPU kernels work in
            if isinstance(part, SqueezeExcite):
                # the library starts every residual branch shut, at sigmoid(-10), and training hardly opens it
                nn.init.constant_(part.net[-2].bias, gate_bias)
        halvings = sum(layer[0] == "compress_space" for layer in layers)
        side = SIZE // patch[1] // 2**halvings
        steps = frames // patch[0] // self.net.time_downsample_factor + frames % 2
        self.grid = (steps, side, side)  # (t, h, w)
        self.token_shape = self.grid + ((books,) if books > 1 else ())

    def latents(self, videos, **cond):
        """(b, 3, 16, 64, 64) in [0, 1] -> (b, c, 8, 4, 4): what the quantizer rounds."""
        ink = 1 - videos  # blank paper is 0, so that the causal padding in front of a clip is blank paper
        folded = rearrange(ink, FOLD, **self.patch)  # (b, 96, 8, 16, 16)
        z = self.net.encode(folded, **self.timing, **cond)
        # the library builds a last LayerNorm and never calls it: its loop stops one layer short
        return self.net.encoder_layers[-1](z)

    def quantize(self, z, paper=0.0):
        """Latents -> quantized latents, tokens, the quantizer's loss: LFQ's entropy and commitment, or FSQ's pull.

        `paper`: 1 where a token's own pixels are blank, 0 elsewhere (b, 8, 4, 4).
        """
        if not isinstance(self.net.quantizers, FSQ):
            return self.net.quantizers(z, **self.temperature)
        coordinates = self.net.quantizers.project_in(z.movedim(1, -1))  # before they are squashed and rounded
        weight = self.config["pull"] + self.config["hush"] * paper
        return *self.net.quantizers(z), (weight * coordinates.square().mean(-1)).mean()

    def pixels(self, quantized, **cond):
        """Quantized latents (b, c, 8, 4, 4) -> (b, 3, 16, 64, 64), not yet clipped to [0, 1]."""
        ink = self.net.decode(quantized, **self.timing, **cond)
        return 1 - rearrange(ink, UNFOLD, **self.patch)

    def forward(self, videos, **cond):
        """Round trip with gradients (straight through the rounding): videos -> films, tokens, the quantizer's loss."""
        z = self.latents(videos, **cond)
        ink = F.adaptive_max_pool3d((1 - videos).amax(1), z.shape[2:])  # darkest of each token's own pixels
        quantized, *rest = self.quantize(z, paper=(ink <= INK).float())
        return self.pixels(quantized, **cond), *rest

    @torch.no_grad()
    def encode(self, videos, **cond):
        """(b, 3, 16, 64, 64) float in [0, 1] -> tokens (b, 8, 4, 4[, books]) int64 in 0 .. codebook_size - 1."""
        check_videos(videos, self.frames)
        if not len(videos):  # the library divides by the number of clips
            return videos.new_zeros((0, *self.token_shape), dtype=torch.long)
        return self.quantize(self.latents(videos, **cond))[1].long()

    @torch.no_grad()
    def decode(self, tokens, **cond):
        """Tokens (b, 8, 4, 4[, books]) -> (b, 3, 16, 64, 64) float in [0, 1]."""
        check_tokens(tokens, self.token_shape, self.codebook_size)
        if not len(tokens):
            return torch.zeros(0, 3, self.frames, SIZE, SIZE, device=tokens.device)
        return self.pixels(self.net.quantizers.indices_to_codes(tokens), **cond).float().clamp(0, 1)

    def reconstruct(self, videos, **cond):
        """There and back: decode(encode(videos))."""
        return self.decode(self.encode(videos, **cond), **cond)


def reconstruction_loss(tokenizer, videos, weight=10.0, hue=1.0, place=0.0, quiet=1.0):
    """Squared error, `weight` times as dear near the dot: 98 % of a clip is white, and white is easy.

    `hue` weighs what is left of the error when its mean over red, green and blue is taken away; 1 is plain. `place`
    weighs `place_error`, `quiet` the quantizer's own loss, which a tokenizer returns beside its tokens.

    Returns the loss and {"mse": the plain mean squared error}, with `place` also {"px": the place error}.
    """
    reconstruction, _, *auxiliary = tokenizer(videos)
    error = reconstruction.float() - videos
    grey = error.mean(1, keepdim=True)
    squared = grey**2 + hue * (error - grey) ** 2  # summed over the colours, with hue = 1 this is error^2
    ink = (1 - videos).amax(1, keepdim=True)  # (b, 1, t, h, w)
    near = F.max_pool3d((ink > INK).float(), (1, 5, 5), stride=1, padding=(0, 2, 2))
    loss = 10 * (squared * (1 + (weight - 1) * near)).mean() + quiet * sum(auxiliary)
    parts = {"mse": (error**2).mean().detach()}
    if not place:
        return loss, parts
    miss = place_error(reconstruction.float().clamp(0, 1), videos)
    return loss + place * miss, parts | {"px": miss.detach()}


def place_error(films, videos):
    """Mean distance from where the dot is in films (b, 3, t, h, w) to where it is in the videos, in pixels; a gradient.

    By `follow_dot`. A frame without a dot, in one or the other, counts 0: it has no place that could be moved.
    """
    there = ((1 - films).mean(1).amax((-1, -2)) > INK) & ((1 - videos).mean(1).amax((-1, -2)) > INK)  # (b, t)
    pair = [x.transpose(1, 2)[there].unsqueeze(2) for x in (films, videos)]  # (k, 3, 1, h, w) each
    squared = (follow_dot(pair[0])[0] - follow_dot(pair[1])[0]).square().sum(-1)
    return (squared + 1e-4).sqrt().sum() / there.numel()  # 1e-4: a distance has no slope at 0


def check_tokens(tokens, shape, codebook_size):
    """ValueError, in one sentence, unless these are indices (b, *shape) into a codebook, in a tensor."""
    is_tensor = isinstance(tokens, torch.Tensor)
    if not is_tensor or tokens.dtype not in WHOLE or tuple(tokens.shape[1:]) != tuple(shape):
        came = f"{tokens.dtype} {tuple(tokens.shape)}" if is_tensor else type(tokens).__name__
        expected = ", ".join(map(str, ("b", *shape)))
        raise ValueError(f"tokens came as {came}; expected int64 ({expected}) in a torch tensor.")
    if tokens.numel() and (tokens.min() < 0 or tokens.max() >= codebook_size):
        raise ValueError(
            f"tokens run from {tokens.min()} to {tokens.max()}; this codebook has 0 .. {codebook_size - 1}."
        )


def check_videos(videos, frames=FRAMES):
    """ValueError, in one sentence, unless this is a float32 tensor (b, 3, 16, 64, 64) in [0, 1].

    Under autocast, too, films come in float32: it is the layers that turn them into something else.
    """
    came = videos.dtype if isinstance(videos, torch.Tensor) else type(videos).__name__
    if came != torch.float32:
        floats = isinstance(came, torch.dtype) and came.is_floating_point  # no 0..255: to_float would divide them
        remedy = "videos.float()" if floats else "trajlib.dataset.to_float"
        raise ValueError(f"videos came as {came}; expected a float32 tensor in [0, 1]: {remedy} makes one.")
    if videos.ndim != 5 or tuple(videos.shape[1:]) != (3, frames, SIZE, SIZE):
        raise ValueError(
            f"videos came with shape {tuple(videos.shape)}; expected (b, 3, {frames}, {SIZE}, {SIZE}): "
            "batch, RGB, frames, height, width."
        )
    if not videos.isfinite().all():
        raise ValueError("videos contain NaN or infinity; expected finite values in [0, 1].")
    if videos.numel() and (videos.min() < -1e-3 or videos.max() > 1 + 1e-3):
        raise ValueError(
            f"videos run from {videos.min():.3g} to {videos.max():.3g}; expected [0, 1]: divide 0..255 pixels by 255."
        )
