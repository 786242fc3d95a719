"""Activation steering for serving nodes: contracts, trust and a client without torch; the engine lives in `steernode.engine`."""

__version__ = "0.1.0"
