"""The README's generated parts, each between two markers: the table of methods, and what was measured of each."""

import re
from pathlib import Path

from ..pipelines.files import write_text
from .facts import read_results
from .method_table import method_table
from .placeholders import fill, refuse_bare_numbers
from .template import PACKAGE_SOURCES, Sources, read_text

METHODS = "methods"
PASSAGES = "passages"
"""Folder beside the cards: `<file>.md` is what the README says of `eval/results/<file>.json`, with placeholders."""


def markers(part: str) -> tuple[str, str]:
    """The two lines between which a part of the README stands."""
    return f"<!-- {part}: written by `pocket card --readme`, not by hand -->", f"<!-- /{part} -->"


def result_passage(path: Path, sources: Sources = PACKAGE_SOURCES) -> str:
    """What the README says of a method's results: a passage whose every number is a fact of a result row.

    A row of the passage's own file goes by its id, one of another by `<file>/<id>`.

    Raises:
        FileNotFoundError: when the passage is missing.
        ValueError: for a number that nobody measured.
    """
    text, rows = read_text(path), read_results(sources.results)
    refuse_bare_numbers(text, str(path))
    own = {row["id"]: row for name, row in rows.items() if name.startswith(f"{path.stem}/")}
    return fill(text, {**rows, **own}, str(path)).strip()


def renew(text: str, where: str, sources: Sources = PACKAGE_SOURCES) -> str:
    """The text of a README with everything between its markers renewed.

    Raises:
        FileNotFoundError: when a method has no card or no nano weights.
        ValueError: when the markers of a part are not there once each, in order, or for a number that nobody measured.
    """
    text = _with_part(text, METHODS, method_table(sources), where)
    for path in sorted((sources.cards / PASSAGES).glob("*.md")):
        text = _with_part(text, f"results of {path.stem}", result_passage(path, sources), where)
    return text


def write_readme(readme: Path, sources: Sources = PACKAGE_SOURCES) -> None:
    """Renews a README file in place.

    Raises:
        FileNotFoundError: when it is missing.
        ValueError: as `renew`.
        OSError: when it cannot be written.
    """
    write_text(readme, renew(read_text(readme), str(readme), sources))


def _with_part(text: str, part: str, content: str, where: str) -> str:
    begin, end = markers(part)
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"{where} must hold the line {begin!r} and below it {end!r}, once each.")
    return re.sub(
        f"{re.escape(begin)}.*{re.escape(end)}", lambda _: f"{begin}\n{content}\n{end}", text, flags=re.DOTALL
    )
