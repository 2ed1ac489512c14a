"""The record of a run: what was measured of each contender, and how; it is as complete as the run itself."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from ...pipelines.files import read_json, write_json
from ...pipelines.result_folder import hardware, installed_versions

Measured = TypeVar("Measured")


class Record:
    """A JSON file of measurements that were all made in one way.

    Args:
        path: of the file.
        settings: of the run, as JSON has them.
        threads: of each contender, if they are others than this process has.

    Attributes:
        protocol: the settings, the hardware and the versions: what was measured under another one is not used again.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], threads: int | None = None):
        self.path = path
        self.protocol = {**settings, "hardware": hardware(threads), "versions": installed_versions()}

    def read(self, parse: Callable[..., Measured]) -> list[Measured]:
        """The measurements of the file, each by `parse` of its fields; none if there is no file or another protocol.

        Raises:
            ValueError: the file is no record.
        """
        if not self.path.is_file():
            return []
        try:
            record = read_json(self.path, dict)
            if any(record[name] != value for name, value in self.protocol.items()):
                return []
            return [parse(**one) for one in record["measurements"]]
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{self.path} is no record of a run: delete it or choose another output.") from error

    def write(self, measurements: Iterable[Any]) -> None:
        """Write all measurements, dataclasses, whole or not at all.

        Raises:
            OSError: the file cannot be written.
        """
        date = datetime.now(UTC).date().isoformat()
        write_json(self.path, {"date": date, **self.protocol, "measurements": list(map(asdict, measurements))})


def record_date(path: Path) -> str:
    """ISO date, UTC, on which the last measurement of a record was made.

    Raises:
        FileNotFoundError: there is no record.
        ValueError: the file is no record.
    """
    date = read_json(path, dict).get("date")
    if not isinstance(date, str):
        raise ValueError(f"{path} is no record of a run: delete it or choose another output.")
    return date
