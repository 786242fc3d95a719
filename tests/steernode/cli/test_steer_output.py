"""What any command of `steer` shows, a program may have as JSON, asked for in one way."""

import json

import click
import numpy as np
import pytest
from safetensors.numpy import save

from steernode.cli import main
from tests.support.exports import EVENTS, jsonl
from tests.support.files import write_model_folder
from tests.support.hub_simulator import VECTOR
from tests.support.pairs import FIRST, SECOND, lines
from tests.support.prompts import prompt_file
from tests.support.steer_rig import JOB, TOKEN

# These show no document: a sentence, a file, another language, or what goes on until somebody ends it.
OTHERWISE = {
    *("version", "audit export", "export", "diff", "schema", "apply", "stop-key", "node stop"),
    *("job watch", "node serve"),
    # Its -o is the file that a stop is written to.
    "kill",
}
# With a node's key or a model to load: these have tests of their own.
ELSEWHERE = {"node enroll", "model convert", "model prove"}
FLAG = "--environment production --tenant harbor"
ASKED = {
    "whoami": "",
    "inspect model": "{model}",
    "inspect architectures": "",
    "inspect vector": "{vector}",
    "inspect pairs": "{pairs}",
    "inspect prompts": "{prompts}",
    "verify": "{log}",
    "job list": "",
    "job show": JOB,
    "job cancel": JOB,
    "node status": "--url {url} --key-file {key}",
    "node list": "",
    "node show": "node-1",
    "node invite": "node-1 --environment production",
    "node rotate": "node-1",
    "node withdraw": "node-1 --reason old",
    "node re-enroll": "node-1",
    "base-model list": "",
    "base-model move": "tiny --environment production --reason new",
    "model register": "tiny --source tiny",
    "model compare": "{model} {model}",
    "probe list": "",
    "probe show": "refund-intent@1",
    "probe train": "refund-intent --base-model tiny --prompts intents@1 --below 4",
    "proposal list": "",
    "proposal accept": JOB,
    "proposal decline": f"{JOB} --reason late",
    "plan": "-f {manifest}",
    "drift": "-f {manifest}",
    "profile submit": "calm@1",
    "profile approve": "calm@1 --yes",
    "profile reject": "calm@1 --comment no",
    "profile request-changes": "calm@1 --comment more",
    "profile comment": "calm@1 hm",
    "profile checklist": "calm@1",
    "waiver list": "",
    "waiver ask": f"{JOB} attack_success_rise --reason rare --days 30",
    "waiver confirm": JOB,
    "waiver withdraw": f"{JOB} --reason late",
    "flag set": f"{FLAG} --on --reason go",
    "flag show": FLAG,
    "flag history": FLAG,
    "explain": FLAG,
    "kill list": "",
    "kill lift": "k1 --reason found",
    "kill withdraw-lift": "k1",
    "freeze declare": "--environment production --until 2026-12-24T18:00:00Z --reason quiet",
    "freeze list": "--environment production",
    "freeze end": "f1 --reason over",
    "token list": "",
    "token issue": "ci",
    "token revoke": JOB,
}
# All that any of them looks for in an answer.
ANSWER = {
    "results": [{"id": JOB}],
    "state": "queued",
    "progress_done": 0,
    "progress_total": 1,
    "job": JOB,
    "name": "tiny",
    "fingerprint": "ab" * 32,
    "form": "",
    "behaviour": {},
    "base_model": {},
    "raises": "",
    "changes": 0,
    "steps": [],
    "rows": [],
    "rules": [],
    "requirements": [],
    "digest": "aa" * 32,
    "evidence_digest": "bb" * 32,
}


def walk(group=main, path=()):
    for name, command in group.commands.items():
        here = (*path, name)
        if not isinstance(command, click.Group):
            yield " ".join(here), command
            continue
        if command.invoke_without_command:
            yield " ".join(here), command
        yield from walk(command, here)


def test_every_command_that_shows_something_takes_the_same_output_option():
    taken = {
        name: {each for parameter in command.params if parameter.name == "output" for each in parameter.opts}
        for name, command in walk()
        if name not in OTHERWISE
    }
    assert {name: options for name, options in taken.items() if options != {"-o", "--output", "--json"}} == {}
    assert set(taken) == ASKED.keys() | ELSEWHERE


@pytest.fixture
def files(tmp_path, recording_hub):
    model = write_model_folder(tmp_path / "model")
    (model / "model.safetensors").write_bytes(save({"model.norm.weight": np.ones(64, np.float32)}))
    manifest = "apiVersion: steerhub.dev/v1\nkind: Tenant\nmetadata: {name: harbor}\nspec: {}\n"
    contents = {"vector": VECTOR, "pairs": lines(FIRST, SECOND), "prompts": prompt_file(), "log": jsonl(EVENTS), "key": TOKEN.encode()}
    contents["manifest"] = manifest.encode()
    for name, data in contents.items():
        (tmp_path / f"{name}.yaml").write_bytes(data)
    return {"model": model, "url": recording_hub.url, **{name: tmp_path / f"{name}.yaml" for name in contents}}


@pytest.mark.parametrize("command", ASKED)
def test_what_a_command_shows_is_json_and_nothing_else_if_asked(steer, recording_hub, files, command):
    recording_hub.answers["*"] = [ANSWER]
    arguments = [*command.split(), *(part.format(**files) for part in ASKED[command].split())]
    shown = [steer(*arguments, *how) for how in (["-o", "json"], ["--output", "json"], ["--json"])]
    assert [each.exit_code for each in shown] == [0, 0, 0], shown[0].output
    assert len({each.stdout for each in shown}) == 1
    json.loads(shown[0].stdout)
    if command.endswith(" list") or command == "flag history":
        assert json.loads(shown[0].stdout) == ANSWER["results"]
    assert steer(*arguments, "-o", "xml").exit_code == 2


@pytest.mark.parametrize("command", ["job show", "node show", "flag show"])
def test_what_a_command_shows_is_text_unless_asked(steer, recording_hub, files, command):
    recording_hub.answers["*"] = [ANSWER]
    arguments = [*command.split(), *ASKED[command].split()]
    assert steer(*arguments).stdout == steer(*arguments, "-o", "text").stdout
    assert f"name: {ANSWER['name']}\n" in steer(*arguments).stdout
