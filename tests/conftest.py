"""Whoever tests the hub shares one cast and one sealed world. The tests of the node package run where there is no Django too."""

from importlib.util import find_spec

pytest_plugins = ["tests.support.architectures", *(["tests.support.cast"] if find_spec("django") else [])]
