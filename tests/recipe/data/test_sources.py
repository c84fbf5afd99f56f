"""Every set beside the paper's is prepared from a file laid out as the real one is; the problems are made up."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recipe.asymgrpo import data
from recipe.asymgrpo.data import SETS, main, math_sets, prepare, read_local, sources
from recipe.asymgrpo.reward import compute_score, fault_of

ROOT = Path(__file__).resolve().parents[3]
COPIES = 100  # of each row in DAPO's file


def json_lines(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def json_array(path: Path, rows: list[dict]) -> None:
    path.write_text(json.dumps(rows, indent=2), encoding="utf-8")


def parquet(path: Path, rows: list[dict]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


def dapo(problem: str, answer: str, ask: str = "$Answer (without quotes)", end: str = "") -> dict:
    content = (
        "Solve the following math problem step by step. The last line of your response should be of the form "
        f"Answer: {ask} where $Answer is the answer to the problem.\n\n{problem}\n\n"
        f'Remember to put your answer on its own line after "Answer:".{end}'
    )
    return {
        "data_source": "math_dapo",
        "prompt": [{"content": content, "role": "user"}],
        "ability": "MATH",
        "reward_model": {"ground_truth": answer, "style": "rule-lighteval/MATH_v2"},
        "extra_info": {"index": problem[:8]},
    }


@dataclass
class Layout:
    """A file as the set's authors have it: how it is written, its rows, and what must become of them."""

    file: str
    write: Callable[[Path, list[dict]], None]
    rows: list[dict]
    answers: dict[str, str]  # question -> answer
    rejected: dict[str, int] | None = None
    subjects: tuple[str, ...] = ()


NUTS = "Ann fills 3 bags with 12 nuts each and Bo twice as many.\nHow many nuts do both have?"
MILL = "A mill turns 18 times an hour. How often does it turn in 60 hours?"
ROOTS = "Let $a$ and $b$ be the roots of $x^2-7x+3=0$.\nFind $a^2+b^2$."
LAYOUTS = {
    "gsm8k_train": Layout(
        "train.jsonl",
        json_lines,
        [
            {"question": NUTS, "answer": "Ann has 3*12=<<3*12=36>>36.\nBoth have 36+72=<<36+72=108>>108.\n#### 108"},
            {"question": MILL, "answer": "It turns 18*60=<<18*60=1080>>1080 times.\n#### 1,080"},
            {"question": "What is lost?", "answer": "The line with the answer.\nIt is 5."},
        ],
        {NUTS: "108", MILL: "1,080"},
        {"no answer": 1},
    ),
    "gsm8k_test": Layout(
        "main/test-00000-of-00001.parquet",
        parquet,
        [{"question": "Cy owes $7 and pays $9. What is left?", "answer": "7-9=<<7-9=-2>>-2\n#### -2"}],
        {"Cy owes $7 and pays $9. What is left?": "-2"},
    ),
    "dapo_math_17k": Layout(
        "data/dapo-math-17k.parquet",
        parquet,
        [
            row
            for _ in range(COPIES)
            for row in (
                dapo(ROOTS, "43"),
                dapo("How many primes are below 12?", "5"),
                dapo("How many primes are below 12?", "4"),
                dapo("An answer is missing.", ""),
                dapo("Another box is asked for.", "1", ask="\\boxed{$Answer}", end="\n"),
                dapo("Asked in another way.", "1", end=" Be short."),
            )
        ],
        {ROOTS: "43", "How many primes are below 12?": "5", "Another box is asked for.": "1"},
        {
            "the same question twice": 3 * (COPIES - 1),
            "the same question with another answer": COPIES,
            "no answer": COPIES,
            "an instruction that is not known": COPIES,
        },
    ),
    "deepscaler": Layout(
        "deepscaler.json",
        json_array,
        [
            {"problem": ROOTS, "answer": "43", "solution": "It is $49-6=\\boxed{43}$."},
            {"problem": "Simplify $\\sqrt{8}$.", "answer": "2\\sqrt{2}", "solution": ""},
            {"problem": "The answer is in the box only.", "answer": "", "solution": "So $\\boxed{\\frac{1}{2}}$."},
            {"problem": "Nobody knows.", "answer": "", "solution": "We do not know."},
        ],
        {ROOTS: "43", "Simplify $\\sqrt{8}$.": "2\\sqrt{2}", "The answer is in the box only.": "\\frac{1}{2}"},
        {"no answer": 1},
    ),
    "minerva_math": Layout(
        "test.jsonl",
        json_lines,
        [
            {"question": "Each star gives $2 \\times 10^{30}$ W. What do 3 give, in watts?", "answer": "6e30"},
            {"question": "Write the wave with $A=2$.", "answer": "$2 \\cos (\\omega t)$"},
        ],
        {
            "Each star gives $2 \\times 10^{30}$ W. What do 3 give, in watts?": "6e30",
            "Write the wave with $A=2$.": "2 \\cos (\\omega t)",
        },
    ),
    "hmmt25": Layout(
        "data/train-00000-of-00001.parquet",
        parquet,
        [
            {"problem_idx": 1, "problem": ROOTS, "answer": "43", "problem_type": ["Algebra"]},
            {
                "problem_idx": 2,
                "problem": "Find $x$.",
                "answer": "\\frac{9}{\\sqrt{23}}",
                "problem_type": ["Geometry", "Algebra"],
            },
        ],
        {ROOTS: "43", "Find $x$.": "\\frac{9}{\\sqrt{23}}"},
        subjects=("Algebra", "Geometry, Algebra"),
    ),
    "aime26": Layout(
        "data/train-00000-of-00001.parquet",
        parquet,
        [{"problem_idx": 1, "answer": 277, "problem": "Find $m+n$."}, {"problem_idx": 2, "answer": 0, "problem": "0?"}],
        {"Find $m+n$.": "277", "0?": "0"},
    ),
    "brumo25": Layout(
        "data/train-00000-of-00001.parquet",
        parquet,
        [{"problem_idx": 1, "problem": "Find $k$.", "answer": "12", "problem_type": ["Number Theory"]}],
        {"Find $k$.": "12"},
        subjects=("Number Theory",),
    ),
}


