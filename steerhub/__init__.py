"""The composition root: settings, urls, the ASGI entry point and the Celery application. Nobody imports it."""

from steerhub.celery import app as celery_app

__all__ = ["celery_app"]
