"""Each environment serves one fingerprint of a name. Until now it listed all of them."""

import django.db.models.deletion
import django.db.models.functions.datetime
import uuid
from django.conf import settings
from django.db import migrations, models

# Django has no foreign key over two columns; this one holds the copied name to the base model's own.
SAME_NAME = """
ALTER TABLE registry_basemodel ADD CONSTRAINT base_model_id_and_name UNIQUE (id, name);
ALTER TABLE registry_environmentbasemodel ADD CONSTRAINT environment_serves_a_base_model_under_its_own_name
    FOREIGN KEY (base_model_id, name) REFERENCES registry_basemodel (id, name) DEFERRABLE INITIALLY DEFERRED;
"""
ANY_NAME = """
ALTER TABLE registry_environmentbasemodel DROP CONSTRAINT environment_serves_a_base_model_under_its_own_name;
ALTER TABLE registry_basemodel DROP CONSTRAINT base_model_id_and_name;
"""
# What an environment steers with now, or else what was registered last.
SERVE = """
INSERT INTO registry_environmentbasemodel (id, environment_id, name, base_model_id, moved_by_id)
SELECT DISTINCT ON (e.id, m.name) gen_random_uuid(), e.id, m.name, m.id, m.registered_by_id
FROM registry_environment e CROSS JOIN registry_basemodel m
ORDER BY e.id, m.name, EXISTS (
    SELECT FROM registry_tenantflag f JOIN registry_profilerevision r ON r.id = f.revision_id
    WHERE f.environment_id = e.id AND f.enabled AND r.state = 'approved' AND r.base_model_id = m.id
) DESC, m.registered_at DESC
"""


class Migration(migrations.Migration):

    dependencies = [
        ('registry', '0011_composition_evaluations'),
    ]

    operations = [
        migrations.CreateModel(
            name='EnvironmentBaseModel',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('name', models.SlugField(max_length=100)),
                ('moved_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('base_model', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='served_in', to='registry.basemodel')),
                ('environment', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='served', to='registry.environment')),
                ('moved_by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['environment', 'name'],
                'constraints': [models.UniqueConstraint(fields=('environment', 'name'), name='environment_serves_one_fingerprint_of_a_name')],
            },
        ),
        migrations.RunSQL(SERVE, migrations.RunSQL.noop),
        migrations.RunSQL(SAME_NAME, ANY_NAME),
    ]
