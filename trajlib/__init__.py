"""trajlib: what the notebooks share. Clips of moving dots, tokens, and the models between them."""

import warnings

import torch

for old in ("torch.jit.script", "torch.cuda.amp.autocast", "torch.backends.cuda.sdp_kernel"):
    warnings.filterwarnings("ignore", f"`{old}", FutureWarning)  # magvit2-pytorch and x-transformers still call them

# Where white paper comes out nearly white, gradients are too small for normal floats, and a CPU takes such numbers ten
# times more slowly: the tokenizer's backward pass grew from 0.3 s to 2.9 s in training. Threads that are there already
# keep their setting, so this has to come first.
torch.set_flush_denormal(True)

FAMILIES = ("linear", "circular", "helical", "parabolic")
