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
        cells = (_claim(row), _measured(row), goal(row), _number(row["published"]), _rival(row))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def verdict(row: Mapping[str, Any]) -> str | None:
    """ "met" or "missed", which a row without a number is; None for a row without a target."""
    measured, target = row["measured"], row.get("target")
    if target is None:
        return None
    if measured is None:
        return "missed"
    least, most = target if row["better"] == "within" else (target, target)
    met = (row["better"] == "lower" or measured >= least) and (row["better"] == "higher" or measured <= most)
    return "met" if met else "missed"


def goal(row: Mapping[str, Any]) -> str:
    """Target and verdict of a row, such as "≥ 0.9, met" or "53.35 to 56.65, **missed**"; "" without a target."""
    if row.get("target") is None:
        return ""
    if row["better"] == "within":
        wanted = " to ".join(map(_number, row["target"]))
    else:
        wanted = f"{'≥' if row['better'] == 'higher' else '≤'} {_number(row['target'])}"
    return f"{wanted}, {'**missed**' if verdict(row) == 'missed' else 'met'}"


def _claim(row: Mapping[str, Any]) -> str:
    items = f" (n = {shown(row['n'])})" if row.get("n") else ""
    return f"{row['claim'].rstrip('.')}{items}"


def _measured(row: Mapping[str, Any]) -> str:
    if row["measured"] is None:
        return "failed"
    interval = row.get("interval")
    bounds = f" ({interval[0]:.4g} to {interval[1]:.4g})" if interval else ""
    return f"{_number(row['measured'])}{bounds} {row['unit']}"


def _rival(row: Mapping[str, Any]) -> str:
    if row["rival_measured"] is None:
        return row["rival"] or ""
    ratio = "" if row["ratio"] is None else f", ratio {row['ratio']:.3g}"
    return f"{row['rival']}: {_number(row['rival_measured'])}{ratio}"


def _number(value: float | None) -> str:
    return "" if value is None else shown(value)
