"""Fixtures that studies borrow: small models on disk."""

from tests.models.conftest import hf_folder, timm_folder  # noqa: F401
