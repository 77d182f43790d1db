"""The joint transformer: what each token's logits depend on, offsets, sampling, completion."""

import pytest
import torch

from trajlib.data.clips import split
from trajlib.data.video_files import to_float
from trajlib.generation import joint_sampling, sampling
from trajlib.generation.joint import NEAR, JointTransformer, nearest_positions, trajectory_loss, video_loss
from trajlib.generation.joint_sampling import (
    best_draft,
    complete,
    complete_trajectories,
    contradictions,
    decode_video,
    generate,
    medoid,
    sample_trajectories,
    trajectory_error,
)
from trajlib.generation.observed_track import observe_track
from trajlib.generation.tasks import TASK_NUMBERS, region
from trajlib.generation.trajectory_tokens import inside_picture
from trajlib.generation.transformer import MaskedTransformer, drop_labels
from trajlib.tokenizer.video_tokenizer import Tokenizer
from trajlib.zoo.config import TINY_TOKENIZER
from trajlib.zoo.joint_recipe import track_pool


@pytest.fixture(scope="module")
def trajectories():
    return track_pool(split("train"), 48)[0]


@pytest.fixture(scope="module")
def tokenizer():
    torch.manual_seed(0)
    return Tokenizer(TINY_TOKENIZER.quantizer, TINY_TOKENIZER.dim, TINY_TOKENIZER.layers, TINY_TOKENIZER.patch).eval()


@pytest.fixture(scope="module")
def model(trajectories, tokenizer):
    torch.manual_seed(0)
    made = JointTransformer(tokenizer.codebook_size, tokenizer.grid, dim=32, depth=2, heads=2)
    made.fit_trajectories(trajectories)
    with torch.no_grad():  # what starts at zero would hide what it does
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return made.eval()


@pytest.fixture(scope="module")
def clips():
    return to_float(split("validation").videos(range(4)))


@pytest.fixture(scope="module")
def track(clips):
    return observe_track(clips, region("FP", frames=4))


def frozen(function):
    with torch.no_grad():
        return function()


# ---- logits ----


@pytest.mark.parametrize("with_track", [False, True])
def test_one_position_has_the_logits_of_the_whole_pass(model, trajectories, track, with_track):
    tokens, labels = model.trajectory.encode(trajectories[:4]), torch.arange(4)
    args = (labels, torch.full_like(labels, TASK_NUMBERS["CFP"]), track if with_track else None)
    with torch.no_grad():
        whole = model.trajectory_logits(tokens, *args)
        for k in range(model.trajectory.n):
            one = model.trajectory_logits(tokens, *args, position=k)
            torch.testing.assert_close(one[:, 0], whole[:, k], atol=1e-3, rtol=1e-3)
    if with_track:
        known = model.trajectory_logits(tokens, *args, position=5, observed=model.observe(track))
        torch.testing.assert_close(known[:, 0], whole[:, 5], atol=1e-3, rtol=1e-3)


def test_logits_do_not_depend_on_their_own_or_finer_tokens(model, trajectories, track):
    tokens = model.trajectory.encode(trajectories[:4])
    with torch.no_grad():
        before = model.trajectory_logits(tokens, track=track)
        for k in (0, 3, 10, model.trajectory.n - 1):
            other = tokens.clone()
            other[:, k:] = (other[:, k:] + 100) % model.trajectory.levels
            after = model.trajectory_logits(other, track=track)
            torch.testing.assert_close(after[:, : k + 1], before[:, : k + 1], atol=1e-4, rtol=1e-4)
            assert (after[:, k + 1 :] - before[:, k + 1 :]).abs().sum() > 0 or k == model.trajectory.n - 1


def test_logits_depend_on_class_task_and_track(model, trajectories, track, clips):
    tokens, labels = model.trajectory.encode(trajectories[:4]), torch.zeros(4, dtype=torch.long)
    tasks = torch.full_like(labels, TASK_NUMBERS["CFP"])
    with torch.no_grad():
        before = model.trajectory_logits(tokens, labels, tasks, track)
        others = [
            model.trajectory_logits(tokens, labels + 1, tasks, track),
            model.trajectory_logits(tokens, labels, tasks - 1, track),
            model.trajectory_logits(tokens, labels, tasks, track.flip(0)),
            model.trajectory_logits(tokens, labels, tasks),
        ]
    assert all((other - before).abs().max() > 1e-3 for other in others)


