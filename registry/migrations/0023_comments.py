"""What people say about a revision without deciding. It stays as it was said."""

import uuid

import django.core.validators
import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models

import registry.models.fields


APPEND_ONLY = """
CREATE TRIGGER comment_is_append_only BEFORE UPDATE OR DELETE ON registry_revisioncomment
    FOR EACH ROW EXECUTE FUNCTION registry_refuse_change();
ALTER TABLE registry_revisioncomment ENABLE ALWAYS TRIGGER comment_is_append_only;
"""


class Migration(migrations.Migration):
    dependencies = [("registry", "0022_persons_behind_decisions")]
    operations = [
        migrations.CreateModel(
            name='RevisionComment',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('revision_digest', registry.models.fields.DigestField(blank=True, default='', max_length=64, validators=[django.core.validators.RegexValidator('\\A[0-9a-f]{64}\\Z', 'want 64 lower-case hex digits')])),
                ('text', models.TextField(max_length=2000)),
                ('said_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                'ordering': ['said_at'],
            },
        ),
        migrations.AddField(
            model_name='revisioncomment',
            name='author',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='revisioncomment',
            name='revision',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='comments', to='registry.profilerevision'),
        ),
        migrations.AddConstraint(
            model_name='revisioncomment',
            constraint=models.CheckConstraint(condition=models.Q(('text__regex', '\\S')), name='comment_says_something'),
        ),
        migrations.RunSQL(APPEND_ONLY, "DROP TRIGGER comment_is_append_only ON registry_revisioncomment;"),
    ]
