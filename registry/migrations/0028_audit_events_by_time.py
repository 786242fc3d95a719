"""An index for questions about a period."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("registry", "0027_comparisons")]
    operations = [migrations.AddIndex("auditevent", models.Index(fields=["occurred_at", "seq"], name="audit_by_time"))]
