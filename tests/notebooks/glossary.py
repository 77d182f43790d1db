"""The course uses the field's terms: words that must not appear in it, each with the term to use instead.

Words with an everyday meaning, such as "place", are listed only as phrases or identifiers. Patterns ignore case unless
they contain a capital letter.
"""

import json
import re
import sys
from pathlib import Path

TERMS = {
    # tokens and quantizers
    r"words? of (the|a) (clip|codebook|tokenizer)|\b(class|import) Words\b": "token(s), TokenEmbedding",
    r"\bspelt\b|\.digits\(|\bdigits? of (a|the) (code|token|word)": "FSQ level index, level_indices",
    r"\bbooks?\b(?![\])])": "codebook(s), num_codebooks",
    r"\bhush(es|ed)?\b|\bquiet\s*=|\bpull\s*=|\"(hush|quiet|pull)\"": "background_code_weight, quantizer_weight",
    r"\bcodec\.(encode|decode|config|grid)\b|\bcodec(, _)? =(?!=)|\bcodec: (Tokenizer|nn)": "tokenizer",
    r"\btiming\s*=": "encode_kwargs",
    # videos
    r"\bfilms?\b(?! strip)": "video; reconstruction; sample",
    r"\b(white|blank|empty|quiet) paper\b|\bon paper\b|\bpaper[_ ](code|hush|words?|tokens?)\b": "background",
    r"\bink\b|\bINK\b": "foreground intensity, FOREGROUND_THRESHOLD",
    r"errors? of place|\bplace[- ]errors?\b|\bplace_(weight|loss|recipe)\b": "localization error (px), position",
    r"\bhue_weight\b|\bhue weight\b": "chroma weight",
    r"\bclose[-_ ]ups?\b": "foreground crops",
    r"\bseen_(dot|part)\b|\bfollow_dot\b": "measure_dot, observed track",
    r"\bslack\b": "tolerance",
    r"\bstray\b|\brim\b|\bleaps?\b": "off-object mass, border contact, jump",
    r"\bdamag(e|es|ed|ing)\b|\bspoil(t|s)\b": "corruption, corrupted",
    r"\bspokes?\b": "radius vector",
    r"\bWORLD\b|\bworld\s*=(?!=)|\bworld/": "split, generator seed, data",
    # models
    r"\btold\b|\bhears?\b": "conditioned on; receives",
    r"\bobey(s|ed|ing)?\b": "class-consistent",
    r"\bsettled\b|\bwritable\b": "unmasked, maskable",
    r"\bsurest\b|\bfor sure\b|\bsurely\b": "most confident; significantly (95 % interval)",
    r"\bCOOL\b|\bstart_from\b|\bsteppers?\b|\bwatch=": "resample_temperature, init_output_bias, optimizers, callback",
    r"\bplanners?\b|\bPlanner\b|\bplanned (clip|sample|path|way|video)s?\b": "trajectory model, trajectory first",
    r"\bWriter\b|\bthe writer\b": "trajectory-conditioned transformer",
    r"\bmend(s|ed|ing)?\b": "token refinement",
    r"\bdepartures?\b": "trajectory RMSE",
    r"\btrunks?\b": "backbone",
    r"\brivals?\b|\bpupils?\b": "AR baseline; toy model",
    r"\bpersuades?\b|\bFrameJudge\b": "generator_loss, FrameDiscriminator",
    r"\bquick\(": "bf16_autocast",
    # evaluation
    r"\bjudg(e|es|ed|ing)\b|\bJudged\b": "generation metrics, classified by",
    r"\bmost central\b": "medoid",
    r"\bluck\b": "chance level",
    r"\bcontest(s|ed)?\b|\bcontenders?\b|\barms?\b": "label-efficiency benchmark; method; variant",
    r"\bshelf\b|\bdealt\b|\bof the few\b": "feature cache; permuted; labelled subset",
    r"\bstrangers?\b": "mismatched condition",
    r"\bbeside\b": "baseline, reference, next to",
    # code
    r"\bscrub(s|bed|bing)?\b|\blighten(s|ed)?\b|\bsurroundings\b|\bstamps?\b|\bstamped\b": (
        "strip_metadata, quantize_png, kernel_env, fingerprints"
    ),
    r"\b(class|import) (Surgery|Corpus|Morph|Codec|Round|Trial|Scene|Drawing|Tint)\b": "TokenEditor, TokenIndex, ...",
}
PATTERNS = [(re.compile(p, 0 if re.search(r"(?<!\\)[A-Z]", p) else re.IGNORECASE), term) for p, term in TERMS.items()]
SUFFIXES = (".py", ".js", ".css", ".md", ".ipynb", ".csv", ".toml", ".txt", ".cff", ".yml", ".cfg")
LISTED = {"tests/notebooks/glossary.py", "tests/notebooks/test_glossary.py"}  # they name the words


def text_of(path: Path) -> str:
    """What a reader sees of the file: of a notebook its sources and the text that it printed."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    parts = []
    for cell in json.loads(text)["cells"]:
        parts.append("".join(cell["source"]))
        for output in cell.get("outputs", []):
            parts.append("".join(output.get("text", [])))
            parts += ["".join(v) for k, v in output.get("data", {}).items() if k in ("text/plain", "text/markdown")]
    return "\n".join(parts)


def violations(text: str) -> list[str]:
    """One line for each forbidden word in `text`: line number, word, term to use."""
    found = [(match.start(), match[0], term) for pattern, term in PATTERNS for match in pattern.finditer(text)]
    return [f"line {text.count(chr(10), 0, at) + 1}, {word!r}: use {term}" for at, word, term in sorted(found)]


def is_checked(path: Path, root: Path) -> bool:
    """Whether the file at `path` is text of the course. Model cards are left out, the names of figures are not."""
    return (path.suffix in SUFFIXES or path.name == "results.json") and str(path.relative_to(root)) not in LISTED


if __name__ == "__main__":  # python tests/notebooks/glossary.py FILE ...
    for name in sys.argv[1:]:
        for fault in violations(text_of(Path(name))):
            print(f"{name}: {fault}")
