"""A clip's tokens as real bytes, and back: an autoregressive model says how likely each token is, a range coder writes.

A token of probability p costs -log2 p bits (range coding: Pasco, 1976; the coder is `constriction`'s), so the better
the model, the shorter the file. Whoever reads needs the same model, and from it the very same probabilities: so writer
and reader are one function here, which goes token by token, one clip alone, in float32, in one thread. What was written
on one machine is read there. On another kind of CPU the last bit of some probability may come out differently, and then
the bytes cannot be read; to round the probabilities would only move that trouble to those that lie between two steps.

A good code leaves no bytes unused: whatever bytes there are, they are those of some clip, and a mistake could not be
noticed. So each clip ends with 8 bits more, a checksum of its tokens.
"""

import math
import zlib
from contextlib import contextmanager

import numpy as np
import torch
from constriction import stream as streaming

from trajlib.sampling import check_labels
from trajlib.tokenizer import check_tokens


def write(model, tokens, labels=None):
    """Tokens (b, 8, 4, 4) -> for each clip its bytes, in a list. Without `labels`, as clips of no known class.

    `model` is an `Autoregressive` on the CPU; it and the labels are not part of the bytes. ValueError for tokens of
    another grid or codebook.
    """
    tokens = torch.as_tensor(tokens)
    check_tokens(tokens, model.grid, model.codebook_size)
    told = _told(model, labels, len(tokens))
    return [_code(model, label, tokens=clip)[1] for label, clip in zip(told, tokens.flatten(1).tolist(), strict=True)]


def read(model, streams, labels=None):
    """The reverse of `write`: bytes of each clip -> tokens (b, 8, 4, 4); with the labels that they were written with.

    What is read is written again on the way, checksum and all. Unless the same bytes come out, it is a ValueError: they
    were cut short, changed, or written with another model, class or kind of CPU. Of 256 such streams one passes.
    """
    found = []
    for number, (label, stream) in enumerate(zip(_told(model, labels, len(streams)), streams, strict=True)):
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


def _told(model, labels, n):
    """The class of each of `n` clips, "no class" when `labels` is None, as a list."""
    labels = [model.unconditional] * n if labels is None else check_labels(labels).tolist()
    if len(labels) != n:
        raise ValueError(f"{len(labels)} labels came for {n} clips.")
    return labels


@torch.inference_mode()
def _code(model, label, tokens=None, stream=None):
    """One clip, token by token: written or, with a `stream`, read. Its tokens, a list, and its bytes."""
    model.eval()
    encoder = streaming.queue.RangeEncoder()
    decoder = None if stream is None else streaming.queue.RangeDecoder(_words(stream))
    found, cache = [], None
    with _one_thread():
        table, word = model.words(), model.codebook_size + label
        for place in range(math.prod(model.grid)):
            logits, cache = model.following(torch.tensor([[word]]), table, cache)
            model_of_token = streaming.model.Categorical(logits[0, -1].double().softmax(-1).numpy(), perfect=False)
            word = tokens[place] if decoder is None else decoder.decode(model_of_token)
            encoder.encode(word, model_of_token)
            found.append(word)
    encoder.encode(zlib.crc32(np.array(found, "<u4").tobytes()) % 256, streaming.model.Uniform(256))
    return found, _shortest(encoder)


def _words(stream):
    """Bytes as the coder's words of 32 bits; what is missing to a whole one, or behind the last, is zero."""
    return np.frombuffer(stream + bytes(-len(stream) % 4), ">u4").astype(np.uint32)


def _shortest(encoder):
    """The fewest bytes that name a number in the encoder's interval; its own words would round a clip up to 32 bits.

    `pos` says how many words are settled, and the interval as (lower end, size) in the two words that follow.
    """
    settled, (lower, size) = encoder.pos()
    words = np.array([*encoder.get_compressed().tolist(), 0, 0][: settled + 2], ">u4")  # names such a number, in words
    number = int.from_bytes(words.tobytes(), "big")
    lower = number - (number - lower) % 2**64
    for length in range(words.nbytes + 1):
        unit = 256 ** (words.nbytes - length)
        number = -(-lower // unit) * unit  # the first with zeros from there on
        if number < lower + size:
            break
    return number.to_bytes(words.nbytes, "big")[:length]


@contextmanager
def _one_thread():
    """A sum over two threads may round otherwise than over one, and the bytes would depend on it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
