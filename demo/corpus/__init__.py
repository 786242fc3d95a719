"""The synthetic Harbor Support corpus.

Everything is drawn from the phrase inventories beside this file with seeded generators, so the same code
always gives the same bytes. `python -m demo.corpus` writes `demo/data/`; `demo/train_model.py` draws the
training dialogues.
"""
