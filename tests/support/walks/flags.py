"""Flags, environments and what they serve: what raises is planned and confirmed."""

from decimal import Decimal
from typing import Any

from registry.models import Environment
from registry.snapshots import read_head
from steernode.snapshot.records import Snapshot
from steernode.snapshot.resolve import Effective, resolve
from tests.support.governance.flags import CONFIRMATIONS, NEW, OLD, Flag
from tests.support.governance.people import CAST, Person
from tests.support.walks.base import FORGED, TENANTS, choices, environments, mostly, tenants
from tests.support.walks.revisions import RevisionWalk
from tests.support.walks.walking import invariant, one_of, precondition, rule

scales = one_of("0", "0.5", "1", "1", "2")
confirmations = one_of(*CONFIRMATIONS)


class FlagWalk(RevisionWalk):
    def __init__(self) -> None:
        super().__init__()
        # What nodes are told of each environment, under the kills in force.
        self.snapshots: dict[str, Snapshot] = {}
        self.heads: dict[str, int] = {}

    @precondition(lambda self: self.oracle.revisions)
    @rule(
        actor=mostly("operator"), environment=environments, tenant=tenants, choice=choices,
        enabled=one_of(True, True, False), scale=scales, confirmed=confirmations,
    )  # fmt: skip
    def set_flag(
        self, actor: Person, environment: str, tenant: str, choice: int, enabled: bool, scale: str, confirmed: str = "planned"
    ) -> None:
        live = [revision for revision in self.oracle.revisions if revision.state == "approved"]
        revision = live[-1] if live and choice % 4 else self.pick(choice // 4)
        flag = Flag(revision, enabled, Decimal(scale))
        body = {"profile": revision.profile, "revision": revision.number, "enabled": enabled, "alpha_scale": scale, "reason": "so"}
        address = f"environments/{environment}/flags/{tenant}"
        digest = self.plan(actor, environment, tenant, flag, f"{address}/plan", body)
        if digest and self.oracle.raises(environment, tenant, flag):
            self.compare(
                lambda: self.oracle.set_flag(actor, environment, tenant, flag, "unasked"), lambda: self.send(actor, "put", address, body)
            )
        if digest and confirmed == "overtaken":
            off = Flag(revision, False, Decimal(scale))
            self.compare(
                lambda: self.oracle.set_flag(CAST["oscar"], environment, tenant, off),
                lambda: self.send(CAST["oscar"], "put", address, {**body, "enabled": False}),
            )
        sent = {**body, **self.confirm(confirmed, digest)}
        self.compare(
            lambda: self.oracle.set_flag(actor, environment, tenant, flag, confirmed), lambda: self.send(actor, "put", address, sent)
        )

    def plan(self, actor: Person, environment: str, tenant: str, flag: Flag, address: str, body: dict[str, Any]) -> str:
        """The digest of the plan, which says whether it raises and changes nothing; empty where there is none."""
        before = self.count_events()
        plan = self.compare(
            lambda: self.oracle.weigh_flag(actor, environment, tenant, flag), lambda: self.send(actor, "post", address, body)
        )
        assert self.count_events() == before
        if "digest" not in plan:
            return ""
        assert bool(plan["raises"]) == self.oracle.raises(environment, tenant, flag), plan
        return plan["digest"]

    def confirm(self, confirmed: str, digest: str) -> dict[str, str]:
        if confirmed == "unasked":
            return {}
        return {"confirm": digest if digest and confirmed != "forged" else FORGED}

    @rule(
        actor=mostly("operator"),
        step=one_of("create", "register", "move", "move"),
        files=one_of(OLD, NEW),
        confirmed=one_of("planned", "planned", "unasked", "forged"),
    )
    def change_what_is_served(self, actor: Person, step: str, files: str, confirmed: str) -> None:
        if step == "move":
            self.move(actor, files, confirmed)
        else:
            {"create": self.create_environment, "register": self.register}[step](actor)

    def create_environment(self, actor: Person) -> None:
        self.compare(
            lambda: self.oracle.create_environment(actor, "staging"),
            lambda: self.send(actor, "post", "environments", {"name": "staging"}),
        )

    def register(self, actor: Person) -> None:
        """On record, and nobody hears of it."""
        self.read_heads()
        before = self.heads
        body = {"name": "harbor-support", "source": "harbor-2"}
        self.compare(lambda: self.oracle.register(actor, NEW), lambda: self.send(actor, "post", "base-models", body))
        self.read_heads()
        assert self.heads == before

    def move(self, actor: Person, files: str, confirmed: str) -> None:
        """Production stays where it is: everything here was made for its files."""
        environment = "staging" if "staging" in self.oracle.serves or NEW in self.oracle.registered else "production"
        body, address = {"base_model": f"harbor-support@{self.fingerprints[files]}", "reason": "newer"}, f"environments/{environment}/move"
        answer = self.send(actor, "post", f"{address}/plan", body).json() if confirmed == "planned" else {}
        sent = {**body, **self.confirm(confirmed, answer.get("digest", ""))}
        self.compare(lambda: self.oracle.move(actor, environment, files, confirmed), lambda: self.send(actor, "post", address, sent))

    @invariant()
    def every_environment_serves_what_was_foretold(self) -> None:
        rows = Environment.objects.values_list("name", "served__base_model__fingerprint")
        assert dict(rows) == {name: self.fingerprints[files] for name, files in self.oracle.serves.items()}
        self.met["an environment of later files"] += NEW in self.oracle.serves.values()

    @invariant()
    def every_tenant_gets_what_was_foretold_by_the_signed_snapshot(self) -> None:
        self.read_heads()
        for environment, snapshot in self.snapshots.items():
            for tenant in TENANTS:
                effective = resolve(snapshot, tenant, "")
                assert dose_of(effective) == self.oracle.effect(environment, tenant), effective.reason
                self.met["steered" if effective.profile else effective.reason] += 1

    def read_heads(self) -> None:
        heads = {environment.name: read_head(environment) for environment in Environment.objects.all()}
        self.snapshots = {name: document for name, (_, document) in heads.items()}
        self.heads = {name: row.revision for name, (row, _) in heads.items()}


def dose_of(effective: Effective) -> tuple[str, int, Decimal] | None:
    """Profile, revision and α."""
    if effective.profile is None:
        return None
    return effective.profile.id, effective.profile.revision, effective.components[0].alpha
