"""The settings of a measurement: hashed, and compared before two numbers are."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def protocol_hash(settings: Mapping[str, Any]) -> str:
    """sha256 of settings as sorted JSON, 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def compare(first: Mapping[str, Any], second: Mapping[str, Any]) -> float:
    """How much higher the `value` of the first record is than the second's.

    Args:
        first, second: records of one metric, with keys `metric`, `value`, `protocol` (the settings) and
            `protocol_hash`.

    Raises:
        ValueError: for another metric or other settings; the message names every key that differs.
    """
    if first["metric"] != second["metric"]:
        raise ValueError(f"{first['metric']} and {second['metric']} are different metrics; they cannot be compared.")
    if first["protocol_hash"] != second["protocol_hash"]:
        one, other = first["protocol"], second["protocol"]
        keys = sorted(key for key in {*one, *other} if one.get(key) != other.get(key))
        listing = ", ".join(f"{key} ({one.get(key)!r} and {other.get(key)!r})" for key in keys)
        raise ValueError(f"two values of {first['metric']} were measured under different protocols: {listing}.")
    return first["value"] - second["value"]
