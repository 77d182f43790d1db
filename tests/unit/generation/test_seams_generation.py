"""What can be added from outside: any function of logits to the sampler, tokens of any shape, a task."""

import math

import pytest
import torch

from trajlib.data.clips import VideoSpec
from trajlib.generation import joint_sampling
from trajlib.generation.joint import JointTransformer, video_loss
from trajlib.generation.masks import random_masks
from trajlib.generation.sampling import generate, guided, parallel_decode
from trajlib.generation.tasks import (
    TASK_NUMBERS,
    TASKS,
    Task,
    axes,
    condition,
    fill_background,
    observed_tokens,
    region,
)
from trajlib.generation.transformer import MaskedTransformer, commit_loss
from trajlib.tokenizer.video_tokenizer import Tokenizer

# ---- the sampler and a function of logits that is no model ----

GRID, CODES, MASK = (4, 3, 3), 5, 99


def equal_neighbours(tokens, positions):
    """Logits (b, k, CODES) that favour the codes which are there already; a masked token counts for nothing."""
    counts = torch.stack([(tokens == code).sum(1) for code in range(CODES)], -1).float()
    return counts[:, None].expand(-1, len(positions), -1)


@pytest.mark.parametrize("order", ["halton", "confidence"])
def test_the_sampler_takes_any_function_of_logits(order):
    start = torch.full((6, 36), MASK)
    start[:, 0] = torch.arange(6) % CODES  # observed
    maskable = torch.ones(6, 36, dtype=torch.bool)
    maskable[:, 0] = False
    steps = list(parallel_decode(equal_neighbours, start, maskable, GRID, steps=9, order=order, resampling_steps=8))
    assert len(steps) == 9 + 8
    for tokens in steps:
        assert torch.equal(tokens[:, 0], start[:, 0])
    masked = [(tokens == MASK).sum(1).unique().tolist() for tokens in steps]
    assert masked == [[math.floor(math.cos(math.pi * k / 18) * 35)] for k in range(1, 9)] + [[0]] * 9
    assert (steps[-1] < CODES).all()
    share = (steps[-1] == steps[-1].mode(1, keepdim=True).values).float().mean()
    assert share > 0.8, "the function favours clips of one code"


def test_another_schedule():
    start, maskable = torch.full((1, 36), MASK), torch.ones(1, 36, dtype=torch.bool)
    steps = parallel_decode(equal_neighbours, start, maskable, GRID, steps=4, schedule=lambda r: 1 - r)
    assert [(tokens == MASK).sum().item() for tokens in steps] == [27, 18, 9, 0]


def test_guidance_joins_any_two_functions():
    """Away from code 0, which the unconditional function favours, towards code 1."""

    def favour(code):
        return lambda tokens, positions: 3.0 * torch.eye(CODES)[code].expand(len(tokens), len(positions), -1)

    start, maskable = torch.full((8, 36), MASK), torch.ones(8, 36, dtype=torch.bool)
    shares = []
    for scale in (0, 0.5, 1, 3):
        *_, tokens = parallel_decode(guided(favour(1), favour(0), scale), start, maskable, GRID)
        shares.append([(tokens == code).float().mean().item() for code in (0, 1)])
    zero, one = zip(*shares, strict=True)
    assert list(zero) == sorted(zero, reverse=True)
    assert list(one) == sorted(one)
    assert one[0] < 0.1 < 0.9 < one[-1]


# ---- the transformer over tokens with several codebooks and no levels ----


