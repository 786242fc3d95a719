"""The `steer` command, and a hub that remembers what it was sent. The fixtures reach the tests through conftest."""

import json

import pytest
from click.testing import CliRunner
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from steernode.cli import main
from tests.support.serving import served

TOKEN = "sht_" + "p" * 43
JOB = "0190a000-0000-7000-8000-000000000001"


class Hub:
    """Remembers what it was sent, and answers each path from a list whose last answer repeats; `*` is any other path."""

    def __init__(self):
        self.sent, self.answers = [], {}

    async def answer(self, request):
        body = await request.body()
        self.sent.append((request.method, request.url.path.removeprefix("/api/v1"), body))
        assert request.headers["authorization"] == f"Bearer {TOKEN}"
        answers = self.answers.get(request.url.path.removeprefix("/api/v1"), self.answers.get("*"))
        if answers is None:
            return JSONResponse({"code": "NOT_FOUND", "detail": "there is nothing\x1b[2J at this address"}, status_code=404)
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return Response(answer) if isinstance(answer, bytes) else JSONResponse(answer)

    def bodies(self):
        return [json.loads(body) for _method, _path, body in self.sent if body]


@pytest.fixture(scope="module")
def recording_server():
    hub = Hub()
    with served(Starlette(routes=[Route("/{path:path}", hub.answer, methods=["GET", "POST", "PUT", "DELETE"])])) as url:
        hub.url = url
        yield hub


@pytest.fixture
def recording_hub(recording_server):
    recording_server.sent, recording_server.answers = [], {}
    return recording_server


@pytest.fixture
def steer(recording_hub, monkeypatch):
    monkeypatch.setenv("STEERHUB_URL", recording_hub.url)
    monkeypatch.setenv("STEERHUB_TOKEN", TOKEN)

    def run(*arguments, **options):
        return CliRunner().invoke(main, [str(argument) for argument in arguments], **options)

    return run


def error_of(result):
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("error ")
    return result.stderr.removeprefix("error ").split(":")[0]
