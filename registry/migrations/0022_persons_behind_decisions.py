"""Decisions name the persons behind the accounts, and composite foreign keys hold these copies to the truth.

A service account counts as the person that it acts for. Neither the author of a revision nor whom an account acts for can
change once somebody decided.
"""

import django.contrib.postgres.fields
import django.db.models.functions.comparison
from django.db import migrations, models


FILL_PERSONS = """
ALTER TABLE registry_approval DISABLE TRIGGER approval_is_append_only;
UPDATE registry_approval SET
    author_person = (SELECT person FROM registry_user WHERE registry_user.id = author_id),
    reviewer_person = (SELECT person FROM registry_user WHERE registry_user.id = reviewer_id);
ALTER TABLE registry_approval ENABLE ALWAYS TRIGGER approval_is_append_only;
"""
TRUE_COPIES = """
ALTER TABLE registry_approval ADD CONSTRAINT approval_names_the_author_of_its_revision
    FOREIGN KEY (revision_id, author_id) REFERENCES registry_profilerevision (id, author_id);
ALTER TABLE registry_approval ADD CONSTRAINT approval_author_stands_for_that_person
    FOREIGN KEY (author_id, author_person) REFERENCES registry_user (id, person);
ALTER TABLE registry_approval ADD CONSTRAINT approval_reviewer_stands_for_that_person
    FOREIGN KEY (reviewer_id, reviewer_person) REFERENCES registry_user (id, person);
"""
FREE_COPIES = """
ALTER TABLE registry_approval DROP CONSTRAINT approval_names_the_author_of_its_revision;
ALTER TABLE registry_approval DROP CONSTRAINT approval_author_stands_for_that_person;
ALTER TABLE registry_approval DROP CONSTRAINT approval_reviewer_stands_for_that_person;
"""


class Migration(migrations.Migration):
    dependencies = [("registry", "0021_what_was_demanded")]
    operations = [
        migrations.AddField(
            model_name='user',
            name='person',
            field=models.GeneratedField(db_persist=True, expression=django.db.models.functions.comparison.Coalesce('acts_for', 'id'), output_field=models.BigIntegerField()),
        ),
        migrations.AddConstraint(
            model_name='user',
            constraint=models.UniqueConstraint(fields=('id', 'person'), name='user_stands_for_one_person'),
        ),
        migrations.AddConstraint(
            model_name='profilerevision',
            constraint=models.UniqueConstraint(fields=('id', 'author'), name='revision_has_one_author'),
        ),
        migrations.RemoveConstraint(
            model_name='approval',
            name='approval_reviewer_is_not_author',
        ),
        migrations.RemoveConstraint(
            model_name='approval',
            name='approval_decision_is_known',
        ),
        migrations.RemoveConstraint(
            model_name='approval',
            name='approval_once_per_reviewer_and_state',
        ),
        migrations.AddField(
            model_name='approval',
            name='author_person',
            field=models.BigIntegerField(default=0),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name='approval',
            name='reviewer_person',
            field=models.BigIntegerField(default=0),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name='approval',
            name='roles',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=150), default=[], size=None),
            preserve_default=False,
        ),
        migrations.AlterField(
            model_name='approval',
            name='comment',
            field=models.TextField(blank=True, max_length=2000),
        ),
        migrations.AlterField(
            model_name='approval',
            name='decision',
            field=models.CharField(choices=[('approve', 'Approve'), ('reject', 'Reject'), ('request_changes', 'Request Changes')], max_length=15),
        ),
        migrations.RunSQL(FILL_PERSONS, migrations.RunSQL.noop),
        migrations.AddConstraint(
            model_name='approval',
            constraint=models.CheckConstraint(condition=models.Q(('reviewer_person', models.F('author_person')), _negated=True), name='approval_reviewer_is_not_author'),
        ),
        migrations.AddConstraint(
            model_name='approval',
            constraint=models.CheckConstraint(condition=models.Q(('decision__in', ['approve', 'reject', 'request_changes'])), name='approval_decision_is_known'),
        ),
        migrations.AddConstraint(
            model_name='approval',
            constraint=models.CheckConstraint(condition=models.Q(('decision', 'approve'), ('comment__regex', '\\S'), _connector='OR'), name='approval_refusal_says_why'),
        ),
        migrations.AddConstraint(
            model_name='approval',
            constraint=models.UniqueConstraint(fields=('revision', 'revision_digest', 'evidence_digest', 'reviewer_person'), name='approval_once_per_person_and_state'),
        ),
        migrations.RunSQL(TRUE_COPIES, FREE_COPIES),
    ]
