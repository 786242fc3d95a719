"""The Harbor Support story: the synthetic corpus, the reference model, its data and its manifests."""
