"""The two calls that `steer` makes, and the command itself."""

import pytest
from click.testing import CliRunner

from registry.services.people import issue_token
from steernode.cli import main


@pytest.fixture
def gitops(person):
    """A service account that may change every kind: it applies what people merged."""
    return person("gitops", "author", "operator", "admin")


@pytest.fixture
def plan(gitops):
    from registry.manifests.plan import Options, make_plan

    return lambda documents, **options: make_plan(list(documents), Options(**options))


@pytest.fixture
def apply(plan, gitops):
    """Plan, and apply just that."""
    from registry.manifests.apply import apply_plan
    from registry.manifests.plan import Options

    def run(documents, *, digest=None, actor=gitops, **options):
        documents = list(documents)
        digest = digest or plan(documents, **options).digest
        return apply_plan(documents, options=Options(**options), plan_digest=digest, actor=actor, permit=lambda *roles: None)

    return run


@pytest.fixture
def steer(hub, gitops, monkeypatch):
    """The command as gitops types it."""
    monkeypatch.setenv("STEERHUB_URL", hub)
    monkeypatch.setenv("STEERHUB_TOKEN", issue_token(gitops, name="tests", actor="tests")[1])
    return lambda *arguments: CliRunner().invoke(main, [str(argument) for argument in arguments])
