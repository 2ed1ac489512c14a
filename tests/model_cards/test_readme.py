"""The README: what stands between its markers is what the facts say, and one changed digit is found."""

import re
from pathlib import Path

import pytest

from pocket_diffusers.model_cards import method_table, readme
from pocket_diffusers.model_cards.freshness import check_readme, find_stale
from pocket_diffusers.model_cards.placeholders import refuse_bare_numbers
from pocket_diffusers.model_cards.readme import markers, renew, result_passage, write_readme
from pocket_diffusers.model_cards.template import PACKAGE_SOURCES

README = Path(__file__).parents[2] / "README.md"
NUMBER = re.compile(r"(?<![\w.\-/`])\d[\d.,]*(?![\w`])")


@pytest.fixture
def little(world, monkeypatch):
    """A README of one method with one passage."""
    monkeypatch.setattr(method_table, "METHODS", {"snapgen": method_table.METHODS["snapgen"]})
    passages = world.sources.cards / "passages"
    passages.mkdir()
    (passages / "snapgen.md").write_text(
        "| right | {{ named-right.measured:.2f }} | {{ snapgen/named-right.goal }} |\n"
    )
    path = world.sources.cards.parent / "README.md"
    parts = ["\nold\n".join(markers(part)) for part in ("results of snapgen", "methods")]
    path.write_text("# Title\n\n" + "\n\nbetween\n\n".join(parts) + "\n\nend\n")
    return path


def numbers() -> list[tuple[str, int]]:
    """Every number that stands between the README's markers: its line, and the place of its last digit."""
    found, inside = [], False
    for number, line in enumerate(README.read_text(encoding="utf-8").splitlines()):
        inside = line.startswith("<!-- ") and not line.startswith("<!-- /") or inside and not line.startswith("<!-- /")
        if inside and line.startswith("|"):
            found += [(number, match.start() + len(match[0].rstrip(".,")) - 1) for match in NUMBER.finditer(line)]
    return found


def test_the_readme_is_fresh():
    assert check_readme(README) == [] and PACKAGE_SOURCES.readme == README


def test_most_of_the_readme_is_guarded():
    lines = README.read_text(encoding="utf-8").splitlines()
    rows = {number for number, _ in numbers() if "arxiv.org" not in lines[number]}
    assert len(rows) > 35 and len(numbers()) > 150


@pytest.fixture(scope="module")
def rendered() -> str:
    """What the README must say, rendered once for all the numbers below."""
    return renew(README.read_text(encoding="utf-8"), "README.md")


@pytest.mark.parametrize(("line", "place"), numbers())
def test_a_changed_digit_is_found(line, place, rendered, tmp_path, monkeypatch):
    lines = README.read_text(encoding="utf-8").split("\n")
    text, digit = lines[line], int(lines[line][place])
    lines[line] = f"{text[:place]}{(digit + 1) % 10}{text[place + 1 :]}"
    copy = tmp_path / "README.md"
    copy.write_text("\n".join(lines), encoding="utf-8")
    parts = {part: rendered.partition(begin)[2].partition(end)[0].strip() for part, begin, end in _parts()}
    monkeypatch.setattr(readme, "method_table", lambda sources: parts["methods"])
    monkeypatch.setattr(readme, "result_passage", lambda path, sources: parts[f"results of {path.stem}"])
    (problem,) = check_readme(copy)
    assert "is stale: it says" in problem and f"`pocket card --readme {copy}` renews it" in problem


def _parts() -> list[tuple[str, str, str]]:
    passages = sorted((PACKAGE_SOURCES.cards / "passages").glob("*.md"))
    return [(part, *markers(part)) for part in ("methods", *(f"results of {path.stem}" for path in passages))]


@pytest.mark.parametrize("part", [part for part, _, _ in _parts()])
def test_a_changed_digit_is_found_by_the_whole_check(part, tmp_path):
    """As above, with nothing replaced, once for each part."""
    text = README.read_text(encoding="utf-8")
    begin, _ = markers(part)
    head, tail = text[: text.index(begin) + len(begin)], text[text.index(begin) + len(begin) :]
    match = NUMBER.search(tail)
    copy = tmp_path / "README.md"
    copy.write_text(f"{head}{tail[: match.start()]}{(int(match[0][0]) + 1) % 10}{tail[match.start() + 1 :]}")
    assert "is stale: it says" in find_stale(readme=copy)[0]
    write_readme(copy)
    assert copy.read_text(encoding="utf-8") == text


def test_no_number_of_the_results_stands_outside_the_markers():
    text = README.read_text(encoding="utf-8")
    start = text.index("## What the nano weights can and cannot do\n")
    section = text[start : text.index("\n## ", start)]
    for _, begin, end in _parts()[1:]:
        head, _, rest = section.partition(begin)
        section = head + rest.partition(end)[2]
    refuse_bare_numbers(section, "README.md")


def test_renewal_touches_nothing_else(little, world, row):
    assert "is stale: it says 'old'" in check_readme(little, world.sources)[0]
    write_readme(little, world.sources)
    assert check_readme(little, world.sources) == []
    text = little.read_text()
    assert "| right | 0.81 | ≥ 0.9, **missed** |" in text and method_table.method_table(world.sources) in text
    assert text.startswith("# Title\n\n<!-- ") and "-->\n\nbetween\n\n<!--" in text and text.endswith("-->\n\nend\n")
    world.set_rows(row(measured=0.5))
    assert "0.81" in check_readme(little, world.sources)[0]


def test_a_passage_cannot_name_a_number_by_itself_or_one_that_nobody_measured(little, world, row):
    path = world.sources.cards / "passages" / "snapgen.md"
    world.set_rows(row(measured=None, ratio=None, interval=None, claim="It failed: no memory."))
    with pytest.raises(ValueError, match=r"snapgen.md, line 1 names 'named-right.measured', which is null"):
        result_passage(path, world.sources)
    path.write_text("so\n| right | 0.81 |\n")
    with pytest.raises(ValueError, match=r"line 2: nobody measured 0\.81"):
        result_passage(path, world.sources)


@pytest.mark.parametrize("part", ["methods", "results of snapgen"])
def test_markers(little, world, part):
    begin, end = markers(part)
    text = little.read_text()
    for broken in (text.replace(begin, ""), text.replace(end, ""), text + begin, text + end):
        with pytest.raises(ValueError, match="README must hold the line"):
            renew(broken, "README", world.sources)
    turned = text.replace(begin, "@").replace(end, begin).replace("@", end)
    with pytest.raises(ValueError, match="once each"):
        renew(turned, "README", world.sources)
