"""COMMIT's ten tasks: which pixels are observed, how the rest is filled, and that nothing else leaks.

The references are plain loops over pixels, written from MAGVIT's appendix and not from our code.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trajlib.data.clips import VideoSpec
from trajlib.generation.masks import commit_input
from trajlib.generation.tasks import TASK_NUMBERS, TASKS, check_task, condition, masked_frames, observed_tokens, region
from trajlib.tokenizer.video_tokenizer import Tokenizer

GRID = (8, 4, 4)
SMALL_SPEC = VideoSpec(frames=9, size=20)
TINY_LAYERS = (("compress_space", 16), ("compress_space", 16))
TABLE_12 = {  # MAGVIT: masked pixels in %, 87.5 cut to 87 and 93.75 rounded to 94
    "FP": 94, "FI": 87, "OPC": 75, "OPV": 50, "OPH": 50, "OPD": 50, "IPC": 25, "IPD": 25, "CG": 100, "CFP": 94,
}  # fmt: skip
FIRST_FRAMES = ("FP", "CFP")
FRAMES = (1, 2, 3, 8, 15)
CASES = [(task, 1) for task in TASKS] + [(task, frames) for task in FIRST_FRAMES for frames in FRAMES[1:]]
cases = pytest.mark.parametrize(("task", "frames"), CASES)


def noise(n, seed=0):
    return torch.rand(n, 3, 16, 64, 64, generator=torch.Generator().manual_seed(seed))


def is_observed(task, frames, t, y, x):
    """Whether a pixel is observed, from the words of the paper's appendix."""
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
                elif is_observed(task, frames, t, y, x):
                    found[:, t, y, x] = video[:, t, y, x]
    return torch.from_numpy(found)


# ---- which pixels ----


def test_there_are_ten_and_two_have_a_class():
    assert list(TASKS) == list(TABLE_12)
    assert [TASK_NUMBERS[task] for task in TASKS] == list(range(10))
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
    by_hand = [is_observed(task, frames, t, y, x) for t in range(16) for y in range(64) for x in range(64)]
    assert torch.equal(region(task, frames=frames), torch.tensor(by_hand).view(16, 64, 64))


def test_a_moving_window_goes_from_edge_to_edge_and_never_back():
    left = region("OPD")[:, 0].int().argmax(-1).tolist()
    assert (left[0], left[-1]) == (0, 32)
    assert left == sorted(left)
    assert region("OPD").sum((1, 2)).unique().tolist() == [32 * 64]  # whole in every frame
    assert (~region("IPD")).sum((1, 2)).unique().tolist() == [32 * 32]


@cases
def test_a_token_is_observed_if_any_of_its_own_pixels_is(task, frames):
    where = region(task, frames=frames).numpy()
    by_hand = [
        [
            [where[2 * t : 2 * t + 2, 16 * y : 16 * y + 16, 16 * x : 16 * x + 16].any() for x in range(4)]
            for y in range(4)
        ]
        for t in range(8)
    ]
    assert torch.equal(observed_tokens(task, GRID, frames), torch.tensor(by_hand))


def test_observed_tokens_of_a_finer_grid():
    """MAGVIT's own: 4 latent frames of 16 x 16, of which one observed frame touches one."""
    assert observed_tokens("FP", (4, 16, 16)).float().mean() == 1 / 4
    assert observed_tokens("FI", (4, 16, 16)).float().mean() == 1 / 2
    assert observed_tokens("IPC", (4, 16, 16)).float().mean() == 3 / 4


# ---- how the rest is filled ----


@cases
def test_the_rest_is_filled_by_the_tasks_rule(task, frames):
    video = noise(1)
    before = video.clone()
    found = condition(video, task, frames)[0]
    assert torch.allclose(found, filled_by_hand(video[0], task, frames), atol=1e-6)
    assert torch.equal(video, before)  # the clip itself is left alone


@cases
def test_what_is_observed_stays_and_the_rest_does_not(task, frames):
    video = noise(2)
    found, where = condition(video, task, frames), region(task, frames=frames)
    assert found.shape == video.shape
    assert torch.equal(found[..., where], video[..., where])
    assert (found[..., ~where] != video[..., ~where]).float().mean() > 0.99


@pytest.mark.parametrize("task", TASKS)
def test_a_clip_is_filled_from_itself_alone(task):
    videos = noise(3)
    apart = torch.cat([condition(video[None], task) for video in videos])
    assert torch.equal(condition(videos, task), apart)


