"""Activation steering for serving nodes: contracts, trust and a client without torch; the engine lives in `steerkit.engine`."""

__version__ = "0.1.0"
