"""When a run ends before its last sample: its time is up, or somebody asks it to stop."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C; and what schedulers send before they kill


class Stop:
    """`asked` once `seconds` are over or a signal came; the step that is being made is finished first.

    On leaving, a signal that came is given to whoever would have had it. A second one does not wait for that.
    """

    def __init__(self, seconds: float | None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds
        self._came: int | None = None
        self._before: dict[signal.Signals, signal.Handlers] = {}

    @property
    def asked(self) -> bool:
        """Whether to stop after this step."""
        return self._came is not None or (self._end is not None and time.monotonic() >= self._end)

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # others get no signals
            ours = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._come) for number in ours}  # type: ignore[misc]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
        if self._came is not None and error is None:
            signal.raise_signal(self._came)

    def _come(self, number: int, frame: FrameType | None) -> None:
        if self._came is not None:
            self._restore()
            signal.raise_signal(number)
        self._came = number

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
