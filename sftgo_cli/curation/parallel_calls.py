"""Calls from many threads at a time, their results in the order in which they come."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Calls(Generic[T]):
    """`call(0), ..., call(total - 1)` in daemon threads, which end with the process. A thread takes the next number when
    it is done with one; none does once `is_last` holds for a result. `call` must not raise."""

    def __init__(self, call: Callable[[int], T], is_last: Callable[[T], bool], total: int, num_threads: int) -> None:
        self._call = call
        self._is_last = is_last
        self._todo = iter(range(total))
        self._lock = threading.Lock()
        self._halted = False
        self._results: queue.SimpleQueue[tuple[int, T] | BaseException] = queue.SimpleQueue()
        self.num_taken = 0
        self.num_returned = 0
        self._total = total
        for _ in range(min(num_threads, total)):
            threading.Thread(target=self._work, daemon=True).start()

    def halt(self) -> None:
        """Begin no further call."""
        with self._lock:
            self._halted = True

    def finished(self, timeout: float | None = None) -> list[tuple[int, T]]:
        """The results that are there, at least one; none when all are returned, or when none came in time."""
        with self._lock:
            expected = self.num_taken if self._halted else self._total
        if self.num_returned == expected:
            return []
        try:
            found = [self._results.get(timeout=timeout)]
        except queue.Empty:
            return []
        return self._counted(found + self._ready())

    def rest(self) -> list[tuple[int, T]]:
        """The results that are there."""
        return self._counted(self._ready())

    def _ready(self) -> list[tuple[int, T] | BaseException]:
        found: list[tuple[int, T] | BaseException] = []
        while True:
            try:
                found.append(self._results.get_nowait())
            except queue.Empty:
                return found

    def _counted(self, found: list[tuple[int, T] | BaseException]) -> list[tuple[int, T]]:
        self.num_returned += len(found)
        for result in found:
            if isinstance(result, BaseException):
                raise result
        return [result for result in found if not isinstance(result, BaseException)]

    def _next(self) -> int | None:
        with self._lock:
            number = None if self._halted else next(self._todo, None)
            self.num_taken += number is not None
            return number

    def _work(self) -> None:
        while (number := self._next()) is not None:
            try:
                result = self._call(number)
                if self._is_last(result):
                    self.halt()
                self._results.put((number, result))
            except BaseException as error:  # a bug, which the thread that waits must see
                self._results.put(error)
                return
