"""A checkpoint repository: a folder that diffusers loads from the disk or the Hub, written whole and checked."""

import copy
import inspect
import json
import math
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import DiffusionPipeline, ModelMixin
from torch import nn
from transformers import CLIPModel, CLIPTextModel, PreTrainedModel

from . import METHODS
from .files import read_json, sha256, whole_folder, write_json, write_text

PACKAGE = __package__.split(".")[0]
INDEX = "model_index.json"
EMBEDDED = "embedded.json"
PICKLES = {".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth"}
MACHINE_KEYS = ("_name_or_path", "name_or_path", "special_tokens_map_file", "tokenizer_file")
BYTES = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2} | {
    "I32": 4, "U32": 4, "F32": 4, "F64": 8, "I64": 8, "U64": 8
}  # fmt: skip
MAX_HEADER = 100_000_000
"""Longest header that safetensors itself accepts, in bytes."""

SHIM = '''"""Lets DiffusionPipeline.from_pretrained(..., trust_remote_code=True) load this repository."""

try:
{imports}
    from {module} import {name}  # noqa: F401
except ModuleNotFoundError as error:
    if not (error.name or "").startswith("{package}"):
        raise
    raise ImportError(
        "This repository needs the package pocket-diffusers, in a version that has {name}: "
        "install the wheel pocket_diffusers-*.whl that `pocket push` puts beside this file, and no package of that "
        "name from an index."
    ) from error
'''

README = """---
license: apache-2.0
library_name: diffusers
pipeline_tag: {task}
---
# {title}

```python
from {module} import {name}

pipeline = {name}.from_pretrained("{title}")
```

It needs the package `pocket-diffusers`: install its wheel, which `pocket push` puts into a repository, and no package
of that name from an index.
"""


class RepositoryMixin:
    """How pipelines of this package are loaded and saved.

    `from_pretrained` checks a local folder first and never runs code from it. What `save_pretrained` and `push_to_hub`
    write, plain diffusers loads with `trust_remote_code=True`.
    """

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> Self:
        """Loads a pipeline from a folder or the Hub, in float32 unless `dtype` says otherwise; safetensors only.

        Args:
            pretrained_model_name_or_path: folder, or repository id on the Hub.
            kwargs: those of `DiffusionPipeline.from_pretrained`; a component by name replaces the stored one
                (`text_encoder_3=None` leaves it out).

        Raises:
            FileNotFoundError: for a folder or a file that is missing.
            ValueError: for a damaged file, a tensor of the wrong shape or pickled weights, naming the file.
        """
        path = os.fspath(pretrained_model_name_or_path)
        if os.path.isdir(path):
            check_repository(path, skip=kwargs.keys() | cls._unused(Path(path)), variant=kwargs.get("variant"))
        elif is_local_path(pretrained_model_name_or_path):
            raise FileNotFoundError(f"no checkpoint folder at {path}.")
        if kwargs.get("dtype") is None and kwargs.get("torch_dtype") is None:
            kwargs["dtype"] = torch.float32
        return super().from_pretrained(path, **{"use_safetensors": True, **kwargs})

    @classmethod
    def _unused(cls, folder: Path) -> set[str]:
        """What the index names and this class does not take, such as Stable Diffusion's safety checker.

        diffusers says so and does not load it.
        """
        return read_json(folder / INDEX, dict).keys() - inspect.signature(cls.__init__).parameters.keys()

    def to_json_file(self, json_file_path: str | os.PathLike) -> None:
        """Writes the settings; beside a `model_index.json` also the file that tells plain diffusers where the class is.

        Every way of saving ends here before anything is uploaded. A class of your own gets no such file.
        """
        super().to_json_file(json_file_path)
        path = Path(json_file_path)
        if path.name == INDEX and type(self).__module__.startswith(f"{PACKAGE}."):
            write_shim(type(self), path.parent)

    @classmethod
    def _dict_from_json_file(cls, json_file: str | os.PathLike) -> dict[str, Any]:
        """Reads `_class_name: [shim, class]` as the class alone: called on the class itself, no shim is needed."""
        config = super()._dict_from_json_file(json_file)
        if isinstance(config.get("_class_name"), list):
            config["_class_name"] = config["_class_name"][-1]
        return config


