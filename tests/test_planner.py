"""Plans and who follows them: the numbers of a flow, what a place hears of a plan, and that the shipped two do it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trajlib import FAMILIES, physics, pretrained
from trajlib.classifiers import seen_dot
from trajlib.config import profile
from trajlib.dataset import SEEDS, TrajectoryDataset, to_float
from trajlib.judge import joined
from trajlib.metrics import follow_dot
from trajlib.planner import Planner, Writer, departure, draw_plans, inside, planner_loss, turned, write, writer_loss
from trajlib.sampling import decode_steps, generate
from trajlib.training import fit

LEVELS = (5, 5, 3)
K = 75


@pytest.fixture(scope="module")
def clips():
    return TrajectoryDataset(32, seed=SEEDS["validation"]).batch()


@pytest.fixture(scope="module")
def plans(clips):
    return seen_dot(to_float(clips.videos))


@pytest.fixture(scope="module")
def writer():
    torch.manual_seed(0)
    return Writer(LEVELS, dim=32, depth=1, heads=2).eval()


def flat(x, y, radius=2.0, n=1):
    """Plans of a dot that stays at (x, y)."""
    return torch.tensor([x, y, radius]).expand(n, 16, 3).clone()


# ---- the planner ----


def test_a_flows_numbers_are_the_plans(plans):
    planner = Planner(dim=32, depth=1)
    planner.start_from(plans)
    state = planner.state(plans)
    torch.testing.assert_close(planner.plans(state), plans, atol=1e-3, rtol=0)
    moving = planner.spread.flatten() > 0.02  # what hardly moves is not blown up
    torch.testing.assert_close(state.std(0)[moving], torch.ones(int(moving.sum())), atol=1e-4, rtol=0)


def test_a_dot_that_stays_is_its_slowest_wave_alone():
    planner = Planner(dim=32, depth=1)
    state = planner.state(flat(43.5, 19.5)).unflatten(1, (16, 3))[0]
    torch.testing.assert_close(state[0, :2], torch.tensor([4.0, -4.0]))  # a unit from the middle, times the root of 16
    assert state[1:].abs().max() < 1e-5


def test_turned_plans_are_sixteen_of_the_same_family_inside_the_picture(clips):
    track = torch.cat([clips.paths, clips.radii[..., None]], -1)
    torch.manual_seed(0)
    versions = [turned(track) for _ in range(200)]
    assert len({v[0].numpy().round(3).tobytes() for v in versions}) == 16
    for v in versions[:8]:
        path, radius = v[..., :2].numpy(), v[..., 2].numpy()
        assert (physics.best_family(path, radius) == physics.best_family(clips.paths, clips.radii)).all()
        assert (path - radius[..., None]).min() > -0.5
        assert (path + radius[..., None]).max() < 63.5


def test_a_flow_learns_what_each_class_is():
    """A dot that stays in the middle, larger in each class (all its turned versions are the same plan)."""
    sizes = 2 + 0.4 * torch.arange(4)
    examples = torch.cat([flat(31.5, 31.5, size) for size in sizes.tolist()]).repeat(16, 1, 1)
    labels = torch.arange(4).repeat(16)
    torch.manual_seed(0)
    planner = Planner(dim=64, depth=2)
    planner.start_from(examples)
    planner, history = fit(planner, lambda m, b: planner_loss(m, *b), lambda step: [examples, labels],
                           steps=400, lr=3e-3, weight_decay=0.0, ema=0.98, bf16=False, lines=1)  # fmt: skip
    assert np.mean(history["loss"][-20:]) < 0.3 * np.mean(history["loss"][:20])
    drawn = draw_plans(planner, labels, guidance=1, seed=1)
    assert (drawn[..., :2] - 31.5).abs().mean() < 0.2  # px
    torch.testing.assert_close(drawn[..., 2].mean(1).view(16, 4).median(0).values, sizes, atol=0.1, rtol=0)


def test_the_same_seed_draws_the_same_plans():
    torch.manual_seed(0)
    planner = Planner(dim=32, depth=1).eval()
    a, b, other = (draw_plans(planner, [0, 1, 2, 3], seed=s) for s in (5, 5, 6))
    assert a.shape == (4, 16, 3)
    assert torch.equal(a, b)
    assert not torch.equal(a, other)


def test_plans_are_drawn_in_full_precision_wherever_they_are_asked_for():
    """A caller who has films decoded in bfloat16 does not want places in quarters of a pixel."""
    torch.manual_seed(0)
    planner = Planner(dim=32, depth=1).eval()
    plainly = draw_plans(planner, [0, 1, 2, 3], seed=5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(draw_plans(planner, [0, 1, 2, 3], seed=5), plainly)


def test_guidance_0_is_no_class_and_1_the_class_alone():
    torch.manual_seed(0)
    planner = Planner(dim=32, depth=1).eval()
    torch.nn.init.normal_(planner.labels.weight, std=3.0)
    one, two = (draw_plans(planner, [k], guidance=0, seed=1) for k in (0, 1))
    torch.testing.assert_close(one, two)
    told = draw_plans(planner, [0], guidance=1, seed=1)
    assert not torch.allclose(told, one)
    with torch.no_grad():
        planner.labels.weight[planner.unconditional] = planner.labels.weight[0]  # nothing to choose between
    torch.testing.assert_close(draw_plans(planner, [0], guidance=3, seed=1), told, atol=1e-3, rtol=1e-4)


def test_inside_is_the_whole_dot():
    edge = torch.tensor([[1.6, 30.0, 2.0], [1.4, 30.0, 2.0], [30.0, 61.4, 2.0], [30.0, 61.6, 2.0]])
    plans = flat(30.0, 30.0, n=4)
    plans[:, 7] = edge  # one frame is enough
    assert inside(plans).tolist() == [True, False, True, False]


def test_only_what_leaves_the_picture_is_drawn_anew():
    torch.manual_seed(0)
    planner = Planner(dim=32, depth=1).eval()
    planner.spread.mul_(0.9)  # of noise at this strength some stays inside, some does not
    labels = torch.zeros(64, dtype=torch.long)
    once, often = (draw_plans(planner, labels, guidance=1, seed=3, tries=k) for k in (1, 20))
    stayed = inside(once)
    assert 0 < stayed.sum() < 64
    assert torch.equal(once[stayed], often[stayed])
    assert (often[~stayed] != once[~stayed]).flatten(1).any(1).all()
    assert inside(often).sum() > stayed.sum()


@pytest.mark.parametrize(
    ("labels", "steps", "says"), [([0.5], 20, "whole numbers"), ([4], 20, "classes"), ([0], 0, "steps is 0")]
)
def test_what_cannot_be_planned_is_said(labels, steps, says):
    with pytest.raises(ValueError, match=says):
        draw_plans(Planner(dim=32, depth=1), labels, steps=steps)


# ---- the writer ----


@given(st.floats(1, 62), st.floats(1, 62))
@settings(max_examples=40, deadline=None)
def test_a_place_hears_how_far_the_dot_is_from_its_middle(x, y):
    heard = Writer(LEVELS, dim=32, depth=1, heads=2).near(flat(x, y)).view(8, 4, 4, 2, -1)[..., :3]
    for row in range(4):
        for column in range(4):
            right, down = (x - (16 * column + 7.5)) / 16, (y - (16 * row + 7.5)) / 16
            near = float(abs(right) < 1.1 and abs(down) < 1.1)
            if min(abs(abs(right) - 1.1), abs(abs(down) - 1.1)) > 1e-4:  # not on the border of hearing
                expected = torch.tensor([near, right * near, down * near]).expand(8, 2, 3)
                torch.testing.assert_close(heard[:, row, column], expected, atol=1e-5, rtol=0)


def test_what_is_heard_moves_with_the_dot_from_cell_to_cell(writer):
    here, right, down = (writer.near(flat(*at)).view(8, 4, 4, -1) for at in ((21.3, 27.9), (37.3, 27.9), (21.3, 43.9)))
    torch.testing.assert_close(here[:, :, :3], right[:, :, 1:], atol=1e-4, rtol=0)
    torch.testing.assert_close(here[:, :3], down[:, 1:], atol=1e-4, rtol=0)


def test_a_step_hears_its_own_two_frames(writer):
    plan = flat(21.3, 27.9)
    moved = plan.clone()
    moved[:, 5] += 1  # the second frame of step 2
    changed = (writer.near(plan) != writer.near(moved)).view(8, 16, 2, -1).any(-1)
    assert changed[2, :, 1].any()
    changed[2, :, 1] = False
    assert not changed.any()


def test_a_writer_hears_its_plan_and_no_label(writer, plans):
    tokens = torch.randint(0, K, (2, 128), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = writer(tokens, plans[:2])
        assert logits.shape == (2, 128, K)
        assert not torch.allclose(logits, writer(tokens, plans[2:4]))
        held = writer.following(plans[:2])
        assert torch.equal(held(tokens, torch.tensor([0, 1])), held(tokens, torch.tensor([3, 2])))
        torch.testing.assert_close(held(tokens, torch.tensor([0, 1]), only=torch.tensor([5, 90])), logits[:, [5, 90]])


def test_following_writes_by_the_schedule_and_the_seed(writer, plans):
    held = writer.following(plans[:3])
    a, b, other = (generate(held, [0, 0, 0], seed=s, corrections=4) for s in (1, 1, 2))
    assert a.shape == (3, 8, 4, 4)
    assert a.max() < K
    assert torch.equal(a, b)
    assert not torch.equal(a, other)
    first, *_ = decode_steps(held, [0, 0, 0], seed=1)
    assert (first == writer.mask_token).any()


@pytest.mark.parametrize("plans", [torch.zeros(2, 16, 2), torch.zeros(16, 3), torch.full((1, 16, 3), torch.nan)])
def test_what_is_no_plan_is_said(writer, plans):
    with pytest.raises(ValueError, match="x, y, radius"):
        writer.following(plans)


def test_a_writers_loss_counts_hidden_tokens(writer, plans):
    """At first each word is as likely as any: log2 of the codebook, in bits."""
    tokens = torch.randint(0, K, (4, 8, 4, 4), generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    loss, figures = writer_loss(writer, tokens, plans[:4])
    assert figures["bits"].item() == pytest.approx(loss.item() / np.log(2))
    assert figures["bits"].item() == pytest.approx(np.log2(K), abs=0.3)


# ---- what is written, read again ----


def test_departure_is_a_root_mean_square_of_pixels_and_tenths_of_the_radius():
    plans, found = flat(30.0, 30.0, n=9), flat(30.0, 30.0, n=9)
    found[1, 3, :2] += torch.tensor([3.0, -4.0])
    found[2, ..., 2] *= 0.7  # a pale dot is read as a small one
    found[3, 9, 2] *= 1.2
    found[4, 9, 2] *= 0.8
    found[5, 0] = torch.nan
    plans[6, :, 2] *= torch.linspace(0.5, 2, 16)  # a dot that comes nearer, as planned
    found[6] = plans[6]
    found[7, 9] += torch.tensor([3.0, 4.0, 0.2 * found[7, 9, 2]])
    found[8, 0, 2] *= 1.2
    off = torch.tensor([0.0, 5.0, 0.0, 2.0, 2.0, torch.inf, 0.0, 29**0.5, 2.0])  # in one of 16 frames
    torch.testing.assert_close(departure(found, plans), off / 4)


def test_unmended_it_is_what_is_generated(writer, plans):
    alone = write(writer, None, plans[:2], mend=0, seed=3, corrections=2)  # nobody has to read it
    assert torch.equal(alone, generate(writer.following(plans[:2]), [0, 0], guidance=1, seed=3, corrections=2))


# ---- the shipped ones ----


@pytest.fixture(scope="module")
def shipped():
    return {name: pretrained.load(name)[0] for name in ("tokenizer", "planner", "writer")}


def test_the_shipped_writer_puts_the_dot_where_it_is_told(shipped, plans):
    tokens = generate(shipped["writer"].following(plans), [0] * len(plans), guidance=1, seed=0)
    path = joined(follow_dot(shipped["tokenizer"].decode(tokens))[0].numpy())
    told, other = (np.linalg.norm(path - p[..., :2].numpy(), axis=-1).mean(1) for p in (plans, plans.roll(1, 0)))
    assert np.median(told) < 0.6  # px
    assert np.median(other) > 5


def test_mended_films_keep_nearer_to_their_plans(shipped, plans):
    """Also by a follower that mending does not look through: the centre of the darkest part."""

    def astray(mend):
        films = shipped["tokenizer"].decode(write(shipped["writer"], shipped["tokenizer"], plans, mend, seed=0))
        core = (follow_dot(films, threshold=0.5)[0] - plans[..., :2]).norm(dim=-1)
        return departure(seen_dot(films), plans), core.nan_to_num(64).amax(1)

    (once, dark_once), (mended, dark_mended) = astray(0), astray(8)
    assert (mended <= once + 1e-3).all()
    assert mended.median() < 0.85 * once.median()
    assert dark_mended.quantile(0.9) < 0.95 * dark_once.quantile(0.9)


def test_the_shipped_planner_plans_what_is_asked(shipped):
    labels = np.arange(200) % len(FAMILIES)
    plans = draw_plans(shipped["planner"], labels, seed=11).numpy()
    assert (physics.best_family(plans[..., :2], plans[..., 2].clip(0.5), 0.23) == labels).mean() > 0.9
    assert inside(torch.from_numpy(plans)).float().mean() > 0.99
    unasked = draw_plans(shipped["planner"], labels, guidance=0, seed=11).numpy()
    assert (physics.best_family(unasked[..., :2], unasked[..., 2].clip(0.5), 0.23) == labels).mean() < 0.5


def test_both_have_fewer_weights_than_the_transformer_of_05(shipped):
    count = {name: pretrained.load(name)[1]["parameters"] for name in ("planner", "writer", "transformer")}
    assert count["planner"] + count["writer"] < count["transformer"]
    recipes = profile("full")
    assert recipes.writer_recipe["steps"] == recipes.transformer_recipe["steps"]
