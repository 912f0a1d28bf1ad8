"""visus measures what a vision model has learned."""

from __future__ import annotations

__version__ = "0.1.0"
