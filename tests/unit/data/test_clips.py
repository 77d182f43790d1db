"""Clips: curves, camera, renderer, dataset, files."""

import dataclasses

import av
import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from trajlib.data import clips, trajectories, video_files
from trajlib.data.camera import Camera
from trajlib.data.clips import SPLIT_SEEDS, TrajectoryDataset, VideoSpec, as_indices, collate, split
from trajlib.data.render import Corruption, area_below, coverage, render
from trajlib.data.trajectories import FAMILIES

seeds = st.integers(0, 2**32 - 1)
T = np.linspace(0, 1, 101)


def a_motion(family, seed):
    """A motion somewhere in the world, not in its family's own frame."""
    rng = np.random.default_rng(seed)
    rotation = Rotation.random(rng=rng).as_matrix()
    return trajectories.draw_motion(family, rng).moved(rotation, rng.uniform(0.5, 3), rng.normal(size=3))


def a_camera(rng):
    rotation, translation = Rotation.random(rng=rng).as_matrix(), np.append(rng.normal(size=2), rng.uniform(6, 12))
    return Camera(rng.uniform(50, 120), tuple(rng.uniform(20, 44, 2)), rotation, translation)


# ---- curves ----


@given(seeds)
def test_a_line_has_constant_velocity(seed):
    steps = np.diff(a_motion("linear", seed).at(T), axis=0)
    np.testing.assert_allclose(steps, np.tile(steps[0], (100, 1)), atol=1e-9)


@given(seeds)
def test_a_parabolas_second_difference_is_gravity(seed):
    motion = a_motion("parabolic", seed)
    second = np.diff(motion.at(T), 2, axis=0) / (T[1] - T[0]) ** 2
    np.testing.assert_allclose(second, np.tile(motion.gravity, (99, 1)), rtol=1e-6, atol=1e-6)


@given(seeds)
def test_a_circle_keeps_its_radius_its_plane_and_its_speed(seed):
    motion = a_motion("circular", seed)
    vectors = motion.at(T) - motion.origin
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), motion.radius, atol=1e-9)
    np.testing.assert_allclose(vectors @ motion.axis, 0, atol=1e-9)
    speeds = np.linalg.norm(np.diff(motion.at(T), axis=0), axis=1)
    np.testing.assert_allclose(speeds, speeds[0], atol=1e-9)


@given(seeds)
def test_a_helix_advances_its_pitch_in_each_turn(seed):
    motion = a_motion("helical", seed)
    vectors = motion.at(T) - motion.origin
    along = vectors @ motion.axis
    np.testing.assert_allclose(along, motion.pitch * motion.turns * T, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(vectors - along[:, None] * motion.axis, axis=1), motion.radius, atol=1e-9)
    one_turn = motion.at(0.1 + 1 / motion.turns) - motion.at(0.1)
    np.testing.assert_allclose(one_turn, motion.pitch * motion.axis, atol=1e-9)


@given(seeds)
def test_a_helix_is_right_handed_when_its_pitch_is_positive(seed):
    motion = a_motion("helical", seed)
    first, second, third = (np.diff(motion.at(T), k, axis=0)[: 101 - 3] for k in (1, 2, 3))
    torsion = np.einsum("ni,ni->n", np.cross(first, second), third)  # its sign is the handedness
    assert (np.sign(torsion) == np.sign(motion.pitch)).all()


@given(st.sampled_from(FAMILIES), seeds)
def test_moving_a_motion_moves_every_point_of_it(family, seed):
    rng = np.random.default_rng(seed)
    motion = trajectories.draw_motion(family, rng)
    rotation, scale, offset = Rotation.random(rng=rng).as_matrix(), rng.uniform(0.1, 5), rng.normal(size=3)
    moved = motion.moved(rotation, scale, offset)
    np.testing.assert_allclose(moved.at(T), scale * motion.at(T) @ rotation.T + offset, atol=1e-9)


def test_an_unknown_family_is_refused():
    with pytest.raises(ValueError, match=r"'spiral'; it must be one of linear, circular, helical, parabolic\."):
        trajectories.Motion("spiral")


