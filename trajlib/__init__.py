"""trajlib: what the notebooks share. Clips of moving dots, tokens, and the models between them."""

import warnings

import torch

warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)  # x-transformers still calls it

# Where white paper comes out nearly white, gradients are too small for normal floats, and a CPU takes such numbers ten
# times more slowly: the tokenizer's backward pass grew from 0.3 s to 2.9 s in training. Threads that are there already
# keep their setting, so this has to come first.
torch.set_flush_denormal(True)

FAMILIES = ("linear", "circular", "helical", "parabolic")
