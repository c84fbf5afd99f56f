"""`data prepare`: the paper's sets to verl's parquet."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recipe.asymgrpo import data
from recipe.asymgrpo.data import (
    DataError,
    answer_of,
    main,
    math_sets,
    prepare,
    question_key,
    read_local,
    sha256_of,
)
from recipe.asymgrpo.data.rows import loose_key, math_rows
from recipe.asymgrpo.reward import compute_score

ROOT = Path(__file__).resolve().parents[3]
TINY = ROOT / "examples" / "tiny"


def lines(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows_of(path: Path) -> list[dict]:
    return pq.read_table(path).to_pylist()


def test_rows_as_verl_reads_them(tmp_path):
    assert main(["prepare", "--out", str(tmp_path), "--local", str(TINY / "train.jsonl")]) == 0
    rows = rows_of(tmp_path / "train.parquet")
    assert len(rows) == 12
    first = rows[0]
    assert first["data_source"] == "math"
    (message,) = first["prompt"]
    assert message["role"] == "user"
    assert message["content"].startswith("If $x+3=7$, what is $x$?\n")
    assert message["content"].endswith(r"put your final answer within \boxed{}.")
    assert first["reward_model"] == {"style": "rule", "ground_truth": "4"}
    assert first["extra_info"]["subject"] == "Algebra"
    assert len({row["extra_info"]["id"] for row in rows}) == 12
    # Every answer is one that the reward accepts.
    for row in rows:
        truth = row["reward_model"]["ground_truth"]
        assert compute_score(row["data_source"], rf"So \boxed{{{truth}}}", truth)["score"] == 1
        assert compute_score(row["data_source"], r"So \boxed{977}", truth)["score"] == 0


def test_a_manifest_says_what_is_there(tmp_path):
    manifest = prepare(tmp_path, {"train": TINY / "train.jsonl", "math500": TINY / "math500.jsonl"})
    assert manifest == json.loads((tmp_path / "manifest.json").read_text())
    for name, rows in (("train", 12), ("math500", 6)):
        entry = manifest["sets"][name]
        assert entry["rows"] == entry["raw_rows"] == rows
        assert entry["sha256"] == sha256_of(tmp_path / entry["file"])
        assert entry["source_sha256"] == sha256_of(TINY / f"{name}.jsonl")


def test_ids_do_not_depend_on_order_or_layout(tmp_path):
    question = {"problem": "What is  $1+1$?", "answer": "2"}
    one = prepare(tmp_path / "a", {"amc23": lines(tmp_path / "a.jsonl", [question, {"problem": "b", "answer": "3"}])})
    other = lines(
        tmp_path / "b.jsonl", [{"question": "b.", "answer": 3.0}, {"question": "what is $1 + 1$?", "answer": 2}]
    )
    two = prepare(tmp_path / "b", {"amc23": other})
    ids = [
        {
            row["extra_info"]["id"]: row["reward_model"]["ground_truth"]
            for row in rows_of(tmp_path / x / "amc23.parquet")
        }
        for x in "ab"
    ]
    assert ids[0] == ids[1]
    assert one["sets"]["amc23"]["rows"] == two["sets"]["amc23"]["rows"] == 2


def test_bad_rows_are_counted_and_kept_for_reading(tmp_path, capsys):
    rows = [
        {"problem": "good", "answer": "1"},
        {"problem": "  ", "answer": "1"},
        {"problem": None, "answer": "1"},
        {"problem": "no answer"},
        {"problem": "no box", "solution": "it is 7"},
        {"problem": "half a box", "solution": r"\boxed{7"},
        {"problem": " GOOD ", "answer": "1"},
        {"answer": "1"},
    ]
    assert main(["prepare", "--out", str(tmp_path), "--local", str(lines(tmp_path / "x.jsonl", rows))]) == 0
    rejected = json.loads((tmp_path / "manifest.json").read_text())["sets"]["train"]["rejected"]
    assert rejected == {"no question": 3, "no answer": 3, "the same question twice": 1}
    kept = [json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text().splitlines()]
    assert [row["row"] for row in kept] == [1, 2, 3, 4, 5, 6, 7]
    assert "3 rejected: no answer" in capsys.readouterr().out


def test_the_training_set_has_no_question_of_an_evaluation_set(tmp_path):
    train = lines(tmp_path / "train.jsonl", [{"problem": f"q{i}", "answer": "1"} for i in range(5)])
    prepare(tmp_path, {"train": train})
    assert len(rows_of(tmp_path / "train.parquet")) == 5
    # Added later: the evaluation set stays whole, and the training set is made anew.
    prepare(tmp_path, {"aime24": lines(tmp_path / "aime.jsonl", [{"problem": " q3. ", "answer": "5"}])})
    manifest = prepare(tmp_path, {"train": train})
    assert manifest["sets"]["train"]["rejected"] == {"in an evaluation set": 1}
    assert [row["extra_info"]["question"] for row in rows_of(tmp_path / "train.parquet")] == ["q0", "q1", "q2", "q4"]
    assert manifest["sets"]["aime24"]["rows"] == 1


def test_finished_sets_are_not_made_again(tmp_path):
    source = {"train": TINY / "train.jsonl"}
    prepare(tmp_path, source)
    file = tmp_path / "train.parquet"
    before = file.stat().st_mtime_ns
    prepare(tmp_path, source)
    assert file.stat().st_mtime_ns == before
    prepare(tmp_path, source, force=True)
    assert file.stat().st_mtime_ns > before
    # A damaged or another file is made again.
    file.write_bytes(b"")
    assert len(rows_of_after(tmp_path, source)) == 12
    shorter = lines(tmp_path / "short.jsonl", [{"problem": "q", "answer": "1"}])
    assert len(rows_of_after(tmp_path, {"train": shorter})) == 1


def rows_of_after(out: Path, local: dict) -> list[dict]:
    prepare(out, local)
    return rows_of(out / "train.parquet")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The hub's data sets with their real columns, in folders that `datasets` loads as it loads a repository."""
    columns = {
        "train": [{"problem": "What is $1+1$?", "level": "Level 1", "type": "Algebra", "solution": r"\boxed{2}"}],
        "math500": [
            {"problem": "a", "solution": "", "answer": "3", "subject": "Algebra", "level": 1, "unique_id": "test/1"}
        ],
        "aime24": [{"id": 60, "problem": "b", "solution": "", "answer": "204", "url": "", "year": "2024"}],
        "aime25": [{"problem": "c", "answer": "70", "id": "0"}],
        "amc23": [{"id": 0, "question": "d", "answer": 27.0, "url": ""}],
        "olympiadbench": [
            {"id": 1606, "question": "e", "final_answer": ["$2$", "$-1$"], "difficulty": "Competition", "subfield": "A"}
        ],
    }
    calls: list[str] = []
    sets = {}
    for name in data.PAPER:
        source = data.SETS[name]
        folder = tmp_path / "hub" / name
        folder.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(columns[name]), folder / f"{source.split}.parquet")
        files = f"  data_files:\n  - split: {source.split}\n    path: {source.split}.parquet\n"
        card = f"---\nconfigs:\n- config_name: {source.config or 'default'}\n{files}---\n"
        (folder / "README.md").write_text(card)
        sets[name] = replace(source, repo=str(folder), rows=1)
    real = data.fetch

    def fetch(source, revision=None):
        calls.append(source.repo)
        return real(source)

    monkeypatch.setattr(math_sets, "SETS", sets)
    monkeypatch.setattr(math_sets, "fetch", fetch)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    return calls


