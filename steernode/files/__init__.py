"""What people upload and what is hashed: base models, contrast sets, eval suites, vector files. Read strictly, without torch."""
