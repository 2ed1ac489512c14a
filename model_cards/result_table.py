"""Result rows as a table of a card."""

from collections.abc import Mapping, Sequence
from typing import Any

from .placeholders import shown


def result_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table: claim, what was measured with its interval, target and verdict, published number, rival."""
    if not rows:
        return "Nothing was measured yet."
    lines = ["| claim | measured | target | published | beside it, in the same run |", "|---|---|---|---|---|"]
    for row in rows:
        cells = (_claim(row), _measured(row), _target(row), _number(row["published"]), _rival(row))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def verdict(row: Mapping[str, Any]) -> str | None:
    """ "met" or "missed"; None for a row without a target."""
    if row.get("target") is None:
        return None
    higher = row["better"] == "higher"
    return "met" if (row["measured"] >= row["target"] if higher else row["measured"] <= row["target"]) else "missed"


def _claim(row: Mapping[str, Any]) -> str:
    items = f" (n = {shown(row['n'])})" if row.get("n") else ""
    return f"{row['claim'].rstrip('.')}{items}"


def _measured(row: Mapping[str, Any]) -> str:
    interval = row.get("interval")
    bounds = f" ({interval[0]:.4g} to {interval[1]:.4g})" if interval else ""
    return f"{_number(row['measured'])}{bounds} {row['unit']}"


def _target(row: Mapping[str, Any]) -> str:
    if row["target"] is None:
        return ""
    sign = "≥" if row["better"] == "higher" else "≤"
    return f"{sign} {_number(row['target'])}, {'**missed**' if verdict(row) == 'missed' else 'met'}"


def _rival(row: Mapping[str, Any]) -> str:
    if row["rival_measured"] is None:
        return row["rival"] or ""
    ratio = "" if row["ratio"] is None else f", ratio {row['ratio']:.3g}"
    return f"{row['rival']}: {_number(row['rival_measured'])}{ratio}"


def _number(value: float | None) -> str:
    return "" if value is None else shown(value)
