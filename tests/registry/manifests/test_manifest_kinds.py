"""A kind is one file: what plans, applies, exports, prunes and compares goes through the list of kinds and names none of them."""

import ast
from decimal import Decimal
from pathlib import Path

import pytest
from django.contrib.auth.models import Group

from registry.manifests import kinds
from registry.manifests.drift import find_drift
from registry.manifests.export import export_manifests
from registry.manifests.fields import FieldMap, camel_case, decimal, list_of, mapping, snake_case, text
from registry.manifests.kind import Index, Kind
from registry.manifests.kinds import KINDS
from registry.manifests.reference_page import write_reference
from registry.manifests.risks import Risks
from registry.models import Role, User
from tests.support.declaring import actions, manifest

FOLDER = Path(kinds.__file__).parent
ROOT = FOLDER.parents[2]
LOOPS = [
    *FOLDER.parent.glob("*.py"),
    *(ROOT / name for name in ("registry/api/views/manifests.py", "registry/console/lists/governing.py")),
    *(ROOT / name for name in ("steernode/hub/manifests.py", "steernode/cli/declaring.py")),
]


class Teams(Kind[Group, Index[Group]]):
    """A kind that is declared here and nowhere else."""

    name = "Team"
    about = "People who work together."
    roles = (Role.ADMIN,)
    spec = mapping("Who they are.", optional={"members": list_of("Their names.", text("A name.", max_length=50), high=9, default=[])})
    model = Group
    index = Index[Group]

    def render(self, row):
        return {"members": sorted(row.user_set.values_list("username", flat=True))}

    def write(self, step, writer):
        team, _ = Group.objects.get_or_create(name=step.name)
        team.user_set.set(User.objects.filter(username__in=step.spec["members"]))

    def delete(self, step, writer):
        Group.objects.get(name=step.name).delete()


@pytest.fixture
def teams(monkeypatch):
    monkeypatch.setitem(KINDS, "Team", Teams())
    return lambda *names, **spec: [manifest("Team", name, manager="git/a", **spec) for name in names]


def test_a_kind_that_is_listed_is_planned_applied_exported_compared_and_pruned(teams, plan, apply, ada, oscar):
    night, day = teams("night", members=["ada"]) + teams("day")
    assert actions(plan([night, day])) == {"Team day": "create", "Team night": "create"}
    assert plan([night]).roles == {(Role.ADMIN,)}
    apply([night, day])
    assert [user.username for user in Group.objects.get(name="night").user_set.all()] == ["ada"]
    assert [drift.registry for drift in find_drift([night, day])] == ["same", "same"]
    assert set(actions(plan(export_manifests(kinds=["Team"], names=["day", "night"]))).values()) == {"no-op"}
    (night,) = teams("night", members=["ada", "oscar"])
    (step,) = plan([night]).changes
    assert (step.action, [change.field for change in step.changes]) == ("update", ["spec.members"])
    assert Risks(plan([night])).of(step) == []
    assert [row.registry for row in find_drift([night])] == ["differs in spec.members", "present"]
    apply([night], prune=True, max_prune_percent=100)
    assert (Group.objects.get(name="night").user_set.count(), Group.objects.filter(name="day").exists()) == (2, False)


def test_a_kind_that_is_listed_is_published_and_described(teams):
    assert "## Team\n\nPeople who work together." in write_reference()
    assert kinds.published_schema()["$defs"]["Team"]["properties"]["spec"]["properties"].keys() == {"members"}


@pytest.mark.parametrize("path", LOOPS, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_but_a_kinds_own_file_names_it(path):
    tree = ast.parse(path.read_text())
    words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert words.isdisjoint(KINDS)
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    assert not [module for module in imported if module.startswith("registry.manifests.kinds.")]


def fields_of(schema):
    """Every field of a schema, at every depth, with its name."""
    for name, field in schema.get("properties", {}).items():
        yield name, field
        for inner in (field, *field.get("oneOf", ()), *([field["items"]] if "items" in field else ())):
            yield from fields_of(inner)


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_every_field_has_one_name_in_manifests_and_one_on_record(kind):
    for name, _ in fields_of(kind.schema()):
        assert name == snake_case(name) or camel_case(snake_case(name)) == name


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_steer_uploads_whatever_has_a_field_named_file_and_nothing_else_has_one(kind):
    holders = [("spec", kind.spec), *fields_of(kind.schema())]
    assert all(("file" in field.get("properties", {})) == (field.get("format") == "uploaded") for _, field in holders)


def test_a_field_map_reads_and_writes_at_every_depth():
    part = mapping("", required={"alphaMin": decimal("")}, optional={"note": text("", max_length=9)})
    fields = FieldMap({"maxAlpha": decimal(""), "bestParts": list_of("", part, high=9), "left": text("", max_length=9)})
    spec = {"maxAlpha": "0.5", "bestParts": [{"alphaMin": "0.25", "note": "x"}, {"alphaMin": "1"}]}
    record = fields.to_record({**spec, "other": 1})
    assert record == {"max_alpha": Decimal("0.5"), "best_parts": [{"alpha_min": Decimal("0.25"), "note": "x"}, {"alpha_min": Decimal(1)}]}
    assert fields.to_spec({**record, "left": None, "other": 1}) == spec
    assert FieldMap(fields.fields, as_text=True).to_record(spec)["max_alpha"] == "0.5"
