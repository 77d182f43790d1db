"""Clips turned into other clips: flips, time reversal, exchanged colours, and crops about the foreground."""

import itertools

import torch
from einops import rearrange

from trajlib.data.spec import check_number, describe

NUM_AUGMENTATIONS = 96  # 2 x 2 flips, transposed or not, forwards or backwards, 6 orders of the colours


def augmented(videos: torch.Tensor, number: int) -> torch.Tensor:
    """One of the 96 augmentations of clips (..., 3, t, h, w), all equally likely in the data; 0 is the clip itself.

    Flipping or transposing the picture, reversing time and exchanging colours turn a clip of a family into another of
    the same family, and leave every distribution of the dataset as it is. ValueError for a number out of range, and for
    what is no such clip.
    """
    check_number("number", number, 0, NUM_AUGMENTATIONS - 1, whole=True)
    if not isinstance(videos, torch.Tensor) or videos.ndim < 4 or videos.shape[-4] != 3:
        raise ValueError(f"videos came as {describe(videos)}; a tensor (..., 3, frames, height, width) was expected.")
    number, order = divmod(number, 6)
    videos = videos[..., list(itertools.permutations(range(3)))[order], :, :, :]
    for axis in (-1, -2, -3):  # width, height, time
        number, flip = divmod(number, 2)
        videos = videos.flip(axis) if flip else videos
    return videos.transpose(-1, -2) if number else videos


def foreground_crops(
    videos: torch.Tensor, generator: torch.Generator, frames: int = 4, side: int = 32, cell: int = 16
) -> torch.Tensor:
    """Clips (b, 3, t, h, w) uint8 -> crops about the foreground: (b t / frames, 3, frames, side, side) uint8.

    A crop's corner is a multiple of `cell`, so that crops keep to the grid of tokens; `generator` decides between the
    corners next to the foreground's centroid. The centroid is measured in pixels; no true path is read.
    """
    crops = rearrange(videos, "b c (n t) h w -> (b n) c t h w", t=frames)
    intensity = (255 - crops.amin(1)).float().sum(1)  # (n, h, w)
    corners = []
    for along in (intensity.sum(2), intensity.sum(1)):  # rows, then columns: (n, size)
        middle = (along * torch.arange(along.shape[1])).sum(1) / along.sum(1).clamp_min(1)
        chance = torch.rand(len(crops), generator=generator)
        corner = ((middle + 0.5 - side / 2) / cell + chance).floor().clamp(0, (along.shape[1] - side) // cell)
        corners.append((corner * cell).long().tolist())
    return torch.stack([f[..., y : y + side, x : x + side] for f, y, x in zip(crops, *corners, strict=True)])
