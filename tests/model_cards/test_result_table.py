"""The results as a Markdown table."""

import pytest

from pocket_diffusers.model_cards.result_table import result_table, verdict


def test_cells_do_not_break_the_table(row):
    table = result_table(
        [row(claim="|x| is small.", n=None, interval=None, rival=None, rival_measured=None, ratio=None)]
    )
    line = table.splitlines()[2]
    assert line == r"| \|x\| is small | 0.8125 share | ≥ 0.9, **missed** |  |  |"


def test_rival_without_a_number_or_a_ratio(row):
    lines = result_table(
        [row(rival_measured=None, ratio=None), row(rival_measured=0.0, ratio=None), row(target=None, published=0.7)]
    ).splitlines()[2:]
    assert lines[0].endswith("| true pictures |")
    assert lines[1].endswith("| true pictures: 0 |")
    assert "|  | 0.7 |" in lines[2]


@pytest.mark.parametrize(
    ("better", "measured", "expected"),
    [("higher", 0.9, "met"), ("higher", 0.89, "missed"), ("lower", 0.9, "met"), ("lower", 0.91, "missed")],
)
def test_verdict(row, better, measured, expected):
    assert verdict(row(better=better, measured=measured)) == expected
    assert verdict(row(target=None)) is None