def test_all_sets_of_the_hub(hub, tmp_path, capsys):
    assert main(["prepare", "--out", str(tmp_path / "out")]) == 0
    answers = {
        name: [row["reward_model"]["ground_truth"] for row in rows_of(tmp_path / "out" / f"{name}.parquet")]
        for name in data.PAPER
    }
    assert answers == {
        "train": ["2"],
        "math500": ["3"],
        "aime24": ["204"],
        "aime25": ["70"],
        "amc23": ["27"],
        "olympiadbench": ["2, -1"],
    }
    sources = [rows_of(tmp_path / "out" / f"{name}.parquet")[0]["data_source"] for name in data.PAPER]
    assert sources == ["math", "math500", "aime24", "aime25", "amc23", "olympiadbench"]
    schemas = {pq.read_schema(tmp_path / "out" / f"{name}.parquet").to_string() for name in data.PAPER}
    assert len(schemas) == 1  # verl concatenates validation files
    assert "Apache-2.0" in capsys.readouterr().out
    assert len(hub) == 6
    # Interrupted and started again, it fetches what is missing.
    (tmp_path / "out" / "aime25.parquet").unlink()
    hub.clear()
    assert main(["prepare", "--out", str(tmp_path / "out")]) == 0
    assert [Path(repo).name for repo in hub] == ["aime25"]