def written(name: str, folder: Path) -> Path:
    path = folder / LAYOUTS[name].file
    path.parent.mkdir(parents=True, exist_ok=True)
    LAYOUTS[name].write(path, LAYOUTS[name].rows)
    return path


def check(name: str, out: Path, manifest: dict) -> None:
    layout, entry = LAYOUTS[name], manifest["sets"][name]
    rows = pq.read_table(out / f"{name}.parquet").to_pylist()
    infos = [row["extra_info"] for row in rows]
    truths = [row["reward_model"]["ground_truth"] for row in rows]
    assert {info["question"]: truth for info, truth in zip(infos, truths, strict=True)} == layout.answers
    assert entry["rejected"] == (layout.rejected or {})
    assert entry["raw_rows"] == len(layout.rows) == entry["rows"] + sum(entry["rejected"].values())
    assert {info["split"] for info in infos} == {"train" if SETS[name].training else "test"}
    assert tuple(info["subject"] for info in infos) == (layout.subjects or ("",) * len(rows))
    for row, truth in zip(rows, truths, strict=True):
        (message,) = row["prompt"]
        assert message["content"] == f"{row['extra_info']['question']}\n{data.rows.INSTRUCTION}"
        assert "Answer:" not in message["content"]
        assert row["data_source"] == (name.partition("_")[0] if name.startswith("gsm8k") else name)
        assert compute_score(row["data_source"], rf"\boxed{{{truth}}}", truth)["score"] == 1
        assert compute_score(row["data_source"], r"\boxed{977}", truth)["score"] == 0


def test_all_beside_the_papers_are_here():
    assert set(LAYOUTS) == set(SETS) - set(data.PAPER)


