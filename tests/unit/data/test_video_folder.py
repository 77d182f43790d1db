"""Videos from files of many kinds: each has the frames that were written into it, or one sentence with its name."""

import resource
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image

import trajlib
from trajlib.data import video_folder
from trajlib.data.spec import VideoSpec
from trajlib.data.video_folder import VideoFileError, VideoFolder, read_frames

SPEC = VideoSpec(4, 16, fps=None)
FFV1 = {"codec": "ffv1", "pixels": "bgr0"}  # lossless


def grey(level, height=16, width=16):
    return np.full((height, width, 3), level, np.uint8)


def levels(n, first=20, step=10):
    return [grey(first + step * k) for k in range(n)]


def corner(height, width, n=4):
    """A dark picture whose upper left quarter is white."""
    picture = grey(30, height, width)
    picture[: height // 2, : width // 2] = 230
    return [picture] * n


def write(path, frames, codec="libx264", pixels="yuv420p", rate=25, times=None, rotation=None, interlaced=False, **kw):
    """A video of frames (h, w, 3) uint8, or (h, w, 4) with alpha; `times` in milliseconds."""
    with av.open(str(path), "w", **kw) as file:
        stream = file.add_stream(codec, rate=rate, options={"crf": "4"} if codec == "libx264" else {})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], pixels
        if rotation is not None:
            stream.set_display_rotation(rotation)
        if interlaced:
            stream.codec_context.options = {"crf": "1", "x264-params": "interlaced=1"}
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for k, pixels_ in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels_, format="rgb24" if pixels_.shape[2] == 3 else "rgba")
            if times is not None:
                frame.pts, frame.time_base = times[k], Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def means(path, size=16, fps=None):
    return [float(frame.mean()) for frame, _ in read_frames(path, size, fps)]


# ---- what is read ----


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("a.mkv", FFV1, 0),
        ("a.mp4", {}, 2),
        ("10bit.mp4", {"pixels": "yuv420p10le"}, 2),
        ("grey.mkv", {"codec": "ffv1", "pixels": "gray"}, 1),
        ("grey16.mkv", {"codec": "ffv1", "pixels": "gray16le"}, 1),
        ("a.webm", {"codec": "libvpx-vp9"}, 4),
        ("a.avi", {"codec": "mpeg4"}, 4),
        ("a.mpg", {"codec": "mpeg2video"}, 4),
        ("a.gif", {"codec": "gif", "pixels": "rgb8", "rate": 10}, 24),
    ],
)
def test_containers_codecs_and_pixel_formats(tmp_path, name, options, tolerance):
    expected = levels(8, step=24)
    found = means(write(tmp_path / name, expected, **options))
    assert len(found) == 8
    assert np.abs(np.subtract(found, [frame.mean() for frame in expected])).max() <= tolerance


def test_a_header_that_says_nothing_of_its_length(tmp_path):
    path = write(tmp_path / "raw.mpg", levels(12), codec="mpeg2video", format="mpeg2video")
    with av.open(str(path)) as file:
        assert (file.streams.video[0].frames, file.streams.video[0].duration) == (0, None)
    assert np.allclose(means(path), [frame.mean() for frame in levels(12)], atol=4)


def test_the_middle_of_the_longer_side_and_odd_sizes(tmp_path):
    wide = grey(0, 33, 99)
    wide[:, 33:66] = 200  # the middle third
    (first, _), *_ = read_frames(write(tmp_path / "wide.mkv", [wide] * 2, **FFV1), 33)
    assert first.shape == (33, 33, 3)
    assert (first == 200).all()
    tall = write(tmp_path / "tall.mkv", [wide.transpose(1, 0, 2)] * 2, **FFV1)
    assert (next(read_frames(tall, 33))[0] == 200).all()
    whole = next(read_frames(tall, 33, square=False))[0]
    assert whole.shape == (99, 33, 3)


@pytest.mark.parametrize(("rotation", "turns"), [(90, 1), (-90, 3), (180, 2)])
def test_phone_videos_are_upright(tmp_path, rotation, turns):
    path = write(tmp_path / "phone.mp4", corner(64, 64), rotation=rotation)
    (found, _), *_ = read_frames(path, 64)
    assert np.abs(found.astype(int) - np.rot90(corner(64, 64)[0], turns)).mean() < 3


