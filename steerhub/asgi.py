"""The web process: serving nodes are answered by the fleet application, everyone else by Django."""

import gc
import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "steerhub.settings")
django_application = get_asgi_application()

from registry.fleet.app import FleetApplication  # noqa: E402  (Django must be set up before its models are imported)
from steerhub.startup import refuse_wrong_settings  # noqa: E402

refuse_wrong_settings()
# What is kept of snapshots are a million small objects that live on. By default Python looks through all of them every dozen
# requests, for as long as three requests take. Looking less often through more of the young ones pauses for a third of one.
gc.freeze()
gc.set_threshold(10_000, 5, 50)
application = FleetApplication(fallback=django_application)
