"""Transitions: the only code that changes state. What one is and does at its end is in `transition`.

Most files are a noun, and hold every change of its records; `tenants` holds those of environments too, and jobs are asked for in
`job_requests`. Some are a process that goes through several nouns: `base_model_moves`, `chains`, `invalidation`, `results`, `reviews`. The
rest is asked by the others: `components`, `demands`, `gate_demands` and `recipes` what may be written, `versions` and `idempotency` what
number is next and what was answered before.
"""
