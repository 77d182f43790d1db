"""Every size and number that a profile changes; a notebook says `cfg = profile(PROFILE)` and nothing else."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Profile:
    """`full` makes the report; `smoke` is tiny in every size, checks the machinery and claims nothing about quality."""

    name: str
    seed: int = 0
    world_clips: int = 8000  # notebook 01: clips in the cheating test


PROFILES = {
    "full": Profile("full"),
    "smoke": Profile("smoke", world_clips=400),
}


def profile(name):
    """The `Profile` called `name`, or a ValueError that lists the names."""
    if name not in PROFILES:
        raise ValueError(f"PROFILE is {name!r}; it must be one of {', '.join(map(repr, PROFILES))}.")
    return PROFILES[name]
