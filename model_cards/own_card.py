"""The card of a user's own weights: what their files say, none of what was measured of ours; or the one he wrote."""

import json
import re
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

from safetensors import safe_open

from ..pipelines.files import read_json, write_text
from ..pipelines.repository import read_shapes, readme_stub
from .configs import model_configs
from .own_training import read_own_training, training_text
from .own_weights import LICENSE_FILES, OwnWeights
from .placeholders import fill
from .plain_files import refuse_links
from .render import CARD, cards_of, render_card
from .template import PACKAGE_SOURCES, join_card, read_template, read_text, split_card
from .validate import OWN_LICENSES, PIPELINE_TAGS, check_license, check_own_card, refuse_faults
from .wheel import install_words

UNKNOWN = "unknown"
TEMPLATE = PACKAGE_SOURCES.cards / "own.md"
HUB_TASKS = {"class-to-image": "unconditional-image-generation", "text-to-motion": "text-to-3d"}
"""Our task -> the Hub's, where it has none of that name."""
_SET_BY_DATA = {"sample_size", "num_classes", "scaling_factor", "shift_factor", "latents_mean", "latents_std"}
"""Fields of a config that a training sets, and that make a model no other size."""


def render_own_card(
    own: OwnWeights, repository: str | None = None, license: str | None = None, private: bool = False
) -> str:
    """A card for a folder: how to load it, what it is, and the record of its training if it holds one.

    Args:
        own: the weights.
        repository: the Hub id they will have; None takes the folder's name.
        license: of the weights, by the Hub's name for it; None is "unknown".
        private: whether a reader must log in to the Hub.

    Raises:
        FileNotFoundError: when a file is missing.
        ValueError: when one is damaged, or the record of the training describes other weights.
    """
    check_license(license)
    repository = repository or own.name
    method = read_template(PACKAGE_SOURCES.template(f"{own.slug}-nano")).method
    base = own.base()
    parts = {name: _counted(files) for name, files in own.weights().items()}
    facts = {
        "weights": {
            "repository": repository,
            "table": _table(own, parts),
            "origin": f" They were made from `{base}`." if base else "",
            "parameters": sum(part["parameters"] for part in parts.values()),
            "bytes": sum(part["bytes"] for part in parts.values()),
        },
        "method": {
            "name": method.name,
            "paper": f" (arXiv {method.paper})" if method.paper else "",
            "slug": own.slug,
        },
        "pipeline": {
            "name": own.pipeline.__name__,
            "task": own.task,
            "shim": own.pipeline.__module__.rpartition(".")[2],
        },
        "package": {"install": install_words(repository, private)},
        "training": {"text": training_text(read_own_training(own))},
        "license": {"text": _license_text(own, license or UNKNOWN)},
    }
    return join_card(_front(own, license), "\n" + fill(read_text(TEMPLATE), facts, str(TEMPLATE)))


def own_card(
    own: OwnWeights,
    repository: str,
    license: str | None = None,
    private: bool = False,
    say: Callable[[str], Any] = lambda text: None,
) -> str:
    """The card to publish: the README.md that somebody wrote in the folder, else a rendered one.

    A README that is kept stays as it is but for front matter: what it lacks there is added, and `license` is put in.
    A card that this package rendered is rendered anew, under the licence that it says where these weights are its own.

    Args:
        own, repository, license, private: as `render_own_card` takes them.
        say: told when a README is kept.

    Raises:
        FileNotFoundError: as `render_own_card`.
        ValueError: as `render_own_card`, or when the README's front matter is no YAML.
    """
    path = own.folder / CARD
    refuse_links(path)
    text = read_text(path) if path.is_file() else None
    chosen = None if text is None else _license_in(text)
    if text is not None and text in _rendered_before(own, text, chosen):
        return render_own_card(own, repository, license or chosen, private)
    if text is None or text in _not_of_these(own, text):
        return render_own_card(own, repository, license, private)
    say(f"keeping {path} as the card")
    front, body = split_card(text, str(path)) if text.startswith("---\n") else ({}, "\n" + text)
    whole = _front(own, license) | front | ({"license": license} if license else {})
    return text if whole == front else join_card(whole, body)


def _rendered_before(own: OwnWeights, readme: str, license: str | None) -> list[str]:
    """What `pocket card` and `pocket push` wrote for these weights, under the title and the licence of a README."""
    return [render_own_card(own, _title(readme), license, private) for private in (False, True)]


