"""After the record was restored from a backup: nodes have seen revisions and stops that it knows nothing of, and refuse what is lower."""

from registry.audit import Action, record
from registry.models import Environment, StopStatement
from registry.reads.reported import highest_revision_reported
from registry.services.transition import lock_environments, transition
from registry.snapshots import issue_stop, publish_snapshot

ACTOR = "restore"


@transition
def publish_above_fleet(environment: Environment) -> int:
    """What is on record, as a revision that every node of the environment takes: above all that they reported. Which one.

    It is what this record said before, so no freeze is asked. What was changed after the backup is not in it.
    """
    (environment,) = lock_environments([environment])
    environment.head_revision = max(environment.head_revision, highest_revision_reported(environment))
    publish_snapshot(environment, cause=Action.SNAPSHOT_PUBLISHED, actor=ACTOR, force=True, only_lowers=True)
    return environment.head_revision


@transition
def issue_stop_above_fleet() -> StopStatement:
    """A statement above all that nodes heard, so that it may let go. Each is; this one is there without a kill or a lift."""
    stop = issue_stop()
    details = {"reason": "the record was restored", "sequence": stop.sequence, "digest": stop.digest}
    record(Action.STOP_ISSUED, actor=ACTOR, subject=stop, details=details)
    return stop
