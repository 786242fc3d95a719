"""The work of a caller that keeps what the engine's calls leave."""

from typing import Any

from steernode.engine.access.work import Work


class Kept(Work):
    """By call and number of the batch; `done` are those that were measured and not given back."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, int], bytes] = {}
        self.done: list[tuple[str, int]] = []

    def run(self, call: Any, do: Any, lanes: Any = map) -> Any:
        digest = call.digest()

        def take(number: int) -> tuple[int, Any]:
            data = self.kept.get((digest, number))
            return number, do(call.batches[number]) if data is None else call.unpack(data)

        for number, result in lanes(take, range(len(call.batches))):
            if (digest, number) not in self.kept:
                self.done.append((digest, number))
                self.kept[digest, number] = call.pack(result)
            yield call.batches[number], result
