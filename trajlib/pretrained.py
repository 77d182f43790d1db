"""Save, load and verify trained models, and keep the figures that the report quotes.

A trained model is two files side by side:

    NAME.safetensors    the weights
    NAME.json           its card: class, config, sha256 of the weights, recipe, seed, data, figures, minutes, versions

Nothing is unpickled: the class comes from `REGISTRY`, its arguments and everything else from JSON. Files are written
beside their place and renamed, weights before card, so that an interrupted save never leaves half a file.
"""

import csv
import hashlib
import importlib
import io
import json
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import nn

SHIPPED = Path(__file__).resolve().parent / "pretrained"
RESULTS = "results.json"
REGISTRY = {
    "Tokenizer": "trajlib.tokenizer",
    "MaskedTransformer": "trajlib.transformer",
    "Autoregressive": "trajlib.autoregressive",
    "Planner": "trajlib.planner",
    "Writer": "trajlib.planner",
    "Samples": "trajlib.sampling",
    "Simple3DCNN": "trajlib.classifiers",
    "I3D": "trajlib.i3d",
    "TokenClassifier": "trajlib.classifiers",
    "TokenTracker": "trajlib.classifiers",
}
LIBRARIES = ("torch", "magvit2-pytorch", "vector-quantize-pytorch", "x-transformers", "numpy")
CARD_KEYS = ("class", "config", "sha256")

Card = dict[str, Any]


class ArtifactError(RuntimeError):
    """A trained model that is not there, not whole, or not what its card says; the message says what to do."""


def folder(artifacts: str | Path) -> Path:
    """The folder that `ARTIFACTS` names: "shipped" is the one inside the package."""
    return SHIPPED if str(artifacts) == "shipped" else Path(artifacts)


