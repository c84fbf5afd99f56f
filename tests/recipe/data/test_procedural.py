"""recipe.asymgrpo.data: the parquet files a training starts from."""

import itertools
import json

import pytest

from recipe.asymgrpo import data
from recipe.asymgrpo.data import DEFAULT_LEVELS, Level
from recipe.asymgrpo.reward import compute_score

pq = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("reasoning_gym")


def rows(**changes):
    return data.procedural_rows(**{"train_size": 60, "val_size": 40, "seed": 3, **changes})


def questions(split):
    return [row["extra_info"]["question"] for row in split]


def test_columns_are_what_verl_reads():
    row = rows()["train"][5]
    assert set(row) == {"data_source", "prompt", "ability", "reward_model", "extra_info"}
    assert row["data_source"] == "reasoning_gym/chain_sum"
    assert row["reward_model"]["style"] == "rule"
    assert isinstance(row["reward_model"]["ground_truth"], str)
    (message,) = row["prompt"]
    assert message["role"] == "user"
    assert row["extra_info"]["index"] == 5
    assert row["extra_info"]["split"] == "train"
    assert json.loads(row["extra_info"]["metadata"])["source_dataset"] == "chain_sum"


def test_short_prompt_is_the_bare_sum_and_ground_truth_its_value():
    for row in rows()["val"]:
        prompt = row["prompt"][0]["content"]
        assert prompt.endswith("=")
        assert set(prompt) <= set("0123456789+-=")
        assert eval(prompt[:-1]) == int(row["reward_model"]["ground_truth"])


def test_chat_prompt_is_the_question_after_an_instruction():
    row = rows(prompt_style="chat")["train"][0]
    instruction, question = row["prompt"]
    assert instruction == {"role": "system", "content": data.CHAT_INSTRUCTION}
    assert question == {"role": "user", "content": row["extra_info"]["question"]}


def test_no_question_occurs_twice():
    splits = rows(train_size=900, val_size=400)
    every = questions(splits["train"]) + questions(splits["val"])
    assert len(set(every)) == 1300


def test_deterministic_by_seed():
    assert rows() == rows()
    assert rows() != rows(seed=4)
    # reasoning-gym's own seeds 3 and 4 would share all entries but one
    assert len(set(questions(rows()["val"])) & set(questions(rows(seed=4)["val"]))) < 20


def test_held_out_does_not_depend_on_the_training_size():
    assert rows(train_size=1)["val"] == rows()["val"]


def test_levels_keep_their_shares_in_both_splits():
    levels = {Level(2, 2): 1, Level(3, 1): 3}
    splits = rows(levels=levels)
    for split, expected in (("train", (15, 45)), ("val", (10, 30))):
        found = [row["extra_info"]["level"] for row in splits[split]]
        assert (found.count("2x2"), found.count("3x1")) == expected


def test_default_levels_suffice_for_the_documented_sizes():
    splits = rows(train_size=2048, val_size=1024)
    assert {row["extra_info"]["level"] for row in splits["val"]} == {str(level) for level in DEFAULT_LEVELS}


@pytest.mark.parametrize(("level", "distinct"), [(Level(2, 1), 200), (Level(3, 1), 4000), (Level(2, 2), 16200)])
def test_count_of_distinct_problems(level, distinct):
    assert level.distinct == distinct


def test_all_problems_of_a_level_can_be_asked_for_but_not_one_more():
    assert len(data.chain_sum_entries(Level(2, 1), 200, seed=0)) == 200
    with pytest.raises(ValueError, match=r"2x1 has only 200 different problems but 201"):
        data.chain_sum_entries(Level(2, 1), 201, seed=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_size": 0}, "at least 1"),
        ({"val_size": -1}, "at least 1"),
        ({"prompt_style": "long"}, "unknown prompt style 'long'"),
        ({"levels": {Level(2, 1): 1}, "train_size": 200}, "only 200 different problems but 240"),
    ],
)
def test_impossible_requests(changes, message):
    with pytest.raises(ValueError, match=message):
        rows(**changes)


def test_parse_levels():
    assert data.parse_levels("2x1:1,3x2:2.5,2x2") == {Level(2, 1): 1, Level(3, 2): 2.5, Level(2, 2): 1}


@pytest.mark.parametrize("text", ["", "2", "2x1,2x1", "2x1:0", "2x1:-1", "2x1:nan", "1x1", "2x0", "axb", "2x1:b"])
def test_parse_levels_refuses(text):
    with pytest.raises(ValueError, match="levels"):
        data.parse_levels(text)


def test_command_line_writes_both_files_and_nothing_else(tmp_path, capsys):
    out = tmp_path / "a" / "b"
    arguments = ["procedural", "--out", str(out), "--train-size", "30", "--val-size", "10"]
    assert data.main(arguments) == 0
    assert sorted(path.name for path in out.iterdir()) == ["train.parquet", "val.parquet"]
    assert pq.read_table(out / "val.parquet").to_pylist() == rows(train_size=30, val_size=10, seed=0)["val"]
    assert "30 prompts" in capsys.readouterr().out
    before = (out / "train.parquet").read_bytes()
    assert data.main(arguments) == 0
    assert (out / "train.parquet").read_bytes() == before


