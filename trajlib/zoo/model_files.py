"""The two files of a trained model, written and read.

    NAME.safetensors    the weights
    NAME.json           its card: class, config, sha256 of the weights, recipe, seed, data, figures, minutes, versions

Nothing is unpickled. Files are written next to their place and renamed, weights before card, so that an interrupted
save never leaves half a file.
"""

import hashlib
import json
import re
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes

from trajlib.atomic import write_together
from trajlib.data.spec import describe
from trajlib.zoo.files import RESULTS, to_json

SHIPPED = Path(__file__).resolve().parent / "weights"
REGISTRY = {
    "Tokenizer": "trajlib.tokenizer.video_tokenizer",
    "MaskedTransformer": "trajlib.generation.transformer",
    "JointTransformer": "trajlib.generation.joint",
    "AutoregressiveTransformer": "trajlib.generation.autoregressive",
    "Simple3DCNN": "trajlib.classify.readers",
    "I3D": "trajlib.classify.i3d",
    "TokenClassifier": "trajlib.classify.readers",
    "TokenTracker": "trajlib.classify.readers",
    "LanguageModel": "trajlib.language.model",
}
LIBRARIES = ("torch", "magvit2-pytorch", "vector-quantize-pytorch", "x-transformers", "numpy")
CARD_KEYS = ("class", "config", "sha256")
TRAINED_ON = "trained on"  # in a card: {name of a model: the sha256 of its weights}
SCALE = ".scale"  # key of the factor of each row of a matrix that is stored as whole numbers

Card = dict[str, Any]


class ArtifactError(RuntimeError):
    """A trained model that is not there, not whole, or not what its card says; the message says what to do."""


def is_shipped(artifacts: str | Path) -> bool:
    """Whether `ARTIFACTS` names the shipped weights, in capitals or not."""
    return str(artifacts).strip().lower() == "shipped"


def folder(artifacts: str | Path) -> Path:
    """The folder that `ARTIFACTS` names: "shipped" is the one inside the package.

    Notebooks run in their own folder, the command line in the one above: a relative name means the latter in both.
    ArtifactError for what is no name.
    """
    if not isinstance(artifacts, str | Path):
        raise ArtifactError(f'artifacts came as {describe(artifacts)}; "shipped" or a folder was expected.')
    path = SHIPPED if is_shipped(artifacts) else Path(artifacts).expanduser()
    return path if path.is_absolute() or not Path("00_start_here.ipynb").exists() else Path("..", path)


def names(artifacts: str | Path = "shipped") -> list[str]:
    """The names that `load` answers for, sorted."""
    return sorted(p.stem for p in folder(artifacts).glob("*.json") if p.name != RESULTS)


def files_of(name: str, artifacts: str | Path) -> tuple[Path, Path]:
    """(weights, card) of `name`; a name is one word, never a path."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_-]+", name) or f"{name}.json" == RESULTS:
        raise ArtifactError(f"{name!r} is not a name for a model: use letters, digits, _ and -, such as 'tokenizer'.")
    where = folder(artifacts)
    if "\0" in str(where):
        raise ArtifactError(f"{str(where)!r} is not the name of a folder: it has a NUL in it.")
    return where / f"{name}.safetensors", where / f"{name}.json"


def write_model(name: str, artifacts: str | Path, tensors: dict[str, torch.Tensor], card: Card) -> Card:
    """Both files, weights before card; the card as it was written."""
    weights, card_file = files_of(name, artifacts)
    data = tensors_to_bytes(tensors)
    versions = {lib: version(lib) for lib in LIBRARIES}
    card = card | {"name": name, "sha256": hashlib.sha256(data).hexdigest(), "library versions": versions}
    card_bytes = to_json(card)  # before the first file is written: a card that is not JSON leaves nothing behind
    if weights.exists() and not card_file.exists():  # not ours to overwrite
        weights.replace(weights.with_name(f"{weights.name}.old"))
    write_together({weights: data, card_file: card_bytes})
    return json.loads(card_bytes)


def storable(name: str, tensor: torch.Tensor, dtype: torch.dtype | None) -> Iterator[tuple[str, torch.Tensor]]:
    """A copy of its own (tied weights share memory, which safetensors refuses), in the type to be stored.

    int8: a matrix becomes whole numbers from -127 to 127 and a scale for each row; what is no matrix is float16.
    """
    tensor = tensor.detach().cpu()
    if dtype == torch.int8 and tensor.is_floating_point() and tensor.ndim > 1:
        scale = (tensor.flatten(1).abs().amax(1) / 127).clamp_min(1e-12)
        yield name + SCALE, scale
        tensor = (tensor / scale.view(-1, *[1] * (tensor.ndim - 1))).round().to(torch.int8)
    elif dtype is not None and tensor.is_floating_point():
        tensor = tensor.to(torch.float16 if dtype == torch.int8 else dtype)
    yield name, tensor.clone().contiguous()


def widened(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The inverse of `storable`, up to its rounding."""
    scales = {name.removesuffix(SCALE): t for name, t in tensors.items() if name.endswith(SCALE)}
    rest = {name: t for name, t in tensors.items() if not name.endswith(SCALE)}
    return rest | {n: rest[n] * s.view(-1, *[1] * (rest[n].ndim - 1)) for n, s in scales.items() if n in rest}


