"""What is found out about a loaded model once, and kept for as long as the model lives."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from steernode.engine.access.models import LoadedModel

T = TypeVar("T")


class Learned(Generic[T]):
    """One finding about each model. It belongs to the model itself, which all share who ask it with other template arguments or keep its
    work elsewhere; who asks meanwhile waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: WeakKeyDictionary[Any, T] = WeakKeyDictionary()

    def of(self, loaded: LoadedModel, find: Callable[[], T]) -> T:
        with self._lock:
            if loaded.model not in self._found:
                self._found[loaded.model] = find()
            return self._found[loaded.model]
