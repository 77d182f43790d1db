"""Plan first, then write: where the dot goes is settled before any of a clip's tokens is.

A *plan* is what `seen_dot` reads off a film: x, y and radius in pixels of the dot in each frame, (b, 16, 3). `Planner`
draws plans of a class; `Writer` is the masked transformer, told a plan in place of a class. Neither sees anything but
clips: the plans of the training clips are read off their pixels. `write` reads its own film the same way, and mends
what departs from the plan.
"""

import math

import torch
from scipy.fft import dct
from torch import nn
from torch.nn import functional as F

from trajlib import FAMILIES
from trajlib.classifiers import seen_dot
from trajlib.masks import random_masks
from trajlib.render import FRAMES, SIZE
from trajlib.sampling import check_labels, check_strengths, generate
from trajlib.search import refined
from trajlib.transformer import MaskedTransformer

PLAN_GUIDANCE, MEND = 2.0, 20  # strength, steps: chosen on seeds that are used for nothing else, 06_planning
MIDDLE, UNIT = ((SIZE - 1) / 2, (SIZE - 1) / 2, 2.2), (12.0, 12.0, 0.8)  # x, y, radius: px that become 0, and 1


class Planner(nn.Module):
    """A rectified flow over paths: which way noise has to go to become a path of the class (arXiv 2209.03003).

    It works on the cosine transform of a path in time, each number over its spread in the training clips: a smooth path
    is a few slow waves, and a fault of the fast ones counts as much as one of the slow. `unconditional` = number of
    classes for "no class".
    """

    def __init__(self, dim=192, depth=4):
        super().__init__()
        self.config = {"dim": dim, "depth": depth}
        self.unconditional = len(FAMILIES)
        waves = torch.from_numpy(dct(torch.eye(FRAMES).double().numpy(), norm="ortho", axis=0)).float()
        for name, value in {"waves": waves, "middle": torch.tensor(MIDDLE), "unit": torch.tensor(UNIT)}.items():
            self.register_buffer(name, value, persistent=False)
        self.register_buffer("spread", torch.ones(FRAMES, 3))
        self.enter, self.leave = nn.Linear(FRAMES * 3, dim), nn.Linear(dim, FRAMES * 3)
        self.time, self.labels = nn.Linear(16, dim), nn.Embedding(len(FAMILIES) + 1, dim)
        self.told = nn.ModuleList(nn.Linear(dim, dim) for _ in range(depth))
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.RMSNorm(dim), nn.Linear(dim, 2 * dim), nn.SiLU(), nn.Linear(2 * dim, dim))
            for _ in range(depth)
        )

    @torch.no_grad()
    def start_from(self, plans):
        """Learn the spread of each number from plans (n, 16, 3); a wave that is hardly there is not blown up."""
        self.spread.copy_((self.waves @ ((plans - self.middle) / self.unit)).std(0).clamp_min(0.02))

    def state(self, plans):
        """Plans (b, 16, 3) in pixels -> the flow's own numbers (b, 48), each of spread 1."""
        return (self.waves @ ((plans - self.middle) / self.unit) / self.spread).flatten(1)

    def plans(self, state):
        """The inverse of `state`: (b, 48) -> (b, 16, 3) in pixels."""
        return self.waves.T @ (state.unflatten(1, (FRAMES, 3)) * self.spread) * self.unit + self.middle

    def forward(self, state, time, labels):
        """State (b, 48) at `time` (b,), 0 noise and 1 path, labels (b,) -> its velocity (b, 48)."""
        angles = time[:, None] * 2.0 ** torch.arange(8, device=time.device)
        told = self.time(torch.cat([angles.sin(), angles.cos()], -1)) + self.labels(labels)
        x = self.enter(state) + told
        for block, tell in zip(self.blocks, self.told, strict=True):
            x = x + block(x + tell(F.silu(told)))
        return self.leave(x)


