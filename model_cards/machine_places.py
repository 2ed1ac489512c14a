"""Places on one machine in what is published: of no use to anybody else, and they tell of the owner of the machine."""

import re
from collections.abc import Iterator
from typing import Any

_PLACE = re.compile(
    r"""(?<![^\s"'`=,;:(\[{|])"""  # a word begins here
    r"(?:file://)?(?:"
    r"/(?![mg]/\w+(?![\w/]))"  # but a Freebase name such as /m/0bt9lr is a class of OpenImages
    r"""[^\s/"'`,;:|]+/[^\s/"'`,;:|]+(?:/[^\s"'`,;:|]*)*"""
    r"""|~[\w.-]*/[^\s"'`,;|]+"""
    r"""|[A-Za-z]:[\\/](?!/)[^\s"'`,;|]+"""
    r")"
)


def places_in(content: Any) -> Iterator[str]:
    """Absolute paths among the texts of JSON content, names of fields included; at least two folders deep."""
    if isinstance(content, str):
        yield from (match[0] for match in _PLACE.finditer(content))
    elif isinstance(content, dict):
        for key, value in content.items():
            yield from (*places_in(key), *places_in(value))
    elif isinstance(content, list):
        for value in content:
            yield from places_in(value)


def without_places(content: Any) -> Any:
    """JSON content in which of every absolute path the last name is left."""
    if isinstance(content, str):
        return _PLACE.sub(lambda match: re.split(r"[\\/]", match[0].rstrip("\\/"))[-1], content)
    if isinstance(content, dict):
        return {without_places(key): without_places(value) for key, value in content.items()}
    if isinstance(content, list):
        return [without_places(value) for value in content]
    return content