# ---- camera ----


@given(seeds)
def test_the_camera_agrees_with_opencv(seed):
    rng = np.random.default_rng(seed)
    camera = a_camera(rng)
    points = camera.to_world(np.column_stack([rng.normal(size=(50, 2)), rng.uniform(4, 15, 50)]))
    turn, _ = cv2.Rodrigues(camera.rotation)
    expected, _ = cv2.projectPoints(points, turn, camera.translation, camera.matrix, None)
    np.testing.assert_allclose(camera.project(points)[0], expected[:, 0], atol=1e-6)


@given(seeds)
def test_to_world_undoes_to_camera(seed):
    rng = np.random.default_rng(seed)
    camera, points = a_camera(rng), rng.normal(size=(5, 3))
    np.testing.assert_allclose(camera.to_world(camera.to_camera(points)), points, atol=1e-9)
    np.testing.assert_allclose(camera.to_camera(camera.position), 0, atol=1e-9)


def test_near_is_large():
    camera = Camera(80, (31.5, 31.5), np.eye(3), np.zeros(3))
    assert camera.apparent_radius(0.5, np.array([5, 10])).tolist() == [8, 4]


def test_a_point_behind_the_camera_is_refused():
    camera = Camera(80, (31.5, 31.5), np.eye(3), np.zeros(3))
    with pytest.raises(ValueError, match=r"2\.00 units behind the camera; move it"):
        camera.project([[0, 0, 5], [0, 0, -2]])


# ---- renderer ----


def dot_coverage(video, colour):
    """How much of each pixel the dot covers, (n, 64, 64), from all three channels."""
    return (255 - video.astype(float)).sum(0) / (255 * (1 - np.asarray(colour)).sum())


EDGE = st.floats(-9, 9, allow_subnormal=False)  # trajlib flushes subnormal numbers to zero


@given(EDGE, EDGE, st.floats(0.3, 6))
def test_area_below_counts_a_disc(x, y, radius):
    grid = (np.arange(800) + 0.5) / 400 * radius - radius
    inside = grid[:, None] ** 2 + grid[None] ** 2 <= radius**2
    counted = (inside & (grid[:, None] <= x) & (grid[None] <= y)).sum() * (radius / 400) ** 2
    assert area_below(np.float64(x), np.float64(y), radius) == pytest.approx(counted, abs=0.01 * radius**2)


@given(seeds, st.floats(0.3, 8))
def test_a_dots_coverage_is_its_area(seed, radius):
    centre = np.random.default_rng(seed).uniform(0, 63, (16, 2))
    alpha, _, _ = coverage(centre, np.full(16, radius))
    np.testing.assert_allclose(alpha.sum((1, 2)), np.pi * radius**2, rtol=1e-9)


def test_the_rendered_dot_lies_where_the_projection_says():
    data = TrajectoryDataset(120, seed=11)
    worst = 0.0
    for clip in (data[i] for i in range(len(data))):
        alpha = dot_coverage(clip.video, clip.params.colour)
        mass = alpha.sum((1, 2))
        x, y = alpha.sum(1) @ np.arange(64) / mass, alpha.sum(2) @ np.arange(64) / mass
        worst = max(worst, np.hypot(x - clip.path[:, 0], y - clip.path[:, 1]).max())
        np.testing.assert_allclose(mass, np.pi * clip.radius**2, rtol=0.02)
        projected, depth = clip.params.camera.project(clip.path3d)
        np.testing.assert_allclose(projected, clip.path, atol=1e-9)
        np.testing.assert_allclose(clip.params.camera.apparent_radius(clip.params.dot_radius, depth), clip.radius)
    assert worst < 0.02


@pytest.mark.parametrize("size", [500, pytest.param(20_000, marks=pytest.mark.slow)])
def test_the_whole_dot_is_inside_every_frame(size):
    data = TrajectoryDataset(size, seed=12)
    tracks = [data.track(i) for i in range(len(data))]
    path, radius = np.array([t.path for t in tracks]), np.array([t.radius for t in tracks])[..., None]
    assert (path - radius).min() >= -0.5
    assert (path + radius).max() <= 63.5
    lengths = np.linalg.norm(np.diff(path, axis=1), axis=2).sum(1)
    assert clips.PATH_LENGTH[0] * 0.99 < lengths.min()
    assert lengths.max() < clips.PATH_LENGTH[1] * 1.01


