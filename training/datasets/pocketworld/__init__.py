"""PocketWorld: a seeded, captioned 3D world with exact answers.

Its names are loaded on first use, so that words about the world (captions, prompts) do not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .loading import load_pocketworld
    from .posed import posed_images
    from .scene import COLORS, HELD_OUT_PAIRS, SHAPES, Scene, SceneObject

__all__ = ["COLORS", "HELD_OUT_PAIRS", "SHAPES", "Scene", "SceneObject", "load_pocketworld", "posed_images"]

_MODULE_OF = {"load_pocketworld": ".loading", "posed_images": ".posed"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF.get(name, ".scene"), __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
