"""`pocket card`: a template and facts in, a finished card out."""

from pathlib import Path
from typing import Any

from .. import unknown_name
from ..pipelines.files import write_text
from .facts import Facts, gather_facts
from .model_index import model_index
from .placeholders import fill, refuse_bare_numbers
from .samples import FOLDER, renew_samples, sample_plan
from .template import PACKAGE_SOURCES, CardTemplate, Sources, join_card, read_template, slug_of
from .validate import check_model_card, refuse_faults

CARD = "README.md"


def render_card(
    name: str,
    repository: str | None = None,
    weights: Path | None = None,
    sources: Sources = PACKAGE_SOURCES,
    private: bool = False,
) -> str:
    """The finished card of weights.

    Args:
        name: of the weights, such as "snapgen-nano".
        repository: the Hub id they will have; None takes `name`.
        weights: their folder; None takes the one that came with the package.
        sources: where templates, results and weights are.
        private: whether a reader must log in to the Hub.

    Returns:
        Text of the card: front matter with `model-index`, and the filled text.

    Raises:
        FileNotFoundError: when a template, result or weight is missing.
        ValueError: for a number that nobody measured, or a fact that describes other weights.
    """
    template = read_template(sources.template(name))
    refuse_bare_numbers(template.body, str(template.path), template.offset + 1)
    facts = gather_facts(template, name, weights or sources.checkpoints / name, repository or name, sources, private)
    body = fill("\n" * template.offset + template.body, facts, str(template.path))[template.offset :]
    return join_card(_front(template, name, facts), body)


def write_card(name: str, output: Path, sources: Sources = PACKAGE_SOURCES) -> None:
    """Writes a card, and beside it the sample pictures that it shows, unless they are there and fresh.

    Raises:
        FileNotFoundError: as `render_card`.
        ValueError: as `render_card`, or when the finished card is faulty.
        OSError: when `output` cannot be written.
    """
    weights = sources.checkpoints / name
    template = read_template(sources.template(name))
    text = render_card(name, sources=sources)
    if output.is_dir():
        raise IsADirectoryError(f"output {str(output)!r} is a folder: name the card's file, such as {output / CARD}.")
    renew_samples(template, slug_of(name), weights, output.parent / FOLDER)
    refuse_faults(card_faults(template, text, str(output), output.parent))
    write_text(output, text)


def card_faults(template: CardTemplate, text: str, where: str, files: Path | None = None) -> list[str]:
    """`check_model_card` of a card that this template became: one of a paper's method must also say what it is not."""
    method = template.method
    return check_model_card(text, where, files, method.dataset["name"] if method.paper else None)


def cards_of(name: str | None, sources: Sources = PACKAGE_SOURCES) -> list[str]:
    """Names of the weights that a name means: itself, or all nano weights of a method; None means all there are.

    Raises:
        ValueError: when it is neither.
    """
    known = sorted(path.name for path in sources.checkpoints.glob("*/"))
    if name is None:
        return known
    found = (
        [name] if name in known else [weights for weights in known if "-nano" in weights and slug_of(weights) == name]
    )
    if not found:
        raise unknown_name("card", name, known)
    return found


def _front(template: CardTemplate, name: str, facts: Facts) -> dict[str, Any]:
    front = dict(template.front)
    plan = sample_plan(template)
    if plan is not None and "widget" in front and not plan.recognizes:
        outputs = [{"output": {"url": f"{FOLDER}/{file}"}} for file in plan.files]
        front["widget"] = [entry | output for entry, output in zip(front["widget"], outputs, strict=True)]
    if template.method.results:
        rows = result_rows(template, facts)
        front["model-index"] = model_index(name, front["pipeline_tag"], template.method.dataset, rows)
    return front


def result_rows(template: CardTemplate, facts: Facts) -> list[dict[str, Any]]:
    """The result rows that a template names.

    Raises:
        ValueError: when nobody measured one.
    """
    for row in template.method.results:
        if not isinstance(facts.get(row), dict) or facts[row].get("measured") is None:
            raise ValueError(f"{template.path} names the result {row!r}, which nobody measured.")
    return [facts[row] for row in template.method.results]
