"""How long something will take, in words."""


def say_duration(seconds: int) -> str:
    """To the minute above two, to the tenth of an hour above two hours."""
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 7200:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


def say_time_left(seconds: int | None) -> str:
    """As coarse as an estimate is."""
    return "no estimate yet" if seconds is None else f"about {say_duration(seconds)} left"
