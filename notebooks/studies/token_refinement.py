"""Better tokens for the same decoder, by a gradient search from the encoder's: what it gains, and its cost in bits.

An encoder that answers for any clip at once gives good codes, not the best ones; what it loses is the amortization gap
(Cremer et al., arXiv 1801.03558). A gradient search closes part of it, clip by clip, as in learned image compression
(Campos et al., arXiv 1906.01223; Yang et al., arXiv 2006.04240).

The objective is the squared error. Each row goes on from the best tokens of the row before; zero steps are the
encoder's tokens. Bits are those of the autoregressive model, which has learnt the encoder's tokens. Some 3 minutes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch.nn import functional as F

from trajlib.data.clips import split
from trajlib.data.measure import FOREGROUND_THRESHOLD, track_centroid
from trajlib.data.video_files import to_float
from trajlib.evaluate import metrics
from trajlib.generation.autoregressive import clip_bits
from trajlib.tokenizer.quantizers import FSQ
from trajlib.tokenizer.video_tokenizer import Tokenizer
from trajlib.training.optimizers import bf16_autocast
from trajlib.zoo import checkpoints

MOMENTUM = 0.5
MODELS = ("tokenizer", "autoregressive")
KEYS = ("clips",)
# dB; px, of all frames and as a mean; share of tokens that are not the encoder's; bits a clip. Each mean with its 95 %
# interval over clips; gains are over zero steps, of the same clips.
FIGURES = ("psnr", "psnr_gain", "error_mean", "error_gain", "bits", "bits_gain")
COLUMNS = {"clips": int, "steps": int, "error_median": float, "changed": float}
COLUMNS |= {f"{name}{end}": float for name in FIGURES for end in ("", "_low", "_high")}


@dataclass(frozen=True)
class Settings:
    batch: int = 25  # clips that are refined at a time
    steps: tuple = (5, 10, 20)  # after which the tokens are measured
    grid: dict = field(default_factory=lambda: {"clips": (200,)})  # test clips


FULL = Settings()
SMOKE = Settings(batch=2, steps=(1, 2), grid={"clips": (2,)})


def jobs(settings):
    return [{"clips": clips} for clips in settings.grid["clips"]]


def run(job, context):
    """One row for zero steps and one for each number of steps."""
    tokenizer, model = (checkpoints.load(name, context.artifacts)[0] for name in MODELS)
    parts = [split("test").batch(range(k, min(k + context.settings.batch, job["clips"])))
             for k in range(0, job["clips"], context.settings.batch)]  # fmt: skip
    encoded = [tokenizer.encode(to_float(part.videos)) for part in parts]
    tokens, done = encoded, 0
    first, rows = None, []
    for steps in (0, *context.settings.steps):
        tokens = [
            refine(tokenizer, part.videos, found, steps - done) for part, found in zip(parts, tokens, strict=True)
        ]
        measured = [measure(tokenizer, model, part, found) for part, found in zip(parts, tokens, strict=True)]
        values, done = {key: torch.cat([m[key] for m in measured]) for key in measured[0]}, steps
        first = first or values
        row = {"steps": steps, "examples": job["clips"], "error_median": values["error"].median().item()}
        row["changed"] = (torch.cat(tokens) != torch.cat(encoded)).float().mean().item()
        for name, value, start in (
            ("psnr", values["psnr"], first["psnr"]),
            ("error", values["error"].mean(1), first["error"].mean(1)),
            ("bits", values["bits"], first["bits"]),
        ):
            row |= with_interval("error_mean" if name == "error" else name, value)
            row |= with_interval(f"{name}_gain", value - start)
        rows.append(row)
    return rows


@torch.enable_grad()
def refine_tokens(
    tokenizer: Tokenizer, tokens: torch.Tensor, objective: Callable[[torch.Tensor], torch.Tensor], steps: int = 20,
    rate: float = 0.3,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Tokens (b, *grid) with a lower `objective(recon (b, 3, t, h, w) in [0, 1])` -> (b,), and its value, (b,).

    Only tokens whose own pixels contain foreground in the first reconstruction change. Each FSQ level index moves
    against its gradient, which passes straight through the rounding: per step, a clip's largest moves by `rate`
    levels, the others by less, with MOMENTUM. The best tokens met are kept, so nothing gets worse; where the objective
    is not finite, nothing moves. ValueError if the tokenizer has no FSQ.
    """
    fsq = tokenizer.quantizer
    if not isinstance(fsq, FSQ):
        raise ValueError(f"refinement moves FSQ's level indices, and this tokenizer has a {type(fsq).__name__}.")
    with torch.no_grad():
        dark = (1 - tokenizer.decode(tokens)).amax(1)
        free = (F.adaptive_max_pool3d(dark, tokenizer.grid) > FOREGROUND_THRESHOLD)[..., None]
    top, half = fsq._levels - 1, fsq._levels // 2
    indices = fsq.indices_to_level_indices(tokens).float()  # (b, 8, 4, 4, d), in 0 .. top
    best, least = tokens.clone(), torch.full((len(tokens),), torch.inf, device=tokens.device)
    momentum = torch.zeros_like(indices)
    for step in range(steps + 1):
        rounded = indices.round().requires_grad_()
        codes = (rounded - half) / half
        values = objective(tokenizer.pixels(fsq.project_out(codes).movedim(-1, 1)).float().clamp(0, 1))
        better = values.detach() < least
        least[better], best[better] = values.detach()[better], fsq.codes_to_indices(codes.detach())[better].long()
        if step < steps:
            (slope,) = torch.autograd.grad(values.nan_to_num(0, 0, 0).sum(), rounded)
            slope = slope.nan_to_num() * free
            momentum = MOMENTUM * momentum + slope / slope.abs().amax((1, 2, 3, 4), keepdim=True).clamp_min(1e-12)
            indices = torch.minimum((indices - rate * momentum).clamp(min=0), top)
    return best, least


def refine(tokenizer, videos, tokens, steps):
    """Tokens after `steps` more steps of the search; the same tokens if there are none."""
    if steps == 0:
        return tokens
    videos = to_float(videos)
    with bf16_autocast():
        return refine_tokens(tokenizer, tokens, lambda recon: (recon - videos).square().flatten(1).mean(1), steps)[0]


def measure(tokenizer, model, clips, tokens):
    """PSNR (b,), localization error (b, t) in px, and bits (b,) of tokens; 8 bits a channel, as videos have."""
    recon = tokenizer.decode(tokens).mul(255).round() / 255
    error = (track_centroid(recon)[0] - clips.paths).norm(dim=-1).nan_to_num(float(recon.shape[-1]))
    return {"psnr": metrics.psnr(to_float(clips.videos), recon), "error": error, "bits": clip_bits(model, tokens)}


def with_interval(name, values):
    """{column: mean, ends of its 95 % interval over clips}."""
    low, high = metrics.mean_interval(values)
    return {name: values.mean().item(), f"{name}_low": low, f"{name}_high": high}
