"""Random walks over the registry: everybody does anything in any order, and each step is foretold by `tests.support.governance`."""
