"""The signed document that nodes pull, whole: its records, its readers, whether to believe it, and what a request gets from it."""
