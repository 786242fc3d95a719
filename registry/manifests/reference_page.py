"""docs/manifests.md, written from the schemas: what each kind may say, in words."""

import json
from collections.abc import Iterator
from typing import Any

from registry.manifests.documents import MAX_DOCUMENTS_BYTES, MAX_NAMES
from registry.manifests.fields import Schema
from registry.manifests.kind import API_VERSION, Kind
from registry.manifests.kinds import KINDS

_HEAD = f"""# Manifests

Generated from the schemas in `registry/manifests` by `python manage.py manifest_reference`; do not edit by hand.

A manifest declares one object. A folder of YAML files declares a hub's record: every `.yaml` and `.yml` file in it, at any depth and in
any spelling of the suffix. What is hidden, and what editors leave behind (`#a.yaml#`, `a.yaml~`), is skipped and named on stderr.

```yaml
apiVersion: {API_VERSION}
kind: Tenant
metadata:
  name: harbor
  labels: {{team: support}}
  manager: git/steering
spec:
  title: Harbor Support
```

| command | what it does | exit status |
| --- | --- | --- |
| `steer plan -f DIR` | what `apply` would do and what that means; changes nothing | 0 nothing, 2 changes, 1 an error |
| `steer apply -f DIR` | plans, asks, applies that plan: all of it or nothing, one snapshot revision for each environment | 0, or 1 |
| `steer diff -f DIR` | files and record, field by field | 0 equal, 1 they differ, 2 an error |
| `steer drift -f DIR` | files, registry, last snapshot and what nodes report, side by side | 0 agree, 2 something drifts, 1 an error |
| `steer export` | the record as manifests; applying them plans to nothing | 0, or 1 |
| `steer schema` | the JSON Schema of all kinds, for an editor | 0, or 1 |

- A plan has a `planDigest` over what every object is and would become. `steer apply --plan FILE` (or `--plan DIGEST`) applies that plan and
  nothing else: it is refused with `PLAN_STALE` once anything it was made from moved, and with `PLAN_APPLIED` the second time.
- `metadata.manager` owns an object. Whoever else declares it is refused (`OWNERSHIP_CONFLICT`); `--force-conflicts` takes it over, and the
  audit log says so. Changes in the console are allowed, and show as drift.
- Nothing is deleted unless `--prune` asks for it: what the managers of these manifests declared before and no longer do, at most
  `--max-prune-percent` of it (10), never what is on (`PRUNE_ACTIVE`: disable, then delete) and never what is sealed.
- What is sealed is not changed: other content under the same name is the next version. A reference `NAME` means the latest version,
  `NAME@VERSION` that one.
- A plain scalar is `true`, `false`, a whole number, `null` or the text that it is. `yes`, `no`, `on` and `off` need quotes; a key twice, an
  unknown field and an alias are errors. Every fault is told with its file, line and column.
- A line that is left out goes back to its default, or leaves the record as it is where the tables below say so. The `profile` of a recipe
  is said to the job that makes the vector: left out later it changes nothing, and the plan notes that it stays.
- {MAX_NAMES:,} objects, in {MAX_DOCUMENTS_BYTES // 1024**2} MiB of JSON, are planned together. `steer export` keeps to the same
  (`MANIFESTS_TOO_LARGE`), so whatever it wrote can be planned; more goes in parts, by `--kind`, `--manager` or `--name`.
- A file is named as `{{file: PATH}}` beside the manifest; `steer` uploads it and sends its digest.
- `status` is the hub's. `steer export --with-status` gives it, with conditions and the generation it is about; a manifest that has one is
  read without it. The generation moves with the declared spec and with nothing else.
"""


def write_reference() -> str:
    """The whole page."""
    return "\n".join([_HEAD, *(line for kind in KINDS.values() for line in _describe_kind(kind))]).rstrip() + "\n"


def _describe_kind(kind: Kind[Any, Any]) -> Iterator[str]:
    yield f"## {kind.name}\n"
    yield f"{kind.about}\n"
    pruned = f"Pruning leaves it: {kind.retained}." if kind.retained else "Pruning deletes it once nothing refers to it."
    yield f"`metadata.name`: {kind.object_name['description']} Applied by: {' or '.join(kind.roles)}. {pruned}\n"
    rows = list(_describe_fields(kind.spec, "", kind.left_alone))
    if rows:
        yield "| spec field | | |\n| --- | --- | --- |"
        yield from rows
        yield ""


def _describe_fields(schema: Schema, prefix: str, left_alone: tuple[str, ...] = ()) -> Iterator[str]:
    for name, field in schema["properties"].items():
        needed = "needed" if name in schema["required"] else _describe_absence(field, name in left_alone)
        cells = (f"`{prefix}{name}`", f"{_describe_form(field)}; {needed}", field["description"])
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
        for branch in field.get("oneOf", [field]):
            if branch.get("format") == "uploaded":
                continue
            inner = branch.get("items", branch)
            if "properties" in inner:
                yield from _describe_fields(inner, f"{prefix}{name}[]." if "items" in branch else f"{prefix}{name}.")


def _describe_absence(field: Schema, is_left_alone: bool) -> str:
    if "default" in field:
        return f"`{_show(field['default'])}`"
    return "left as it is" if is_left_alone else "optional"


def _show(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _describe_form(field: Schema) -> str:
    if "oneOf" in field:
        return " or ".join(_describe_form(branch) for branch in field["oneOf"])
    if field.get("format") == "uploaded":
        return "file"
    if field.get("format") in ("decimal", "measure"):
        return "decimal"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    match field["type"]:
        case "array":
            return f"list of {_describe_form(field['items'])}"
        case "integer":
            return f"{field['minimum']} to {field['maximum']}"
        case "object":
            return "mapping"
        case "boolean":
            return "`true` or `false`"
        case _:
            return "text"
