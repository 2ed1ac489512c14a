"""Names of a model's classes: one for each number, from 0 up."""

from collections.abc import Mapping


def checked_names(id2label: Mapping[int | str, str] | None, count: int, argument: str = "id2label") -> tuple[str, ...]:
    """The name of each class, by its number.

    Args:
        id2label: number -> name, as transformers and diffusers' DiT keep them; in JSON numbers are strings. None names
            each class by its number.
        count: classes of the model.
        argument: name for errors.

    Raises:
        ValueError: when it does not name exactly the classes 0 to `count` - 1.
    """
    if id2label is None:
        return tuple(map(str, range(count)))
    try:
        names = {int(number): name for number, name in id2label.items()}
    except (AttributeError, TypeError, ValueError):
        raise ValueError(f"{argument} must be a dictionary, number -> name, not {id2label!r}.") from None
    if sorted(names) != list(range(count)) or len(names) != len(id2label):
        raise ValueError(f"{argument} must name the {count} classes 0 to {count - 1}, but it names {sorted(names)}.")
    for number, name in names.items():
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"{argument}[{number}] must be a name, not {name!r}.")
    return tuple(names[number] for number in range(count))


def stored_names(names: tuple[str, ...]) -> dict[str, str]:
    """`id2label` as a config keeps it: the same before it is saved and after it is loaded."""
    return {str(number): name for number, name in enumerate(names)}
