"""Write demo/data/."""

from demo.corpus.files import write_data

write_data()
