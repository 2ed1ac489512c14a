"""The README's table of methods, generated from the templates of their cards and from the same facts."""

import re
from pathlib import Path

from ..pipelines import METHODS
from ..pipelines.files import read_json, write_text
from .facts import gather_facts
from .placeholders import fill, refuse_bare_numbers
from .template import PACKAGE_SOURCES, Sources, read_template, read_text

BEGIN = "<!-- methods: written by `pocket card --readme`, not by hand -->"
END = "<!-- /methods -->"


def method_table(sources: Sources = PACKAGE_SOURCES) -> str:
    """A Markdown table: every method with what it makes, its paper, and what its nano weights reach.

    Methods that are planned only, listed in `planned.json`, follow; an entry vanishes when its method is there.

    Raises:
        FileNotFoundError: when a method has no card or no nano weights.
        ValueError: for a number that nobody measured.
    """
    lines = ["| method | makes | paper | status |", "|---|---|---|---|"]
    for slug in METHODS:
        template = read_template(sources.template(slug))
        refuse_bare_numbers(template.method.status, f"{template.path}, status")
        name = f"{slug}-nano"
        facts = gather_facts(template, name, sources.checkpoints / name, name, sources)
        status = fill(template.method.status, facts, f"{template.path}, status")
        lines.append(_line(template.method.name, template.method.makes, template.method.paper, status))
    for plan in read_json(sources.cards / "planned.json"):
        if plan["slug"] not in METHODS:
            lines.append(_line(plan["name"], plan["makes"], plan["paper"], "planned"))
    return "\n".join(lines)


def with_method_table(text: str, where: str, sources: Sources = PACKAGE_SOURCES) -> str:
    """`text` with the table between its two markers renewed.

    Raises:
        ValueError: when the markers are not there once each, in order; or as `method_table`.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"{where} must hold the line {BEGIN!r} and below it {END!r}, once each.")
    table = f"{BEGIN}\n{method_table(sources)}\n{END}"
    return re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: table, text, flags=re.DOTALL)


def write_method_table(readme: Path, sources: Sources = PACKAGE_SOURCES) -> None:
    """Renews the table of a README file in place.

    Raises:
        FileNotFoundError: when it is missing.
        ValueError: as `with_method_table`.
        OSError: when it cannot be written.
    """
    text = with_method_table(read_text(readme), str(readme), sources)
    write_text(readme, text)


def check_method_table(readme: Path, sources: Sources = PACKAGE_SOURCES) -> list[str]:
    """What is wrong with the table of a README file: one sentence, or nothing."""
    try:
        text = read_text(readme)
        if text != with_method_table(text, str(readme), sources):
            return [f"the table of methods in {readme} is stale: `pocket card --readme {readme}` renews it."]
    except (ValueError, OSError) as error:
        return [str(error)]
    return []


def _line(name: str, makes: str, paper: str | None, status: str) -> str:
    link = "" if paper is None else f"[{paper}](https://arxiv.org/abs/{paper})"
    return f"| {name} | {makes} | {link} | {status} |"
