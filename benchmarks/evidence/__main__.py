"""Vectors that must be refused and vectors that must not, judged as a validation judges them; how many are told apart.

    python -m benchmarks.evidence [--model reference,planted,smollm2] [--gates NAME] [--only KIND] [--limit N] [--folder FOLDER]

A vector ends at its first failed gate, the cheapest first. What does not depend on a vector is written once for each model, and a vector
that was judged is not judged again while model, data, gates and code are what they were: a run that was ended goes on where it left off.
Prints every vector with the time left, and a table by kind; writes var/bench/evidence/report.json. Exit 1 if a bad vector passes; with
--strict also if another target is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.evidence.keeping import Results, digest_code, write_whole
from benchmarks.evidence.planted import planted_subject
from benchmarks.evidence.report import FAIL, REFUSED, UNDECIDABLE, judge, let_through, render, summarize
from benchmarks.evidence.subjects import SMOLLM2, Subject, kept_in, reference_subject, smollm2_subject
from benchmarks.evidence.vectors import Entry, bad_vectors, good_vectors
from benchmarks.machine import describe_commit, describe_machine, machine_line
from steernode.engine.access.work import digest_inputs
from steernode.engine.judging.evaluate import Evaluation, Judged, judge_in_stages
from steernode.engine.judging.evidence import describe_engine
from steernode.errors import SteerError
from steernode.files.suites import refuse_overlap
from steernode.gates import Gate, load_gates

FOLDER = Path("var/bench/evidence")
MODELS = ("reference", "planted", "smollm2")
PLANTED = 8
# Words of a stage are worth a line only for a vector that takes long.
SECONDS_BETWEEN_LINES = 20


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="", help=f"of {', '.join(MODELS)}, with commas between; those whose files are there unless told")
    parser.add_argument("--gates", default="style_small_suite", help="gate sets, with commas between; each gate once")
    parser.add_argument("--only", default="", help="kinds of vectors, with commas between")
    parser.add_argument("--limit", type=int, default=0, help="at most so many of each kind and model")
    parser.add_argument("--folder", type=Path, default=SMOLLM2, help="the files of SmolLM2-135M-Instruct")
    parser.add_argument("--planted", type=int, default=PLANTED, help="how many planted models")
    parser.add_argument("--keep", type=Path, default=FOLDER, help="where results, replies and the report are kept")
    parser.add_argument("--strict", action="store_true", help="exit 1 if any target was missed")
    arguments = parser.parse_args(argv)
    names = arguments.model.split(",") if arguments.model else [name for name in MODELS if name != "smollm2" or arguments.folder.is_dir()]
    if unknown := [name for name in names if name not in MODELS]:
        parser.error(f"{unknown[0]!r} is no model; known are {', '.join(MODELS)}")
    machine, started = describe_machine(), time.monotonic()
    print(machine_line(machine), flush=True)
    if not arguments.model and "smollm2" not in names:
        print(f"SmolLM2 is left out: there is no folder {arguments.folder}; see docs/benchmarks.md", flush=True)
    gates = load_gate_sets(arguments.gates.split(","))
    vectors = list(judge_all(make_subjects(names, arguments), gates, arguments))
    if not vectors:
        parser.error(f"no vector is of the kind {arguments.only!r}")
    report = {
        "schema": "steerhub.bench-evidence/1", "machine": machine, "commit": describe_commit(), "gates": arguments.gates,
        "whole": not (arguments.only or arguments.limit), "minutes": round((time.monotonic() - started) / 60, 1),
        "summary": summarize(vectors), "targets": judge(vectors), "vectors": vectors,
    }  # fmt: skip
    # A part of the vectors never takes the place of the whole.
    path = arguments.keep / ("report.json" if report["whole"] and set(names) >= {"reference", "planted"} else "report-part.json")
    write_whole(path, (json.dumps(report, indent=2, ensure_ascii=False) + "\n").encode())
    print(f"\n{render(report)}\n\n{report['minutes']} minutes; {path}")
    missed = arguments.strict and not all(line["met"] for line in report["targets"])
    return 1 if missed or let_through(vectors) else 0


def load_gate_sets(names: Sequence[str]) -> tuple[Gate, ...]:
    gates = [gate for name in names for gate in load_gates(name)]
    return tuple({tuple(gate.items()): gate for gate in gates}.values())


def make_subjects(names: Sequence[str], arguments: argparse.Namespace) -> Iterator[Subject]:
    """One at a time, because a model is large."""
    if "reference" in names:
        yield reference_subject()
    if "planted" in names:
        for seed in range(arguments.planted):
            yield planted_subject(arguments.keep / "models" / f"planted-{seed}", seed)
    if "smollm2" in names:
        yield smollm2_subject(arguments.folder)


def judge_all(subjects: Iterator[Subject], gates: Sequence[Gate], arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    results, code = Results(arguments.keep / "results"), digest_code()
    for bare in subjects:
        began = time.monotonic()
        entries = choose([*bad_vectors(bare), *good_vectors(bare)], arguments.only, arguments.limit)
        for number, entry in enumerate(entries):
            tell = _teller(f"  {bare.name}, {entry.name}")
            subject = kept_in(bare, arguments.keep / "kept", tell)
            yield (result := judge_kept(subject, entry, gates, results, code))
            left = (time.monotonic() - began) / (number + 1) * (len(entries) - number - 1)
            print(
                f"[{bare.name} {number + 1}/{len(entries)}, about {left / 60:.0f} min left] {entry.name}, α = {entry.alpha}: "
                f"{result['verdict']} {result['why']}".rstrip(),
                flush=True,
            )


def choose(entries: Sequence[Entry], only: str, limit: int) -> list[Entry]:
    kinds, taken = only.split(",") if only else [], dict[str, int]()
    chosen = []
    for entry in entries:
        taken[entry.kind] = taken.get(entry.kind, 0) + 1
        if (not kinds or entry.kind in kinds) and (not limit or taken[entry.kind] <= limit):
            chosen.append(entry)
    return chosen


def judge_kept(subject: Subject, entry: Entry, gates: Sequence[Gate], results: Results, code: str) -> dict[str, Any]:
    """The result that is kept, or the vector judged and its result kept."""
    digest = digest_inputs(
        code, subject.loaded.fingerprint, [f"{name} {value}" for name, value in describe_engine(subject.loaded).items()], subject.axis,
        {axis: [repr(pair) for pair in pairs] for axis, pairs in subject.sets.items()},
        {kind: [repr(item) for item in suite.items] for kind, suite in subject.suites.items()}, repr(subject.scorer.description),
        repr(subject.window), subject.max_new_tokens, gates, entry.kind, entry.name, entry.alpha,
    )  # fmt: skip
    if (kept := results.find(digest)) is not None:
        return kept
    started = time.monotonic()
    result = {
        "model": subject.name, "kind": entry.kind, "name": entry.name, "is_good": entry.is_good, "alpha": entry.alpha,
        **judge_vector(subject, entry, gates), "seconds": round(time.monotonic() - started, 1),
    }  # fmt: skip
    results.keep(digest, result)
    return result


def judge_vector(subject: Subject, entry: Entry, gates: Sequence[Gate]) -> dict[str, Any]:
    """As the product does: the contrast set is held against the suites when the job is asked for, and then the vector is validated."""
    try:
        if entry.pairs:
            refuse_overlap(entry.pairs, [item for suite in subject.suites.values() for item in suite.items])
        judged = judge_in_stages(
            Evaluation(
                subject.loaded, entry.candidate(), subject.suites, subject.scorer, gates, pairs=subject.pairs,
                max_new_tokens=subject.max_new_tokens,
            )
        )  # fmt: skip
    except SteerError as refusal:
        return {"verdict": REFUSED, "stopped_by": refusal.code, "why": str(refusal), "gates": []}
    return {"verdict": judged.verdict, **_say_why(judged), "gates": list(judged.gates)}


def _say_why(judged: Judged) -> dict[str, str]:
    """The first gate that stopped the vector, or of those that nothing could be said of."""
    stopping = [gate for gate in judged.gates if gate["verdict"] == judged.verdict and judged.verdict in (FAIL, UNDECIDABLE)]
    if not stopping:
        return {"stopped_by": "", "why": ""}
    return {"stopped_by": stopping[0]["metric"], "why": "; ".join(_say(gate) for gate in stopping)}


def _say(gate: Mapping[str, Any]) -> str:
    return f"{gate['metric']} {gate['kind']} {gate['threshold']} at {gate['value']}{' ' + gate['code'] if 'code' in gate else ''}"


def _teller(what: str) -> Callable[[str], None]:
    last = time.monotonic()

    def tell(stage: str) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print(f"{what}: {stage}", flush=True)

    return tell


if __name__ == "__main__":
    sys.exit(main())