def test_what_was_made_of_a_file_is_not_replaced_by_the_hub(hub, tmp_path, capsys):
    out, file = tmp_path / "out", tmp_path / "mine.jsonl"
    file.write_text(json.dumps({"problem": "What is 6 + 7?", "answer": "13"}) + "\n")
    local = ["--local", f"train={file}", "--local", f"math500={file.with_name('other.jsonl')}"]
    file.with_name("other.jsonl").write_text(json.dumps({"problem": "What is 6 + 8?", "answer": "14"}) + "\n")
    assert main(["prepare", "--out", str(out), *local]) == 0
    assert main(["prepare", "--out", str(out), "--sets", "train", "math500"]) == 0
    assert hub == []
    assert rows_of(out / "train.parquet")[0]["reward_model"]["ground_truth"] == "13"
    assert main(["prepare", "--out", str(out), "--sets", "aime24"]) == 0  # another set beside it
    assert main(["prepare", "--out", str(out), "--sets", "train"]) == 2
    assert "prepare it again with --local train=FILE" in capsys.readouterr().err
    assert main(["prepare", "--out", str(out), "--sets", "train", "--force"]) == 0
    assert rows_of(out / "train.parquet")[0]["reward_model"]["ground_truth"] == "2"


def test_a_set_is_made_again_of_the_commit_that_it_was_made_of(monkeypatch, tmp_path):
    asked = []

    def fetch(source, revision=None):
        asked.append(revision)
        return [{"problem": "What is 1+1?", "answer": "2"}], revision or "today"

    monkeypatch.setattr(math_sets, "fetch", fetch)
    for force in (False, False, True):
        data.prepare(tmp_path, sets=["math500"], force=force)
        (tmp_path / "math500.parquet").unlink()
    assert asked == [None, "today", None]


def test_a_copy_in_other_spelling_is_left_out_of_the_training_set():
    """As the one that stands in MATH and, in other LaTeX, in OlympiadBench."""
    one = "If $a$ and $b$ are roots of $a^{3}-15 a^{2}=0$, compute $a+b$."
    copy = r"If $a$ and $b$ are roots of \[a^{3}-15\,a^{2}=0,\] compute $a+b.$"
    raw = [{"problem": copy, "solution": r"\boxed{15}"}, {"problem": "What is $1+1$?", "solution": r"\boxed{2}"}]
    rows, rejected = math_rows("train", raw, {question_key(one), loose_key(one)})
    assert [row.reason for row in rejected] == ["in an evaluation set"]
    assert len(rows) == 1
    assert loose_key("$x^2-1$") != loose_key("$x^2+1$")


def test_a_file_in_another_encoding_is_named(tmp_path, capsys):
    (tmp_path / "a.csv").write_bytes("problem,answer\nWhat is 6 \xb0C?,6\n".encode("cp1252"))
    assert main(["prepare", "--out", str(tmp_path / "out"), "--local", f"math500={tmp_path / 'a.csv'}"]) == 2
    assert "not UTF-8 at byte 25: iconv -f cp1252" in capsys.readouterr().err


def test_what_the_hub_should_have():
    """The sets and sizes of the paper; a source is a repository's name."""
    sizes = {name: data.SETS[name].rows for name in data.PAPER}
    assert sizes == {"train": 7500, "math500": 500, "aime24": 30, "aime25": 30, "amc23": 40, "olympiadbench": 674}


