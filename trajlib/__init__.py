"""trajlib: what the notebooks share. Clips of moving dots, tokens, and the models between them."""

import warnings

warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)  # x-transformers still calls it

FAMILIES = ("linear", "circular", "helical", "parabolic")
