"""The headers of conditional, patient and partial requests. Pure functions: text in, decision out."""

import re

MAX_WAIT_SECONDS = 55
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?([0-9]{1,6})\"?(?=$|[,;\s])", re.ASCII | re.IGNORECASE)
_RANGE = re.compile(r"bytes=([0-9]{0,15})-([0-9]{0,15})", re.ASCII)


def matches_etag(if_none_match: str, etag: str) -> bool:
    """Weak comparison (RFC 9110, 13.1.2), and unquoted values too: proxies that compress weaken a tag, clients lose its quotes."""
    if if_none_match.strip() == "*":
        return True
    return any(_bare(candidate) == _bare(etag) for candidate in if_none_match.split(","))


def _bare(tag: str) -> str:
    return tag.strip().removeprefix("W/").strip('"')


def read_wait(prefer: str) -> int:
    """Seconds of `Prefer: wait=N` (RFC 7240), at most 55, so that proxies with a minute's patience do not cut it. 0 for none."""
    found = _WAIT.search(prefer)
    return min(int(found[1]), MAX_WAIT_SECONDS) if found else 0


def read_range(header: str, size: int) -> tuple[int, int] | None:
    """The one range of bytes to send, as (first, last + 1). None: send everything, as for a form we do not serve.

    Raises: ValueError when the range lies outside (the answer is 416).
    """
    found = _RANGE.fullmatch(header.strip())
    if found is None or found[1] == found[2] == "":
        return None
    first, last = found[1], found[2]
    if first == "":
        if int(last) == 0:
            raise ValueError(header)
        return max(0, size - int(last)), size
    begin, end = int(first), min(int(last) + 1, size) if last else size
    if last and int(last) < begin:
        return None
    if begin >= size:
        raise ValueError(header)
    return begin, end
