"""An index for everything that a long list is ordered or filtered by.

Built beside running code, so outside a transaction: a build that was interrupted leaves an invalid index, which is dropped by
hand before the migration is run again. The index on the action alone is the beginning of the one on action and number.
"""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models

INDEXES = [
    ("auditevent", "audit_by_action", ["action", "seq"]),
    ("auditevent", "audit_by_actor", ["actor_name", "seq"]),
    ("auditevent", "audit_by_type_of_object", ["object_type", "seq"]),
    ("auditevent", "audit_by_id_of_object", ["object_id", "seq"]),
    ("auditevent", "audit_by_name_of_object", ["object_name", "seq"]),
    ("auditevent", "audit_by_tenant", ["tenant", "seq"]),
    ("auditevent", "audit_by_environment", ["environment", "seq"]),
    ("contrastset", "contrast_set_by_axis", ["axis", "name", "-version"]),
    ("evaluation", "evaluation_newest", ["-evaluated_at", "id"]),
    ("job", "job_newest", ["-requested_at", "id"]),
    ("job", "job_newest_of_kind", ["kind", "-requested_at", "id"]),
    ("job", "job_newest_in_state", ["state", "-requested_at", "id"]),
    ("job", "job_newest_of_person", ["requested_by", "-requested_at", "id"]),
    ("profile", "profile_by_axis", ["axis", "name"]),
    ("profile", "profile_by_purpose", ["purpose", "name"]),
    ("profile", "profile_by_risk_class", ["risk_class", "name"]),
    ("snapshot", "snapshot_by_content", ["environment", "content_digest"]),
    ("steeringvector", "vector_by_base_model", ["base_model", "name", "-version"]),
]


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('registry', '0017_chains'),
    ]

    operations = [
        *(AddIndexConcurrently(model, models.Index(fields=fields, name=name)) for model, name, fields in INDEXES),
        migrations.AlterField(model_name='auditevent', name='action', field=models.CharField(max_length=50)),
    ]