def is_local_path(path: str | os.PathLike) -> bool:
    """Whether `path` means a place on this disk: something is there, or it is no repository id such as `user/name`.

    A folder that is called like `user` alone says nothing.
    """
    if not isinstance(path, str) or os.path.exists(path):
        return True
    return path.count("/") != 1 or path.split("/")[0] in ("", ".", "..", "~")


def text_tower(clip: CLIPModel) -> CLIPTextModel:
    """A copy of the text half of a CLIP model: what a repository embeds as `text_encoder`."""
    tower = CLIPTextModel(copy.deepcopy(clip.config.text_config))
    tower.load_state_dict(clip.text_model.state_dict())
    return tower.to(clip.dtype).eval()


def save_repository(
    pipeline: DiffusionPipeline,
    folder: str | os.PathLike,
    dtype: torch.dtype = torch.float16,
    embedded: Mapping[str, str | os.PathLike] | None = None,
    readme: str | None = None,
) -> Path:
    """Writes a complete Hub repository: weights in half precision, `model_index.json`, `pipeline_<slug>.py`, README.

    The folder appears whole or not at all; one that holds a repository already is replaced, and its README is kept
    unless `readme` is given. Weights are stored in `dtype` and load as float32 unless `dtype` is asked for. The
    pipeline itself is not changed.

    Args:
        pipeline: a pipeline of this package, with every component it needs.
        folder: where the repository goes; its name becomes the README's title.
        dtype: number format of stored weights.
        embedded: component name -> folder of the frozen encoder it was taken from; that encoder's sha256 is recorded
            in `embedded.json`.
        readme: text of README.md; None writes a stub that says how to load the repository.

    Returns:
        The folder.

    Raises:
        ValueError: when `folder` or a folder above it is something else, a weight does not fit `dtype`, a LoRA is
            still attached, or the pipeline is another package's.
        OSError: when the disk is full or the folder cannot be written.
    """
    folder = Path(folder)
    if not type(pipeline).__module__.startswith(f"{PACKAGE}."):
        raise ValueError(f"{type(pipeline).__name__} is no pipeline of {PACKAGE}: use its save_pretrained.")
    refuse_other_folder(folder)
    old_readme = folder / "README.md"
    if readme is None and old_readme.is_file():
        readme = old_readme.read_text(encoding="utf-8")
    records = {name: _embedded_record(pipeline, name, Path(source)) for name, source in (embedded or {}).items()}
    with whole_folder(folder) as draft:
        _save_components(pipeline, draft, dtype)
        pipeline.save_config(draft)
        _write_embedded(draft, records)
        _write_readme(pipeline, draft, readme, folder.name)
        check_repository(draft, digests=True)
    return folder


def refuse_other_folder(folder: str | os.PathLike) -> None:
    """Refuses a place where `save_repository` writes nothing, before any work is done for it.

    Raises:
        ValueError: when `folder` or a folder above it is something else.
    """
    folder = Path(folder)
    if folder.exists() and not (folder.is_dir() and ((folder / INDEX).is_file() or not any(folder.iterdir()))):
        raise ValueError(f"{folder} exists and is no checkpoint repository: choose another folder.")
    blocking = next((parent for parent in folder.parents if parent.is_file()), None)
    if blocking is not None:
        raise ValueError(f"{folder} cannot be made: {blocking} is a file.")


def check_repository(
    folder: str | os.PathLike, skip: Collection[str] = (), variant: str | None = None, digests: bool = False
) -> None:
    """Checks a repository before anything of it is allocated: files, sizes, and shapes against each config.

    Args:
        folder: the repository.
        skip: components that are not looked at.
        variant: weights variant ("fp16"), as in diffusers.
        digests: also compare the files of embedded encoders with their recorded sha256.

    Raises:
        FileNotFoundError: for a folder or a file that is missing.
        ValueError: for a damaged or truncated file, a tensor of the wrong shape, or pickled weights, naming the file.
    """
    folder = Path(folder)
    _refuse_pickles(folder)
    for name, (library, class_name) in _components(read_json(folder / INDEX, dict), folder).items():
        if name not in skip:
            _check_component(folder / name, _component_class(folder, name, library, class_name), variant)
    if digests:
        _check_digests(folder)