@pytest.mark.slow
def test_a_transformer_over_four_axes_without_levels_or_classes_learns():
    """Each second codebook repeats the first one: half of the tokens can be predicted from the other half."""
    grid, size = (3, 2, 2, 2), 8
    torch.manual_seed(0)
    model = MaskedTransformer(size, grid, num_classes=0, dim=32, depth=2, heads=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(150):
        tokens = torch.randint(size, (32, *grid[:3], 1)).expand(-1, *grid)
        tasks = torch.full((32,), TASK_NUMBERS["CG"])
        loss, _ = commit_loss(model, tokens, None, tasks, tokens, torch.zeros(tokens.shape, dtype=torch.bool))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    drawn = generate(model, n=16, steps=12)
    assert drawn.shape == (16, *grid)
    assert (drawn[..., 0] == drawn[..., 1]).float().mean() > 0.5  # 1/8 by chance


def test_masked_positions_of_four_axes_change_nothing():
    torch.manual_seed(0)
    model = MaskedTransformer(8, (3, 2, 2, 2), num_classes=2, dim=16, depth=1, heads=2).eval()
    tokens, mask = torch.randint(8, (4, 24)), random_masks(4, 24)
    first, second = (
        model(x.masked_fill(mask, model.mask_token)) for x in (tokens, torch.where(mask, 7 - tokens, tokens))
    )
    assert torch.equal(first, second)
    assert torch.pdist(model(torch.full((1, 24), 3))[0]).min() > 1e-6  # each position has its own logits


# ---- trajectories and tokens with several codebooks ----


@pytest.fixture
def two_codebooks():
    torch.manual_seed(0)
    spec = VideoSpec(frames=8, size=32)
    model = JointTransformer(8, (4, 2, 2, 2), (2, 2, 2), 2, dim=16, depth=1, heads=2, spec=spec)
    trajectories = torch.rand(32, 8, 3, generator=torch.Generator().manual_seed(1)) * 20 + 5
    model.fit_trajectories(trajectories)
    return model.eval(), trajectories


def test_both_indices_of_a_position_know_where_the_dot_is(two_codebooks):
    model, trajectories = two_codebooks
    offsets = model.offsets(trajectories[:3])
    assert offsets.shape[:2] == (3, 4 * 2 * 2 * 2)
    by_codebook = offsets.unflatten(1, (-1, 2))
    assert torch.equal(by_codebook[:, :, 0], by_codebook[:, :, 1])
    single = JointTransformer(8, (4, 2, 2), dim=16, depth=1, heads=2, spec=model.spec)
    assert torch.equal(by_codebook[:, :, 0], single.offsets(trajectories[:3]))


def test_a_joint_transformer_of_two_codebooks_learns_and_generates(two_codebooks):
    model, trajectories = two_codebooks
    tokens = torch.randint(8, (4, *model.grid))
    tasks = torch.full((4,), TASK_NUMBERS["CG"])
    loss, _ = video_loss(model.train(), tokens, trajectories[:4], tasks)
    loss.backward()
    assert model.token_embedding.index_embedding.weight.grad.any()
    drawn = joint_sampling.generate(model, [0, 1], steps=3, resampling_steps=2)
    assert drawn.shape == (2, *model.grid)
    assert ((drawn >= 0) & (drawn < 8)).all()


def test_a_clip_of_two_codebooks_is_completed(two_codebooks):
    model, _ = two_codebooks
    layers = ("residual", ("compress_space", 16))
    lfq = {"kind": "lfq", "bits": 3, "num_codebooks": 2}
    tokenizer = Tokenizer(lfq, dim=8, layers=layers, patch=(2, 8, 8), spec=model.spec).eval()
    assert tokenizer.token_shape == model.grid
    videos = torch.rand(2, *model.spec.shape)
    tokens = joint_sampling.complete(model, tokenizer, videos, "FP", frames=4, draws=2, steps=2, resampling_steps=0)
    assert tokens.shape == (2, *model.grid)
    assert torch.equal(tokens[:, :2], tokenizer.encode(condition(videos, "FP", frames=4))[:, :2])  # the observed


# ---- a task is one line ----


@pytest.fixture
def backward(monkeypatch):
    """Backward prediction: the last frames are observed."""
    line = Task("backward", lambda spec, frames: axes(spec)[0] >= spec.frames - frames, fill_background)
    monkeypatch.setitem(TASKS, "BP", line)
    return "BP"


def test_a_new_task_is_one_line(backward):
    spec = VideoSpec(frames=8, size=32)
    assert region(backward, spec, frames=3).any(2).any(1).tolist() == [False] * 5 + [True] * 3
    videos = torch.rand(2, *spec.shape)
    filled = condition(videos, backward, frames=3)
    assert torch.equal(filled[:, :, 5:], videos[:, :, 5:])
    assert (filled[:, :, :5] == 1).all()
    grid = (4, 2, 2)
    observed = observed_tokens(backward, grid, frames=3, spec=spec)
    assert observed.any(2).any(1).tolist() == [False, False, True, True]
    torch.manual_seed(0)
    model = MaskedTransformer(8, grid, dim=16, depth=1, heads=2)
    tokens, tasks = torch.randint(8, (2, *grid)), torch.full((2,), TASK_NUMBERS[backward])
    loss, _ = commit_loss(model, tokens, torch.tensor([0, 1]), tasks, tokens, observed.expand(2, *grid))
    loss.backward()
    assert model.task_embedding.weight.grad[TASK_NUMBERS[backward]].any()
    kept = generate(model, task=backward, condition=tokens, observed=observed, refine=False)
    assert torch.equal(kept[:, observed], tokens[:, observed])


def test_a_transformer_of_before_knows_only_its_own_tasks(backward):
    model = MaskedTransformer(8, (4, 2, 2), dim=16, depth=1, heads=2, num_tasks=10)
    assert generate(model, [0, 1], steps=2).max() < 8
    with pytest.raises(ValueError, match=r"^task 'BP' was added after this transformer was built"):
        generate(model, [0], task=backward)
