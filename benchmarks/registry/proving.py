"""The whole audit log is taken away over the API and proved without the hub, as an auditor would."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from benchmarks.registry.hub import Hub
from benchmarks.registry.reading import API
from steernode.proof.verify import verify_export


def prove_log(hub: Hub, path: Path) -> dict[str, Any]:
    """Seconds of the export and of its proof. Raises: VerificationFailed if the log does not prove itself."""
    print("  exporting and proving the audit log ...", flush=True)
    answer = hub.ask("GET", f"{API}/audit/export")
    if answer.status != 200:
        raise SystemExit(f"the export was answered {answer.status}")
    path.write_bytes(answer.body)
    started = time.perf_counter()
    proof = verify_export(path)
    path.unlink()
    return {"events": proof.events, "objects": proof.objects, "export_s": answer.seconds, "verify_s": time.perf_counter() - started}
