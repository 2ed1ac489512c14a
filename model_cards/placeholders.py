"""`{{ name.field:format }}`: the only way a number gets into a card. It is filled from facts or refused."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

PLACEHOLDER = re.compile(r"\{\{(?=\s|[\w/-]+\.\w)\s*([^{}]*?)\s*\}\}")
_GRAMMAR = re.compile(r"([\w/-]+(?:\.[\w-]+)*)(?::([^:]+))?")
_UNITS = {"k": 1e3, "M": 1e6, "MB": 1e6}

_FENCES = re.compile(r"^(```|~~~).*?^\1[ \t]*$", re.MULTILINE | re.DOTALL)
_NO_PROSE = re.compile(
    r"<!--.*?-->"  # comments
    r"|`[^`\n]*`"  # code
    r"|\]\([^)\s]*\)"  # targets of links and pictures
    r"|https?://\S+"
    r"|arXiv[: ]\d{4}\.\d{4,5}"
    r"|\b(?:[Tt]able|[Ff]igure|[Ss]ection) \d+(?:\.\d+)*"  # of a paper
    r"|\{\{.*?\}\}"
    r"|^[ ]*\d+\.[ ]",  # numbered lists
    re.MULTILINE | re.DOTALL,
)
_NUMBER = re.compile(r"(?<![\w.\-])\d[\d.,]*(?![\w\-])")


def fill(text: str, facts: Mapping[str, Any], where: str) -> str:
    """Replaces every placeholder of a text by its fact.

    `{{ judge-seen-pairs.measured }}` is the field `measured` of a result row, `{{ weights.unet.parameters:M }}` a
    number of the weights in millions. A format is one of Python's (`.2f`), `k`, `M`, or `MB`; without one, whole
    numbers get commas and others five digits.

    Args:
        text: the text.
        facts: nested facts by name; a dot in a placeholder goes one level down.
        where: name of the text, for errors.

    Raises:
        ValueError: for a placeholder that no fact answers, that is null, or whose format does not fit, naming the line.
    """

    def value(match: re.Match[str]) -> str:
        place = f"{where}, line {text.count(chr(10), 0, match.start()) + 1}"
        parts = _GRAMMAR.fullmatch(match[1])
        if parts is None:
            raise ValueError(
                f"{place}: {match[0]!r} is no placeholder; write {{{{ name.field }}}} or name.field:format."
            )
        return shown(look_up(parts[1], facts, place), parts[2], f"{place}: {parts[1]}")

    return PLACEHOLDER.sub(value, text)


def look_up(path: str, facts: Mapping[str, Any], where: str) -> str | int | float:
    """Returns the fact at a dotted path.

    Raises:
        ValueError: when there is none, or it is null: nobody measured it.
    """
    found: Any = facts
    for part in path.split("."):
        if not isinstance(found, Mapping) or part not in found:
            known = list(found) if isinstance(found, Mapping) else []
            near = get_close_matches(part, map(str, known), n=1, cutoff=0.5)
            guess = f" (nearest: {near[0]!r})" if near else ""
            raise ValueError(f"{where} names {path!r}, which no result and no file holds: {part!r} is unknown{guess}.")
        found = found[part]
    if found is None:
        raise ValueError(f"{where} names {path!r}, which is null: nobody measured it.")
    if not isinstance(found, str | int | float) or isinstance(found, bool):
        raise ValueError(f"{where} names {path!r}, which is neither a number nor a text: name a field of it.")
    return found


def shown(value: str | int | float, form: str | None = None, where: str = "value") -> str:
    """A fact as a reader sees it.

    Raises:
        ValueError: when the format does not fit.
    """
    if isinstance(value, str):
        if form:
            raise ValueError(f"{where} is a text and takes no format, but got {form!r}.")
        return value
    if form in _UNITS:
        return f"{value / _UNITS[form]:.3g} {form}"
    if form is None:
        return f"{value:,}" if isinstance(value, int) else f"{value:.5g}"
    try:
        return format(value, form)
    except ValueError:
        raise ValueError(f"{where} cannot be shown as {form!r}: use a format such as .2f, .0%, k, M or MB.") from None


def refuse_bare_numbers(text: str, where: str, first_line: int = 1) -> None:
    """Refuses a text whose prose states a number by itself, outside code, links and placeholders.

    Nothing stands behind such a number, so it goes stale without anyone seeing it. Names such as `SD3`, code spans,
    arXiv numbers, those of a paper's tables and the numbers of lists are no such numbers.

    Raises:
        ValueError: naming the first one and its line.
    """
    for line, number in _bare_numbers(text):
        raise ValueError(
            f"{where}, line {line + first_line - 1}: nobody measured {number}: take it from a result with "
            "{{ row.field }}, or put it into a code span if it is no measurement."
        )


def _bare_numbers(text: str) -> list[tuple[int, str]]:

    def blank(match: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", match[0])

    prose = _NO_PROSE.sub(blank, _FENCES.sub(blank, text))
    return [(prose.count("\n", 0, match.start()) + 1, match[0].rstrip(".,")) for match in _NUMBER.finditer(prose)]
