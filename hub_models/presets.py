"""Named configurations of a model."""

from typing import Any, ClassVar, Self

from .. import unknown_name


class PresetMixin:
    """Gives a model class named presets: a preset is a dictionary of `__init__` arguments.

    Works under `torch.device("meta")`, where a preset of any size is built without memory:

        with torch.device("meta"):
            model = Model.from_preset("paper")
    """

    presets: ClassVar[dict[str, dict[str, Any]]] = {}

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> Self:
        """Builds the preset `name`; `overrides` replace single arguments of it.

        Raises:
            ValueError: for a name that is not in `cls.presets`.
        """
        if name not in cls.presets:
            raise unknown_name(f"preset of {cls.__name__}", name, cls.presets)
        return cls(**{**cls.presets[name], **overrides})
