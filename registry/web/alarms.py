"""How often the same thing is worth saying."""

import threading
import time


class Alarm:
    """Lets each subject through once in a while, in this process, and counts what it held back."""

    def __init__(self, *, every_seconds: float, max_subjects: int = 10_000) -> None:
        self._every, self._max_subjects = every_seconds, max_subjects
        self._said: dict[str, tuple[float, int]] = {}
        self._lock = threading.Lock()

    def ring(self, subject: str) -> int | None:
        """How often the subject was held back since it was last let through; None: hold it back."""
        now = time.monotonic()
        with self._lock:
            at, unsaid = self._said.get(subject, (-self._every, 0))
            if now - at < self._every:
                self._said[subject] = at, unsaid + 1
                return None
            if len(self._said) >= self._max_subjects:
                self._said = {name: entry for name, entry in self._said.items() if now - entry[0] < self._every}
            self._said[subject] = now, 0
            return unsaid
