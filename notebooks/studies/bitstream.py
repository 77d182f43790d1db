"""A clip's tokens as real bytes, and back: an autoregressive model gives the probabilities, a range coder writes.

A token of probability p costs -log2 p bits (range coding: Pasco, 1976; the coder is `constriction`'s), so the better
the model, the shorter the file. The reader needs the same model, and from it exactly the same probabilities: so writing
and reading are one function here, which goes token by token, one clip at a time, in float32, in one thread. Bytes
written on another kind of CPU may be unreadable: the last bit of a probability can differ there.

A good code leaves no bytes unused: any bytes are some clip's, and an error would go unnoticed. So each clip ends with
8 bits more, a checksum of its tokens.
"""

import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from trajlib.data.checks import check_labels, check_tokens

try:
    from constriction import stream as streaming
except ImportError:  # an extra: it has no wheel for Linux on arm64
    streaming = None


def write_bytes(model: Any, tokens: torch.Tensor, labels: Any = None) -> list[bytes]:
    """Tokens (b, *grid) -> the bytes of each clip. Without `labels`, as clips of no known class.

    `model` is an `AutoregressiveTransformer` on the CPU; it and the labels are not part of the bytes. ValueError for
    tokens of another grid or codebook.
    """
    tokens = torch.as_tensor(tokens)
    check_tokens(tokens, model.grid, model.codebook_size)
    classes = _classes(model, labels, len(tokens))
    return [_code(model, c, tokens=clip)[1] for c, clip in zip(classes, tokens.flatten(1).tolist(), strict=True)]


def read_bytes(model: Any, streams: Sequence[bytes], labels: Any = None) -> torch.Tensor:
    """The inverse of `write_bytes`: tokens (b, *grid), with the labels that the bytes were written with.

    What is read is written again, checksum and all. Unless the same bytes come out, it is a ValueError: they were cut
    short, changed, or written with another model, class or kind of CPU. One in 256 such streams passes.
    """
    found = []
    for number, (label, stream) in enumerate(zip(_classes(model, labels, len(streams)), streams, strict=True)):
        try:
            tokens, again = _code(model, label, stream=stream)
        except AssertionError:  # constriction's: bits that rounding leaves to no token at all
            again = None
        if again != stream:
            raise ValueError(
                f"the {len(stream)} bytes of clip {number} are not what this model writes here: cut short, changed, or "
                "written with another model, class or kind of CPU."
            )
        found.append(tokens)
    return torch.tensor(found, dtype=torch.long).view(len(found), *model.grid)


def _classes(model: Any, labels: Any, n: int) -> list[int]:
    """The class of each of `n` clips, "no class" when `labels` is None."""
    found = [model.unconditional] * n if labels is None else check_labels(labels, model.num_classes).tolist()
    if len(found) != n:
        raise ValueError(f"{len(found)} labels came for {n} clips.")
    return found


@torch.inference_mode()
@torch.autocast("cpu", enabled=False)  # probabilities in bfloat16 would be other ones
def _code(
    model: Any, label: int, tokens: list[int] | None = None, stream: bytes | None = None
) -> tuple[list[int], bytes]:
    """One clip, token by token: written or, with a `stream`, read. Its tokens and its bytes."""
    if streaming is None:
        raise ModuleNotFoundError("tokens become bytes with constriction, which is missing: pip install constriction.")
    model.eval()
    encoder = streaming.queue.RangeEncoder()
    decoder = streaming.queue.RangeDecoder(_words(stream or b""))  # of a stream that is read
    found, cache = [], None
    with _one_thread():
        table, token = model.token_embedding(), model.class_token(torch.tensor([label])).item()
        for position in range(math.prod(model.grid)):
            logits, cache = model.next_logits(torch.tensor([[token]]), table, cache)
            distribution = streaming.model.Categorical(logits[0, -1].double().softmax(-1).numpy(), perfect=False)
            token = tokens[position] if tokens is not None else decoder.decode(distribution)
            encoder.encode(token, distribution)
            found.append(token)
    encoder.encode(zlib.crc32(np.array(found, "<u4").tobytes()) % 256, streaming.model.Uniform(256))
    return found, _shortest(encoder)


def _words(stream: bytes) -> np.ndarray:
    """Bytes as the coder's words of 32 bits, filled up with zeros."""
    return np.frombuffer(stream + bytes(-len(stream) % 4), ">u4").astype(np.uint32)


def _shortest(encoder: Any) -> bytes:
    """The fewest bytes that name a number in the encoder's interval; its own words would round a clip up to 32 bits.

    `pos` gives the number of final words, and the interval as (lower end, size) in the two words that follow.
    """
    final, (lower, size) = encoder.pos()
    words = np.array([*encoder.get_compressed().tolist(), 0, 0][: final + 2], ">u4")  # names such a number, in words
    number = int.from_bytes(words.tobytes(), "big")
    lower = number - (number - lower) % 2**64
    for length in range(words.nbytes + 1):
        unit = 256 ** (words.nbytes - length)
        number = -(-lower // unit) * unit  # the first with zeros from there on
        if number < lower + size:
            break
    return number.to_bytes(words.nbytes, "big")[:length]


@contextmanager
def _one_thread() -> Iterator[None]:
    """A sum over two threads may round otherwise than over one, and the bytes would depend on it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