def check_model(folder: str | os.PathLike, cls: type) -> None:
    """Checks the folder of a single model, such as one that judges, as `check_repository` checks a component.

    Raises:
        FileNotFoundError: for a folder or a file that is missing.
        ValueError: for a damaged or truncated file, a tensor of the wrong shape, or pickled weights, naming the file.
    """
    folder = Path(folder)
    _refuse_pickles(folder)
    _check_component(folder, cls, None)


def component_classes(folder: Path) -> dict[str, type]:
    """The components that the index of a repository names, and their classes.

    Raises:
        FileNotFoundError: when there is no index.
        ValueError: when it is damaged, or takes a component from somewhere else or from nowhere.
    """
    return {
        name: _component_class(folder, name, library, class_name)
        for name, (library, class_name) in _components(read_json(folder / INDEX, dict), folder).items()
    }


def component_weights(folder: Path, cls: type, variant: str | None = None) -> list[Path]:
    """The safetensors files from which a component is loaded; none of what has no weights, such as a scheduler.

    Those of a variant, such as "fp16", where there are some.

    Raises:
        FileNotFoundError: when one is missing.
        ValueError: when the index of several is damaged.
    """
    stem = _weights_stem(cls)
    return [] if stem is None else _weight_files(folder, stem, variant)


def _refuse_pickles(folder: Path) -> None:
    if not folder.is_dir():
        raise FileNotFoundError(f"no checkpoint folder at {folder}.")
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in PICKLES:
            raise ValueError(f"{path} is a pickle, which can run code when it is loaded: only safetensors is accepted.")


def _components(index: dict[str, Any], folder: Path) -> dict[str, tuple[str, str]]:
    if "_class_name" not in index:
        raise ValueError(f"{folder / INDEX} names no pipeline class.")
    pairs = {key: value for key, value in index.items() if not key.startswith("_") and isinstance(value, list)}
    return {
        key: (value[0], value[1])
        for key, value in pairs.items()
        if len(value) == 2 and all(isinstance(part, str) for part in value)
    }


def _component_class(folder: Path, name: str, library: str, class_name: str) -> type:
    if library not in ("diffusers", "transformers") and not library.startswith(f"{PACKAGE}.hub_models."):
        raise ValueError(
            f"{folder / INDEX} takes {name} from {library!r}, but components come from diffusers, transformers or "
            f"{PACKAGE}.hub_models."
        )
    try:
        return getattr(import_module(library), class_name)
    except (ImportError, AttributeError):
        raise ValueError(
            f"{folder / INDEX} takes {name} from {library}.{class_name}, which does not exist here."
        ) from None


def _check_component(folder: Path, cls: type, variant: str | None) -> None:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is missing, though {INDEX} names it.")
    stem = _weights_stem(cls)
    if stem is not None:
        make = meta_diffusers_model if issubclass(cls, ModelMixin) else _meta_transformers_model
        _check_weights(folder, stem, variant, make(folder, cls))
    elif "Scheduler" in cls.__name__:
        read_json(folder / "scheduler_config.json", dict)
    elif "Token" in cls.__name__:
        _check_tokenizer(folder)
    elif not any(folder.iterdir()):
        raise FileNotFoundError(f"{folder} is empty.")


def _weights_stem(cls: type) -> str | None:
    """How the library of a class calls the files of its weights; None for what has none."""
    if issubclass(cls, ModelMixin):
        return "diffusion_pytorch_model"
    return "model" if issubclass(cls, PreTrainedModel) else None


def _check_tokenizer(folder: Path) -> None:
    read_json(folder / "tokenizer_config.json", dict)
    if (folder / "tokenizer.json").exists():
        read_json(folder / "tokenizer.json", dict)
    elif not any(path.suffix == ".model" or path.name == "vocab.json" for path in folder.iterdir()):
        raise FileNotFoundError(f"{folder / 'tokenizer.json'} is missing.")


def meta_diffusers_model(folder: Path, cls: type[ModelMixin]) -> nn.Module:
    """A model of a folder's config.json on the meta device, without weights.

    Raises:
        FileNotFoundError: there is no config.json.
        ValueError: it describes no such model.
    """
    config = read_json(folder / "config.json", dict)
    with _blamed_on(folder / "config.json", cls), torch.device("meta"):
        return cls.from_config(config)


def _meta_transformers_model(folder: Path, cls: type[PreTrainedModel]) -> nn.Module:
    read_json(folder / "config.json", dict)
    with _blamed_on(folder / "config.json", cls), torch.device("meta"):
        return cls(cls.config_class.from_pretrained(folder))