def test_command_line_errors_are_one_line(tmp_path, capsys):
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert data.main(["procedural", "--out", str(blocked / "sub")]) == 2
    assert "cannot write to --out" in capsys.readouterr().err
    assert data.main(["procedural", "--out", str(tmp_path), "--levels", "2x1"]) == 2
    error = capsys.readouterr().err
    assert "only 200 different problems" in error
    assert error.count("\n") == 1


def test_a_failed_write_leaves_the_old_files(tmp_path, monkeypatch):
    data.write_parquet(rows(), tmp_path)
    before = (tmp_path / "train.parquet").read_bytes()

    def broken(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(pq, "write_table", broken)
    with pytest.raises(OSError, match="disk full"):
        data.write_parquet(rows(seed=9), tmp_path)
    assert (tmp_path / "train.parquet").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train.parquet", "val.parquet"]


def countdown(**changes):
    return rows(task="countdown", **changes)


def test_countdown_prompt_has_the_numbers_and_the_target():
    for row in countdown()["val"]:
        prompt = row["prompt"][0]["content"]
        info = json.loads(row["extra_info"]["metadata"])
        numbers, target, nothing = prompt.split("=")
        assert [int(number) for number in numbers.split()] == info["numbers"]
        assert int(target) == info["target"] == eval(row["reward_model"]["ground_truth"])
        assert nothing == ""
        assert row["data_source"] == "reasoning_gym/countdown"
        assert len(info["numbers"]) == 5
    chat = countdown(prompt_style="chat")["val"][0]
    instruction, question = (message["content"] for message in chat["prompt"])
    assert question == chat["extra_info"]["question"]
    assert "expression only" in instruction


def test_no_countdown_occurs_twice_in_another_order():
    splits = countdown(train_size=900, val_size=400)
    every = [json.loads(row["extra_info"]["metadata"]) for row in splits["train"] + splits["val"]]
    assert len({(*sorted(info["numbers"]), info["target"]) for info in every}) == 1300


def test_countdown_runs_out():
    with pytest.raises(ValueError, match=r"2x1 has about \d+ different problems but 400"):
        countdown(levels={Level(2, 1): 1}, train_size=300, val_size=100)


def test_unknown_task():
    with pytest.raises(ValueError, match="unknown task 'count_down': one of chain_sum, countdown"):
        rows(task="count_down")


def lock(**changes):
    return rows(task="quantum_lock", **changes)


def scored(row, text):
    return compute_score(row["data_source"], text, row["reward_model"]["ground_truth"], row["extra_info"])["score"]


def test_lock_prompt_has_the_buttons_and_the_target():
    for row in lock()["val"]:
        prompt = row["prompt"][0]["content"]
        info = json.loads(row["extra_info"]["metadata"])
        buttons, target, nothing = prompt.split("=")
        assert (int(target), nothing, len(buttons)) == (info["target_value"], "", 9)
        for place, button in enumerate(info["buttons"]):
            sign, number, light = buttons[3 * place : 3 * place + 3]
            assert {"+": "add", "-": "subtract", "*": "multiply"}[sign] == button["type"]
            assert (int(number), light) == (button["value"], button["active_state"][0])
        assert info["initial_state"] == "red"
        assert info["initial_value"] == 0
        assert row["data_source"] == "reasoning_gym/quantum_lock"
    chat = lock(prompt_style="chat")["val"][0]
    assert "buttons only" in chat["prompt"][0]["content"]


def test_a_lock_is_opened_by_any_shortest_way_and_by_no_longer_one():
    several = 0
    for row in lock()["val"]:
        way = row["reward_model"]["ground_truth"].replace(" → ", "")
        assert scored(row, row["reward_model"]["ground_truth"]) == scored(row, way) == 1
        if len(way) < 7:
            right = [other for other in map("".join, itertools.product("ABC", repeat=len(way))) if scored(row, other)]
            assert way in right
            several += len(right) > 1
        assert scored(row, "") == scored(row, way[:-1]) == scored(row, way + "A") == 0
    assert several > 5


def test_no_lock_occurs_twice_with_its_buttons_in_another_order():
    splits = lock(train_size=300, val_size=100)
    every = [row["prompt"][0]["content"].split("=") for row in splits["train"] + splits["val"]]
    assert len({(*sorted((b[:3], b[3:6], b[6:])), target) for b, target, _ in every}) == 400


def test_a_lock_has_one_number_for_its_level():
    with pytest.raises(ValueError, match="level 6x2: the difficulty of quantum_lock is one number, write 6x1"):
        lock(levels={Level(6, 2): 1})