# ---- nothing else leaks ----


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(list(TASKS)), st.integers(1, 15), st.integers(0, 2**31))
def test_the_condition_depends_on_the_observed_pixels_alone(task, frames, seed):
    video, other = noise(1, seed), noise(1, seed + 1)
    where = region(task, frames=frames)
    changed = torch.where(where, video, other)
    assert torch.equal(condition(changed, task, frames), condition(video, task, frames))
    if where.any():  # and on those it does
        changed = torch.where(where, other, video)
        assert not torch.equal(condition(changed, task, frames), condition(video, task, frames))


@pytest.fixture(scope="module")
def tokenizer():
    torch.manual_seed(0)
    return Tokenizer({"kind": "fsq", "levels": (7, 5, 5, 5, 5)}, dim=16, layers=TINY_LAYERS).eval()


def model_input(tokenizer, videos, task, frames, masked):
    """What a transformer receives of clips whose positions `masked` (8, 4, 4) are masked."""
    start, observed = tokenizer.encode(condition(videos, task, frames)), observed_tokens(task, GRID, frames)
    return commit_input(tokenizer.encode(videos), start, observed, masked, tokenizer.codebook_size)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(CASES), st.integers(0, 2**31))
def test_with_all_masked_no_input_token_depends_on_a_pixel_that_is_not_observed(tokenizer, case, seed):
    video = noise(1, seed)
    changed = torch.where(region(case[0], frames=case[1]), video, noise(1, seed + 1))
    masked = torch.ones(GRID, dtype=torch.bool)
    first, second = (model_input(tokenizer, videos, *case, masked) for videos in (video, changed))
    assert torch.equal(first, second)


@pytest.mark.parametrize("task", [task for task in TASKS if task != "CG"])
def test_true_tokens_of_the_observed_part_do_depend_on_it(tokenizer, task):
    """The test above can fail: the same pixels change true tokens inside."""
    video = noise(4)
    changed = torch.where(region(task), video, noise(4, seed=1))
    inside = observed_tokens(task, GRID)
    first, second = (tokenizer.encode(videos)[:, inside] for videos in (video, changed))
    assert not torch.equal(first, second)


# ---- what is refused ----


@pytest.mark.parametrize("task", ["fp", "XX", "", None, 3])
def test_an_unknown_task_gets_one_sentence(task):
    calls = (check_task, region, lambda key: observed_tokens(key, GRID), lambda key: condition(noise(1), key))
    for call in calls:
        with pytest.raises(ValueError, match=r"^task is .*; the tasks are FP, FI, OPC, OPV, .*, CFP\.$"):
            call(task)


@pytest.mark.parametrize("frames", [0, 16, -1, 100])
@pytest.mark.parametrize("task", ["FP", "CG"])
def test_frames_out_of_range_get_one_sentence(task, frames):
    calls = (
        lambda: region(task, frames=frames),
        lambda: observed_tokens(task, GRID, frames),
        lambda: condition(noise(1), task, frames),
    )
    for call in calls:
        with pytest.raises(ValueError, match=rf"^frames is {frames}; a whole number from 1 to 15 was expected\.$"):
            call()


# ---- other sizes of video ----


@pytest.mark.parametrize("task", TASKS)
def test_every_task_fits_any_video(task):
    """The shares of table 12 hold as far as 20 pixels and 9 frames can be halved."""
    where = region(task, SMALL_SPEC)
    assert where.shape == (9, 20, 20)
    expected = {"FP": 8 / 9, "CFP": 8 / 9, "FI": 7 / 9}.get(task, TABLE_12[task] / 100)
    assert 1 - where.float().mean().item() == pytest.approx(expected, abs=0.01)
    videos = torch.rand(2, *SMALL_SPEC.shape, generator=torch.Generator().manual_seed(0))
    filled = condition(videos, task)
    assert torch.equal(filled[..., where], videos[..., where])
    grid = observed_tokens(task, (3, 5, 5, 2), spec=SMALL_SPEC)
    assert grid.shape == (3, 5, 5, 2)
    assert torch.equal(grid[..., 0], grid[..., 1])
    assert torch.equal(grid[..., 0], observed_tokens(task, (3, 5, 5), spec=SMALL_SPEC))


def test_frames_in_which_the_dot_is_not_observed():
    paths = torch.tensor([[[31.0, 31.0]] * 16, [[2.0, 31.0]] * 16])
    assert masked_frames("OPC", paths).tolist() == [[False] * 16, [True] * 16]
    assert masked_frames("FP", paths, frames=4)[0].tolist() == [False] * 4 + [True] * 12
    assert masked_frames("FI", torch.full((1, 9, 2), 5.0), spec=SMALL_SPEC)[0].tolist() == [False] + [True] * 7 + [
        False
    ]
