"""Ctrl-C and SIGTERM, kept waiting until the step that they meet is done and saved."""

import signal
import threading


class StopSignals:
    """A context in which SIGINT and SIGTERM are noted, not obeyed; the second of them acts as it always does.

    Signals that the process ignores stay ignored. Python takes signals in its main thread alone, so in another thread
    the context changes nothing.

    Attributes:
        received: the signal that was noted; None if there was none.
    """

    def __init__(self):
        self.received: int | None = None
        self._handlers = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._handlers[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        while self._handlers:
            signal.signal(*self._handlers.popitem())

    def obey(self) -> None:
        """Lets the signal do what it does outside of this context.

        Raises:
            KeyboardInterrupt: for SIGINT, and where another process was told to stop.
            SystemExit: for SIGTERM, unless the program has a handler of its own.
        """
        self.__exit__()
        number, self.received = self.received, None
        if number is None:
            raise KeyboardInterrupt
        if signal.getsignal(number) is signal.SIG_DFL:
            raise SystemExit(128 + number)  # what a shell reports of it; unlike the signal, it unwinds
        signal.raise_signal(number)

    def _note(self, number: int, _: object) -> None:
        self.received = number
        self.__exit__()
