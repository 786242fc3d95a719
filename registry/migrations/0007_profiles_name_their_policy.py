"""A profile's risk class is the risk policy of that name, so that classes can be declared."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("registry", "0006_risk_policies")]
    operations = [
        migrations.RemoveConstraint(
            model_name='profile',
            name='profile_risk_class_is_known',
        ),
        migrations.AlterField(
            model_name='profile',
            name='risk_class',
            field=models.ForeignKey(db_column='risk_class', on_delete=django.db.models.deletion.PROTECT, related_name='profiles', to='registry.riskpolicy', to_field='name'),
        ),
    ]
