"""benchmarks/scale.py: its arithmetic, and a small run."""

import pytest

from benchmarks import scale
from benchmarks.scale import Cost


def test_growth_is_of_a_row_and_from_where_proportion_is_claimed():
    costs = [Cost(1_000, 9, 9, 9, 9), Cost(10_000, 10, 10, 10, 100), Cost(100_000, 300, 300, 300, 1_000)]
    assert scale.growth(costs, "low") == pytest.approx(3)
    assert scale.growth(costs, "peak") == pytest.approx(1)
    assert scale.growth(costs[:2], "low") == 1


def test_estimate_separates_rows_and_tokens():
    rows, a_row, a_token = 1_000, 90, 4
    short, long = ((tokens, rows * (a_row + a_token * tokens)) for tokens in (64, 512))
    text = scale.driver_estimate(short, long, rows)
    assert text.startswith("estimator: 90 bytes a row + 4.0 bytes a token")
    assert f"= {64 * 8 * 128:,} rows" in text
    assert f"{65536 * (90 + 4 * 8192) / 2**30:.2f} GiB in the driver" in text


@pytest.mark.ci
def test_a_small_run(capsys, monkeypatch, tmp_path):
    # The estimator returns 4 bytes a token and holds little else, whatever the number of rows.
    costs = [scale.of_estimator(rows, tokens=64, repeats=1) for rows in (1_000, 10_000)]
    assert all(4 * 64 <= cost.peak / cost.rows < 2 * 4 * 64 for cost in costs)
    monkeypatch.setattr(
        "sys.argv", ["scale.py", "--rows", "1000", "--repeats", "1", "--figure", str(tmp_path / "f.png")]
    )
    assert scale.main() == 0
    assert "| loss | 1,000 |" in capsys.readouterr().out
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
