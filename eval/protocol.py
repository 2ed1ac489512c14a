"""The settings of a measurement: hashed, so that it shows whether two numbers may be compared."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def protocol_hash(settings: Mapping[str, Any]) -> str:
    """sha256 of settings as sorted JSON, 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