def test_without_a_trajectory_it_is_the_plain_transformer(model):
    torch.manual_seed(1)
    plain = MaskedTransformer(model.codebook_size, model.grid, dim=32, depth=2, heads=2).eval()
    plain.load_state_dict({key: model.state_dict()[key] for key in plain.state_dict()})
    tokens = torch.randint(model.codebook_size, (2, 128))
    with torch.no_grad():
        torch.testing.assert_close(model(tokens, torch.tensor([0, 3])), plain(tokens, torch.tensor([0, 3])))


def test_video_logits_of_some_columns_and_of_a_mask_are_those_of_all(model, trajectories):
    tokens = torch.randint(model.codebook_size, (3, 128), generator=torch.Generator().manual_seed(0))
    offsets, masked = model.offsets(trajectories[:3]), torch.rand(3, 128) < 0.5
    with torch.no_grad():
        whole = model.video_logits(tokens, offsets)
        columns = torch.tensor([3, 90, 17])
        torch.testing.assert_close(model.video_logits(tokens, offsets, select=columns), whole[:, columns])
        torch.testing.assert_close(model.video_logits(tokens, offsets, select=masked), whole[masked])
        order = torch.rand(3, 128).argsort(1)  # all positions, in another order: `kept` says which
        rows = torch.arange(3)[:, None]
        shuffled = model.video_logits(tokens[rows, order], offsets[rows, order], kept=order)
    torch.testing.assert_close(shuffled, whole[rows, order], atol=1e-4, rtol=1e-4)


# ---- offsets ----


def test_the_same_offset_has_the_same_features_in_every_cell(model):
    start = torch.tensor([5.3, 9.1, 2.5]).repeat(1, 16, 1)
    found = model.offsets(start).view(8, 4, 4, -1)
    for row, column in ((0, 2), (3, 0), (2, 3)):
        moved = start + torch.tensor([16.0 * column, 16.0 * row, 0])
        there = model.offsets(moved).view(8, 4, 4, -1)
        torch.testing.assert_close(there[:, row, column], found[:, 0, 0], atol=1e-4, rtol=0)


def test_offsets_by_hand(model):
    dot = torch.tensor([26.0, 40.5, 2.2]).repeat(1, 16, 1)
    found = model.offsets(dot).view(8, 4, 4, 2, -1)
    row, column = 2, 1  # the cell from (16, 32), its middle at (23.5, 39.5)
    torch.testing.assert_close(found[0, row, column, 0, :3], torch.tensor([1, 2.5 / 16, 1 / 16]), atol=1e-5, rtol=0)
    assert found[0, row, column, 0, -1].item() == pytest.approx(2.2 / 0.8 - 2.75, abs=1e-5)
    near = found[0, ..., 0, 0]  # (4, 4)
    y, x = torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij")
    inside = ((26 - (16 * x + 7.5)).abs() < 16 * NEAR) & ((40.5 - (16 * y + 7.5)).abs() < 16 * NEAR)
    assert torch.equal(near == 1, inside)
    assert not found[0][~inside][..., :-1].any()


def test_a_sequence_holds_the_positions_near_the_dot(model, trajectories):
    offsets = model.offsets(trajectories[:8])
    near = offsets.unflatten(-1, (2, -1))[..., 0].sum(-1) > 0
    kept = nearest_positions(offsets, 80, 2, torch.Generator().manual_seed(0))
    held = torch.zeros_like(near).scatter(1, kept, True)
    assert held.sum(1).tolist() == [80] * 8
    assert not (near & ~held).any()


# ---- losses ----


def test_losses_are_finite_and_bits_are_of_a_trajectory(model, trajectories):
    labels = torch.arange(8) % 4
    loss, bits = trajectory_loss(model, trajectories[:8], labels, torch.full_like(labels, TASK_NUMBERS["CG"]))
    assert bits.item() == pytest.approx(loss.item() * 22 / 0.6931, rel=1e-3)
    tokens = torch.randint(model.codebook_size, (8, *model.grid))
    loss, bits = video_loss(model, tokens, trajectories[:8], torch.full_like(labels, TASK_NUMBERS["CG"]))
    assert bits.item() == pytest.approx(loss.item() / 0.6931, rel=1e-3)
    torch.manual_seed(0)
    dropped = drop_labels(torch.zeros(4000, dtype=torch.long), 4)
    assert 0.08 < (dropped == 4).float().mean() < 0.12


# ---- sampling ----