@pytest.mark.parametrize("name", LAYOUTS)
def test_from_a_file(name, tmp_path):
    path = written(name, tmp_path)
    assert main(["prepare", "--out", str(tmp_path / "out"), "--local", f"{name}={path}"]) == 0
    check(name, tmp_path / "out", json.loads((tmp_path / "out" / "manifest.json").read_text()))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Folders that `datasets` loads as it loads a repository of the hub."""
    sets = dict(SETS)
    for name, layout in LAYOUTS.items():
        folder, source = tmp_path / "hub" / name, SETS[name]
        written(name, folder)
        files = f"  data_files:\n  - split: {source.split}\n    path: {layout.file}\n"
        (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: {source.config or 'default'}\n{files}---\n")
        sets[name] = replace(source, repo=str(folder), rows=len(layout.rows))
    monkeypatch.setattr(math_sets, "SETS", sets)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", LAYOUTS)
def test_from_the_hub(name, hub, tmp_path, capsys):
    assert main(["prepare", "--sets", name, "--out", str(tmp_path / "out")]) == 0
    check(name, tmp_path / "out", json.loads((tmp_path / "out" / "manifest.json").read_text()))
    out, err = capsys.readouterr()
    assert SETS[name].licence in out
    assert "expected" not in err


def test_a_name_for_both_splits(hub, tmp_path):
    out = tmp_path / "out"
    assert main(["prepare", "--sets", "gsm8k", "--out", str(out)]) == 0
    assert sorted(path.name for path in out.glob("*.parquet")) == ["gsm8k_test.parquet", "gsm8k_train.parquet"]
    schemas = {pq.read_schema(path).to_string() for path in out.glob("*.parquet")}
    assert len(schemas) == 1


def test_some_from_files_and_the_others_from_the_hub(hub, tmp_path):
    file = written("aime26", tmp_path / "disk")
    out = tmp_path / "out"
    manifest = prepare(out, {"aime26": file}, sets=["hmmt25", "aime26", "hmmt25"])
    assert manifest["sets"]["aime26"]["source"] == file.name
    assert manifest["sets"]["hmmt25"]["revision"] == "local"
    assert sorted(manifest["sets"]) == ["aime26", "hmmt25"]


def test_training_sets_leave_out_what_is_evaluated(hub, tmp_path, capsys):
    out = tmp_path / "out"
    manifest = prepare(out, sets=["deepscaler", "dapo_math_17k", "hmmt25"])
    assert manifest["sets"]["deepscaler"]["rejected"] == {"no answer": 1, "in an evaluation set": 1}
    assert manifest["sets"]["dapo_math_17k"]["rejected"]["in an evaluation set"] == COPIES
    assert capsys.readouterr().err == ""
    # An evaluation set that comes later makes them old, which is said.
    prepare(out, sets=["brumo25"])
    error = capsys.readouterr().err
    assert "prepare deepscaler again to leave out their questions" in error
    assert "prepare dapo_math_17k again" in error
    (out / "brumo25.parquet").unlink()
    assert main(["prepare", "--sets", "deepscaler", "--out", str(out)]) == 2
    assert "prepare brumo25 again" in capsys.readouterr().err


def test_equal_rows_are_rejected_once_with_their_number(tmp_path):
    prepare(tmp_path / "out", {"dapo_math_17k": written("dapo_math_17k", tmp_path)})
    rejected = [json.loads(line) for line in (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()]
    assert len(rejected) == 6
    assert sum(row["times"] for row in rejected) == 6 * COPIES - 3


def test_other_layouts_of_the_same_sets(tmp_path):
    """Qwen2.5-Math's file of Minerva, open-r1's of DAPO, and a conversation that cannot be one problem."""
    qwen = [{"idx": 0, "problem": "What is $e^{0}$?", "solution": "It is $\\boxed{1}$.", "type": "Calculus (18.01)"}]
    (row,), _ = data.math_rows("minerva_math", qwen, set())
    assert row["reward_model"]["ground_truth"] == "1"
    assert row["extra_info"]["subject"] == "Calculus (18.01)"
    open_r1 = {"prompt": ROOTS, "solution": "43", "reward_model": {"ground_truth": "43"}}
    (row,), _ = data.math_rows("dapo_math_17k", [open_r1], set())
    assert row["extra_info"]["question"] == ROOTS
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": ROOTS}]
    _, (bad,) = data.math_rows("dapo_math_17k", [{"prompt": messages, "reward_model": {"ground_truth": "4"}}], set())
    assert bad.reason == "no question"


def test_a_parquet_file_is_read_in_batches(tmp_path):
    parquet(tmp_path / "x.parquet", [{"problem": str(i)} for i in range(20_000)])
    rows = read_local(tmp_path / "x.parquet")
    assert len(rows) == 20_000
    assert [row["problem"] for row in rows] == [row["problem"] for row in rows] == [str(i) for i in range(20_000)]
    assert {"problem": "7"} in rows
    whole = (tmp_path / "x.parquet").read_bytes()
    (tmp_path / "x.parquet").write_bytes(b"PAR1" + b"\0" * 400 + whole[404:])
    with pytest.raises(data.DataError, match="a damaged parquet file"):
        list(read_local(tmp_path / "x.parquet"))


def test_the_reward_knows_every_set():
    for name, source in SETS.items():
        assert fault_of(source.data_source or name, "1") is None, name
    assert "hmmt" in str(fault_of("nothing", "1"))


def test_help_lists_the_sets(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["prepare", "--help"])
    shown = capsys.readouterr().out
    for name in sources.names():
        assert re.search(rf"^  {name} ", shown, re.MULTILINE), name


def test_the_table_of_sets_is_the_codes():
    """To mend: ``python -c "from recipe.asymgrpo.data import sources; print(sources.markdown())"``."""
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- begin sets -->\n\n(.*?)\n\n<!-- end sets -->", page, re.DOTALL)
    assert found is not None
    assert found[1] == sources.markdown()
