"""docs/ has no file that no page shows, no page links to nothing, and the tree stays light."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# In Markdown, or in the HTML that Markdown may have.
LINK = re.compile(r"\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)|\b(?:src|srcset|href)=[\"']([^\"'\s]+)")

TREE_MB = 12
"""Of which most are the raw results that the study's figures are recomputed from."""
WITHOUT_RESULTS_MB = 6
LARGE_MODEL, LARGE_MODEL_MB = "benchmarks/study/models/countdown_large-", 5.5
"""Counted apart: float32, for another storage would train another model."""


def tracked(root: Path = ROOT) -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split("\0") if name and (root / name).is_file()]


def links(root: Path, page: str) -> set[str]:
    """Files and folders of the tree that a page links to, by path from the root."""
    text = re.sub(r"^(```|~~~).*?^\1", "", (root / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"`[^`\n]*`", "", text)
    found = set()
    for match in LINK.finditer(text):
        target = (match[1] or match[2]).partition("#")[0].partition("?")[0]
        if target and not re.match(r"[a-z][a-z0-9+.-]*:|//", target, re.IGNORECASE):
            found.add(os.path.normpath(os.path.join(os.path.dirname(page), target)))
    return found


def unused(root: Path, files: Iterable[str]) -> list[str]:
    """Files of docs/ that README does not lead to: by links from page to page, or to a folder that they are in."""
    files = list(files)
    reached, pages = {"README.md"}, ["README.md"]
    while pages:
        for target in links(root, pages.pop()) - reached:
            reached.add(target)
            if target.endswith(".md") and (root / target).is_file():
                pages.append(target)
    folders = tuple(f"{target}/" for target in reached if (root / target).is_dir() and target not in (".", "docs"))
    return [f for f in files if f.startswith("docs/") and f not in reached and not f.startswith(folders)]


def test_every_file_of_docs_is_used():
    assert unused(ROOT, tracked()) == []


def test_links_lead_to_files():
    pages = [file for file in tracked() if file.endswith(".md")]
    assert "README.md" in pages
    broken = {page: bad for page in pages if (bad := [to for to in links(ROOT, page) if not (ROOT / to).exists()])}
    assert broken == {}


def test_the_tree_stays_light():
    sizes = {file: (ROOT / file).stat().st_size for file in tracked()}
    large = {file: sizes.pop(file) for file in list(sizes) if file.startswith(LARGE_MODEL)}
    assert sum(large.values()) < LARGE_MODEL_MB * 1e6
    assert sum(sizes.values()) < TREE_MB * 1e6, sorted(sizes.items(), key=lambda item: -item[1])[:20]
    rest = {file: size for file, size in sizes.items() if not file.startswith("benchmarks/study/results/")}
    assert sum(rest.values()) < WITHOUT_RESULTS_MB * 1e6, sorted(rest.items(), key=lambda item: -item[1])[:20]


@pytest.mark.parametrize(
    ("page", "left"),
    [
        ("![x](docs/a.png) and [y](docs/page.md)", []),
        ("[y](docs/page.md#part)", ["docs/a.png"]),
        ('<img src="docs/a.png"> [y](docs/page.md "title")', []),
        ("![x](docs/a.png)", ["docs/page.md", "docs/logs/1.jsonl"]),
        ("`![x](docs/a.png)`\n```\n[y](docs/page.md)\n```", ["docs/a.png", "docs/page.md", "docs/logs/1.jsonl"]),
        ("[all](docs) [here](.)", ["docs/a.png", "docs/page.md", "docs/logs/1.jsonl"]),
        ("[y](https://example.org/docs/page.md)", ["docs/a.png", "docs/page.md", "docs/logs/1.jsonl"]),
    ],
)
def test_what_is_used(tmp_path, page, left):
    """The check itself: on a tree with a page that links to a folder."""
    (tmp_path / "docs" / "logs").mkdir(parents=True)
    (tmp_path / "README.md").write_text(page)
    (tmp_path / "docs" / "page.md").write_text("[back](../README.md), [logs](logs)")
    assert unused(tmp_path, ["README.md", "docs/a.png", "docs/page.md", "docs/logs/1.jsonl"]) == left