@contextmanager
def _blamed_on(path: Path, cls: type) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise ValueError(f"{path} does not describe a {cls.__name__}: {error}") from error


def _check_weights(folder: Path, stem: str, variant: str | None, model: nn.Module) -> None:
    files = _weight_files(folder, stem, variant)
    found = {key: (path, shape) for path in files for key, shape in read_shapes(path).items()}
    if getattr(model.config, "quantization_config", None) is not None:
        return  # packed weights have shapes of their own
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    if isinstance(model, ModelMixin) and len(files) == 1:
        model._fix_state_dict_keys_on_load(found)  # older names of attention, which diffusers reads
    strangers = []
    for key, (path, shape) in found.items():
        name = _matching_name(key, expected, model)
        if name is None:
            strangers.append(key)
        elif shape != expected.pop(name):
            wanted = tuple(model.state_dict()[name].shape)
            raise ValueError(f"{path}: tensor {key} is {list(shape)}, but config.json makes it {list(wanted)}.")
    missing = sorted(expected.keys() - set(getattr(model, "all_tied_weights_keys", ())))
    if isinstance(model, ModelMixin) and strangers:
        raise ValueError(f"{found[strangers[0]][0]}: tensor {strangers[0]} is unknown to {type(model).__name__}.")
    if missing and not strangers:
        raise ValueError(f"{files[0]}: tensor {missing[0]} is missing.")


def _matching_name(key: str, expected: Mapping[str, Any], model: nn.Module) -> str | None:
    """The model's name of a stored tensor; transformers also reads names with or without the base model's prefix."""
    names = [key]
    if isinstance(model, PreTrainedModel):
        names += [key.partition(".")[2], f"{model.base_model_prefix}.{key}"]
    return next((name for name in names if name in expected), None)


def _weight_files(folder: Path, stem: str, variant: str | None) -> list[Path]:
    stems = [f"{stem}.{variant}", stem] if variant else [stem]
    for name in stems:
        if (folder / f"{name}.safetensors").is_file():
            return [folder / f"{name}.safetensors"]
        base, _, tag = name.partition(".")
        index = folder / f"{base}.safetensors.index{'.' + tag if tag else ''}.json"
        if index.is_file():
            return _shards(index)
    raise FileNotFoundError(f"{folder / f'{stem}.safetensors'} is missing.")


def _shards(index: Path) -> list[Path]:
    names = read_json(index, dict).get("weight_map")
    if not isinstance(names, dict) or not names or not all(Path(str(name)).name == name for name in names.values()):
        raise ValueError(f"{index} has no weight_map of files beside it.")
    shards = [index.parent / name for name in sorted(set(names.values()))]
    for shard in shards:
        if not shard.is_file():
            raise FileNotFoundError(f"{shard} is missing, though {index.name} names it.")
    return shards


def read_shapes(path: str | os.PathLike) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors in a safetensors file, from its header alone, after checking it against the file's size.

    Raises:
        FileNotFoundError: when the file is missing.
        ValueError: when it is truncated or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing.")
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if start == b"version ":
            raise ValueError(f"{path} is a Git LFS pointer, not the weights: run git lfs pull.")
        length = int.from_bytes(start, "little")
        if len(start) < 8 or not 2 <= length <= min(MAX_HEADER, size - 8):
            raise ValueError(f"{path} is truncated or no safetensors file: it has {size} bytes.")
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            tensors = {key: (_tensor_size(entry), *entry["data_offsets"]) for key, entry in header.items()}
            whole = 8 + length + max((end for _, _, end in tensors.values()), default=0)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(f"{path} has a damaged header.") from None
    if size != whole:
        raise ValueError(f"{path} is truncated or damaged: it has {size} bytes, but its header declares {whole}.")
    for key, (bytes_needed, begin, end) in tensors.items():
        if end - begin != bytes_needed or begin < 0:
            raise ValueError(f"{path}: tensor {key} has {end - begin} bytes, but its shape needs {bytes_needed}.")
    return {key: tuple(entry["shape"]) for key, entry in header.items()}


def _tensor_size(entry: dict[str, Any]) -> int:
    return math.prod(entry["shape"]) * BYTES[entry["dtype"]]


