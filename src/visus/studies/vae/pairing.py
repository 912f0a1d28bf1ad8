"""VAEs in pairs, on the same test images: each pair is resampled once, whoever tells of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from visus.measures.compare import PairedDifference, paired_bootstrap
from visus.studies.vae.evaluation import VaeEvaluation


@dataclass(frozen=True)
class VaeComparison:
    """a - b on the same test images, in nats per image, with 95 % paired bootstrap intervals: negative ELBO, log-likelihood. comparable:
    whether both have the same likelihood. more_active: active dimensions that a has more than b."""

    a: str
    b: str
    negative_elbo: PairedDifference
    log_likelihood: PairedDifference
    comparable: bool
    more_active: int

    @property
    def better(self) -> bool:
        """Whether the negative ELBO of a is lower, beyond chance, under the same likelihood."""
        return self.comparable and self.negative_elbo.high < 0


class Comparisons:
    """Remembers every pair that was compared."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], VaeComparison] = {}

    def of(self, a: VaeEvaluation, b: VaeEvaluation) -> VaeComparison:
        """a against b; the seed is a's."""
        if (a.name, b.name) not in self._found:
            self._found[a.name, b.name] = compare_vaes(a, b)
        return self._found[a.name, b.name]

    def helping(self, e: VaeEvaluation, evaluations: Sequence[VaeEvaluation]) -> str:
        """The first VAE with warm-up or free bits that is better than `e`; '' where none is."""
        return next((s.name for s in evaluations if s.model.softened and s is not e and self.of(s, e).better), "")


def compare_vaes(a: VaeEvaluation, b: VaeEvaluation) -> VaeComparison:
    """Both sides of the ELBO together, and the likelihood, image by image."""
    totals = (a.bounds.reconstruction + a.bounds.kl, b.bounds.reconstruction + b.bounds.kl)
    return VaeComparison(
        a=a.name,
        b=b.name,
        negative_elbo=paired_bootstrap(*totals, seed=a.seed),
        log_likelihood=paired_bootstrap(a.likelihood.per_image, b.likelihood.per_image, seed=a.seed),
        comparable=a.vae.decoder == b.vae.decoder,
        more_active=a.n_active - b.n_active,
    )
