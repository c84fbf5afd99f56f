"""Models are kept under the hash of what decides them."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULT_FILE = "base_model.json"


def cached(out: Path, name: str, identity: dict[str, Any], build: Callable[[Path], dict[str, Any]]) -> Path:
    """The folder ``out/<name>-<hash of identity>``, built first if it is not there.

    It is built under another name and renamed when finished, so an interrupted build is never taken for a model.

    Raises:
        OSError: `out` cannot be written to.
    """
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:10]
    final = out / f"{name}-{digest}"
    if (final / RESULT_FILE).is_file():
        return final
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".building-") as scratch:
        folder = Path(scratch) / "model"
        folder.mkdir()
        result = {**build(folder), "settings": identity}
        (folder / RESULT_FILE).write_text(json.dumps(result, indent=2) + "\n")
        if final.exists():  # left by something that is not this function
            shutil.rmtree(final)
        try:
            folder.rename(final)
        except OSError:
            if not (final / RESULT_FILE).is_file():  # else another process finished the same model meanwhile
                raise
    return final