def test_without_a_hub(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", refuse)
    assert main(["prepare", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "cannot get HuggingFaceH4/MATH-500 from the hub" in error
    assert "--local NAME=FILE" in error


def refuse(*_args, **_kwargs):
    raise ConnectionError("no route to host")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--local", "/nowhere/x.jsonl"], "there is no such file"),
        (["--local", "aime99=x.jsonl"], "unknown set 'aime99'; one of train, math500"),
        (["--local", "a.jsonl", "--local", "train=b.jsonl"], "train is named twice"),
        (["--local", "gsm8k=a.jsonl"], "a file is one of gsm8k_train, gsm8k_test"),
        (["--sets", "aime26", "gsm9k"], "unknown set 'gsm9k'; one of train, math500"),
        (["--sets", "gsm8k", "--local", "aime26=a.jsonl"], "--sets does not name it"),
    ],
)
def test_bad_arguments(arguments, message, tmp_path, capsys):
    assert main(["prepare", "--out", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_bad_files(tmp_path):
    for name, text, message in (
        ("a.jsonl", "{", "line 1: not JSON"),
        ("b.jsonl", "[1]", "line 1: not a JSON object"),
        ("c.parquet", "no", "not a parquet file"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match=message):
            read_local(tmp_path / name)
    empty = lines(tmp_path / "d.jsonl", [{"text": "q"}])
    with pytest.raises(DataError, match=r"none of 1 rows can be used \(no question\)"):
        prepare(tmp_path / "out", {"train": empty})
    (tmp_path / "out" / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="remove it to start anew"):
        prepare(tmp_path / "out", {"train": TINY / "train.jsonl"})


def test_parquet_from_disk(tmp_path):
    pq.write_table(pa.Table.from_pylist([{"problem": "q", "answer": "1"}]), tmp_path / "x.parquet")
    assert prepare(tmp_path / "out", {"amc23": tmp_path / "x.parquet"})["sets"]["amc23"]["rows"] == 1


def test_answers_and_keys():
    assert answer_of({"answer": " $\\frac{1}{2}$ "}) == r"\frac{1}{2}"
    assert answer_of({"answer": 27.0}) == "27"
    assert answer_of({"answer": 0}) == "0"
    assert answer_of({"solution": r"first \boxed{1}, then \boxed{\frac{1}{2}}"}) == r"\frac{1}{2}"
    assert answer_of({}) == ""
    assert question_key("What is $x$?") == question_key(" what  is\nx ?")
    assert question_key("Caf\u00e9?") == question_key("Cafe\u0301?")
    for one, other in (
        ("1.5", "15"),
        ("f(1,2)", "f(12)"),
        ("N", "n"),
        ("1 1/2", "11/2"),
        ("AB", "ab"),
        (r"\Gamma", r"\gamma"),
    ):
        assert question_key(f"What is {one}?") != question_key(f"What is {other}?")
    assert question_key("x+1") != question_key("x-1")


NAN = float("nan")


@pytest.mark.parametrize(
    ("raw", "answer"),
    [
        ({"answer": "48/2 = 24 clips in May.\n48+24 = 72 in all.\n#### 72"}, "72"),
        ({"answer": "#### 1,000 "}, "1,000"),
        ({"answer": r"We add them.\nSo it is $\boxed{7}$."}, "7"),
        ({"answer": "We add them.\nSo it is seven."}, ""),
        ({"answer": NAN}, ""),
        ({"answer": NAN, "final_answer": "3"}, "3"),
        ({"answer": ["1", None]}, ""),
        ({"answer": [], "solution": r"\boxed{4}"}, "4"),
        ({"answer": "", "solution": r"\boxed{4}"}, "4"),
        ({"answer": "  ", "expected_answer": 5.0}, "5"),
        ({"answer": ["2", "$-1$"]}, "2, -1"),
        ({"answer": "nan"}, "nan"),  # a text is what it says
    ],
)
def test_an_answer_that_is_none_is_not_taken_for_one(raw, answer):
    assert answer_of(raw) == answer


def test_an_empty_question_is_missing():
    rows, rejected = data.math_rows(
        "train", [{"problem": "", "question": "1+1?", "answer": "2"}, {"problem": NAN}], set()
    )
    assert [row["extra_info"]["question"] for row in rows] == ["1+1?"]
    assert [row.reason for row in rejected] == ["no question"]


FILES = {
    "array.json": '[{"problem": "a"}, {"problem": "b"}]',
    "pretty.json": '[\n  {\n    "problem": "a"\n  },\n  {"problem": "b"}\n]\n',
    "bom.jsonl": '\ufeff{"problem": "a"}\r\n{"problem": "b"}\n',
    "table.csv": '\ufeffproblem,answer\na,1\nb,"2\n3"\n',
}


@pytest.mark.parametrize("name", FILES)
def test_files_as_people_have_them(name, tmp_path):
    (tmp_path / name).write_text(FILES[name], encoding="utf-8", newline="")
    assert [row["problem"] for row in read_local(tmp_path / name)] == ["a", "b"]


def test_a_pretty_printed_object_is_one_sentence(tmp_path):
    (tmp_path / "x.json").write_text('{\n  "problem": "a"\n}\n')
    with pytest.raises(DataError, match="one object on each line, or is an array"):
        read_local(tmp_path / "x.json")


def test_separators_of_lines_inside_a_text(tmp_path):
    """U+2028 and U+0085 end no line of JSON; a rejected row with one does not make the folder unreadable."""
    rows = [
        {"problem": f"a{sign}b{answer}", "answer": answer}
        for sign, answer in (("\u2028", "1"), ("\x85", "2"), ("\u2028", ""))
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8", newline="")
    assert read_local(file) == rows
    for _ in range(2):
        manifest = prepare(tmp_path / "out", {"train": file}, force=True)
    assert manifest["sets"]["train"]["rows"] == 2
    assert len((tmp_path / "out" / "rejected.jsonl").read_text(encoding="utf-8").split("\n")) == 2
