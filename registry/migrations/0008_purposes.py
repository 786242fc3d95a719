"""What a profile is for. Those made before there were purposes were all made to change a tone."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("registry", "0007_profiles_name_their_policy")]
    operations = [
        migrations.AddField(
            model_name='profile',
            name='purpose',
            field=models.CharField(choices=[('tone', 'Tone'), ('style', 'Style'), ('safety', 'Safety'), ('reasoning', 'Reasoning'), ('format', 'Format')], default='tone', max_length=10),
            preserve_default=False,
        ),
        migrations.AddConstraint(
            model_name='profile',
            constraint=models.CheckConstraint(condition=models.Q(('purpose__in', ['tone', 'style', 'safety', 'reasoning', 'format'])), name='profile_purpose_is_known'),
        ),
    ]
