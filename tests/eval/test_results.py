import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from pocket_diffusers.eval.results import (
    RESULTS,
    Row,
    advantage,
    band,
    read_rows,
    rows_table,
    update_rows,
    write_rows,
)

KEYS = [
    "id", "claim", "size", "published", "measured", "unit", "better", "target", "rival", "rival_measured", "ratio",
    "interval", "n", "seed", "hardware", "command", "date",
]  # fmt: skip
FULL = {
    "id": "first-row",
    "claim": "It is small.",
    "size": "paper",
    "published": 1.4,
    "measured": 1.5,
    "unit": "M",
    "better": "lower",
    "target": 2.0,
    "rival": "another",
    "rival_measured": 3.0,
    "ratio": 2.0,
    "interval": (1.25, 1.75),
    "n": 7,
    "seed": 0,
    "hardware": "a machine",
    "command": "pocket eval snapgen",
    "date": "2025-01-31",
}
BARE = {"id": "second", "claim": "It is good.", "size": "nano", "measured": 1, "unit": "dB", "better": "higher"}
BARE |= {"command": "pocket eval snapgen", "date": "2025-02-28"}


def row(**changes) -> Row:
    return Row(**(FULL | changes))


def test_rows_round_trip_with_exactly_the_keys_of_the_plan(tmp_path):
    rows = [row(), Row(**BARE)]
    path = tmp_path / "new" / "snapgen.json"
    write_rows(path, rows)
    assert read_rows(path) == rows
    records = json.loads(path.read_text())
    assert [list(record) for record in records] == [KEYS, KEYS]
    assert records[0] == FULL | {"interval": [1.25, 1.75]}
    assert {key for key in KEYS if records[1][key] is None} == set(KEYS) - set(BARE)
    assert [file.name for file in path.parent.iterdir()] == ["snapgen.json"]


def test_update_replaces_rows_by_id_in_their_place(tmp_path):
    path = tmp_path / "snapgen.json"
    update_rows(path, [row(id="a"), row(id="b")])
    merged = update_rows(path, [row(id="c"), row(id="a", measured=1.6, ratio=1.875)])
    assert read_rows(path) == merged
    assert [(r.id, r.measured) for r in merged] == [("a", 1.6), ("b", 1.5), ("c", 1.5)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": "Two words"}, "id must be .*'Two words'"),
        ({"claim": " "}, "claim must be .*' '"),
        ({"size": "large"}, "size must be nano or paper.*not 'large'"),
        ({"better": "bigger"}, "better must be higher, lower or within, not 'bigger'"),
        ({"measured": float("nan")}, "measured must be .*nan"),
        ({"measured": None}, "measured must be .*None"),
        ({"measured": True}, "measured must be .*True"),
        ({"target": "2"}, "target must be .*'2'"),
        ({"target": (1.0, 2.0)}, r"target must be a finite number or null, not \(1.0, 2.0\)"),
        ({"better": "within", "ratio": None}, "target must be the two ends of a band.*not 2.0"),
        ({"better": "within", "ratio": None, "target": None}, "target must be the two ends of a band.*not None"),
        ({"better": "within", "ratio": None, "target": (2.0, 1.0)}, "target must be the two ends of a band"),
        ({"better": "within", "target": (1.0, 2.0)}, "ratio must be None.*not 2.0"),
        ({"published": float("inf")}, "published must be .*inf"),
        ({"interval": (1.6, 1.7)}, "interval must be two numbers around measured = 1.5"),
        ({"interval": (1.0, 1.5, 2.0)}, "interval"),
        ({"rival": None}, "rival_measured must be null without a rival.*not 3.0"),
        ({"ratio": 0.5}, "ratio must be 2.0.*not 0.5"),
        ({"ratio": None}, "ratio must be 2.0.*not None"),
        ({"rival_measured": None}, "ratio must be None.*not 2.0"),
        ({"n": 0}, "n must be .*0"),
        ({"seed": 1.5}, "seed must be .*1.5"),
        ({"hardware": ""}, "hardware must be .*''"),
        ({"date": "31.1.2025"}, "date must be .*'31.1.2025'"),
    ],
)
def test_values_that_a_field_does_not_allow(changes, message):
    with pytest.raises(ValueError, match=message):
        row(**changes)


def test_missing_and_unknown_keys_are_named():
    record = row().to_record()
    with pytest.raises(ValueError, match="key 'colour' is unknown"):
        Row.from_record(record | {"colour": 1})
    del record["rival"]
    with pytest.raises(ValueError, match="'first-row': key 'rival' is missing"):
        Row.from_record(record)
    with pytest.raises(ValueError, match="a row is a JSON object"):
        Row.from_record([1])