def turned(plans):
    """Plans (b, 16, 3), each flipped, transposed or reversed in time by chance: sixteen versions, all of its class."""
    back, left, up, over = (torch.rand(4, len(plans), 1, 1) < 0.5).to(plans.device)
    x, y, radius = torch.where(back, plans.flip(1), plans).split(1, -1)
    x, y = torch.where(left, SIZE - 1 - x, x), torch.where(up, SIZE - 1 - y, y)
    return torch.cat([torch.where(over, y, x), torch.where(over, x, y), radius], -1)


def planner_loss(model, plans, labels, label_dropout=0.1):
    """Mean square error of the velocity, which is path less noise all along a straight way from noise to path."""
    path = model.state(turned(plans))
    noise, time = torch.randn_like(path), torch.rand(len(path), device=path.device)
    dropped = (torch.rand(len(labels)) < label_dropout).to(labels.device)
    velocity = model(torch.lerp(noise, path, time[:, None]), time, labels.masked_fill(dropped, model.unconditional))
    return F.mse_loss(velocity, path - noise), {}


def inside(plans):
    """Which plans (b, 16, 3) keep the whole dot in the picture, (b,) bool; a pixel's centre is a whole number."""
    places, radius = plans.split([2, 1], -1)
    return ((places - radius >= -0.5) & (places + radius <= SIZE - 0.5)).flatten(1).all(1)


@torch.no_grad()
@torch.autocast("cpu", enabled=False)  # in bfloat16 there is no place between 50 px and 50.25
def draw_plans(planner, labels, guidance=PLAN_GUIDANCE, steps=20, seed=0, tries=5):
    """New plans (b, 16, 3) for `labels` (b,), indices into FAMILIES; the same seed gives the same plans.

    Noise follows the velocity in `steps` steps of the midpoint rule. `guidance` as in `sampling.guided_logits`. A plan
    that leaves the picture, as no clip's does, is drawn anew, so that each is drawn at most `tries` times.
    """
    labels = check_labels(labels)
    check_strengths(guidance, temperature=1)
    if steps < 1 or tries < 1:
        raise ValueError(f"steps is {steps} and tries is {tries}; drawing needs at least one of each.")

    def velocity(state, time, labels):
        time, free = torch.full((len(state),), time), torch.full_like(labels, planner.unconditional)
        told = planner(state, time, labels)
        return told if guidance == 1 else planner(state, time, free).lerp(told, guidance)

    rng = torch.Generator().manual_seed(seed)
    plans, left = torch.zeros(len(labels), FRAMES, 3), torch.arange(len(labels))
    for _ in range(tries):
        state, asked = torch.randn(len(left), FRAMES * 3, generator=rng), labels[left]
        for k in range(steps):
            half = state + velocity(state, k / steps, asked) / (2 * steps)
            state = state + velocity(half, (k + 0.5) / steps, asked) / steps
        plans[left] = planner.plans(state)
        left = left[~inside(plans[left])]
        if len(left) == 0:
            break
    return plans


