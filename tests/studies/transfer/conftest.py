"""A planted change of features, measured once for all files that look at it."""

from tests.studies.transfer.planted_change import found, images, scores, splits, states  # noqa: F401
