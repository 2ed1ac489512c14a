"""A card before its numbers are known: front matter for the Hub, facts of ours, and text with placeholders."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub.utils import yaml_dump

_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Sources:
    """Folders that cards are made from: templates, results, and weights with a name each; and the README to check."""

    cards: Path = _PACKAGE / "model_cards"
    results: Path = _PACKAGE / "eval" / "results"
    checkpoints: Path = _PACKAGE / "hub_models" / "checkpoints"
    readme: Path | None = None

    def template(self, name: str) -> Path:
        """File of the card's template: the weights' own one, or else that of their method.

        Raises:
            FileNotFoundError: when there is neither.
        """
        paths = [self.cards / f"{name}.md", self.cards / f"{slug_of(name)}.md"]
        found = next((path for path in paths if path.is_file()), None)
        if found is None:
            raise FileNotFoundError(f"no card for {name!r}: write {paths[-1]}.")
        return found


_README = _PACKAGE / "README.md"
PACKAGE_SOURCES = Sources(readme=_README if _README.is_file() else None)
"""Those of this package; a checkout has a README of its own, a wheel has none."""


def slug_of(name: str) -> str:
    """The method of weights such as "snapgen-nano-square": what stands before "-nano"."""
    return name.partition("-nano")[0]


@dataclass(frozen=True)
class MethodFacts:
    """Block `pocket` of a template's front matter, which stays out of the finished card.

    Attributes:
        name: of the method or model, in its own capitals.
        makes: what it makes, in a few words, for the table of methods.
        paper: arXiv number as a text; None where there is no paper.
        status: what it reaches, in a few words with placeholders, for the table of methods.
        results: ids of the rows that become `model-index` and `.eval_results`.
        dataset: what those rows were measured on: `name`, `type` (a Hub id or a word) and `split`.
        samples: of a generator the arguments of the pipeline for the sample pictures, and `seed`; the prompts are the
            `widget` texts. Of a recognizer `pictures`, what it looks at, `count`, and arguments of the pipeline. Of a
            scene `num_frames`, and arguments of the pipeline.
    """

    name: str
    makes: str
    paper: str | None = None
    status: str = ""
    results: tuple[str, ...] = ()
    dataset: Mapping[str, str] = field(default_factory=dict)
    samples: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class CardTemplate:
    """A template that was read.

    Attributes:
        path: its file.
        front: front matter as the Hub knows it.
        method: the block `pocket` of it.
        body: the text.
        offset: lines of the file before the body.
    """

    path: Path
    front: dict[str, Any]
    method: MethodFacts
    body: str
    offset: int


def read_template(path: Path) -> CardTemplate:
    """Reads a template.

    Raises:
        FileNotFoundError: when it is missing.
        ValueError: for front matter that is no YAML or lacks what ours must say.
    """
    text = read_text(path)
    front, body = split_card(text, str(path))
    ours = front.pop("pocket", None)
    known = {entry.name for entry in fields(MethodFacts)}
    if not isinstance(ours, dict) or not {"name", "makes"} <= ours.keys() <= known:
        raise ValueError(f"{path}: front matter needs a block 'pocket' with name and makes; allowed: {sorted(known)}.")
    if not isinstance(ours.get("paper"), str | None):
        raise ValueError(f"{path}: paper is {ours['paper']!r}; put the arXiv number into quotes.")
    method = MethodFacts(**{**ours, "results": tuple(ours.get("results") or ())})
    return CardTemplate(path, front, method, body, text[: len(text) - len(body)].count("\n"))


def split_card(text: str, where: str) -> tuple[dict[str, Any], str]:
    """Front matter and body of a card.

    Raises:
        ValueError: when it does not begin with a YAML mapping between two lines of `---`.
    """
    lines = text.split("\n")
    if lines[0] != "---" or "---" not in lines[1:]:
        raise ValueError(f"{where}: a card begins with front matter between two lines of '---'.")
    end = lines.index("---", 1)
    try:
        front = yaml.safe_load("\n".join(lines[1:end]))
    except yaml.YAMLError as error:
        raise ValueError(f"{where}: the front matter is no YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(front, dict):
        raise ValueError(f"{where}: the front matter must be a YAML mapping.")
    return front, "\n".join(lines[end + 1 :])


def join_card(front: Mapping[str, Any], body: str) -> str:
    """A card's text from its two halves."""
    return f"---\n{yaml_dump(dict(front), sort_keys=False)}---\n{body}"


def read_text(path: Path) -> str:
    """Text of a file.

    Raises:
        FileNotFoundError: when it is missing.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing.")
    return path.read_text(encoding="utf-8")
