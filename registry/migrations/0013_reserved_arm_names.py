"""No arm is called on or off. Those that are on record stay as they are, until somebody writes them anew."""

from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("registry", "0012_signing_keys")]
    operations = [
        AddConstraintNotValid(
            model_name="flagarm",
            constraint=models.CheckConstraint(
                condition=~Q(name__iregex=r"^\s*(on|off)\s*$"),
                name="arm_name_is_not_reserved",
            ),
        ),
    ]
