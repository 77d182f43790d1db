"""Small untrained models for the widgets' tests, of every kind of quantizer."""

import numpy as np
import torch

from trajlib.data.clips import VideoSpec
from trajlib.generation.transformer import MaskedTransformer
from trajlib.tokenizer.video_tokenizer import Tokenizer

LAYERS = ("residual", ("compress_space", 16), "residual", ("compress_space", 16), "residual")


class PairTokenizer:
    """A stand-in with two codebooks of eight codes: darkness of the cell's first frame, and of its second."""

    codebook_size, num_codebooks, levels = 8, 2, (4, 2)
    grid, token_shape, cell, spec = (8, 4, 4), (8, 4, 4, 2), (2, 16, 16), VideoSpec()

    def encode(self, videos):
        dark = 1 - videos.mean(1).unflatten(1, (8, 2)).unflatten(3, (4, 16)).unflatten(5, (4, 16)).mean((4, 6))
        return (dark * 60).long().clamp(0, 7).transpose(1, 2).permute(0, 2, 3, 4, 1)  # (b, 8, 4, 4, 2)

    def decode(self, tokens):
        shade = 1 - tokens.permute(0, 1, 4, 2, 3).flatten(1, 2) / 7  # (b, 16, 4, 4)
        return shade.repeat_interleave(16, 2).repeat_interleave(16, 3)[:, None].expand(-1, 3, -1, -1, -1)


def tiny_tokenizer(quantizer, **options):
    torch.manual_seed(0)
    return Tokenizer(quantizer=quantizer, dim=8, layers=LAYERS, **options).eval()


def tiny_transformer(tokenizer, **options):
    torch.manual_seed(0)
    size, grid, levels = tokenizer.codebook_size, tokenizer.token_shape, tokenizer.levels
    return MaskedTransformer(size, grid, levels, dim=16, depth=1, heads=2, **options).eval()


KINDS = {
    "fsq": lambda: tiny_tokenizer({"kind": "fsq", "levels": (4, 3)}),
    "two codebooks": PairTokenizer,
    "lfq": lambda: tiny_tokenizer({"kind": "lfq", "bits": 4}),
    "vq": lambda: tiny_tokenizer({"kind": "vq", "size": 12}),
}


def shown(canvas, name):
    """A video of colours that the browser has, as (3, t, h, w)."""
    frames, size = canvas.fixed["frames"], canvas.fixed["size"]
    return np.frombuffer(canvas.videos[name], np.uint8).reshape(frames, size, size, 3).transpose(3, 0, 1, 2)