STRENGTHS = {"trail": 0.6, "texture": 0.3, "distractors": 2, "occlusion": 8, "noise": 0.05, "blur": 1.0,
             "brightness": -0.2, "jitter": 1.0, "contrast": 0.4, "frame_drops": 0.4}  # fmt: skip


@pytest.mark.parametrize("name", STRENGTHS)
def test_each_corruption_changes_the_clip(name):
    clean, corrupted = (
        TrajectoryDataset(1, seed=5, corruption=d)[0] for d in (Corruption(), Corruption(**{name: STRENGTHS[name]}))
    )
    assert corrupted.video.dtype == np.uint8
    assert (clean.video != corrupted.video).mean() > 0.001
    np.testing.assert_array_equal(clean.path, corrupted.path)  # the truth stays the truth


def test_every_corruption_has_a_test():
    assert list(STRENGTHS) == [field.name for field in dataclasses.fields(Corruption)]


def test_a_corruption_added_later_leaves_the_others_their_pixels():
    """The sum from before contrast and frame drops: what is added draws its random numbers after all others."""
    old = {name: strength for name, strength in STRENGTHS.items() if name not in ("contrast", "frame_drops")}
    video = TrajectoryDataset(1, seed=5, corruption=Corruption(**old))[0].video
    assert abs(int(video.sum(dtype=np.int64)) - 30_122_216) <= 100  # a pixel may round another way on another machine


def test_less_contrast_draws_every_value_to_grey():
    clean, flat = (TrajectoryDataset(1, corruption=d)[0].video.astype(float) for d in (None, Corruption(contrast=0.75)))
    np.testing.assert_allclose(flat, 127.5 + 0.25 * (clean - 127.5), atol=0.51)


def test_a_dropped_frame_repeats_the_one_before_and_a_higher_share_drops_more():
    def repeated(share):
        video = TrajectoryDataset(1, seed=4, corruption=Corruption(frame_drops=share, noise=0.1))[0].video
        return {i for i in range(1, 16) if np.array_equal(video[:, i], video[:, i - 1])}

    clean = TrajectoryDataset(1, seed=4, corruption=Corruption(noise=0.1))[0].video
    few, many = repeated(0.2), repeated(0.6)
    assert few < many
    assert repeated(1.0) == set(range(1, 16))
    video = TrajectoryDataset(1, seed=4, corruption=Corruption(frame_drops=0.2, noise=0.1))[0].video
    kept = [i for i in range(16) if i not in few]
    np.testing.assert_array_equal(video[:, kept], clean[:, kept])


def test_no_corruption_is_the_clean_clip():
    clean, uncorrupted = TrajectoryDataset(4)[3], TrajectoryDataset(4, corruption=Corruption())[3]
    np.testing.assert_array_equal(clean.video, uncorrupted.video)


def test_more_noise_is_the_same_noise_stronger():
    weak, strong = (TrajectoryDataset(1, corruption=Corruption(noise=s))[0].video.astype(int) for s in (0.02, 0.04))
    clean = TrajectoryDataset(1)[0].video.astype(int)
    middling = (clean > 60) & (clean < 200)  # far from black and white, where values would be cut
    ratio = (strong - clean)[middling].std() / (weak - clean)[middling].std()
    assert ratio == pytest.approx(2, abs=0.1)


# ---- dataset ----


def same(a, b):
    """Two clips are equal to the last bit."""
    return all(np.array_equal(getattr(a, f), getattr(b, f)) for f in ("video", "label", "path", "radius", "path3d"))