def test_samples_come_from_their_seed_and_differ_with_it(model):
    first, again, other = (generate(model, [0, 3], seed=seed, steps=2, resampling_steps=1) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert first.shape == (2, *model.grid)
    assert not torch.equal(first, other)
    assert first.max() < model.codebook_size
    trajectories = [sample_trajectories(model, [0, 3], seed=seed) for seed in (5, 5, 6)]
    assert torch.equal(*trajectories[:2])
    assert not torch.equal(trajectories[0], trajectories[2])
    assert sample_trajectories(model, n=3).shape == (3, 16, 3)


def test_what_leaves_the_picture_is_drawn_again(model, monkeypatch):
    labels = torch.arange(64) % 4
    shares = []
    for tries in (1, 8):
        monkeypatch.setattr(joint_sampling, "TRIES", tries)
        shares.append(inside_picture(sample_trajectories(model, labels, temperature=(1, 1)), 64).float().mean())
    assert shares[0] < shares[1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: generate(model, [4]), "4"),
        (lambda model: generate(model, [0], temperature=(1, 0)), "temperature"),
        (lambda model: generate(model, [0], guidance=float("nan")), "guidance"),
        (lambda model: generate(model, [0], steps=0), "steps"),
        (lambda model: sample_trajectories(model, [0], task="XX"), "task is 'XX'"),
        (lambda model: decode_video(model, torch.zeros(1, 15, 3)), r"\(1, 15, 3\)"),
        (lambda model: decode_video(model, torch.full((1, 16, 3), torch.nan)), "NaN"),
        (lambda model: complete_trajectories(model, torch.zeros(1, 3, 16, 32, 32), "FP"), "expected"),
        (lambda model: complete_trajectories(model, torch.ones(1, 3, 16, 64, 64), "FP", frames=16), "frames is 16"),
    ],
)
def test_input_is_refused_in_a_sentence(model, call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call(model)
    assert "\n" not in str(caught.value)


def test_observed_tokens_are_kept_and_a_plain_transformer_goes_to_its_own_sampler(model, trajectories):
    condition = torch.randint(model.codebook_size, (2, *model.grid))
    observed = torch.zeros(model.grid, dtype=torch.bool)
    observed[:3], observed[5, 1] = True, True
    found = decode_video(model, trajectories[:2], condition, observed, steps=3, resampling_steps=8)
    assert torch.equal(found[:, observed], condition[:, observed])
    assert not torch.equal(found, condition)
    torch.manual_seed(1)
    plain = MaskedTransformer(20, model.grid, dim=32, depth=1, heads=2)
    kwargs = {"seed": 3, "steps": 2, "resampling_steps": 1}
    assert torch.equal(generate(plain, [1, 2], **kwargs), sampling.generate(plain, [1, 2], **kwargs))


def test_completion_reads_no_masked_pixel(model, tokenizer, clips):
    where = region("OPC")
    noise = torch.rand(clips.shape, generator=torch.Generator().manual_seed(0))
    changed = torch.where(where, clips, noise)
    kwargs = {"draws": 2, "seed": 1, "steps": 2, "resampling_steps": 1}
    first, second = (complete(model, tokenizer, videos, "OPC", **kwargs) for videos in (clips, changed))
    assert torch.equal(first, second)
    draws = complete_trajectories(model, clips, "CFP", torch.arange(4), draws=3)
    assert draws.shape == (3, 4, 16, 3)
    assert not torch.equal(draws[0], draws[1])


def test_completion_keeps_tokens_whose_pixels_are_all_observed(model, tokenizer, clips):
    tokens = complete(model, tokenizer, clips, "FP", frames=4, draws=2, steps=2, resampling_steps=2)
    condition = sampling.encode_condition(tokenizer, clips, "FP", 4)["condition"]
    assert torch.equal(tokens[:, :2], condition[:, :2])
    assert not torch.equal(tokens[:, 2:], condition[:, 2:])


# ---- choosing among draws, by hand ----


def test_the_medoid_is_the_draw_in_the_middle_that_contradicts_nothing():
    at = torch.tensor([10.0, 0, 1, 2, 3.5])
    draws = at[:, None, None, None].expand(5, 1, 16, 3)
    assert medoid(draws, torch.zeros(5, 1, dtype=torch.long))[0, 0, 0] == 2
    most = joint_sampling.MAX_CONTRADICTIONS
    assert medoid(draws, torch.tensor([[0], [0], [most], [most + 1], [0]]))[0, 0, 0] == 1
    assert medoid(draws, torch.tensor([[0], [9], [9], [9], [9]]))[0, 0, 0] == 10


def test_contradictions_by_hand():
    videos, where = torch.ones(1, 3, 16, 64, 64), torch.zeros(16, 64, 64, dtype=torch.bool)
    where[:2] = True
    videos[:, :, 0, 20, 30] = 0  # one black pixel; the second observed frame is empty, the others are masked
    there = torch.tensor([30.0, 20, 0.9]).repeat(1, 16, 1)
    assert contradictions(there, videos, where).item() == 1  # the dot would show in the second frame
    there[:, 1] = torch.tensor([-9.0, -9, 0.9])
    assert contradictions(there, videos, where).item() == 0
    there[:, 0] = torch.tensor([40.0, 20, 0.9])
    assert contradictions(there, videos, where).item() == 2  # a dot where none is, and none where one is


def drawn(trajectories, *more):
    """Videos (b, 3, 16, 64, 64) of black discs along trajectories (b, 16, 3), white elsewhere."""
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    found = torch.ones(len(trajectories), 3, 16, 64, 64)
    for part in (trajectories, *more):
        cx, cy, radius = part[..., None, None].unbind(2)
        found = found.masked_fill(((x - cx) ** 2 + (y - cy) ** 2 < radius**2)[:, None], 0.0)
    return found


def test_trajectory_error_by_hand():
    asked = torch.tensor([20.0, 30.0, 4.0]).expand(3, 16, 3).clone()
    video = drawn(asked)
    assert trajectory_error(video, asked).abs().max() < 1e-5
    shifted = asked + torch.tensor([0.0, 2.0, 0.0])
    assert trajectory_error(video, shifted) == pytest.approx([2.0] * 3)
    once = asked.clone()
    once[:, 5, 0] += 3  # in one frame of 16: 3 / sqrt(16) px
    assert trajectory_error(drawn(once), asked) == pytest.approx([0.75] * 3)
    video[:, :, 7] = 1.0  # a frame without a dot
    assert trajectory_error(video, asked) == pytest.approx([16.0] * 3)
    second = asked.clone()
    second[:, :, 0] = 50.0
    twice = trajectory_error(drawn(asked, second), asked)  # centroids half-way, half of the darkness astray
    assert twice == pytest.approx([15.5] * 3, abs=0.01)


def test_the_best_draft_has_the_least_trajectory_error(model, tokenizer, trajectories):
    asked, quick = trajectories[:6], {"steps": 2, "resampling_steps": 1}
    seeds = [3 + k * joint_sampling.SEED_STEP for k in range(3)]
    drafts = torch.stack([decode_video(model, asked, seed=seed, **quick) for seed in seeds])
    off = torch.stack([trajectory_error(tokenizer.decode(tokens).float(), asked) for tokens in drafts])
    assert len({tuple(column) for column in off.argsort(0).T.tolist()}) > 1  # not the same draft for all
    best = best_draft(model, tokenizer, asked, 3, seed=3, **quick)
    assert torch.equal(best, drafts[off.argmin(0), torch.arange(6)])
    assert torch.equal(best_draft(model, tokenizer, asked, 1, seed=3, **quick), drafts[0])


def test_generate_takes_the_best_draft_where_a_tokenizer_is_given(model, tokenizer):
    quick = {"steps": 2, "resampling_steps": 0}
    found = generate(model, [0, 1, 2], seed=5, tokenizer=tokenizer, drafts=2, guidance=2.0, **quick)
    asked = sample_trajectories(model, [0, 1, 2], guidance=2.0, seed=5)
    assert torch.equal(found, best_draft(model, tokenizer, asked, 2, seed=5, **quick))


@pytest.mark.parametrize("counts", [(4, 4), (4, 4, 2, 2)])
def test_a_dot_has_three_axes(counts):
    with pytest.raises(ValueError, match=rf"counts of {len(counts)} axes; three were expected: x, y and radius\.$"):
        JointTransformer(64, (4, 2, 2), dim=16, depth=1, heads=2, trajectory={"counts": counts})


@pytest.mark.parametrize("task", ["CFP", "CG"])
def test_labels_are_one_for_each_clip(model, clips, task):
    videos = clips[:2]
    with pytest.raises(ValueError, match=r"^3 labels came for 2 clips; one label for each was expected\.$"):
        complete_trajectories(model, videos, task, [0, 1, 2], draws=1)


def test_without_trajectories_there_is_no_draft_to_choose_by(tokenizer):
    plain = MaskedTransformer(tokenizer.codebook_size, tokenizer.grid, dim=32, depth=1, heads=2)
    with pytest.raises(ValueError, match="without trajectories"):
        generate(plain, [0], tokenizer=tokenizer)
