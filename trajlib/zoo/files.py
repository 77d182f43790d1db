"""The project's JSON, and the digest of a value."""

import hashlib
import json
import re
from dataclasses import is_dataclass
from typing import Any

RESULTS = "results.json"


def digest(value: Any) -> str:
    """Sixteen hex digits that stand for a value that JSON can write; dataclasses inside count with their fields."""

    def spell(part: Any) -> Any:  # an address says nothing in another process
        return vars(part) if is_dataclass(part) else re.sub(r" at 0x\w+", "", repr(part))

    text = json.dumps(value, sort_keys=True, default=spell)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def to_json(value: Any) -> bytes:
    """JSON as this project stores it: sorted keys, one space of indent, a newline at the end."""
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()
