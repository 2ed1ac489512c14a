"""Pocket Diffusers: mobile-first generative methods as diffusers pipelines.

Every public class of `hub_models` and `pipelines` can be imported from here and is loaded on first use, so that
`import pocket_diffusers` itself costs nothing:

    from pocket_diffusers import SnapGenPipeline, checkpoint

    pipeline = SnapGenPipeline.from_pretrained(checkpoint("snapgen-nano"))
    pipeline("a red cube").images[0].save("cube.png")
"""

import re
import sys
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

__version__ = "0.1.0"
WHEEL = f"pocket_diffusers-{__version__}-py3-none-any.whl"

_ROOT = Path(__file__).parent
_CHECKPOINTS = _ROOT / "hub_models" / "checkpoints"


def checkpoint(name: str) -> Path:
    """Returns the folder of the weights `name` (such as "snapgen-nano") that come with the package.

    Raises:
        ValueError: for a name that no folder has; the message lists those there are.
    """
    names = sorted(folder.name for folder in _CHECKPOINTS.glob("*/"))
    if name not in names:
        raise unknown_name("checkpoint", name, names)
    return _CHECKPOINTS / name


def unknown_name(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """The error for a name that is none of those known: what there is, and which is nearest."""
    from difflib import get_close_matches

    known = list(known)
    nearest = get_close_matches(str(name).lower(), known, n=1, cutoff=0.5)
    guess = f" (nearest: {nearest[0]!r})" if nearest else ""
    return ValueError(f"{kind} {name!r} is unknown: use one of {', '.join(known)}{guess}.")


def missing_package(purpose: str, package: str, extra: str) -> ImportError:
    """The error for an optional package that is not installed: what needs it, and the extra that brings it.

    It names the wheel's file and a checkout, which pip takes an extra of as well, and no name on an index of packages:
    whoever takes the name there could put anything under it.
    """
    return ImportError(
        f"{purpose} needs {package}, which comes with the extra {extra!r}: pip install '{WHEEL}[{extra}]', "
        f"or in a checkout pip install -e '.[{extra}]'."
    )


@cache
def _public_names() -> dict[str, str]:
    """Public name -> module, read from the sources of components and pipelines without importing them."""
    files = [*(_ROOT / "hub_models").glob("[a-z]*_*.py"), *(_ROOT / "pipelines").glob("pipeline_*.py")]
    classes = {
        name: f".{file.parent.name}.{file.stem}"
        for file in sorted(files)
        for name in re.findall(r"^class ([A-Z]\w*)", file.read_text(encoding="utf-8"), re.MULTILINE)
    }
    return {**classes, "METHODS": ".pipelines", "load_pocketworld": ".training.datasets.pocketworld"}


def __getattr__(name: str) -> Any:
    # Names with an underscore are Python asking for something of its own: they must not cost a look at the disk.
    if name.startswith("_") or name not in _public_names():
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message, name=name, obj=sys.modules[__name__])
    value = getattr(import_module(_public_names()[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(["__version__", "checkpoint", *_public_names()])
