"""The motion world: seeded, captioned motions of a person, whose captions are true of the joints.

Its names are loaded on first use, so that words about the world (plans, captions) do not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .loading import load_motionworld
    from .plans import Action
    from .records import SPLITS, Clip, clips

__all__ = ["SPLITS", "Action", "Clip", "clips", "load_motionworld"]

_MODULE_OF = {"Action": ".plans", "load_motionworld": ".loading"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF.get(name, ".records"), __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