def test_a_clip_has_its_fields():
    clip = TrajectoryDataset(4)[2]
    assert (clip.video.shape, clip.video.dtype) == ((3, 16, 64, 64), np.uint8)
    assert (clip.label, clip.family) == (2, "helical")
    assert (clip.path.shape, clip.radius.shape, clip.path3d.shape) == ((16, 2), (16,), (16, 3))
    np.testing.assert_allclose(clip.params.motion.at(np.linspace(0, 1, 16)), clip.path3d)


@pytest.mark.parametrize("corruption", [None, Corruption(noise=0.1, jitter=1)])
def test_a_clip_depends_on_seed_and_index_alone(corruption):
    small, large = (
        TrajectoryDataset(8, seed=3, corruption=corruption),
        TrajectoryDataset(1000, seed=3, corruption=corruption),
    )
    backwards = [large[i] for i in reversed(range(8))]
    assert all(same(small[i], backwards[7 - i]) for i in range(8))
    assert not same(small[0], TrajectoryDataset(8, seed=4, corruption=corruption)[0])


def test_a_track_is_its_clip_without_pixels():
    data = TrajectoryDataset(4)
    clip, track = data[1], data.track(1)
    assert not hasattr(track, "video")
    np.testing.assert_array_equal(clip.path3d, track.path3d)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_are_the_same_for_any_number_of_workers(workers):
    data = TrajectoryDataset(10, seed=6)
    loader = torch.utils.data.DataLoader(data, batch_size=4, num_workers=workers, collate_fn=collate)
    batches, whole = list(loader), data.batch()
    assert [len(b) for b in batches] == [4, 4, 2]
    for name in ("videos", "labels", "paths", "radii"):
        assert torch.equal(torch.cat([getattr(b, name) for b in batches]), getattr(whole, name))


def test_a_batch_is_sliced_like_a_tensor():
    batch = TrajectoryDataset(6).batch([4, 1, 3])
    assert batch.labels.tolist() == [0, 1, 3]
    assert torch.equal(batch[1:].paths, batch.paths[1:])
    assert video_files.to_float(batch.videos).max() == 1


def test_splits_share_no_clip():
    clips = [
        tuple(TrajectoryDataset(200, seed=s).track(i).path.ravel()) for s in SPLIT_SEEDS.values() for i in range(200)
    ]
    assert len(set(clips)) == 200 * len(SPLIT_SEEDS)


def test_classes_take_turns_and_can_be_narrowed():
    assert [TrajectoryDataset(8).track(i).label for i in range(8)] == [0, 1, 2, 3] * 2
    narrowed = TrajectoryDataset(4, families=("parabolic", "linear"))
    assert [narrowed.track(i).family for i in range(4)] == ["parabolic", "linear"] * 2


def test_nuisances_do_not_depend_on_the_class():
    """The same numbers are drawn, whatever the class: clip by clip, not only in distribution."""
    for i in range(20):
        tracks = [clips.make_track(1, i, family) for family in FAMILIES]
        assert len({t.params.dot_radius for t in tracks}) == 1
        assert len({t.params.colour for t in tracks}) == 1
        assert len({t.params.camera.focal for t in tracks}) == 1
        lengths = [np.linalg.norm(np.diff(t.path, axis=0), axis=1).sum() for t in tracks]
        np.testing.assert_allclose(lengths, lengths[0], rtol=0.002)


def test_degenerate_views_are_kept_out():
    flat, deep = np.eye(3), Rotation.from_euler("y", 90, degrees=True).as_matrix()
    views = np.stack([flat, deep])
    assert clips.is_identifiable("linear", views).tolist() == [True, True]
    assert clips.is_identifiable("circular", views).tolist() == [True, False]  # edge-on, a circle is a line
    assert clips.is_identifiable("parabolic", views).tolist() == [True, False]
    assert clips.is_identifiable("helical", views).tolist() == [False, True]  # end-on, a helix is a circle
    data = TrajectoryDataset(400, seed=13)
    for track in (data.track(i) for i in range(400)):
        camera, motion = track.params.camera, track.params.motion
        if track.family in ("circular", "helical"):
            tilt = abs((camera.rotation @ motion.axis)[2])
            assert tilt >= 0.5 if track.family == "circular" else tilt <= np.cos(np.radians(30))