def read_model(name: str, artifacts: str | Path) -> tuple[dict[str, torch.Tensor], Card]:
    """Tensors and card, as they stand in the files."""
    weights, card_file = files_of(name, artifacts)
    if not card_file.exists():
        known = ", ".join(names(artifacts)) or "none yet"
        why = f"No model is called {name!r} in {spell(artifacts)}; there are: {known}"
        raise ArtifactError(f"{why}. Take one of these, or run the notebook that trains it.")
    if not weights.exists():
        why = f"The card {card_file.name} is there but {weights.name} is missing in {spell(artifacts)}"
        raise ArtifactError(f"{why}: restore it, or delete the card and train again.")
    card, data = _read_card(card_file), _read_bytes(weights)
    if hashlib.sha256(data).hexdigest() != card["sha256"]:  # another process may just be replacing both
        time.sleep(0.2)
        card, data = _read_card(card_file), _read_bytes(weights)
    if card.get("name", name) != name:
        raise ArtifactError(f"{card_file} is the card of {card['name']!r}, not of {name!r}: give both files that name.")
    for other, sha in card.get(TRAINED_ON, {}).items():
        there = files_of(other, artifacts)[1]
        if there.exists() and (found := _read_card(there)["sha256"]) != sha:
            why = f"was trained on another {other} (sha256 {sha[:12]}…) than the one there ({found[:12]}…)"
            remedy = f"restore that one, or delete {name}.* and train again"
            raise ArtifactError(f"{name!r} in {spell(artifacts)} {why}: {remedy}.")
    return _read_weights(weights, card, data), card


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror}): a file was expected, restore it.") from None


def spell(artifacts: str | Path) -> str:
    return "the shipped weights" if is_shipped(artifacts) else f"the folder {str(artifacts)!r}"


def _read_card(path: Path) -> Card:
    """The card at `path`: a JSON object with the keys and the class that loading needs."""
    try:
        card = json.loads(_read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path.name} is not a model card, since it is not JSON ({error}): restore it.") from None
    if lacking := [key for key in CARD_KEYS if not isinstance(card, dict) or key not in card]:
        raise ArtifactError(f"{path.name} is not a model card: it lacks {', '.join(lacking)}. Restore it.")
    if card["class"] not in list(REGISTRY):  # a list, so that an unhashable value gets the same sentence
        why = f"only {', '.join(REGISTRY)} are ever built from a card"
        raise ArtifactError(f"{path.name} asks for the class {card['class']!r}; {why}.")
    return card


def _read_weights(path: Path, card: Card, data: bytes) -> dict[str, torch.Tensor]:
    """Tensors by name: the file must be whole, and the very one that the card was written for."""
    try:
        tensors = tensors_from_bytes(data)
    except (SafetensorError, ValueError) as error:
        why = f"{path.name} ({len(data):,} bytes) is cut short or is not a safetensors file ({error})"
        raise ArtifactError(f"{why}: restore it, or delete it with its card and train again.") from None
    if (found := hashlib.sha256(data).hexdigest()) != card["sha256"]:
        why = f"{path.name} is not the file its card describes: sha256 {found[:12]}… came"
        raise ArtifactError(f"{why}, {str(card['sha256'])[:12]}… was expected. Restore both files from the same place.")
    return tensors
