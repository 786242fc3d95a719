"""Write demo/real/data/."""

from demo.real.corpus.files import write_data

write_data()
