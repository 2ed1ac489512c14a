"""`pocket card --check`: whether the cards that lie beside weights, and the README, still say what the facts say."""

from difflib import unified_diff
from pathlib import Path

from .readme import renew
from .render import CARD, card_faults, cards_of, render_card
from .samples import FOLDER, sample_plan, stale_samples
from .template import PACKAGE_SOURCES, Sources, read_template, read_text


def find_stale(name: str | None = None, readme: Path | None = None, sources: Sources = PACKAGE_SOURCES) -> list[str]:
    """What is wrong with cards and with a README, one sentence each.

    Args:
        name: a method or weights; None looks at all cards, or with a `readme` at none.
        readme: a README; None without a name takes that of the sources, if they have one.
        sources: where templates, results, weights and README are.

    Raises:
        ValueError: when there are no such weights.
    """
    names = cards_of(name, sources) if name is not None or readme is None else []
    if name is None and readme is None:
        readme = sources.readme
    problems = [problem for weights in names for problem in check_card(weights, sources)]
    return problems + (check_readme(readme, sources) if readme is not None else [])


def check_card(name: str, sources: Sources = PACKAGE_SOURCES) -> list[str]:
    """What is wrong with the card that lies beside weights, one sentence each; an empty list is a card to trust.

    It looks for numbers that nobody measured, front matter that the Hub would refuse, text that differs from what
    the facts say today, and sample pictures of other weights.
    """
    folder = sources.checkpoints / name
    try:
        template = read_template(sources.template(name))
        text = render_card(name, sources=sources)
        plan = sample_plan(template)
    except (ValueError, OSError) as error:
        return [str(error)]
    stale = plan and stale_samples(plan, folder, folder / FOLDER)
    problems = [f"{stale}."] if stale else []
    files = None if stale else folder
    problems += card_faults(template, text, f"the card of {name}", files)
    difference = _file_difference(folder / CARD, text)
    if difference:
        problems.append(f"{folder / CARD} is stale: {difference}.")
    if problems:
        problems.append(f"`pocket card {name} --output {folder / CARD}` renders the card and draws its samples.")
    return problems


def check_readme(readme: Path, sources: Sources = PACKAGE_SOURCES) -> list[str]:
    """What is wrong with the generated parts of a README: one sentence, or nothing."""
    try:
        text = read_text(readme)
        difference = _difference(text, renew(text, str(readme), sources))
    except (ValueError, OSError) as error:
        return [str(error)]
    return [f"{readme} is stale: {difference}; `pocket card --readme {readme}` renews it."] if difference else []


def _file_difference(path: Path, text: str) -> str | None:
    return _difference(path.read_text(encoding="utf-8"), text) if path.is_file() else "it is missing"


def _difference(old: str, text: str) -> str | None:
    lines = list(unified_diff(old.splitlines(), text.splitlines(), lineterm="", n=0))[2:]
    if not lines:
        return None if old == text else "it differs in white space"
    was = next((line[1:] for line in lines if line.startswith("-")), "")
    now = next((line[1:] for line in lines if line.startswith("+")), "")
    return f"it says {_short(was)}, and the facts say {_short(now)}"


def _short(line: str) -> str:
    return repr(line if len(line) <= 120 else f"{line[:117]}...")
