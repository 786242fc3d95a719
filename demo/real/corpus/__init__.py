"""What the story on a pretrained model is played with: texts put together from the hand-written inventories beside this file.

Everything is drawn by seeded generators, so the same code always gives the same bytes. `python -m demo.real.corpus` writes
`demo/real/data/`, but for the rubric of empathy, whose labels were given by reading.
"""
