"""Sets of mathematics from the hub or from files, as parquet for verl, with a manifest of what was made of what."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from recipe.asymgrpo.data.files import DataError, read_local, sha256_of, write_parquet, write_text
from recipe.asymgrpo.data.rows import Rejected, columns_of, loose_key, math_rows, question_key
from recipe.asymgrpo.data.sources import PAPER, SETS, Source, chosen

MANIFEST = "manifest.json"
REJECTED = "rejected.jsonl"


def fetch(source: Source, revision: str | None = None) -> tuple[Collection[Mapping[str, Any]], str]:
    """Rows and revision (commit) of a set on the hub, which keeps what it has downloaded in its own cache.

    Args:
        revision: the commit; the newest where it is None.

    Raises:
        DataError: it cannot be reached or read.
    """
    try:
        from datasets import load_dataset
        from huggingface_hub import HfApi
    except ModuleNotFoundError as error:
        raise DataError(f"{error.name} is missing: pip install datasets, or use --local") from error
    try:
        if Path(source.repo).is_dir():
            revision = None
        elif revision is None:
            revision = HfApi().dataset_info(source.repo).sha
        table = load_dataset(source.repo, source.config, split=source.split, revision=revision)
    except Exception as error:
        cause = str(error).strip().splitlines() or [""]
        raise DataError(
            f"cannot get {source.repo} from the hub ({type(error).__name__}: {cause[0][:160]}). Run the same command "
            f"again when it can be reached (finished sets are kept), set HF_ENDPOINT to a mirror, or give files with "
            "--local NAME=FILE"
        ) from error
    return table, revision or "local"


def names_to_make(wanted: Sequence[str] | None, local: Mapping[str, Path]) -> list[str]:
    """The sets of a call, evaluation sets first: a training set leaves out their questions.

    Raises:
        DataError: an unknown set, or a file for one that is not to be made.
    """
    names = chosen(wanted) if wanted else list(local) or list(PAPER)
    if unused := [name for name in local if name not in names]:
        raise DataError(f"--local {unused[0]}: --sets does not name it; add it there, or leave out --sets")
    return sorted(names, key=lambda name: (SETS[name].training, list(SETS).index(name)))


def prepare(
    out: Path,
    local: Mapping[str, Path] | None = None,
    force: bool = False,
    sets: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Write sets as parquet with a manifest; sets that are there already, as the manifest has them, stay.

    A training set is written without the questions of the evaluation sets in `out`, so it comes last, and again where
    one of them has changed.

    Args:
        out: the folder.
        local: set -> file; without `sets`, these only, and nothing from the hub.
        force: make every set anew.
        sets: names of `SETS` or `SPLITS`; by default the paper's, or those of `local`.

    Returns:
        The manifest.

    Raises:
        DataError: a set cannot be had, or has no row that can be used.
        OSError: `out` cannot be written to.
    """
    from tqdm import tqdm

    local = local or {}
    names = names_to_make(sets, local)
    out.mkdir(parents=True, exist_ok=True)
    manifest = _manifest(out / MANIFEST)
    progress = tqdm(names, unit="set", disable=not sys.stderr.isatty())
    for name in progress:
        progress.set_description(name)
        _prepare_one(name, local.get(name), out, manifest, force)
    for name, entry in manifest["sets"].items():
        if name in SETS and SETS[name].training and entry.get("without") != _evaluation(manifest):
            print(
                f"warning: {out / entry['file']} was made with other evaluation sets beside it: prepare {name} again "
                "to leave out their questions",
                file=sys.stderr,
            )
    return manifest


def _manifest(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {"sets": {}}
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        manifest["sets"].items()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} cannot be read ({error}); remove it to start anew") from error
    return manifest


def _evaluation(manifest: Mapping[str, Any]) -> dict[str, str]:
    """The sha256 of each evaluation set of a folder."""
    sets = sorted(manifest["sets"].items())
    return {name: entry["sha256"] for name, entry in sets if name in SETS and not SETS[name].training}


def _prepare_one(name: str, file: Path | None, out: Path, manifest: dict[str, Any], force: bool) -> None:
    """Make a set, unless it is there already, and put it into the manifest.

    What is there of a file or of a commit of the hub is not replaced by what the hub has today, unless `force` says so.
    """
    import pyarrow.parquet as pq

    sets, source = manifest["sets"], SETS[name]
    origin: dict[str, Any] = {"source": source.repo, "licence": source.licence}
    if file:
        origin = {"source": file.name, "source_sha256": sha256_of(_existing(file))}
    taken: set[str] = set()
    if source.training:
        origin["without"] = _evaluation(manifest)
        for other in origin["without"]:
            info = pq.read_table(_there(out / f"{other}.parquet"), columns=["extra_info"]).to_pylist()
            questions = [row["extra_info"]["question"] for row in info]
            taken |= {key(question) for question in questions for key in (question_key, loose_key)}
    target = out / f"{name}.parquet"
    entry = sets.get(name, {})
    of_file = not file and not force and "source_sha256" in entry
    same = all(entry.get(key) == origin.get(key) for key in (("without",) if of_file else origin))
    if not force and same and target.is_file() and sha256_of(target) == entry.get("sha256"):
        return
    if of_file:
        raise DataError(
            f"{target} was made of {entry['source']}, and has changed or was made with other evaluation sets beside "
            f"it: prepare it again with --local {name}=FILE, or with --force from the hub"
        )
    raw: Collection[Mapping[str, Any]]
    if file:
        raw = read_local(file)
    else:
        known = entry.get("revision") if not force and entry.get("source") == source.repo else None
        raw, origin["revision"] = fetch(source, known)
    rows, rejected = math_rows(name, raw, taken)
    if not rows:
        raise DataError(
            f"{name}: none of {len(raw)} rows can be used ({'; '.join(sorted({r.reason for r in rejected}))}). "
            f"A row needs {columns_of(source)}"
        )
    write_parquet({name: rows}, out)
    reasons: Counter[str] = Counter()
    for row in rejected:
        reasons[row.reason] += row.times
    sets[name] = {
        "file": target.name,
        "rows": len(rows),
        "sha256": sha256_of(target),
        **origin,
        "raw_rows": len(raw),
        "rejected": dict(reasons),
    }
    if not file and len(raw) != source.rows:
        print(f"warning: {name} has {len(raw)} rows on the hub, {source.rows} were expected", file=sys.stderr)
    _replace_rejected(out / REJECTED, name, rejected)
    # After each set, so that an interrupted call goes on where it was.
    write_text(out / MANIFEST, json.dumps(manifest, indent=2, sort_keys=True) + "\n")


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise DataError(f"--local {path}: there is no such file")
    return path


def _there(path: Path) -> Path:
    if not path.is_file():
        raise DataError(f"{path} is in {MANIFEST} but not there: prepare {path.stem} again")
    return path


def _replace_rejected(path: Path, name: str, rejected: Sequence[Rejected]) -> None:
    """Put the rejected rows of one set into the file, in place of those it had of that set."""
    # Not splitlines: a text may have U+2028 in it.
    lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
    lines = [line for line in lines if line and json.loads(line)["set"] != name]
    lines += [json.dumps(asdict(row), ensure_ascii=False) for row in rejected]
    write_text(path, "".join(line + "\n" for line in lines))
