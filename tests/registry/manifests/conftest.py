"""The two calls that `steer` makes."""

import pytest


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