def _not_of_these(own: OwnWeights, readme: str) -> list[str]:
    """What nobody wrote for these weights: the stub, and cards of the package's own, which may have been copied."""
    cards = [PACKAGE_SOURCES.checkpoints / name / CARD for name in cards_of(own.slug)]
    stub = readme_stub(own.pipeline, _title(readme))
    return [stub, *map(read_text, cards), *(render_card(name, _title(readme)) for name in cards_of(own.slug))]


def _title(readme: str) -> str:
    found = re.search(r"^# (.+)$", readme, re.MULTILINE)
    return found[1] if found else "untitled"


def _license_in(readme: str) -> str | None:
    found = re.search(r"^license: (\S+)$", readme, re.MULTILINE)
    return found[1] if found and found[1] in OWN_LICENSES else None


def write_own_card(own: OwnWeights, output: Path, license: str | None = None) -> None:
    """Writes the card of a folder into a file, in place of what is there.

    Raises:
        FileNotFoundError: as `render_own_card`.
        ValueError: as `render_own_card`, or when the card is faulty.
        OSError: when `output` cannot be written.
    """
    if output.is_dir():
        raise IsADirectoryError(f"output {str(output)!r} is a folder: name the card's file, such as {output / CARD}.")
    text = render_own_card(own, license=license)
    refuse_faults(check_own_card(text, str(output)))
    write_text(output, text)


def own_card_faults(own: OwnWeights) -> list[str]:
    """What the Hub would refuse of the card in a folder, one sentence each; a folder without one has none to refuse.

    Raises:
        FileNotFoundError: when there is no card.
    """
    path = own.folder / CARD
    return check_own_card(read_text(path), str(path), own.folder)


def _front(own: OwnWeights, license: str | None) -> dict[str, Any]:
    paper = read_template(PACKAGE_SOURCES.template(f"{own.slug}-nano")).method.paper
    base, file = own.base(), _license_file(own)
    front: dict[str, Any] = {"license": license or UNKNOWN}
    if license == "other" and file:
        front |= {"license_name": f"{own.name}-license", "license_link": file}
    if base and "/" in base:
        front["base_model"] = base
    tag = own.task if own.task in PIPELINE_TAGS else HUB_TASKS[own.task]
    tags = dict.fromkeys([own.slug, own.task, "diffusers", *([f"arxiv:{paper}"] if paper else [])])
    return {**front, "library_name": "diffusers", "pipeline_tag": tag, "tags": list(tags)}


def _license_file(own: OwnWeights) -> str | None:
    return next((name for name in LICENSE_FILES if (own.folder / name).is_file()), None)


def _license_text(own: OwnWeights, license: str) -> str:
    file = _license_file(own)
    see = f" Its text is in [{file}]({file})." if file else ""
    said = "Weights: not said; ask their owner" if license == UNKNOWN else f"Weights: {license}"
    return f"{said}.{see} Code of Pocket Diffusers: Apache-2.0."


def _counted(files: list[Path]) -> dict[str, Any]:
    """Parameters, bytes and number formats of a component's weights."""
    found: dict[str, Any] = {"parameters": 0, "bytes": sum(path.stat().st_size for path in files), "formats": set()}
    for path in files:
        found["parameters"] += sum(map(prod, read_shapes(path).values()))
        with safe_open(path, framework="numpy") as tensors:
            found["formats"] |= {tensors.get_slice(key).get_dtype() for key in tensors.keys()}  # noqa: SIM118
    return found


def _table(own: OwnWeights, parts: dict[str, dict[str, Any]]) -> str:
    classes = own.components()
    lines = ["| part | class | size | parameters | stored as |", "|---|---|---|---|---|"]
    for name, part in parts.items():
        size, formats = _size(own, name, classes[name]), ", ".join(sorted(part["formats"]))
        lines.append(f"| `{name}` | `{classes[name].__name__}` | {size} | {part['parameters']:,} | {formats} |")
    return "\n".join(lines)


def _size(own: OwnWeights, name: str, cls: type) -> str:
    """The preset that a model's config is of, if any, and the size of what it takes."""
    config = read_json(own.folder / name / "config.json", dict)
    texts = {field: json.dumps(value) for field, value in config.items()}
    presets = model_configs(own.slug).get(cls.__name__, {})
    preset = next((preset for preset, fields in presets.items() if _is_of(texts, fields)), None)
    words = [f"`{preset}`"] if preset else []
    side = config.get("sample_size", config.get("image_size"))
    return ", ".join([*words, *([f"sample size {side}"] if isinstance(side, int) else [])]) or "its own"


def _is_of(config: dict[str, str], preset: dict[str, str]) -> bool:
    return all(config.get(field) == value for field, value in preset.items() if field not in _SET_BY_DATA)
