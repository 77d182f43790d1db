"""The control of the label-efficiency benchmark: a tokenizer and a tracker trained from nothing for one run."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from studies.label_methods import videos

from trajlib.classify.readers import TokenTracker, tracking_loss
from trajlib.data.augment import NUM_AUGMENTATIONS
from trajlib.data.clips import split
from trajlib.data.spec import VideoSpec
from trajlib.tokenizer.video_tokenizer import Tokenizer
from trajlib.training.loop import fit
from trajlib.zoo.batches import encode_tracks, shuffled_batches, tokenizer_batches
from trajlib.zoo.config import recipes_of
from trajlib.zoo.recipes import tokenizer_loss


@dataclass(frozen=True)
class Unlabelled:
    """A `VideoDataset` of the chosen clips in all augmentations or, without any, of the train split after `first`."""

    chosen: tuple[int, ...] = ()
    first: int = 0
    spec: VideoSpec = VideoSpec()
    num_classes: int = 0

    def __len__(self):
        return 10**9

    def videos(self, indices):
        """One pass over the chosen clips after another, each in its own order and in another augmentation."""
        if not self.chosen:
            return split("train").videos([self.first + int(number) for number in indices])
        return videos("train", *zip(*map(self.clip, indices), strict=True))

    def clip(self, number):
        epoch, place = divmod(number, len(self.chosen))
        k = np.random.default_rng(epoch).permutation(len(self.chosen))[place]
        return self.chosen[k], int(37 * epoch + k) % NUM_AUGMENTATIONS  # 37: all 96, one after another


def own_pair(context, data, seed):
    """A tokenizer that has seen each clip of `data` once, and a tracker that has seen the first of them often."""
    recipes, budget = recipes_of(context.profile), context.settings.pair
    recipe = replace(recipes.tokenizer, train=recipes.tokenizer.train.shortened(budget["tokenizer"]))
    torch.manual_seed(seed)
    tokenizer = Tokenizer(**narrowed(vars(recipe.model), budget["width"]))
    loss = tokenizer_loss(chroma_weight=recipe.chroma_weight)
    made = tokenizer_batches(recipe, data)
    tokenizer, _ = fit(tokenizer, lambda m, b: loss(m, *b), made, seed=seed, **recipe.train.options)
    train = recipes.token_tracker.train.shortened(budget["tracker"])
    batch = shuffled_batches(encode_tracks(tokenizer, data, budget["clips"]), train.batch, seed)
    sizes = tokenizer.codebook_size, tokenizer.token_shape, tokenizer.levels
    tracker = TokenTracker(*sizes, **recipes.token_tracker.model)
    return tokenizer, fit(tracker, lambda m, b: tracking_loss(m, *b), batch, seed=seed, **train.options)[0]


def narrowed(config, width):
    """A `Tokenizer`'s arguments with every width scaled."""
    layers = [(layer[0], int(layer[1] * width)) if layer[0].startswith("compress") else layer
              for layer in config["layers"]]  # fmt: skip
    return config | {"dim": int(config["dim"] * width), "layers": tuple(layers)}
