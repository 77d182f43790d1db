"""A video as a file of tokens, and back.

The file is a safetensors file. Its header holds, as text: `format` ("trajlib tokens"), `version`, `frames` (of the
video), `fps` (a fraction), `size` (pixels along a side), `window` (frames that are encoded together), `grid` (of a
window's tokens), `codebook_size`, and `tokenizer`, the SHA-256 of the weights that it was written with. Its tensors:
either `tokens`, int32 (windows, *grid), or, with entropy coding, `bytes`, uint8, which a range coder wrote.
"""

import json
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path

import av
import numpy as np
import torch
from constriction import stream as streaming
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from trajlib.atomic import write_atomic
from trajlib.data.video_files import to_float
from trajlib.data.video_folder import PICTURE_FPS, VideoFileError, read_frames
from trajlib.zoo.checkpoints import Card

FORMAT, VERSION = "trajlib tokens", 1
BATCH = 8  # windows in memory at a time


class TokenFileError(ValueError):
    """A file of tokens that cannot be read, or not with this tokenizer; the message names both."""


def tokenize_file(tokenizer, card: Card, source: Path, target: Path, entropy: bool = False) -> dict[str, str]:
    """Write the tokens of a video, window by window; the last window is filled up with its last frame.

    Returns the header. VideoFileError if the video cannot be read.
    """
    spec, parts, count = tokenizer.spec, [], 0
    frames = (frame for frame, _ in read_frames(source, spec.size))
    while chunk := list(islice(frames, BATCH * spec.frames)):
        count += len(chunk)
        chunk += chunk[-1:] * (-len(chunk) % spec.frames)
        videos = torch.from_numpy(np.stack(chunk)).unflatten(0, (-1, spec.frames)).permute(0, 4, 1, 2, 3)
        parts.append(tokenizer.encode(to_float(videos)))
    if not count:
        raise VideoFileError(f"{source.name} has no frame.")
    tokens = torch.cat(parts).to(torch.int32)
    header = {"format": FORMAT, "version": VERSION, "frames": count, "fps": frame_rate(source), "size": spec.size}
    header |= {"window": spec.frames, "grid": list(tokenizer.token_shape), "codebook_size": tokenizer.codebook_size}
    header |= {"tokenizer": card["sha256"], "windows": len(tokens)}
    text = {key: value if isinstance(value, str) else json.dumps(value) for key, value in header.items()}
    packed = torch.from_numpy(np.frombuffer(write_adaptive(tokens, tokenizer.codebook_size), np.uint8).copy())
    write_atomic(target, save({"bytes": packed} if entropy else {"tokens": tokens}, text))
    return text


def read_tokens(file: Path, tokenizer, card: Card) -> tuple[torch.Tensor, dict[str, str]]:
    """Tokens (windows, *grid) int64 and the header; TokenFileError unless this tokenizer wrote them."""
    try:
        with safe_open(file, "pt") as opened:
            header = opened.metadata() or {}
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 (no iterator)
    except (SafetensorError, OSError) as error:
        raise TokenFileError(f"{file.name} is cut short or no file of tokens ({error}).") from None
    if header.get("format") != FORMAT:
        raise TokenFileError(f"{file.name} is no file of tokens: `python -m trajlib tokenize` writes one.")
    if int(header["version"]) > VERSION:
        raise TokenFileError(f"{file.name} has version {header['version']}; this trajlib reads {VERSION}: update it.")
    if header["tokenizer"] != card["sha256"]:
        raise TokenFileError(
            f"{file.name} was written with the tokenizer {header['tokenizer'][:12]}…, and this is "
            f"{card['sha256'][:12]}…: name the folder of its own with --artifacts."
        )
    shape = (int(header["windows"]), *json.loads(header["grid"]))
    if "tokens" in tensors:
        return tensors["tokens"].long().view(shape), header
    return read_adaptive(tensors["bytes"].numpy().tobytes(), shape, int(header["codebook_size"])), header


def detokenize_file(tokenizer, card: Card, source: Path, target: Path) -> dict[str, str]:
    """Decode a file of tokens into H.264, with as many frames, at the rate of the video it came from."""
    tokens, header = read_tokens(source, tokenizer, card)

    def frames() -> Iterator[np.ndarray]:
        for part in tokens.split(BATCH):
            found = tokenizer.decode(part).mul(255).round().byte()
            yield from found.permute(0, 2, 3, 4, 1).flatten(0, 1).numpy()

    write_frames(islice(frames(), int(header["frames"])), target, Fraction(header["fps"]))
    return header


def frame_rate(path: Path) -> str:
    """Frames a second of a file as a fraction; PICTURE_FPS where it names none."""
    if path.is_dir():
        return str(Fraction(PICTURE_FPS))
    with av.open(str(path), metadata_errors="ignore") as container:
        stream = container.streams.video[0]
        return str(Fraction(stream.average_rate or stream.guessed_rate or PICTURE_FPS).limit_denominator(1001))


def write_frames(frames: Iterable[np.ndarray], target: Path, fps: Fraction) -> None:
    """Frames (h, w, 3) uint8 as H.264, one by one, next to the place and renamed; odd sides lose a row or column."""
    unfinished, frames = target.with_name(f".{target.name}.tmp"), iter(frames)
    first = next(frames)
    height, width = (n - n % 2 for n in first.shape[:2])
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with av.open(str(unfinished), "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=fps, options={"crf": "14"})
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            for frame in chain([first], frames):
                even = np.ascontiguousarray(frame[:height, :width])
                container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
            container.mux(stream.encode())
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


# ---- entropy coding ----


def _code(symbols: Iterable[int | None], size: int, step) -> list[int]:
    """One pass over the tokens: counts so far are the probabilities of the next; `step(token, model)` codes it."""
    counts, found = np.full(size, 0.5), []
    for symbol in symbols:
        model = streaming.model.Categorical(counts / counts.sum(), perfect=False)
        found.append(step(symbol, model))
        counts[found[-1]] += 16  # so much that a few hundred tokens outweigh thousands of codes
    return found


def write_adaptive(tokens: torch.Tensor, codebook_size: int) -> bytes:
    """Tokens of any shape as bytes, by a range coder whose probabilities are the counts of the tokens so far."""
    encoder = streaming.queue.RangeEncoder()

    def step(symbol: int, model) -> int:
        encoder.encode(symbol, model)
        return symbol

    _code(tokens.flatten().tolist(), codebook_size, step)
    return encoder.get_compressed().astype("<u4").tobytes()


def read_adaptive(data: bytes, shape: tuple[int, ...], codebook_size: int) -> torch.Tensor:
    """The inverse of `write_adaptive`: tokens int64 of this shape."""
    decoder = streaming.queue.RangeDecoder(np.frombuffer(data, "<u4").astype(np.uint32))
    found = _code([None] * int(np.prod(shape)), codebook_size, lambda _, model: int(decoder.decode(model)))
    return torch.tensor(found, dtype=torch.long).view(shape)