@pytest.mark.parametrize("corruption", [None, Corruption(noise=0.1)])
def test_video_files_are_read_back(tmp_path, corruption):
    clip = TrajectoryDataset(1, corruption=corruption)[0]
    video_files.write_mp4(clip.video, tmp_path / "a.mp4", scale=4)
    with av.open(str(tmp_path / "a.mp4")) as video:
        frames = [f.to_ndarray(format="rgb24") for f in video.decode(video=0)]
    assert (len(frames), frames[0].shape) == (16, (256, 256, 3))
    # H.264 has its own, finer, idea of 8 bits: compare by eye's measure, not bit by bit
    assert np.abs(frames[9][::4, ::4].astype(float) - clip.video[:, 9].transpose(1, 2, 0)).mean() < 12


# ---- other sizes and lengths ----


@pytest.mark.parametrize("spec", [VideoSpec(8, 32), VideoSpec(17, 64, 25), VideoSpec(1, 48), VideoSpec(4, 128)])
def test_clips_of_another_size_and_length(spec):
    data = TrajectoryDataset(8, seed=5, spec=spec)
    for clip in (data[i] for i in range(8)):
        assert clip.video.shape == spec.shape
        assert clip.path.shape == (spec.frames, 2)
        mass = dot_coverage(clip.video, clip.params.colour)
        x, y = mass.sum(1) @ np.arange(spec.size), mass.sum(2) @ np.arange(spec.size)
        np.testing.assert_allclose(np.stack([x, y], 1) / mass.sum((1, 2))[:, None], clip.path, atol=0.05)
        assert (clip.path - clip.radius[:, None]).min() >= -0.5
        assert (clip.path + clip.radius[:, None]).max() <= spec.size - 0.5


def test_a_clip_of_half_the_size_is_the_same_motion_at_half_the_scale():
    half, whole = (TrajectoryDataset(4, seed=5, spec=VideoSpec(size=size))[1] for size in (32, 64))
    np.testing.assert_allclose(half.params.motion.at(0.3), whole.params.motion.at(0.3), atol=0.1)
    np.testing.assert_allclose(half.radius, whole.radius / 2, rtol=0.05)


def test_corrupted_clips_of_another_size():
    everything = Corruption(**STRENGTHS)
    video = TrajectoryDataset(1, corruption=everything, spec=VideoSpec(6, 40))[0].video
    assert video.shape == (3, 6, 40, 40)


def test_a_split_is_its_generator_seed():
    found = split("test", 3, spec=VideoSpec(4, 32))
    assert (found.seed, len(found), found.spec, found.num_classes) == (SPLIT_SEEDS["test"], 3, VideoSpec(4, 32), 4)
    assert len(split("train")) > 10**8


def test_videos_and_labels_without_drawing_more_than_is_asked():
    data = TrajectoryDataset(10**9, seed=2)
    assert torch.equal(data.videos([7, 3]), torch.from_numpy(np.stack([data[7].video, data[3].video])))
    assert data.labels(np.array([7, 3, 999_999_999])).tolist() == [3, 3, 3]
    assert TrajectoryDataset(6, families=("parabolic", "linear")).labels(range(3)).tolist() == [3, 0, 3]


# ---- bad input ----


@pytest.mark.parametrize("came", [[1, 2], (1, 2), range(1, 3), np.array([1, 2]), torch.tensor([1, 2]), {1: 0, 2: 0}])
def test_indices_are_any_sequence_of_whole_numbers(came):
    found = as_indices(came, 4)
    assert found == [1, 2]
    assert all(type(i) is int for i in found)


@pytest.mark.parametrize(
    "came",
    [[True, False], np.array([True, False]), torch.tensor([True, False]), [1.0], np.array([1.5]), torch.ones(2), "12",
     ["1"], [None]],
    ids=str,
)  # fmt: skip
def test_what_is_no_index_is_refused(came):
    with pytest.raises(ValueError, match=r"came as an index; whole numbers from 0 to 3 were expected\.$"):
        as_indices(came, 4)
    with pytest.raises(ValueError, match="came as an index"):
        TrajectoryDataset(4).videos(came)


