"""COMMIT's ten tasks: which pixels are given, how the rest is filled, and that nothing else comes through.

The references are plain loops over pixels, written from MAGVIT's appendix and not from our code.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trajlib.config import TINY_LAYERS
from trajlib.masks import commit_input
from trajlib.tasks import NUMBERS, SWEEP, TASKS, check, condition, given_tokens, region
from trajlib.tokenizer import Tokenizer

TABLE_12 = {  # MAGVIT: masked pixels in %, 87.5 cut to 87 and 93.75 rounded to 94
    "FP": 94, "FI": 87, "OPC": 75, "OPV": 50, "OPH": 50, "OPD": 50, "IPC": 25, "IPD": 25, "CG": 100, "CFP": 94,
}  # fmt: skip
FIRST_FRAMES = ("FP", "CFP")
FRAMES = (1, 2, 3, 8, 15)
CASES = [(task, 1) for task in TASKS] + [(task, frames) for task in FIRST_FRAMES for frames in FRAMES[1:]]
cases = pytest.mark.parametrize(("task", "frames"), CASES)


def noise(n, seed=0):
    return torch.rand(n, 3, 16, 64, 64, generator=torch.Generator().manual_seed(seed))


def is_given(task, frames, t, y, x):
    """Whether a pixel is given, from the words of the paper's appendix."""
    left = t * 32 // 15  # of a window of 32 pixels that goes from the left edge to the right in 16 frames
    middle, moving = 16 <= x < 48, left <= x < left + 32
    return {
        "FP": t < frames, "FI": t in (0, 15), "OPC": middle and 16 <= y < 48, "OPV": middle, "OPH": 16 <= y < 48,
        "OPD": moving, "IPC": not (middle and 16 <= y < 48), "IPD": not (moving and 16 <= y < 48),
        "CG": False, "CFP": t < frames,
    }[task]  # fmt: skip


def filled_by_hand(video, task, frames):
    """The condition of one clip (3, 16, 64, 64), pixel by pixel."""
    video, found = video.numpy(), np.ones(video.shape, np.float32)
    for t in range(16):
        for y in range(64):
            for x in range(64):
                near = min(max(y, 16), 47), min(max(x, 16), 47)
                if task in FIRST_FRAMES:
                    found[:, t, y, x] = video[:, min(t, frames - 1), y, x]
                elif task == "FI":
                    found[:, t, y, x] = ((15 - t) * video[:, 0, y, x] + t * video[:, 15, y, x]) / 15
                elif task == "OPC":
                    found[:, t, y, x] = video[:, t, *near]
                elif task == "OPV":
                    found[:, t, y, x] = video[:, t, y, near[1]]
                elif task == "OPH":
                    found[:, t, y, x] = video[:, t, near[0], x]
                elif is_given(task, frames, t, y, x):
                    found[:, t, y, x] = video[:, t, y, x]
    return torch.from_numpy(found)


# ---- which pixels ----


def test_there_are_ten_and_two_are_told_the_class():
    assert list(TASKS) == list(TABLE_12)
    assert [NUMBERS[task] for task in TASKS] == list(range(10))
    assert {task for task in TASKS if TASKS[task].labelled} == {"CG", "CFP"}
    assert len({task.name for task in TASKS.values()}) == 10


@pytest.mark.parametrize("task", TASKS)
def test_the_share_of_pixels_is_that_of_the_papers_table(task):
    where = region(task)
    assert where.shape == (16, 64, 64)
    assert where.dtype == torch.bool
    assert 100 * (1 - where.float().mean().item()) == pytest.approx(TABLE_12[task], abs=0.5)


@cases
def test_the_region_is_the_papers_pixel_by_pixel(task, frames):
    by_hand = [is_given(task, frames, t, y, x) for t in range(16) for y in range(64) for x in range(64)]
    assert torch.equal(region(task, frames), torch.tensor(by_hand).view(16, 64, 64))


def test_what_moves_goes_from_edge_to_edge_and_never_back():
    left = SWEEP[:, 0, 0].tolist()
    assert (left[0], left[-1]) == (0, 32)
    assert left == sorted(left)
    assert region("OPD").sum((1, 2)).unique().tolist() == [32 * 64]  # whole in every frame
    assert (~region("IPD")).sum((1, 2)).unique().tolist() == [32 * 32]


