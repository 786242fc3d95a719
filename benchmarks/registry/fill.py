"""python -m benchmarks.registry.fill SCALE: fill the hub's empty database with a world of that size.

People, environments and the last change to each environment go through the services. The rest is copied in as the services
would have left it, every constraint and trigger in force; the log is one chain from the first event to the last.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "steerhub.settings")


def main() -> int:
    import django

    django.setup()
    from benchmarks.registry.history import write_history
    from benchmarks.registry.scale import SCALES
    from benchmarks.registry.world import World

    scale = SCALES[sys.argv[1]]
    started = time.monotonic()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    world = World(scale)
    for name, write in world.stages():
        _tell(name, write)
    _tell("audit events", lambda: write_history(world))
    _tell("publish", world.publish)
    _tell("analyze", world.analyze)
    print(json.dumps({"token": world.token, "session": world.log_in(), "seconds": round(time.monotonic() - started, 1)}), flush=True)
    return 0


def _tell(name: str, write: Callable[[], Any]) -> None:
    started = time.monotonic()
    count = write()
    print(f"  {name:<24} {count if isinstance(count, int) else '':>9}  {time.monotonic() - started:6.1f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
