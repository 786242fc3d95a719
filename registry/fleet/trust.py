"""`GET trust`: the keys that snapshots are signed by."""

from registry.fleet.answers import Ask
from registry.snapshots import trust_document


async def send_trust(ask: Ask, _: str) -> None:
    """Public keys are public. A node believes those it was given by another road."""
    await ask.answer_json(trust_document(), {"Cache-Control": "no-cache"})
