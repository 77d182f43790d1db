"""trajlib: what the notebooks share. Clips of moving dots, tokens, and the models between them."""

FAMILIES = ("linear", "circular", "helical", "parabolic")
