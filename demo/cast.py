"""The people of the Harbor story, made through the services: run once, before the processes start.

Writes what each needs to log in under STEERHUB_VAR, readable by its owner only. Running it again makes new tokens for the same people.
"""

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

import django

PEOPLE = {
    # Ada may approve what others write; what she wrote herself she may not.
    "ada": (["author", "approver"], "ML engineer"),
    "grace": (["approver"], "approver"),
    "oscar": (["operator"], "operator"),
    "iris": (["auditor"], "auditor"),
}
NODE = "node-1"


def main(cast: Mapping[str, tuple[Sequence[str], str]] = PEOPLE) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "steerhub.settings")
    django.setup()
    from django.conf import settings
    from django.core.management import call_command

    from registry.models import Environment, ServingNode, User
    from registry.services.nodes import invite_node, rotate_node
    from registry.services.people import create_user, issue_token
    from registry.services.tenants import create_environment
    from registry.snapshots import trust_document

    call_command("migrate", verbosity=0)
    folder = settings.VAR_DIR
    people_file = folder / "people.json"
    people = json.loads(people_file.read_text()) if people_file.exists() else {}
    for name, (roles, title) in cast.items():
        user = User.objects.filter(username=name).first()
        password = people.get(name, {}).get("password") or secrets.token_urlsafe(12)
        if user is None:
            user = create_user(name, roles=roles, actor="demo", password=password)
        elif not user.check_password(password):
            user.set_password(password)
            user.save(update_fields=["password"])
        _, token = issue_token(user, name="demo", actor="demo", days=7)
        people[name] = {"title": title, "password": password, "token": token}
    write_private(people_file, json.dumps(people, indent=2))
    (folder / "trust.json").write_text(json.dumps(trust_document(), indent=2))
    operator, node = User.objects.get(username="oscar"), ServingNode.objects.filter(name=NODE).first()
    environment = Environment.objects.filter(name="production").first() or create_environment("production", actor=operator)
    if node is None:
        _, token = invite_node(NODE, environment=environment, actor=operator)
        write_private(folder / "node.enrolment", token)
    elif node.enrolled_at is None:
        # It was never started while its token was good.
        _, token = rotate_node(node, actor=operator)
        write_private(folder / "node.enrolment", token)


def write_private(path: Path, text: str) -> None:
    """A file that only its owner reads, from its first byte on."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


if __name__ == "__main__":
    main()
