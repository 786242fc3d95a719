"""`steer node serve` on an engine that cannot do all that the demo's engine can.

python -m tests.e2e.faults.limited_node CAPABILITY node serve …
"""

import sys

import steernode.integrations.transformers as served
from steernode.cli import main

LACKS = sys.argv.pop(1)


class LimitedEngine(served.TransformersEngine):
    @property
    def capabilities(self) -> frozenset[str]:
        return super().capabilities - {LACKS}


served.TransformersEngine = LimitedEngine  # type: ignore[misc]
main()
