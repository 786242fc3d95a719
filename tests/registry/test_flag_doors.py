"""A field of a flag is stated at every door and kept by the log. What one of them leaves out would be lost there without a word."""

from registry.api.views.flags import FlagBody, FlagOut
from registry.console.flag import _as_stated
from registry.console.forms.flags import FlagForm
from registry.manifests.fields import camel_case
from registry.manifests.kinds.flag_spec import FLAG
from registry.models import TenantFlag
from registry.reads.documents import flag_document
from steernode.cli.flagging import set_flag

# Where it stands, who changed it when, and what is counted or drawn; none of this is stated.
NOT_STATED = {"id", "environment", "tenant", "route", "stamp", "changed_by", "changed_at", "version"}
# A column that is stated under the name of what it is a part of.
STATED_AS = {"override_min": "override", "override_max": "override"}


def stated() -> set[str]:
    columns = {field.name for field in TenantFlag._meta.concrete_fields} - NOT_STATED
    return {STATED_AS.get(column, column) for column in columns} | {"arms"}


# Drawn by the registry. Who must have a certain one says so to the API or in a manifest.
SALTS = {"rollout_salt", "arms_salt"}


def renamed(names: set[str], **others: str) -> set[str]:
    """A door's own words for some fields."""
    return {others.get(name, name) for name in names}


def test_the_log_keeps_every_field_of_a_flag(flag_on):
    assert stated() <= set(flag_document(flag_on))


def test_the_api_takes_and_gives_every_field_of_a_flag():
    assert stated() <= set(FlagOut().fields)
    assert renamed(stated(), inherits="inherit") <= set(FlagBody().fields)


def test_a_manifest_says_every_field_of_a_flag():
    assert {camel_case(name) for name in stated()} <= set(FLAG["properties"])


def test_the_console_asks_for_every_field_of_a_flag_and_fills_it_in(flag_on):
    wanted = renamed(stated() - SALTS, inherits="inherit")
    assert wanted <= set(FlagForm().fields)
    # A reason is given for each change anew.
    assert wanted - {"reason"} <= set(_as_stated(flag_on))


def test_steer_sets_every_field_of_a_flag():
    options = {parameter.name for parameter in set_flag.params}
    assert renamed(stated() - SALTS, inherits="inherit", revision="reference") <= options