def test_pixels_that_are_not_square(tmp_path):
    path = tmp_path / "anamorphic.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2, 1)
        file.mux(stream.encode(av.VideoFrame.from_ndarray(corner(32, 32)[0], format="rgb24")))
        file.mux(stream.encode())
    assert next(read_frames(path, 32, square=False))[0].shape == (32, 64, 3)


def test_colours_follow_the_standard_that_the_file_names(tmp_path):
    colour = np.tile(np.array([200, 40, 40], np.uint8), (64, 64, 1))
    path = tmp_path / "hd.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"crf": "4"})
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.colorspace = 1  # BT.709
        frame = av.VideoFrame.from_ndarray(colour, format="rgb24")
        file.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709")))
        file.mux(stream.encode())
    assert np.abs(next(read_frames(path, 64))[0].mean((0, 1)) - [200, 40, 40]).max() < 4


def test_the_rate_of_a_file_with_variable_durations(tmp_path):
    times = [0, 100, 200, 700, 800]  # the third frame is shown for half a second
    path = write(tmp_path / "variable.mkv", levels(5), times=times, **FFV1)
    assert means(path) == [20, 30, 40, 50, 60]
    assert [round(seconds, 3) for _, seconds in read_frames(path, 16)] == [0, 0.1, 0.2, 0.7, 0.8]
    assert means(path, fps=10) == [20, 30, 40, 40, 40, 40, 40, 50, 60]
    assert means(path, fps=5) == [20, 40, 40, 40, 60]


def test_rates_above_and_below_that_of_the_file(tmp_path):
    path = write(tmp_path / "a.mp4", levels(30, step=7), rate=Fraction(30000, 1001))
    all_frames = means(path)
    assert means(path, fps=30000 / 1001) == all_frames
    assert means(path, fps=15000 / 1001) == all_frames[::2]
    assert means(path, fps=60000 / 1001) == [level for level in all_frames for _ in "ab"][:-1]


def test_what_is_transparent_is_white(tmp_path):
    frame = np.dstack([grey(100), np.full((16, 16), 255, np.uint8)])
    frame[:, :8, 3] = 0
    frame[:, 8:12, 3] = 51  # a fifth
    found = next(read_frames(write(tmp_path / "alpha.mkv", [frame], codec="ffv1", pixels="bgra"), 16))[0]
    assert [found[:, k].mean() for k in (0, 9, 15)] == [255, 224, 100]
    Image.fromarray(frame).save(tmp_path / "alpha.gif")
    assert next(read_frames(tmp_path / "alpha.gif", 16))[0][:, 0].mean() == 255


def test_interlaced_frames_give_one_field(tmp_path):
    comb = grey(0, 64, 64)
    comb[::2] = 200  # one moment in the even rows, another in the odd ones
    path = write(tmp_path / "interlaced.mkv", [comb] * 3, interlaced=True)
    with av.open(str(path)) as file:
        assert next(file.decode(video=0)).interlaced_frame
    for found, _ in read_frames(path, 64):
        assert np.abs(found.astype(int) - 200).mean() < 6


def test_a_folder_of_pictures_is_one_video(tmp_path):
    for number in (1, 2, 10, 3):
        Image.fromarray(grey(20 * number)).save(tmp_path / f"frame_{number}.png")
    assert means(tmp_path) == [20, 40, 60, 200]
    found = VideoFolder(tmp_path, SPEC, cache=tmp_path / "cache")
    assert found.videos([0])[0, 0, :, 0, 0].tolist() == [20, 40, 60, 200]


# ---- files that are no good ----


def audio(path):
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        file.mux(stream.encode(frame))
        file.mux(stream.encode())


