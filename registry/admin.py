"""Django looks for model admins here; they live with the rest of the console."""

from registry.console import registries  # noqa: F401  (importing registers them)
