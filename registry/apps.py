"""The Django application of the registry."""

from contextlib import suppress
from pathlib import Path

from django.apps import AppConfig
from django.conf import settings

from steernode.errors import ModelError
from steernode.files.architectures import learn_architectures


class RegistryConfig(AppConfig):
    name = "registry"
    verbose_name = "Registry"

    def ready(self) -> None:
        from registry import checks  # noqa: F401  (registers the system checks)

        if settings.STEERHUB_ARCHITECTURES:
            # A process that must not start with a wrong file is told so by its checks; others, such as migrate, need none.
            with suppress(ModelError):
                learn_architectures(Path(settings.STEERHUB_ARCHITECTURES))
