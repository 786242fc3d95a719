"""`GET environments/NAME/snapshot`: the signed snapshot, or word that it is still the one named, held back on request."""

from registry.fleet.answers import Ask
from registry.fleet.conditional import matches_etag, read_wait

ENVELOPE_TYPE = "application/vnd.dsse.envelope.v1+json"


async def send_snapshot(ask: Ask, environment: str) -> None:
    head = await ask.find_head(environment)
    known, wait = ask.header("if-none-match"), read_wait(ask.header("prefer"))
    if wait and known and matches_etag(known, head.etag):
        with ask.places.hold():
            head = await ask.wait_for_news(environment, head, wait)
    headers = {"ETag": head.etag, "Cache-Control": "private, no-cache", "Vary": "Authorization"}
    if wait:
        headers["Preference-Applied"] = f"wait={wait}"
    if known and matches_etag(known, head.etag):
        await ask.answer(304, headers)
    else:
        await ask.answer(200, {**headers, "Content-Type": ENVELOPE_TYPE}, head.envelope)
