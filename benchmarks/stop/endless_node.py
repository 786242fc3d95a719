"""`steer node serve` on a model that never ends a reply by itself: every one is as long as was asked for.

python -m benchmarks.stop.endless_node node serve …
"""

from __future__ import annotations

import sys

from steernode.cli import main
from steernode.engine.access.models import LoadedModel

if __name__ == "__main__":
    LoadedModel.end_token_ids = frozenset()  # type: ignore[misc, assignment]
    sys.exit(main())
