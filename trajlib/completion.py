"""COMMIT's tasks by plan: the seen part of a dot's way is kept, the rest planned, and the rest of the clip written.

The planner was never trained for it. A flow that draws whole ways can be held to a part of one while it draws: RePaint
(Lugmayr et al., arXiv 2201.09865), here for 48 numbers.
"""

import torch
from torch.nn import functional as F

from trajlib.classifiers import seen_dot
from trajlib.metrics import INK
from trajlib.render import FRAMES, SIZE
from trajlib.sampling import check_labels, generate
from trajlib.tasks import TASKS, condition, given_tokens, region

SLACK = 0.05  # pixels by which a plan may miss a dot that is seen whole
LENIENT = 4  # given pixels, beyond the least, that may contradict a plan; 0 to 32 did alike on validation clips
CUT = 5.0  # pixels by which the middle of what is left of a cut dot may be off; chosen on validation clips


def seen_part(videos, where):
    """What the given pixels of videos (b, 3, 16, 64, 64) show: plans (b, 16, 3), and how far these may be off, in px.

    `where` (16, 64, 64) bool, as `tasks.region` makes it. A dot that touches what is hidden may go on there: its place
    is known roughly, and its size is not. Of a frame without ink nothing is known: it may be off by infinity.
    """
    shown = torch.where(where, videos, 1.0)
    ink, dots = (1 - shown).amax(1) > INK, seen_dot(shown)  # (b, 16, 64, 64), (b, 16, 3)
    near_hidden = F.max_pool2d((~where).float(), 3, 1, 1) > 0
    some, cut = dots.isfinite().all(-1, keepdim=True), (ink & near_hidden).any(-1).any(-1)[..., None]  # (b, 16, 1)
    slack = torch.where(cut, torch.tensor([CUT, CUT, torch.inf]), SLACK)
    return torch.where(some, dots, 0.0), torch.where(some, slack, torch.inf)


@torch.no_grad()
@torch.autocast("cpu", enabled=False)  # bfloat16 knows no twentieth of a pixel, and nothing to invert
def finish_plans(planner, seen, slack, labels=None, steps=40, rounds=5, seed=0):
    """Whole plans (b, 16, 3) within about `slack` px of `seen`, both (b, 16, 3); `labels` (b,), or of no class.

    A slack of infinity says that nothing is known, of 0.05 px that all is.

    At each of `steps` times, `rounds` times over: go back from the end that is now expected to where noise would have
    been on its way there, ask the flow where that leads, and hold the answer to what is seen. Holding changes the waves
    of a way as they are wont to change, the slow ones most, so that the rest bends along.
    """
    if seen.ndim != 3 or seen.shape[1:] != (FRAMES, 3) or slack.shape != seen.shape or not (slack > 0).all():
        came = f"seen {tuple(seen.shape)} and slack {tuple(slack.shape)} came"
        raise ValueError(f"{came}; expected (b, {FRAMES}, 3) twice, and every slack above 0.")
    known = slack < torch.inf
    if not seen[known].isfinite().all():
        raise ValueError("seen holds NaN or infinity where something is said to be known.")
    labels = torch.full((len(seen),), planner.unconditional) if labels is None else check_labels(labels)
    n = FRAMES * 3
    middle = planner.plans(torch.zeros(1, n))[0]  # a plan is this, and a matrix times the flow's numbers
    matrix = (planner.plans(torch.eye(n)) - middle).flatten(1).T  # (frames and axes, numbers)
    rows = matrix / slack.flatten(1)[..., None]  # (b, n, n) in slacks: what is not known says nothing
    gain = torch.linalg.solve(rows @ rows.mT + torch.eye(n), rows).mT  # (b, numbers, frames and axes)
    target = (torch.where(known, seen - middle, 0.0) / slack).flatten(1)[..., None]
    rng, end = torch.Generator().manual_seed(seed), torch.zeros(len(seen), n)
    for k in range(steps):
        time = torch.full((len(seen),), k / steps)
        for _ in range(rounds):
            state = torch.lerp(torch.randn(end.shape, generator=rng), end, k / steps)
            end = state + (1 - k / steps) * planner(state, time, labels)
            end = end + (gain @ (target - rows @ end[..., None]))[..., 0]
    return planner.plans(end)


def contradiction(plans, videos, where):
    """Of plans (b, 16, 3): given pixels in which a plan and the videos disagree whether the dot is there, (b,).

    That no dot is seen is seen, too: then it must be where nothing is given. And a dot that is cut tells about where.
    """
    dark = 1 - videos.amin(1)  # (b, 16, 64, 64)
    ink = dark > 0.5 * (dark * where).amax((1, 2, 3))[:, None, None, None]
    x, y, radius = plans[..., None, None].unbind(2)  # each (b, 16, 1, 1)
    along = torch.arange(SIZE)
    dot = (along - x) ** 2 + (along[:, None] - y) ** 2 < radius**2
    return ((dot != ink) & where).sum((1, 2, 3))


def plans_for(planner, videos, where, labels=None, draws=16, seed=0):
    """Of `draws` finished plans for each clip the most central (b, 16, 3) of those that its given pixels allow.

    Allowed: contradicted in at most LENIENT pixels more than the least contradicted. Most central: that which has the
    least distance, on average, from all allowed (the medoid). Their mean need not be a way that any dot goes.
    """
    seen = seen_part(videos, where)
    found = torch.stack([finish_plans(planner, *seen, labels, seed=draws * seed + k) for k in range(draws)])
    against = torch.stack([contradiction(plans, videos, where) for plans in found])  # (draws, b)
    allowed = against <= against.amin(0) + LENIENT
    apart = (found[:, None] - found)[..., :2].norm(dim=-1).mean(-1)  # (draws, draws, b) px
    far = (apart * allowed).sum(1).masked_fill(~allowed, torch.inf)
    return found[far.argmin(0), torch.arange(len(videos))]


def complete(planner, writer, tokenizer, videos, task, labels=None, frames=1, seed=0):
    """Videos (b, 3, 16, 64, 64), of which a task gives some pixels -> plans (b, 16, 3) and tokens (b, 8, 4, 4).

    Only given pixels are looked at. Tokens of cells that are given are kept while the others are written; those of
    cells that are given in part saw padding, and are written anew at the end.
    """
    where, told = region(task, frames), labels if TASKS[task].labelled else None
    plans = plans_for(planner, videos, where, told, seed=seed)
    follow, anybody = writer.following(plans), torch.zeros(len(videos), dtype=torch.long)
    start, given = tokenizer.encode(condition(videos, task, frames)), given_tokens(task, frames, writer.grid)
    tokens = generate(follow, anybody, guidance=1, seed=seed, start=start, given=given, refine=False)
    partly = given & (F.adaptive_max_pool3d((~where)[None].float(), writer.grid)[0] > 0)
    if partly.any():
        tokens = generate(follow, anybody, guidance=1, seed=seed, start=tokens, given=~partly, refine=False)
    return plans, tokens
