"""Celery tasks: claim the job, call the engine, call a service. Nothing else."""