def names(artifacts: str | Path = "shipped") -> list[str]:
    """The names that `load` answers for, sorted."""
    return sorted(p.stem for p in folder(artifacts).glob("*.json") if p.name != RESULTS)


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` beside `path`, then rename: a reader sees the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.chmod(beside, 0o644)  # mkstemp's 0600 would follow the file into git and onto shared machines
        os.replace(beside, path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


def write_table(path: str | Path, columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    """A CSV file of `rows`, {column: value}, with figures to six digits, written beside and renamed."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()})
    write_atomic(Path(path), text.getvalue().encode())


def to_json(value: Any) -> bytes:
    """JSON as this project stores it: sorted keys, one space of indent, a newline at the end."""
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


# ---- models ------------------------------------------------------------------------------------------------------


def _files(name: str, artifacts: str | Path) -> tuple[Path, Path]:
    """(weights, card) of `name`; a name is one word, never a path."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_-]+", name) or f"{name}.json" == RESULTS:
        raise ArtifactError(f"{name!r} is not a name for a model: use letters, digits, _ and -, such as 'tokenizer'.")
    where = folder(artifacts)
    return where / f"{name}.safetensors", where / f"{name}.json"


def save(model: nn.Module, card: Card, name: str, artifacts: str | Path, dtype: torch.dtype | None = None) -> Card:
    """Store `model` as `name` and return its full card.

    `card` brings what only the caller knows: recipe, seed, data, figures, minutes, and "config" (the arguments of the
    class) unless the model has it as `model.config`. `dtype` is the stored type of floating-point weights: float16
    halves the file, and int8 nearly halves it again (see `_storable`); loading widens them.
    """
    weights, card_file = _files(name, artifacts)
    kind = type(model).__name__
    if kind not in REGISTRY:
        raise ArtifactError(f"A {kind} cannot be saved: the registry knows {', '.join(REGISTRY)}; add it there first.")
    config = card["config"] if "config" in card else getattr(model, "config", None)
    if not isinstance(config, dict):
        raise ArtifactError(f"{kind} says no 'config': pass the arguments it was built with in the card, as a dict.")
    data = tensors_to_bytes(dict(stored for k, t in model.state_dict().items() for stored in _storable(k, t, dtype)))
    card = card | {
        "name": name,
        "class": kind,
        "config": config,
        "sha256": hashlib.sha256(data).hexdigest(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "library versions": {lib: version(lib) for lib in LIBRARIES},
    }
    card_bytes = to_json(card)  # before the first file is written: a card that is not JSON leaves nothing behind
    write_atomic(weights, data)
    write_atomic(card_file, card_bytes)
    return json.loads(card_bytes)


SCALE = ".scale"  # beside a matrix of whole numbers: what each row is to be multiplied by


def _storable(name: str, tensor: torch.Tensor, dtype: torch.dtype | None) -> Iterator[tuple[str, torch.Tensor]]:
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


def _widened(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What `_storable` was given, as far as it was kept."""
    scales = {name.removesuffix(SCALE): t for name, t in tensors.items() if name.endswith(SCALE)}
    rest = {name: t for name, t in tensors.items() if not name.endswith(SCALE)}
    return rest | {n: rest[n] * s.view(-1, *[1] * (rest[n].ndim - 1)) for n, s in scales.items() if n in rest}


def load(name: str, artifacts: str | Path = "shipped") -> tuple[nn.Module, Card]:
    """The model called `name`, in eval mode on the CPU, and its card; ArtifactError says what is wrong."""
    weights, card_file = _files(name, artifacts)
    if not card_file.exists():
        known = ", ".join(names(artifacts)) or "none yet"
        raise ArtifactError(
            f"No model is called {name!r} in {_spell(artifacts)}; there are: {known}. "
            "Take one of these, or run the notebook that trains it."
        )
    if not weights.exists():
        raise ArtifactError(
            f"The card {card_file.name} is there but {weights.name} is missing in {_spell(artifacts)}: "
            "restore it, or delete the card and train again."
        )
    card = _read_card(card_file)
    return _build(card, _widened(_read_weights(weights, card))), card


def _spell(artifacts: str | Path) -> str:
    return "the shipped weights" if str(artifacts) == "shipped" else f"the folder {str(artifacts)!r}"


def _read_card(path: Path) -> Card:
    """The card at `path`: a JSON object with the keys and the class that loading needs."""
    try:
        card = json.loads(path.read_bytes())
    except ValueError as error:
        raise ArtifactError(f"{path.name} is not a model card, since it is not JSON ({error}): restore it.") from None
    lacking = [key for key in CARD_KEYS if not isinstance(card, dict) or key not in card]
    if lacking:
        raise ArtifactError(f"{path.name} is not a model card: it lacks {', '.join(lacking)}. Restore it.")
    if card["class"] not in list(REGISTRY):  # [] is in no list of names; of a dict it cannot be asked
        raise ArtifactError(
            f"{path.name} asks for the class {card['class']!r}; only {', '.join(REGISTRY)} are ever built from a card."
        )
    return card


def _read_weights(path: Path, card: Card) -> dict[str, torch.Tensor]:
    """Tensors by name: the file must be whole, and the very one that the card was written for."""
    data = path.read_bytes()
    try:
        tensors = tensors_from_bytes(data)
    except (SafetensorError, ValueError) as error:
        raise ArtifactError(
            f"{path.name} ({len(data):,} bytes) is cut short or is not a safetensors file ({error}): "
            "restore it, or delete it with its card and train again."
        ) from None
    found = hashlib.sha256(data).hexdigest()
    if found != card["sha256"]:
        raise ArtifactError(
            f"{path.name} is not the file its card describes: sha256 {found[:12]}… came, "
            f"{str(card['sha256'])[:12]}… was expected. Restore both files from the same place."
        )
    return tensors


def _build(card: Card, tensors: dict[str, torch.Tensor]) -> nn.Module:
    """The model that the card describes, with these weights in it."""
    cls = getattr(importlib.import_module(REGISTRY[card["class"]]), card["class"])
    try:
        model = cls(**card["config"])
    except Exception as error:  # there is no telling over what a library trips, and some complain in several lines
        why = " ".join(str(error).split())
        raise ArtifactError(
            f"{card['class']} cannot be built from its card's config {card['config']} ({why}): "
            "the card is wrong, or of another version of the code; restore it, or train again."
        ) from None
    misfit = _misfit(model.state_dict(), tensors)
    if misfit:
        raise ArtifactError(
            f"The weights do not fit {card['class']}: {misfit}. They are of another version of the code, or of another "
            "model; restore them, or delete them with their card and train again."
        )
    model.load_state_dict(tensors)
    return model.eval()


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
    name: str,
    artifacts: str | Path,
    train: Callable[[], tuple[nn.Module, Card]],
    dtype: torch.dtype | None = None,
) -> tuple[nn.Module, Card]:
    """Load `name` if `artifacts` has it; else call `train() -> (model, card)`, save, and load what was saved.

    Either way the same thing comes back, and one line says which it was. A damaged artifact is an error, not a reason
    to train: weights that somebody waited for are not silently replaced.
    """
    found = _files(name, artifacts)[1].exists()
    if not found:
        model, card = train()
        save(model, card, name, artifacts, dtype)
    model, card = load(name, artifacts)
    size = f", {card['parameters']:,} parameters" * (card["parameters"] > 0)
    print(f"{name}: {'loaded' if found else 'trained here and saved' if size else 'written here and saved'}{size}")
    return model, card


# ---- results -----------------------------------------------------------------------------------------------------


def record(
    artifacts: str | Path,
    name: str,
    value: float | int | bool | str,
    *,
    n: int,
    notebook: str,
    interval: tuple[float, float] | None = None,
    baseline: float | None = None,
    ceiling: float | None = None,
    seed: int | None = None,
    unit: str = "",
    tolerance: float | None = None,
) -> None:
    """Keep one figure of the report: its value, the number of things it is of, interval, baseline, ceiling.

    `tolerance` is how far (absolute, in `unit`) the value may be off on another machine; without it, another machine
    must give the same value to six digits. The figure goes to the file of `results_file`; a reader who steps through a
    notebook with the shipped weights has none, and changes no tracked file.
    """
    values = {"value": value, "interval": interval, "baseline": baseline, "ceiling": ceiling, "tolerance": tolerance}
    if value is None:
        raise ValueError(f"The figure {name!r} has no value: None came, a number or a word was expected.")
    entry = {key: _plain(item, name, key) for key, item in values.items()}
    entry |= {"n": int(n), "seed": seed, "notebook": notebook, "unit": unit}
    path = results_file(artifacts)
    if path is not None:
        write_atomic(path, to_json(_read_results(path) | {name: entry}))


def results(artifacts: str | Path = "shipped") -> dict[str, dict[str, Any]]:
    """Every figure there is, by name: the folder's results.json, overlaid with those of the run in progress."""
    under = _read_results(folder(artifacts) / RESULTS)
    over = results_file(artifacts)
    return under | (_read_results(over) if over else {})


def results_file(artifacts: str | Path) -> Path | None:
    """Where `record` writes: the file that TRAJLIB_RESULTS names (the runner sets it), else the artifacts' own.

    None for "shipped" outside the runner: the shipped file changes only with `python -m trajlib run --update`.
    """
    if os.environ.get("TRAJLIB_RESULTS"):
        return Path(os.environ["TRAJLIB_RESULTS"])
    return None if str(artifacts) == "shipped" else folder(artifacts) / RESULTS


def _read_results(path: Path) -> dict[str, dict[str, Any]]:
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise ArtifactError(f"{path} is not JSON ({error}): restore it, or delete it and run again.") from None
    if not isinstance(found, dict):
        raise ArtifactError(f"{path} is not a file of results: a JSON object was expected. Delete it and run again.")
    return found


def _plain(value: Any, name: str, key: str) -> Any:
    """`value` as JSON holds it, floats to six significant digits; NaN and infinity are refused."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item, name, key) for item in value]
    if hasattr(value, "item"):  # a NumPy or torch scalar
        value = value.item()
    if isinstance(value, bool | int):
        return value
    if not isinstance(value, float) or not math.isfinite(value):
        raise ValueError(f"The {key} of the figure {name!r} is {value!r}: a finite number was expected.")
    return float(f"{value:.6g}")