@pytest.mark.parametrize("came", [[0, 4], [-1], torch.tensor([10**12])])
def test_an_index_out_of_range_is_refused(came):
    with pytest.raises(IndexError, match=r"of a dataset of 4; indices run from 0 to 3\.$"):
        as_indices(came, 4)


def nuisances(**changes):
    fields = {"path_length": 30.0, "foreshortening": 0.9, "middle": np.full(2, 31.5), "distance": 10.0,
              "dot_radius": 0.3, "colour": (1.0, 0.0, 0.0), "focal": 85.0, "view": np.eye(3)}  # fmt: skip
    return clips.Nuisances(**fields | changes)


BAD = {
    "size is 0; a whole number from 1 was expected": lambda: TrajectoryDataset(0),
    "size is '4'; a whole number from 1 was expected": lambda: TrajectoryDataset("4"),
    "size is 4.0; a whole number": lambda: TrajectoryDataset(4.0),
    "size is True; ": lambda: TrajectoryDataset(True),
    "seed is -1; a whole number from 0 was expected": lambda: TrajectoryDataset(4, seed=-1),
    "seed is 1.5; a whole number": lambda: TrajectoryDataset(4, seed=1.5),
    "seed is None; a whole number": lambda: TrajectoryDataset(4, seed=None),
    "no clips came; a batch needs at least one": lambda: TrajectoryDataset(4).batch([]),
    r"\('spiral',\) came; choose from linear": lambda: TrajectoryDataset(4, families=("spiral",)),
    r"\(\) came; choose from": lambda: TrajectoryDataset(4, families=()),
    "indices run from 0 to 3": lambda: TrajectoryDataset(4)[4],
    "noise is -1; a finite number from 0 was expected": lambda: Corruption(noise=-1),
    "distractors is 9; a whole number from 0 to 8 was expected": lambda: Corruption(distractors=9),
    "frame_drops is 1.5; a finite number from 0 to 1 was expected": lambda: Corruption(frame_drops=1.5),
    r"centre came as ndarray float64 \(4, 3\); expected numbers of shape \(any, 2\)\.": lambda: render(
        np.zeros((4, 3)), np.ones(4), (1, 0, 0)
    ),
    r"radius came as ndarray float64 \(3,\); expected": lambda: render(np.zeros((4, 2)), np.ones(3), (1, 0, 0)),
    "seed is 'x'; a whole number from 0 was expected": lambda: clips.make_track("x", 0, "linear"),
    "index is -1; a whole number from 0": lambda: clips.make_track(0, -1, "linear"),
    "family is 'spiral'; it must be one of linear, circular": lambda: clips.make_track(0, 0, "spiral"),
    "5 came as indices; a sequence of whole numbers": lambda: TrajectoryDataset(4).videos(5),
    "has NaN": lambda: render(np.full((4, 2), np.nan), np.ones(4), (1, 0, 0)),
    "a radius above 0": lambda: render(np.zeros((4, 2)), np.zeros(4), (1, 0, 0)),
    "pass rng": lambda: render(np.zeros((4, 2)), np.ones(4), (1, 0, 0), corruption=Corruption(noise=1)),
    r"shape \(16, 64, 64\) came": lambda: video_files.write_mp4(np.zeros((16, 64, 64)), "never.mp4"),
    "split is 'tests'; it must be one of train, validation, test, sealed": lambda: split("tests"),
    "does not fit into the picture": lambda: clips.project_track(
        trajectories.unit_motion("linear"), nuisances(path_length=120.0, foreshortening=1.0)
    ),
}


def test_numpys_whole_numbers_are_sizes_and_seeds():
    assert np.array_equal(TrajectoryDataset(np.int64(1), np.uint32(3))[0].video, TrajectoryDataset(1, 3)[0].video)


@pytest.mark.parametrize("message", BAD)
def test_bad_input_gets_one_sentence(message):
    with pytest.raises((ValueError, IndexError), match=message) as caught:
        BAD[message]()
    assert "\n" not in str(caught.value)
