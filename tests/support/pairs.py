"""Two contrast pairs, and a file of them."""

import json


def say(role, content):
    return {"role": role, "content": content}


def pair(name, **changes):
    return {
        "id": name,
        "positive": [say("user", f"Where is invoice {name}?"), say("assistant", f"So sorry about {name}, let me look.")],
        "negative": [say("user", f"Where is invoice {name}?"), say("assistant", f"Invoice {name} is pending.")],
        "locale": "en-US",
        "product": "billing",
    } | changes


def lines(*values):
    return "".join((value if isinstance(value, str) else json.dumps(value)) + "\n" for value in values).encode()


FIRST, SECOND = pair("a"), pair("b")