@cases
def test_a_token_is_given_if_any_of_its_own_pixels_is(task, frames):
    where = region(task, frames).numpy()
    by_hand = [
        [
            [where[2 * t : 2 * t + 2, 16 * y : 16 * y + 16, 16 * x : 16 * x + 16].any() for x in range(4)]
            for y in range(4)
        ]
        for t in range(8)
    ]
    assert torch.equal(given_tokens(task, frames), torch.tensor(by_hand))


def test_given_tokens_of_a_finer_grid():
    """MAGVIT's own: 4 latent frames of 16 x 16, of which one given frame touches one."""
    assert given_tokens("FP", grid=(4, 16, 16)).float().mean() == 1 / 4
    assert given_tokens("FI", grid=(4, 16, 16)).float().mean() == 1 / 2
    assert given_tokens("IPC", grid=(4, 16, 16)).float().mean() == 3 / 4


# ---- how the rest is filled ----


@cases
def test_the_rest_is_filled_by_the_tasks_rule(task, frames):
    video = noise(1)
    before = video.clone()
    found = condition(video, task, frames)[0]
    assert torch.allclose(found, filled_by_hand(video[0], task, frames), atol=1e-6)
    assert torch.equal(video, before)  # the clip itself is left alone


@cases
def test_what_is_given_stays_and_the_rest_does_not(task, frames):
    video = noise(2)
    found, where = condition(video, task, frames), region(task, frames)
    assert found.shape == video.shape
    assert torch.equal(found[..., where], video[..., where])
    assert (found[..., ~where] != video[..., ~where]).float().mean() > 0.99


@pytest.mark.parametrize("task", TASKS)
def test_a_clip_is_filled_from_itself_alone(task):
    videos = noise(3)
    apart = torch.cat([condition(video[None], task) for video in videos])
    assert torch.equal(condition(videos, task), apart)


# ---- and that nothing else comes through ----


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(list(TASKS)), st.integers(1, 15), st.integers(0, 2**31))
def test_the_condition_depends_on_the_given_pixels_alone(task, frames, seed):
    video, other = noise(1, seed), noise(1, seed + 1)
    where = region(task, frames)
    changed = torch.where(where, video, other)
    assert torch.equal(condition(changed, task, frames), condition(video, task, frames))
    if where.any():  # and on those it does
        changed = torch.where(where, other, video)
        assert not torch.equal(condition(changed, task, frames), condition(video, task, frames))


@pytest.fixture(scope="module")
def codec():
    torch.manual_seed(0)
    return Tokenizer(levels=(7, 5, 5, 5, 5), dim=16, layers=TINY_LAYERS).eval()


def shown(codec, videos, task, frames, hidden):
    """What a transformer sees of clips whose places `hidden` (8, 4, 4) are hidden."""
    start = codec.encode(condition(videos, task, frames))
    return commit_input(codec.encode(videos), start, given_tokens(task, frames), hidden, codec.codebook_size)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(CASES), st.integers(0, 2**31))
def test_with_all_hidden_no_input_token_knows_a_pixel_that_is_not_given(codec, case, seed):
    video = noise(1, seed)
    changed = torch.where(region(*case), video, noise(1, seed + 1))
    hidden = torch.ones(8, 4, 4, dtype=torch.bool)
    first, second = (shown(codec, films, *case, hidden) for films in (video, changed))
    assert torch.equal(first, second)


@pytest.mark.parametrize("task", [task for task in TASKS if task != "CG"])
def test_true_tokens_of_the_given_part_do_know(codec, task):
    """Why the test above is not idle: the same pixels change true tokens inside."""
    video = noise(4)
    changed = torch.where(region(task), video, noise(4, seed=1))
    inside = given_tokens(task)
    first, second = (codec.encode(films)[:, inside] for films in (video, changed))
    assert not torch.equal(first, second)


# ---- what is refused ----


@pytest.mark.parametrize("task", ["fp", "XX", "", None, 3])
def test_an_unknown_task_gets_one_sentence(task):
    calls = (check, region, given_tokens, lambda key: condition(noise(1), key))
    for call in calls:
        with pytest.raises(ValueError, match=r"^task is .*; the tasks are FP, FI, OPC, OPV, .*, CFP\.$"):
            call(task)


@pytest.mark.parametrize("frames", [0, 16, -1, 100])
@pytest.mark.parametrize("task", ["FP", "CG"])
def test_frames_out_of_range_get_one_sentence(task, frames):
    for call in (region, given_tokens, lambda *case: condition(noise(1), *case)):
        with pytest.raises(ValueError, match=rf"^frames is {frames}; from 1 to 15 can be given\.$"):
            call(task, frames)
