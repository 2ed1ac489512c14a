"""What a card may say: numbers of the result files, of the weights themselves, and of the training record."""

from math import prod
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from .. import __version__
from ..pipelines import METHODS
from ..pipelines.files import read_json
from ..pipelines.loading import stored_task
from ..pipelines.weights import weight_files, weights_digest
from .configs import model_configs, recipe_configs, weight_configs
from .result_table import goal, result_table, verdict
from .template import CardTemplate, Sources, slug_of
from .training_facts import read_training
from .wheel import install_words

Facts = dict[str, Any]
"""Nested facts by name; result rows stand at the top level under their ids."""


def gather_facts(
    template: CardTemplate, name: str, weights: Path, repository: str, sources: Sources, private: bool = False
) -> Facts:
    """Everything that the placeholders of a card can name.

    - `<row>.<field>`: a row of `eval/results/<slug>.json`, with `low`, `high`, `verdict` and `goal` besides its own
      fields; `<file>/<row>.<field>` for another result file
    - `results.main`: table of the rows that the template names; `results.nano`, `results.paper`: of all others of that
      size; `results.hardware`, `results.dates`
    - `weights.parameters`, `weights.bytes`, `weights.<component>[.<module>...].parameters`, `weights.name`,
      `weights.repository`, `weights.sha256`
    - `config.<component>.<field>` of these weights, `model.<class>.<preset>.<field>` of a model of the method,
      `recipe.<stage>.<preset>.<field>` of its training
    - `training.replay`, `training.table`, `training.commands`: from `training/<name>.json`
    - `embedded.<component>.source`: the frozen encoder that the weights contain
    - `samples.<argument>`, `pipeline.name`, `pipeline.task`, `paper.arxiv`, `package.version`,
      `package.install`: how to install it, as comments of code

    Args:
        template: the card's template.
        name: of the weights.
        weights: their folder.
        repository: what a reader loads: a Hub id, or a name.
        sources: where results and training records are.
        private: whether a reader must log in to the Hub.

    Raises:
        FileNotFoundError: when a file is missing.
        ValueError: when one is damaged, or the training record describes other weights.
    """
    slug = slug_of(name)
    rows = read_results(sources.results)
    digest = weights_digest(weights)
    own = [row for path, row in rows.items() if path.startswith(f"{slug}/")]
    facts: Facts = {
        **rows,
        **{row["id"]: row for row in own},
        "results": _tables(own, template.method.results)
        | {"hardware": _distinct(own, "hardware"), "dates": _distinct(own, "date")},
        "weights": count_weights(weights) | {"name": name, "repository": repository, "sha256": digest},
        "config": weight_configs(weights),
        "model": model_configs(slug),
        "recipe": recipe_configs(slug),
        "package": {"version": __version__, "install": install_words(repository, private)},
        "samples": dict(template.method.samples or {}),
        "paper": {"arxiv": template.method.paper},
    }
    if slug in METHODS:
        facts["pipeline"] = _pipeline_of(slug, weights)
    if (weights / "embedded.json").is_file():
        facts["embedded"] = read_json(weights / "embedded.json")
    facts["training"] = read_training(sources.cards / "training" / f"{name}.json", digest)
    return facts


def read_results(folder: Path) -> dict[str, dict[str, Any]]:
    """Rows of all result files as "<file>/<id>" -> row, with `low`, `high`, `verdict` and `goal` added.

    Raises:
        ValueError: when a file is no JSON list of rows.
    """
    rows = {}
    for path in sorted(folder.glob("*.json")):
        content = read_json(path)
        records = content.get("rows") if isinstance(content, dict) else content
        if not isinstance(records, list) or not all(isinstance(row, dict) and "id" in row for row in records):
            raise ValueError(f"{path} must hold a JSON list of rows with an id each.")
        for row in records:
            low, high = row.get("interval") or (None, None)
            added = {"low": low, "high": high, "verdict": verdict(row), "goal": goal(row)}
            rows[f"{path.stem}/{row['id']}"] = {**row, **added}
    return rows


def count_weights(folder: Path) -> dict[str, Any]:
    """Parameters and bytes of all safetensors of a repository, nested as component, module, submodule.

    Raises:
        FileNotFoundError: when there are none.
        ValueError: when a file is damaged.
    """
    total: dict[str, Any] = {"parameters": 0, "bytes": 0}
    files = weight_files(folder)
    for path in files:
        component = path.relative_to(folder).parts[:-1]
        for node in _nodes(total, component):
            node["bytes"] = node.get("bytes", 0) + path.stat().st_size
        try:
            with safe_open(path, framework="numpy") as tensors:
                sizes = {key: prod(tensors.get_slice(key).get_shape()) for key in tensors.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise ValueError(f"{path} is truncated or no safetensors file: {error}.") from None
        for key, size in sizes.items():
            for node in _nodes(total, (*component, *key.split(".")[:-1])):
                node["parameters"] = node.get("parameters", 0) + size
    return total


def _pipeline_of(slug: str, weights: Path) -> dict[str, str]:
    """Class and task of the pipeline that a repository names; the method's first where it names none."""
    task = stored_task(slug, str(weights))
    return {"name": METHODS[slug][task].split(":")[1], "task": task}


def _tables(rows: list[dict[str, Any]], main: tuple[str, ...]) -> dict[str, str]:
    others = [row for row in rows if row["id"] not in main]
    tables = {size: result_table([row for row in others if row["size"] == size]) for size in ("nano", "paper")}
    return {"main": result_table([row for row in rows if row["id"] in main]), **tables}


def _nodes(tree: dict[str, Any], path: tuple[str, ...]) -> list[dict[str, Any]]:
    nodes = [tree]
    for part in path:
        nodes.append(nodes[-1].setdefault(part, {}))
    return nodes


def _distinct(rows: list[dict[str, Any]], key: str) -> str:
    return "; ".join(dict.fromkeys(row[key] for row in rows if row.get(key)))
