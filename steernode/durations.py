"""How long something will take, in words."""


def say_time_left(seconds: int | None) -> str:
    """As coarse as an estimate is: to the minute above two, to the tenth of an hour above two hours."""
    if seconds is None:
        return "no estimate yet"
    if seconds < 120:
        return f"about {seconds} s left"
    if seconds < 7200:
        return f"about {round(seconds / 60)} min left"
    return f"about {seconds / 3600:.1f} h left"
