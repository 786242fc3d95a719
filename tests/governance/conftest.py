"""The world in which everybody walks."""

from collections import Counter
from datetime import timedelta

import pytest

from registry.models import User
from steernode.dsse import write_public_key
from steernode.files.basemodels import inspect_model
from tests.support.files import vector_file, write_model_folder
from tests.support.governance.flags import NEW, OLD
from tests.support.governance.people import CAST
from tests.support.governance.revisions import PROFILES, VECTORS
from tests.support.walks.base import Walk
from tests.support.walks.stops import OFFLINE, OFFLINE_KEY


@pytest.fixture
def world(settings, monkeypatch, api, person, ada, model_root, base_model, contrast_set, evaluate, production, harbor, atlas) -> None:
    """The cast, three vectors with their evaluations, two profiles, an environment, two tenants, and files that nobody registered yet."""
    from registry.services.profiles import create_profile
    from registry.services.vectors import import_vector

    settings.STEERHUB_OFFLINE_STOP_KEYS = [(OFFLINE, write_public_key(OFFLINE_KEY.public_key()))]
    # Every report is written, and every need of a node is met at once: no step depends on how long the last one took.
    monkeypatch.setattr("registry.services.reports.HEARTBEAT", timedelta(0))
    monkeypatch.setattr("registry.services.stops.ISSUED_FOR_NODES_EVERY", timedelta(seconds=-1))
    users = {}
    for name, member in CAST.items():
        acts_for = users[member.acts_for] if member.acts_for else None
        users[name] = User.objects.filter(username=name).first() or person(name, *member.roles, acts_for=acts_for)
    Walk.users, Walk.clients = users, {name: api(user) for name, user in users.items()}
    for client in Walk.clients.values():
        client.says_yes = False
    Walk.evaluations, Walk.met = {}, Counter()
    for seed, (name, (alpha, passed)) in enumerate(VECTORS.items()):
        vector = import_vector(name, data=vector_file(base_model.fingerprint, contrast_set.digest, seed=seed), author=ada)
        Walk.evaluations[name] = str(evaluate(vector, alpha=str(alpha), passed=passed).pk)
    for name, needed in PROFILES.items():
        create_profile(name, intent="Kind.", purpose="tone", axis="empathy", risk_class="low" if needed == 1 else "high", owner=ada)
    write_model_folder(model_root / "harbor-2", vocab_size=129)
    Walk.fingerprints = {OLD: base_model.fingerprint, NEW: inspect_model(model_root / "harbor-2").fingerprint}
