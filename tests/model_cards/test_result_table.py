"""The results as a Markdown table."""

import pytest

from pocket_diffusers.model_cards.result_table import goal, result_table, verdict


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
    [
        ("higher", 0.9, "met"), ("higher", 0.89, "missed"), ("lower", 0.9, "met"), ("lower", 0.91, "missed"),
        ("within", 0.8, "met"), ("within", 0.9, "met"), ("within", 0.79, "missed"), ("within", 0.91, "missed"),
        ("higher", None, "missed"), ("within", None, "missed"),
    ],
)  # fmt: skip
def test_verdict_and_goal(row, better, measured, expected):
    asked = row(better=better, measured=measured, target=[0.8, 0.9] if better == "within" else 0.9)
    sign = {"higher": "≥ 0.9", "lower": "≤ 0.9", "within": "0.8 to 0.9"}[better]
    assert verdict(asked) == expected
    assert goal(asked) == f"{sign}, {'met' if expected == 'met' else '**missed**'}"
    assert verdict(row(target=None)) is None and goal(row(target=None)) == ""


def test_what_failed_says_so(row):
    line = result_table([row(measured=None, ratio=None, claim="It is small. It failed: no memory.")]).splitlines()[2]
    assert line.startswith("| It is small. It failed: no memory (n = 1,600) | failed | ≥ 0.9, **missed** |")
    assert line.endswith("| true pictures: 0.975 |")