class Writer(MaskedTransformer):
    """`MaskedTransformer` that is told a plan, and no class: all it knows of a family is the way the dot goes.

    Each place hears where the dot is *as seen from there*, in both frames of its time step, if it is near. A word for
    "half a pixel left of my middle" is then the same in every cell.
    """

    octaves = 4  # of the waves that spell an offset: down to a quarter of a cell

    def __init__(self, levels, grid=(8, 4, 4), dim=96, depth=4, heads=3, dropout=0.0):
        super().__init__(levels, grid, dim, depth, heads, dropout)
        per_frame = 1 + 2 + 4 * self.octaves + 1
        self.plan = nn.Sequential(nn.Linear(FRAMES // grid[0] * per_frame, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def near(self, plans):
        """Plans (b, 16, 3) -> what each place hears, (b, 128, features)."""
        t, h, w = self.grid
        across, down = (SIZE / n * (torch.arange(n, device=plans.device) + 0.5) - 0.5 for n in (w, h))  # cells' middles
        x, y, radius = plans.unflatten(1, (t, -1))[..., None, None].unbind(3)  # each (b, 8, 2, 1, 1)
        offset = torch.stack([*torch.broadcast_tensors((x - across) * w / SIZE, (y - down[:, None]) * h / SIZE)], -1)
        heard = (offset.abs() < 1.1).all(-1, keepdim=True)  # (b, 8, 2, 4, 4, 1); offsets are in cells
        speeds = math.pi / 2 * 2.0 ** torch.arange(self.octaves, device=plans.device)
        angles = (offset[..., None] * speeds).flatten(-2)
        size = ((radius - MIDDLE[2]) / UNIT[2])[..., None].expand_as(heard)
        said = torch.cat([torch.ones_like(size), offset, angles.sin(), angles.cos()], -1) * heard
        return torch.cat([said, size], -1).permute(0, 1, 3, 4, 2, 5).flatten(4).flatten(1, 3)

    def forward(self, tokens, plans, only=None):
        """Tokens (b, n) with mask_token where hidden, plans (b, 16, 3) -> logits (b, n, codebook_size), as in 05."""
        words, nobody = self.words(), torch.full_like(tokens[:, 0], self.unconditional)
        x = self._read(tokens, nobody, None, words, self.plan(self.near(plans)))
        return (x if only is None else x[:, only]) @ words[:-1].T + self.bias

    def following(self, plans):
        """What `sampling.generate` takes for a transformer: this one, held to plans (b, 16, 3)."""
        return Following(self, plans)


class Following(nn.Module):
    """A `Writer` with its plans, called as a `MaskedTransformer` is: labels and tasks tell it nothing."""

    def __init__(self, writer, plans):
        super().__init__()
        if plans.ndim != 3 or tuple(plans.shape[1:]) != (FRAMES, 3) or not plans.isfinite().all():
            raise ValueError(
                f"plans came as {tuple(plans.shape)}; expected (b, {FRAMES}, 3): x, y, radius in pixels, all finite."
            )
        self.writer, self.plans = writer, plans
        self.grid, self.mask_token, self.unconditional = writer.grid, writer.mask_token, writer.unconditional

    def forward(self, tokens, labels, tasks=None, only=None):
        return self.writer(tokens, self.plans, only)


def departure(found, plans):
    """How far dots (b, 16, 3), as `seen_dot` finds them, are from their plans: root mean square over frames, (b,) px.

    A tenth of the radius counts as a pixel of place. The radii of a pale dot are too small by one factor, which is
    taken out. Infinite without a dot in every frame.
    """
    place = (found - plans)[..., :2].square().sum(-1)
    size = found[..., 2] / plans[..., 2]
    size = 10 * (size / size.median(1, keepdim=True).values - 1)
    return (place + size.square()).mean(1).sqrt().nan_to_num(torch.inf)


def write(writer, tokenizer, plans, mend=MEND, seed=0, **choices):
    """Tokens (b, 8, 4, 4) along plans (b, 16, 3): written, read again, and in `mend` steps brought nearer to the plans.

    `choices` go to `sampling.generate`; how a film is mended, `search.refined` says. No class and no truth is known
    here: a film is held against its own plan.
    """
    tokens = generate(writer.following(plans), [0] * len(plans), guidance=1, seed=seed, **choices)
    if mend == 0:
        return tokens
    return refined(tokenizer, tokens, lambda films: departure(seen_dot(films), plans), mend)[0]


def writer_loss(model, tokens, plans):
    """Cross-entropy of the hidden tokens (b, 8, 4, 4), in nats, and {"bits": a hidden token, "accuracy"}."""
    tokens = tokens.flatten(1)
    hidden = random_masks(*tokens.shape).to(tokens.device)
    logits = model(tokens.masked_fill(hidden, model.mask_token), plans).float()[hidden]
    loss = F.cross_entropy(logits, tokens[hidden])
    right = (logits.argmax(-1) == tokens[hidden]).float().mean()
    return loss, {"bits": loss.detach() / math.log(2), "accuracy": right}