@pytest.fixture
def folder(tmp_path):
    """Two good files among five that are not."""
    write(tmp_path / "a.mkv", levels(9), **FFV1)
    (tmp_path / "sub").mkdir()
    write(tmp_path / "sub" / "b.mkv", levels(4, first=100), **FFV1)
    audio(tmp_path / "audio.mp4")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video")
    write(tmp_path / "short.mkv", levels(3), **FFV1)
    cut = write(tmp_path / "cut.mp4", levels(9)).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(cut[: len(cut) // 2])
    (tmp_path / "notes.txt").write_text("is not looked at")
    return tmp_path


def test_bad_files_are_skipped_and_counted(folder):
    found = VideoFolder(folder, SPEC, cache=folder / "cache")
    assert len(found) == 3
    assert [(path.name, n) for path, n in zip(found.files, found.counts, strict=True) if n] == [
        ("a.mkv", 2),
        ("b.mkv", 1),
    ]
    assert list(found.problems) == ["audio.mp4", "cut.mp4", "empty.mp4", "short.mkv", "text.mp4"]
    for name, sentence in found.problems.items():
        assert sentence.startswith(name)
        assert sentence.endswith(".")
        assert "\n" not in sentence
    assert found.problems["audio.mp4"] == "audio.mp4 has no video stream."
    assert found.problems["short.mkv"] == "short.mkv has no window of 4 frames."
    with pytest.raises(VideoFileError, match=r"^empty\.mp4 cannot be decoded"):
        list(read_frames(folder / "empty.mp4", 16))


def test_the_beginning_of_a_truncated_file_is_used(tmp_path):
    rng = np.random.default_rng(0)
    path = write(tmp_path / "a.avi", [rng.integers(0, 255, (32, 32, 3)).astype(np.uint8) for _ in range(40)], **FFV1)
    whole = VideoFolder(tmp_path, SPEC, cache=tmp_path / "cache").videos(range(3))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = VideoFolder(tmp_path, SPEC, cache=tmp_path / "cache")
    assert 3 <= len(found) < 10
    assert torch.equal(found.videos(range(3)), whole)


def test_nothing_to_read_is_one_sentence(tmp_path):
    for folder, sentence in [(tmp_path / "none", "is no folder; the folder that holds the videos was expected"),
                             (tmp_path, "there is no window of 4 frames in .*: add videos")]:  # fmt: skip
        with pytest.raises(ValueError, match=sentence):
            VideoFolder(folder, SPEC, cache=tmp_path / "cache")
    (tmp_path / "x.mp4").touch()
    with pytest.raises(ValueError, match=r"add videos\. x\.mp4 cannot be decoded"):
        VideoFolder(tmp_path, SPEC, cache=tmp_path / "cache")
    for options, sentence in [({"stride": 0}, "stride is 0"), ({"split": "dev"}, "split is 'dev'")]:
        with pytest.raises(ValueError, match=sentence):
            VideoFolder(tmp_path, SPEC, cache=tmp_path / "cache", **options)


# ---- the dataset ----


def test_windows_with_a_stride(tmp_path):
    write(tmp_path / "a.mkv", levels(9), **FFV1)
    for stride, firsts in [(None, [20, 60]), (2, [20, 40, 60]), (1, [20, 30, 40, 50, 60, 70]), (5, [20, 70])]:
        found = trajlib.VideoFolder(tmp_path, SPEC, stride=stride, cache=tmp_path / "cache")
        videos = found.videos(range(len(found)))
        assert videos.shape == (len(firsts), *SPEC.shape)
        assert videos.dtype == torch.uint8
        assert [[int(x) for x in video[0, :, 0, 0]] for video in videos] == [
            [f + 10 * k for k in range(4)] for f in firsts
        ]
    with pytest.raises(IndexError, match="clip 2 of a dataset of 2"):
        found.videos([2])


def test_one_frame_and_a_rate(tmp_path):
    write(tmp_path / "a.mkv", levels(9), **FFV1)
    stills = VideoFolder(tmp_path, VideoSpec(1, 16, fps=None), cache=tmp_path / "cache")
    assert stills.videos(range(len(stills)))[:, 0, 0, 0, 0].tolist() == [20 + 10 * k for k in range(9)]
    slow = VideoFolder(tmp_path, VideoSpec(4, 16, fps=12.5), cache=tmp_path / "cache")
    assert slow.videos([0])[0, 0, :, 0, 0].tolist() == [20, 40, 60, 80]


def test_the_cache_is_used_checked_and_renewed(tmp_path, monkeypatch):
    path, cache = write(tmp_path / "a.mkv", levels(9), **FFV1), tmp_path / "cache"
    first = VideoFolder(tmp_path, SPEC, cache=cache).videos([0, 1])
    monkeypatch.setattr(video_folder, "read_windows", lambda *_: pytest.fail("decoded again"))
    assert torch.equal(VideoFolder(tmp_path, SPEC, cache=cache).videos([0, 1]), first)
    monkeypatch.undo()
    (windows,) = cache.glob("*.windows")
    windows.write_bytes(bytes(len(windows.read_bytes())))  # of the right length, and wrong
    assert torch.equal(VideoFolder(tmp_path, SPEC, cache=cache).videos([0, 1]), first)
    write(path, levels(9, first=90), **FFV1)
    assert VideoFolder(tmp_path, SPEC, cache=cache).videos([0])[0, 0, 0, 0, 0] == 90
    assert not list(cache.glob("*.tmp"))


def test_splits_follow_the_paths_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(video_folder, "read_windows", lambda *_: iter([np.zeros((4, 16, 16, 3), np.uint8)]))
    for number in range(60):
        (tmp_path / f"{number:02}.mp4").touch()
    found = {s: VideoFolder(tmp_path, SPEC, split=s, cache=tmp_path / "cache").files for s in video_folder.SPLITS}
    whole = VideoFolder(tmp_path, SPEC, cache=tmp_path / "cache").files
    assert sorted(path for files in found.values() for path in files) == whole == sorted(whole)
    assert len(found["train"]) > 40
    for number in range(0, 60, 3):
        (tmp_path / f"{number:02}.mp4").unlink()
    again = VideoFolder(tmp_path, SPEC, split="test", cache=tmp_path / "cache").files
    assert again == [path for path in found["test"] if path.exists()]


def test_the_motion_on_a_still_background(tmp_path):
    rng = np.random.default_rng(0)
    background = rng.integers(80, 160, (128, 192, 3)).astype(np.uint8)
    frames = []
    for t in range(24):
        frame = background.copy()
        if t < 16:  # then it is gone
            frame[50 + t : 58 + t, 100 + 2 * t : 108 + 2 * t] = (250, 10, 10)
        frames.append(frame)
    write(tmp_path / "a.mkv", frames, **FFV1)
    found = VideoFolder(tmp_path, VideoSpec(8, 32, fps=None), motion=True, cache=tmp_path / "cache")
    videos = found.videos(range(len(found)))
    assert len(videos) == 2  # in the third window nothing moves
    dark = 255 - videos.float().amin(1)  # (b, t, h, w)
    assert (dark > 40).float().mean((2, 3)).amin() > 0.02  # the square is in each frame
    assert (videos.amin(1) == 255).float().mean() > 0.8  # and all around it is white
    _, columns = (dark[0] > 40).any(0).nonzero().T
    assert 0.5 * 32 < columns.max() - columns.min() < 32  # the crop is about the path


@pytest.mark.slow
def test_memory_stays_bounded(tmp_path):
    """Ten minutes of video, 15,000 frames, take hardly more memory than twenty seconds."""
    peaks = []
    for seconds in (20, 600):
        folder = tmp_path / str(seconds)
        folder.mkdir()
        picture = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)
        write(folder / "long.mp4", [np.roll(picture, k, 1) for k in range(50)] * (seconds // 2), codec="mpeg4")
        script = f"""
import resource
from trajlib import VideoFolder, VideoSpec
found = VideoFolder({str(folder)!r}, VideoSpec(16, 48, fps=None), cache={str(folder / "cache")!r})
total = sum(int(found.videos([k]).sum()) for k in range(len(found)))
print(len(found), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        windows, peak = map(int, done.stdout.split())
        assert windows == seconds * 25 // 16
        peaks.append(peak)
    print("peak memory, MB:", peaks, "of", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
    assert peaks[1] < peaks[0] + 50  # decoded, the ten minutes are 104 MB
