"""Rows as the Hub reads them: parsed back with the Hub's own library."""

import yaml
from huggingface_hub import parse_eval_result_entries
from huggingface_hub.repocard_data import model_index_to_eval_results

from pocket_diffusers.model_cards.model_index import eval_results_yaml, model_index

DATASET = {"name": "PocketWorld", "type": "pocketworld", "split": "test"}


def test_model_index(row):
    rows = [row(), row(id="psnr", unit="dB", measured=34, interval=None, n=None, seed=None)]
    name, results = model_index_to_eval_results(model_index("snapgen-nano", "text-to-image", DATASET, rows))
    assert name == "snapgen-nano"
    assert [(result.metric_type, result.metric_value) for result in results] == [("named-right", 0.8125), ("psnr", 34)]
    assert {result.dataset_split for result in results} == {"test"}
    assert results[1].metric_name == "The judge names what was asked for [dB]" and results[1].metric_args is None


def test_eval_results(row):
    (entry,) = parse_eval_result_entries(yaml.safe_load(eval_results_yaml(DATASET, [row()])))
    assert (entry.dataset_id, entry.task_id, entry.value, entry.date) == (
        "pocketworld",
        "named-right",
        0.8125,
        "2025-01-31",
    )
    assert "95 % interval 0.75 to 0.875; n 1600; seed 0; pocket eval snapgen --only naming" in entry.notes
