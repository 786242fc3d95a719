"""A random walk: at each step one of the rules that apply, with what it draws, and then every invariant.

Each walk is drawn from a seed of its own. So one that found something is walked again, and how far many of them come is always the same:
what chooses its examples as a search for failures does, near to each other and near to nothing, comes nowhere in a thousand steps.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, TypeVar

Draw = Callable[[Random], Any]
Method = TypeVar("Method", bound=Callable[..., None])


def one_of(*values: object) -> Draw:
    return lambda random: random.choice(values)


def either(*draws: Draw) -> Draw:
    return lambda random: random.choice(draws)(random)


def whole(most: int) -> Draw:
    """From 0 on."""
    return lambda random: random.randint(0, most)


yes_or_no = one_of(False, True)


def rule(**draws: Draw) -> Callable[[Method], Method]:
    """A step, and what it draws by name."""
    return _mark("draws", draws)


def precondition(holds: Callable[[Any], object]) -> Callable[[Method], Method]:
    """When the rule may be chosen."""
    return _mark("holds", holds)


def invariant() -> Callable[[Method], Method]:
    """Holds after every step."""
    return _mark("is_invariant", True)


def _mark(name: str, value: object) -> Callable[[Method], Method]:
    def mark(method: Method) -> Method:
        setattr(method, name, value)
        return method

    return mark


def walk(machine: Any, seed: str, steps: int, begin: Callable[[Any, Random], None]) -> None:
    """Begin, and go on for so many steps. What fails says how it came to that."""
    random, way = Random(seed), [f"walk {seed}"]
    methods = [getattr(machine, name) for name in sorted(dir(type(machine))) if callable(getattr(type(machine), name))]
    rules = [method for method in methods if hasattr(method, "draws")]
    invariants = [method for method in methods if hasattr(method, "is_invariant")]
    try:
        begin(machine, random)
        for _ in range(steps):
            _check(invariants)
            step = random.choice([each for each in rules if not hasattr(each, "holds") or each.holds(machine)])
            drawn = {name: draw(random) for name, draw in step.draws.items()}
            way.append(f"{step.__name__}({', '.join(f'{name}={value!r}' for name, value in drawn.items())})")
            step(**drawn)
        _check(invariants)
    except Exception as error:
        error.add_note("\n".join(way))
        raise


def _check(invariants: Sequence[Callable[[], None]]) -> None:
    for hold in invariants:
        hold()
