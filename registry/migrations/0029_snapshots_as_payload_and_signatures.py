"""A snapshot keeps what was signed, deflated, and the signatures: Base64 in an envelope is a third longer and hides that flags repeat."""

import base64
import json
import zlib

from django.db import migrations, models

from steernode.snapshot.document import PAYLOAD_TYPE
from steernode.dsse import write_envelope


def take_apart(apps, schema_editor):
    for snapshot in apps.get_model("registry", "Snapshot").objects.iterator(chunk_size=20):
        envelope = json.loads(bytes(snapshot.envelope))
        snapshot.payload_zlib = zlib.compress(base64.b64decode(envelope["payload"]), level=1)
        snapshot.signatures = envelope["signatures"]
        snapshot.save(update_fields=["payload_zlib", "signatures"])


def put_together(apps, schema_editor):
    for snapshot in apps.get_model("registry", "Snapshot").objects.iterator(chunk_size=20):
        snapshot.envelope = write_envelope(zlib.decompress(snapshot.payload_zlib), PAYLOAD_TYPE, snapshot.signatures)
        snapshot.save(update_fields=["envelope"])


OPEN = "ALTER TABLE registry_snapshot DISABLE TRIGGER snapshot_is_append_only"
CLOSE = "ALTER TABLE registry_snapshot ENABLE ALWAYS TRIGGER snapshot_is_append_only"


class Migration(migrations.Migration):
    dependencies = [("registry", "0028_audit_events_by_time")]

    operations = [
        migrations.AddField("snapshot", "payload_zlib", models.BinaryField(default=b""), preserve_default=False),
        migrations.AddField("snapshot", "signatures", models.JSONField(default=list), preserve_default=False),
        migrations.AlterField("snapshot", "envelope", models.BinaryField(default=b"")),
        migrations.RunSQL(OPEN, CLOSE),
        migrations.RunPython(take_apart, put_together),
        migrations.RunSQL(CLOSE, OPEN),
        migrations.RemoveField("snapshot", "envelope"),
    ]