@pytest.mark.parametrize(
    ("better", "target", "passed"),
    [
        ("higher", 1.0, True),
        ("higher", 0.9, True),
        ("higher", 1.1, False),
        ("lower", 1.0, True),
        ("lower", 0.9, False),
        ("lower", 1.1, True),
        ("lower", None, None),
    ],
)
def test_passed(better, target, passed):
    assert Row(**(BARE | {"better": better, "target": target})).passed is passed


@pytest.mark.parametrize(
    ("measured", "passed"), [(96.9, False), (97.0, True), (100.0, True), (103.0, True), (103.1, False)]
)
def test_a_band_is_checked_on_both_sides(measured, passed, tmp_path):
    band_row = Row(**(BARE | {"better": "within", "measured": measured, "target": band(100.0, 0.03)}))
    assert band_row.target == pytest.approx((97.0, 103.0)) and band_row.passed is passed
    write_rows(tmp_path / "rows.json", [band_row])
    assert read_rows(tmp_path / "rows.json") == [band_row]


def test_what_failed_has_no_number_and_meets_no_target():
    failed = Row(**(BARE | {"claim": "It is good. It failed: no memory.", "measured": None, "target": 2.0}))
    assert failed.passed is False and Row.from_record(failed.to_record()) == failed
    assert Row(**(BARE | {"claim": failed.claim, "measured": None})).passed is None
    with pytest.raises(ValueError, match="interval must be"):
        Row(**(BARE | {"claim": failed.claim, "measured": None, "interval": (0.0, 1.0)}))
    console = Console(width=80, file=StringIO())
    console.print(rows_table([failed]))
    assert "failed" in console.file.getvalue() and "NO" in console.file.getvalue()


def test_advantage_above_one_is_better():
    assert advantage(10, 5, "higher") == 2 and advantage(5, 10, "lower") == 2
    assert advantage(5, 10, "higher") == 0.5
    assert advantage(1, 0, "higher") is None and advantage(0, 1, "lower") is None
    assert advantage(None, 1, "lower") is None and advantage(1, 2, "within") is None


def test_a_damaged_file_and_a_failed_write_change_nothing(tmp_path):
    path = tmp_path / "snapgen.json"
    write_rows(path, [row()])
    whole = path.read_text()
    with pytest.raises(ValueError, match="'first-row' comes twice"):
        write_rows(path, [row(), row()])
    assert path.read_text() == whole
    with pytest.raises(OSError, match="cannot write"):
        write_rows(path / "below.json", [row()])
    path.write_text(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="truncated or no JSON"):
        update_rows(path, [row()])
    path.write_text("{}")
    with pytest.raises(ValueError, match="JSON list"):
        read_rows(path)
    with pytest.raises(FileNotFoundError, match="pocket eval nothing"):
        read_rows(tmp_path / "nothing.json")


def test_table_shows_what_is_missed_within_80_columns():
    console = Console(width=80, file=StringIO())
    console.print(rows_table([row(), Row(**(BARE | {"target": 2.0}))]))
    text = console.file.getvalue()
    first, second = (next(line for line in text.splitlines() if name in line) for name in ("first-row", "second"))
    assert "yes" in first and "NO" not in first and "≤ 2" in first and "1.5" in first
    assert "NO" in second and "≥ 2" in second
    console.print(rows_table([Row(**(BARE | {"better": "within", "target": (0.5, 1.5)}))]))
    assert "0.5" in console.file.getvalue() and "to 1.5" in console.file.getvalue()
    for shown in ("It is small.", "It is good.", "1.25 to 1.75", "another: 3, ratio 2"):
        assert shown in text


def committed() -> list[Path]:
    return sorted(RESULTS.glob("*.json"))


MISSED = {
    "bitsfusion": ["geneval-packed", "rival-error-quanto-int4-inner"],
    "lightspeed": ["contest-over-mobiler2l", "contest-time-share"],
    "lpgs": ["pictures-difference"],
}
"""Targets that are known to be missed, as rows, card and README say; another one is a step back."""


@pytest.mark.parametrize("path", committed(), ids=lambda path: path.stem)
def test_committed_rows_are_valid_and_miss_no_target_but_those_known(path):
    rows = read_rows(path)
    assert rows and [row.id for row in rows if row.passed is False] == MISSED.get(path.stem, [])