def _save_components(pipeline: DiffusionPipeline, draft: Path, dtype: torch.dtype) -> None:
    for name, component in pipeline.components.items():
        if isinstance(component, nn.Module):
            _check_storable(name, component, dtype)
            nn.Module.to(copy.deepcopy(component), dtype).save_pretrained(draft / name)
        elif component is not None:
            component.save_pretrained(draft / name)
    for path in draft.glob("*/*config.json"):
        write_json(path, _portable(read_json(path, dict)), sort_keys=True)


def _check_storable(name: str, module: nn.Module, dtype: torch.dtype) -> None:
    if getattr(module, "peft_config", None):
        raise ValueError(f"{name} has a LoRA attached: call fuse_lora() or unload_lora_weights() before saving.")
    for key, value in module.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value.to(dtype)).all():
            raise ValueError(f"{name}.{key} holds values that {dtype} cannot store (NaN, infinity or too large).")


def _portable(config: dict[str, Any]) -> dict[str, Any]:
    """Without paths of the machine that wrote it; `dtype` float32, or transformers would load the stored half."""
    kept = without_machine_keys(config)
    return {**kept, "dtype": "float32"} if "dtype" in kept else kept


def without_machine_keys(content: Any) -> Any:
    """JSON without the fields in which libraries note where they found a file, however deep they lie."""
    if isinstance(content, list):
        return [without_machine_keys(value) for value in content]
    if not isinstance(content, dict):
        return content
    return {key: without_machine_keys(value) for key, value in content.items() if key not in MACHINE_KEYS}


def write_shim(cls: type[DiffusionPipeline], folder: Path) -> None:
    """Writes `pipeline_<slug>.py`, and names the class in `model_index.json` as [shim, class].

    That is how diffusers looks for the code of a repository.

    Args:
        cls: a pipeline of this package.
        folder: the repository, with its index.

    Raises:
        FileNotFoundError: when there is no index.
        ValueError: when it is damaged.
        OSError: when something cannot be written.
    """
    index = _portable(read_json(folder / INDEX, dict))
    shim = cls.__module__.rpartition(".")[2]
    modules = {library for library, _ in _components(index, folder).values() if library.startswith(f"{PACKAGE}.")}
    write_json(folder / INDEX, {**index, "_class_name": [shim, cls.__name__]}, sort_keys=True)
    imports = "\n".join(f"    import {module}" for module in sorted(modules)) or "    pass"
    text = SHIM.format(imports=imports, module=cls.__module__, name=cls.__name__, package=PACKAGE)
    write_text(folder / f"{shim}.py", text)


def _embedded_record(pipeline: DiffusionPipeline, name: str, source: Path) -> dict[str, Any]:
    if not isinstance(pipeline.components.get(name), nn.Module):
        raise ValueError(f"embedded names {name!r}, which is no model of this pipeline.")
    original = source / "model.safetensors"
    if not original.is_file():
        raise FileNotFoundError(f"{original} is missing: embedded[{name!r}] must be a folder with an encoder.")
    return {"source": source.resolve().name, "source_sha256": sha256(original)}


def _write_embedded(draft: Path, records: dict[str, dict[str, Any]]) -> None:
    for name, record in records.items():
        record["files"] = {f"{name}/{path.name}": sha256(path) for path in (draft / name).glob("*.safetensors")}
    if records:
        write_json(draft / EMBEDDED, records, sort_keys=True)


def _check_digests(folder: Path) -> None:
    if not (folder / EMBEDDED).is_file():
        return
    for record in read_json(folder / EMBEDDED, dict).values():
        for name, digest in record["files"].items():
            if sha256(folder / name) != digest:
                raise ValueError(f"{folder / name} is not the encoder that {EMBEDDED} records.")


def _write_readme(pipeline: DiffusionPipeline, draft: Path, readme: str | None, title: str) -> None:
    if readme is None:
        readme = readme_stub(type(pipeline), title)
    (draft / "README.md").write_text(readme, encoding="utf-8")


def readme_stub(cls: type[DiffusionPipeline], title: str) -> str:
    """The README of a repository that nobody has described yet."""
    name = cls.__name__
    return README.format(title=title, task=_task(name), module=f"{PACKAGE}.pipelines", name=name)


def _task(name: str) -> str:
    targets = {target.split(":")[1]: task for tasks in METHODS.values() for task, target in tasks.items()}
    return targets[name]
