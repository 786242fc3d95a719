"""make run: the hub with a worker and a serving node, on the demo's data, for a person to open in a browser."""

import json
import os
import subprocess

from demo.processes import BIN, ROOT

VAR = ROOT / "var/demo"


def main() -> None:
    environment = {
        **os.environ,
        "STEERHUB_VAR": str(VAR),
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    VAR.mkdir(parents=True, exist_ok=True)
    subprocess.run([str(BIN / "python"), "-m", "demo.cast"], cwd=ROOT, env=environment, check=True)
    people = json.loads((VAR / "people.json").read_text())
    print("\nConsole  http://127.0.0.1:8000/     API  http://127.0.0.1:8000/api/v1/     Node  http://127.0.0.1:8100/\n")
    for name, person in people.items():
        print(f"  {name:<6} {person['password']:<18} {person['title']}")
    print("\nStop with Ctrl-C. `make demo` plays the story and leaves its data here.\n", flush=True)
    os.chdir(ROOT)
    os.execvpe(str(BIN / "honcho"), ["honcho", "start"], environment)  # noqa: S606  (a fixed program, no shell)


if __name__ == "__main__":
    main()
