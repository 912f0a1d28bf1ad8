"""The study from its options to its result: inputs, sections, answer."""

from __future__ import annotations

from visus.device import choose_device
from visus.result import Result
from visus.studies.colours import baseline
from visus.studies.colours.inputs import load_coloured
from visus.studies.colours.options import Options
from visus.studies.common.section import section


def run(options: Options) -> Result:
    """Look at the colours, fit a probe on them, and say how far it comes."""
    images = load_coloured(options)
    measured = baseline.measure(images, device=choose_device(options.device), seed=options.seed)
    # One section a line, in the order of the page.
    sections = [
        section(baseline, measured),
    ]
    return Result(
        study="colours",
        title=f"What the mean colour tells about {images.imageset.name}",
        answer=baseline.answer(measured),
        headline=("mean-colour/probe/accuracy", "majority/accuracy"),
        sections=tuple(sections),
        warnings=[f"{q.id} was set aside: {q.reason}." for q in images.quarantine],
        provenance={
            "images": images.imageset.name,
            "images fingerprint": images.imageset.fingerprint,
            "seed": options.seed,
        },
        predictions=measured.predictions,
    )
