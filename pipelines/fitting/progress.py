"""What a person sees of a run."""

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class RunProgress:
    """A bar with losses, speed and time left on a terminal; elsewhere one line per log, so that a log file reads well.

    Args:
        steps: of the whole run.
        start: steps done already.
        shown: False for silence.
    """

    def __init__(self, steps: int, start: int, shown: bool):
        console = Console()
        self.steps, self.step = steps, start
        self.shown = shown
        self.in_lines = shown and not console.is_terminal
        self.marked_step, self.marked_time = start, time.monotonic()
        self.steps_per_second = 0.0
        columns = ["{task.fields[losses]}", BarColumn(), MofNCompleteColumn(), "{task.fields[speed]:.2f} steps/s"]
        self.bar = Progress(
            *[TextColumn(column) if isinstance(column, str) else column for column in columns],
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not shown or self.in_lines,
        )
        self.task = self.bar.add_task("training", total=steps, completed=start, losses="", speed=0.0)

    def __enter__(self) -> "RunProgress":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def advance(self, step: int, numbers: dict[str, float]) -> None:
        """Shows that `step` steps are done; `numbers` whose names end in "loss" are shown."""
        self.step = step
        losses = " ".join(f"{name} {value:.4g}" for name, value in numbers.items() if name.endswith("loss"))
        self.bar.update(self.task, completed=step, losses=losses, speed=self.steps_per_second)

    def mark(self) -> float:
        """Steps per second since the mark before."""
        now = time.monotonic()
        self.steps_per_second = (self.step - self.marked_step) / max(now - self.marked_time, 1e-9)
        self.marked_step, self.marked_time = self.step, now
        return self.steps_per_second

    def line(self, record: dict[str, float]) -> None:
        """Prints a record of the metrics, where there is no bar."""
        if self.in_lines:
            values = " ".join(f"{name} {value:.4g}" for name, value in record.items() if name != "step")
            left = duration((self.steps - self.step) / max(self.steps_per_second, 1e-9))
            print(f"step {self.step}/{self.steps} {values} left {left}", flush=True)

    def stopped(self, saved: bool) -> None:
        """Says where a run was stopped, and what comes next."""
        if self.shown:
            self.bar.stop()
            rest = "; all is saved: start it again as before, and it goes on from there" if saved else ""
            print(f"Stopped after step {self.step} of {self.steps}{rest}", flush=True)


def duration(seconds: float) -> str:
    seconds = round(seconds)
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
