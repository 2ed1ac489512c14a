"""Result rows in the two forms that the Hub reads: `model-index` of the card, and `.eval_results/*.yaml`."""

from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, EvalResultEntry, eval_result_entries_to_yaml
from huggingface_hub.repocard_data import eval_results_to_model_index
from huggingface_hub.utils import yaml_dump

Row = Mapping[str, Any]


def model_index(name: str, task: str, dataset: Mapping[str, str], rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The `model-index` of a card's front matter.

    Args:
        name: of the weights.
        task: the card's `pipeline_tag`.
        dataset: what was measured on: `name`, `type` (a Hub id or a word), and `split`.
        rows: result rows.
    """
    results = [
        EvalResult(
            task_type=task,
            dataset_name=dataset["name"],
            dataset_type=dataset["type"],
            dataset_split=dataset.get("split"),
            metric_type=row["id"],
            metric_name=f"{row['claim'].rstrip('.')} [{row['unit']}]",
            metric_value=row["measured"],
            metric_args={key: _plain(row[key]) for key in ("interval", "n", "seed") if row.get(key) is not None}
            or None,
        )
        for row in rows
    ]
    return eval_results_to_model_index(name, results)


def eval_results_yaml(dataset: Mapping[str, str], rows: Sequence[Row]) -> str:
    """Text of `.eval_results/<slug>.yaml`: one entry a row, its number, date, and how to measure it again."""
    entries = [
        EvalResultEntry(
            dataset_id=dataset["type"], task_id=row["id"], value=row["measured"], date=row["date"], notes=_notes(row)
        )
        for row in rows
    ]
    return yaml_dump(eval_result_entries_to_yaml(entries), sort_keys=False)


def _notes(row: Row) -> str:
    notes = [f"{row['claim'].rstrip('.')}, in {row['unit']}"]
    if row.get("interval"):
        notes.append("95 % interval {:.5g} to {:.5g}".format(*row["interval"]))
    notes += [f"{key} {row[key]}" for key in ("n", "seed") if row.get(key) is not None]
    return "; ".join([*notes, row["command"]])


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
