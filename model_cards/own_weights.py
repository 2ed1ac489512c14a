"""Weights of a user's own: a folder that holds a pipeline of this package, and what of it may be published."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline

from ..pipelines import METHODS, pipeline_class
from ..pipelines.export.contract import CONTRACT
from ..pipelines.files import read_json
from ..pipelines.repository import EMBEDDED, INDEX, PACKAGE, PICKLES, component_classes, component_weights
from .plain_files import refuse_links
from .template import PACKAGE_SOURCES

SETTINGS = {
    "config.json", "generation_config.json", "scheduler_config.json", "preprocessor_config.json",
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model", "chat_template.jinja",
    "diffusion_pytorch_model.safetensors.index.json", "model.safetensors.index.json",
}  # fmt: skip
"""Files of a component beside its weights, by the names that diffusers and transformers give them."""

LICENSE_FILES = ("LICENSE", "LICENSE.md", "LICENSE.txt")
_ORIGIN = re.compile(
    r"[\\/]hub_models[\\/]checkpoints[\\/]([\w-]+)"
    r"|[\\/]models--((?:(?!--)[\w.-])+)--([\w.-]+)[\\/]snapshots[\\/]"
)
"""The folder of weights that came with the package, or of a download from the Hub, in a path."""
_LORAS = ("adapter_config.json", "pytorch_lora_weights.safetensors")


@dataclass(frozen=True)
class OwnWeights:
    """A folder with a pipeline of this package.

    Attributes:
        folder: where it is.
        slug: the method that its pipeline belongs to.
        task: of the pipeline.
    """

    folder: Path
    slug: str
    task: str

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.folder.resolve().name

    @property
    def pipeline(self) -> type[DiffusionPipeline]:
        """The class of the pipeline."""
        return pipeline_class(self.slug, self.task)

    def components(self) -> dict[str, type]:
        """Name -> class; raises as `component_classes`."""
        return component_classes(self.folder)

    def weights(self) -> dict[str, list[Path]]:
        """Name of each component that has weights -> the files from which it is loaded.

        Raises:
            FileNotFoundError: when one is missing.
            ValueError: for an index that is damaged.
        """
        found = {name: component_weights(self.folder / name, cls) for name, cls in self.components().items()}
        return {name: files for name, files in found.items() if files}

    def files(self) -> list[Path]:
        """What is published of the folder, besides its README and the record of its training, which are looked after
        for themselves: the index, settings and weights of what it names, and the licence.

        Raises:
            FileNotFoundError: when weights are missing.
            ValueError: for a link or a pickle in a component, naming it.
        """
        components = self.components()
        for name in components:
            _refuse_unsafe(self.folder / name)
        settings = [
            path for name in components for path in self.folder.joinpath(name).iterdir() if path.name in SETTINGS
        ]
        weights = [path for files in self.weights().values() for path in files]
        beside = [path for name in (EMBEDDED, *LICENSE_FILES) if (path := self.folder / name).is_file()]
        return sorted({self.folder / INDEX, *settings, *weights, *beside})

    def base(self) -> str | None:
        """What these weights were made from, where every model of them that tells of its origin tells the same.

        Returns:
            A Hub id "owner/name", or the name of weights that came with the package.
        """
        found = set()
        for name, cls in self.components().items():
            if cls.__module__.startswith(f"{PACKAGE}."):
                path = str(read_json(self.folder / name / "config.json", dict).get("_name_or_path"))
                found |= {match[1] or f"{match[2]}/{match[3]}" for match in _ORIGIN.finditer(path)}
        return found.pop() if len(found) == 1 else None

    def left_out(self, published: set[str]) -> list[str]:
        """What lies in the folder and is not published, hidden files aside: by name, a whole folder as one.

        Args:
            published: paths below the folder.
        """
        parts = {name.partition("/")[0] for name in published if "/" in name}
        return [name for name in self._names(parts) if name not in published]

    def _names(self, parts: set[str]) -> Iterator[str]:
        for path in sorted(self.folder.iterdir()):
            inside = sorted(path.iterdir()) if path.name in parts else [path]
            yield from (each.relative_to(self.folder).as_posix() for each in inside if each.name[0] != ".")


def own_weights(source: str) -> OwnWeights | None:
    """The weights in the folder that a user names; None for a word that is no folder, or a name of the package's own.

    Raises:
        FileNotFoundError: for a path where no folder is.
        ValueError: for a folder that holds no pipeline of this package, saying what it is.
    """
    known = {*METHODS, *(path.name for path in PACKAGE_SOURCES.checkpoints.glob("*/"))}
    is_word = Path(source).name == source and not os.path.isdir(source)
    return None if source in known or is_word else read_own_weights(Path(source))


def read_own_weights(folder: Path) -> OwnWeights:
    """Finds the method of a folder by the class that its index names.

    Raises:
        FileNotFoundError: when no folder is there.
        ValueError: when it holds no pipeline of this package, saying what it is.
    """
    if not folder.is_dir():
        what = "a file, no folder" if folder.is_file() else "not there"
        raise FileNotFoundError(f"{folder} is {what}: name a method or a folder with weights of your own.")
    if not (folder / INDEX).is_file():
        raise ValueError(f"{folder} {_what_it_is(folder)}: name a folder that save_pretrained of a pipeline wrote.")
    name = read_json(folder / INDEX, dict).get("_class_name")
    name = name[-1] if isinstance(name, list) and name else name
    if not isinstance(name, str):
        raise ValueError(f"{folder / INDEX} names no pipeline class.")
    owners = {target.split(":")[1]: (slug, task) for slug in METHODS for task, target in METHODS[slug].items()}
    if name not in owners:
        raise ValueError(f"{folder} holds a {name}, which is no pipeline of pocket-diffusers: use its own push_to_hub.")
    return OwnWeights(folder, *owners[name])


def _refuse_unsafe(part: Path) -> None:
    """Raises for a component that is missing or a link, and for links and pickles in it."""
    if part.is_symlink():
        raise ValueError(f"{part} is a link to {os.readlink(part)}, and links are not published: put the folder there.")
    if not part.is_dir():
        raise FileNotFoundError(f"{part} is missing, though {INDEX} names it.")
    refuse_links(part)
    for path in sorted(part.rglob("*")):
        if path.suffix.lower() in PICKLES:
            raise ValueError(
                f"{path} is a pickle, which can run code when it is loaded: only safetensors is published."
            )


def _what_it_is(folder: Path) -> str:
    """Of a folder without an index."""
    if (folder / "model" / INDEX).is_file():
        return f"is the folder of a training, whose weights are in {folder / 'model'}"
    if any((folder / name).is_file() for name in _LORAS):
        return "is a LoRA and no whole pipeline, so load it into one and call fuse_lora()"
    if (folder / CONTRACT).is_file():
        return "is an exported bundle, which runs without PyTorch"
    if (folder / "config.json").is_file():
        return f"is a single {_model_class(read_json(folder / 'config.json', dict))} and no pipeline"
    return f"has no {INDEX}, so it holds no pipeline"


def _model_class(config: dict[str, Any]) -> str:
    return config.get("_class_name") or next(iter(config.get("architectures") or ["model"]))
