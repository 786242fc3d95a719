"""Records of a job: the recipe that asks for it, the sweep it searched, the evidence it left. Frozen, and free of torch."""
