"""The README's table of methods, generated from the templates of their cards and from the same facts."""

from ..pipelines import METHODS
from ..pipelines.files import read_json
from .facts import gather_facts
from .placeholders import fill, refuse_bare_numbers
from .template import PACKAGE_SOURCES, Sources, read_template


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


def _line(name: str, makes: str, paper: str | None, status: str) -> str:
    link = "" if paper is None else f"[{paper}](https://arxiv.org/abs/{paper})"
    return f"| {name} | {makes} | {link} | {status} |"
