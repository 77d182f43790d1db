"""Save, load and verify trained models: the class comes from `REGISTRY`, everything else from the card (JSON)."""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from trajlib.atomic import FREE, locked

from trajlib.zoo.model_files import (  # isort: skip
    REGISTRY, SHIPPED, TRAINED_ON, ArtifactError, Card, files_of, folder, is_shipped, names, read_model, spell,
    storable, widened, write_model,
)  # fmt: skip

__all__ = [
    "REGISTRY", "SHIPPED", "TRAINED_ON", "ArtifactError", "Card", "folder", "is_shipped", "load", "names", "save",
    "train_or_load",
]  # fmt: skip

MADE_FROM = "made from"  # in a card: the digest of recipe, seed and data


def save(model: nn.Module, card: Card, name: str, artifacts: str | Path, dtype: torch.dtype | None = None) -> Card:
    """Store `model` as `name` and return its full card; ArtifactError for a class that the registry does not know.

    `card` brings what only the caller knows: recipe, seed, data, figures, minutes, and "config" (the arguments of the
    class) unless the model has it as `model.config`. `dtype` is the stored type of floating-point weights, buffers
    apart: float16 halves the file, and int8 nearly halves it again (see `storable`); loading widens them.
    """
    kind = type(model).__name__
    if kind not in REGISTRY:
        raise ArtifactError(f"A {kind} cannot be saved: the registry knows {', '.join(REGISTRY)}; add it there first.")
    config = card["config"] if "config" in card else getattr(model, "config", None)
    if not isinstance(config, dict):
        raise ArtifactError(f"{kind} has no 'config': pass the arguments it was built with in the card, as a dict.")
    exact = {name for name, _ in model.named_buffers()}  # statistics: a covariance in float16 may not be positive
    state = model.state_dict()
    _check_finite(state)
    tensors = dict(stored for k, t in state.items() for stored in storable(k, t, None if k in exact else dtype))
    facts = {"class": kind, "config": config}
    facts["parameters"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return write_model(name, artifacts, tensors, card | facts)


def load(name: str, artifacts: str | Path = "shipped") -> tuple[nn.Module, Card]:
    """The model called `name`, in eval mode on the CPU, and its card; ArtifactError says what is wrong.

    A name may be written with hyphens, too: "tokenizer-lfq18".
    """
    name = name if files_of(name, artifacts)[1].exists() else name.replace("-", "_")
    tensors, card = read_model(name, artifacts)
    return _build(card, widened(tensors), *_backbone(name, artifacts, card)), card


def _backbone(name: str, artifacts: str | Path, card: Card) -> list[nn.Module]:
    """The model that `name` adapts, if its card names one: the very one that it was trained with."""
    if "backbone" not in card:
        return []
    model, found = load(card["backbone"]["name"], artifacts)
    if found["sha256"] != card["backbone"]["sha256"]:
        why = f"sha256 {found['sha256'][:12]}… came, {card['backbone']['sha256'][:12]}… was expected"
        what = f"{name!r} adapts another {found['name']!r} than the one in {spell(artifacts)}"
        raise ArtifactError(f"{what}: {why}. Restore it, or train again.")
    return [model]


def _build(card: Card, tensors: dict[str, torch.Tensor], *backbone: nn.Module) -> nn.Module:
    """The model that the card describes, of the `backbone` that it adapts, if any, with these weights in it."""
    cls = getattr(importlib.import_module(REGISTRY[card["class"]]), card["class"])
    _check_finite(tensors)
    try:
        with _at_most(1_000_000 + 4 * sum(t.numel() for t in tensors.values())):  # some parts are replaced when built
            model = cls(*backbone, **card["config"])
    except Exception as error:  # libraries raise anything, some over several lines
        why = " ".join(str(error).split())
        what = f"{card['class']} cannot be built from its card's config {card['config']} ({why})"
        remedy = "the card is wrong, or of another version of the code; restore it, or train again"
        raise ArtifactError(f"{what}: {remedy}.") from None
    if misfit := _misfit(model.state_dict(), tensors):
        why = f"The weights do not fit {card['class']}: {misfit}. They are of another version of the code, or of"
        raise ArtifactError(f"{why} another model; restore them, or delete them with their card and train again.")
    model.load_state_dict(tensors)
    return model.eval()


def _check_finite(tensors: dict[str, torch.Tensor]) -> None:
    if wrong := [k for k, t in tensors.items() if t.is_floating_point() and not t.isfinite().all()]:
        raise ArtifactError(f"The weights {wrong[0]!r} have NaN or infinity in them: train again, more slowly.")


@contextmanager
def _at_most(size: int) -> Iterator[None]:
    """ValueError as soon as what is built inside has more parameters than this: before they are filled."""
    count = 0

    def add(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal count
        count += 0 if parameter is None else parameter.numel()
        if count > size:
            raise ValueError(f"it has more than {size:,} parameters, which the file cannot hold")

    hook = register_module_parameter_registration_hook(add)
    try:
        yield
    finally:
        hook.remove()


def _misfit(wanted: dict[str, torch.Tensor], came: dict[str, torch.Tensor]) -> str:
    """The first difference between two state dicts, in words; empty when they fit."""
    for key in sorted(wanted.keys() | came.keys()):
        if key not in came:
            return f"{key!r} is missing"
        if key not in wanted:
            return f"{key!r} is not part of it"
        if wanted[key].shape != came[key].shape:
            return f"{key!r} came as {tuple(came[key].shape)}, expected {tuple(wanted[key].shape)}"
    return ""


def train_or_load(
    name: str, artifacts: str | Path, train: Callable[[], tuple[nn.Module, Card]], dtype: torch.dtype | None = None,
    made_from: str = "",
) -> tuple[nn.Module, Card]:  # fmt: skip
    """Load `name` if `artifacts` has it; else call `train() -> (model, card)`, save, and load what was saved.

    Either way the same comes back, and one line says which it was. A broken artifact is an error, not a reason to
    train: nobody's weights are silently replaced. So is a model of another `made_from`, the digest of recipe and data.
    One training at a time, others wait for it, but for the processes of one training; its checkpoints, NAME.checkpoint
    or NAME.PART.checkpoint, are deleted once the model is safe.
    """
    from trajlib.training.loop import agreed, this_process  # slow to import, and not needed by `load`

    card_file, first = files_of(name, artifacts)[1], this_process().is_main_process
    if not (found := agreed(card_file.exists())):
        with locked(card_file, free=FREE) if first else nullcontext():
            if not (found := agreed(card_file.exists())):
                model, card = train()
                if first:
                    save(model, card | {MADE_FROM: made_from}, name, artifacts, dtype)
            for left in card_file.parent.glob(f"{name}.*checkpoint") if first else ():
                left.unlink(missing_ok=True)
            this_process().wait_for_everyone()
    model, card = load(name, artifacts)
    if card.get(MADE_FROM, made_from) != made_from:
        why = f"was made by another recipe or from other data (profile {card.get('profile')!r})"
        remedy = f"name another folder, or delete {name}.* to train again"
        raise ArtifactError(f"{name!r} in {spell(artifacts)} {why}: {remedy}.")
    print(f"{name}: {'loaded' if found else 'trained here and saved'}, {card['parameters']:,} parameters")
    return model, card
