"""Two small trainings, made once for all files that look at them."""

from tests.studies.train.train_samples import clip, pictures, vit  # noqa: F401
