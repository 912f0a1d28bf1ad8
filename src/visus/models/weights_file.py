"""One file of weights with `?arch=`: what is in it, into the architecture that is named, at the sizes that its tensors have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from visus.errors import DataError, SpecError
from visus.models.assemble import last_linear
from visus.models.base import Backbone
from visus.models.checkpoint import Chosen, Contents, choose, opened, take_chosen
from visus.models.heads import names_of, said
from visus.models.preprocess import checked_channels
from visus.progress import note
from visus.spec import Spec, check_options, parse_spec, unknown

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".tar", ".ckpt")
OPTIONS = ("arch", "key", "img_size", "num_heads")
LIBRARIES = ("timm", "torchvision", "openclip")


def load_file(spec: Spec, path: Path) -> Backbone:
    """The backbone whose weights lie in a file. Raises SpecError for a missing ?arch=, DataError for weights that do not fit."""
    check_options(spec, OPTIONS)
    if not (path.suffix in SUFFIXES or path.name.endswith(".index.json") or _is_torchs(path)):
        raise DataError(f"{path} is no checkpoint that visus reads; it reads {', '.join(SUFFIXES)} and folders")
    contents = opened(path)
    arch = architecture_of(spec, path, contents)
    if arch.scheme == "openclip":
        from visus.models import from_openclip

        return from_openclip.wrap(from_openclip.open_file(arch, contents, spec), spec.text)
    if arch.scheme == "torchvision":
        return _torchvision(spec, arch, contents)
    return _timm(spec, arch, contents)


def _is_torchs(path: Path) -> bool:
    """Whether a file of any other name is one that torch.save wrote, by its first bytes: an archive, or a pickle of the older kind."""
    with path.open("rb") as file:
        head = file.read(2)
    return head in (b"PK", b"\x80\x02")


def architecture_of(spec: Spec, path: Path, contents: Contents) -> Spec:
    """What ?arch= names; where it is not given, what timm's own training wrote into the file."""
    arch = spec.options.get("arch")
    said = contents.rest.get("arch")
    if arch is None:
        import timm

        if isinstance(said, str) and timm.is_model(said) and "version" in contents.rest:
            note(f"{path.name}: architecture timm:{said}, as the file says")
            return Spec("timm", said, None, {}, f"timm:{said}")
        hint = f"; the file calls it {said!r}" if isinstance(said, str) else ""
        raise SpecError(
            f"{path} holds weights alone; name the architecture: {path}?arch=timm:NAME, ?arch=torchvision:NAME or ?arch=openclip:NAME{hint}"
        )
    found = parse_spec(arch, LIBRARIES, revisions=("openclip", "torchvision"))
    return found if found.scheme else Spec("timm", found.name, None, {}, arch)


def _timm(spec: Spec, arch: Spec, contents: Contents) -> Backbone:
    from visus.models import from_timm
    from visus.models.sizes import settings, template

    from_timm.architecture(arch.name)
    what = f"{contents.file} into timm:{arch.name}"
    names = template(arch.name)
    # Names that the architecture has at other depths, so that a deeper or a headless one is found whole.
    chosen = choose(contents, names, key=spec.options.get("key"), what=what)
    chosen = _renamed(arch.name, chosen, names, spec.options)
    kwargs = settings(arch.name, chosen.tensors, spec.options)
    checked_channels(int(kwargs.get("in_chans", 3)), str(contents.file))
    model = from_timm.create(arch.name, **kwargs)
    take_chosen(model, chosen, contents, what=what)
    from_timm.trained_with(model, contents.rest.get("args"))
    return from_timm.wrap(model, spec.text, labels=())  # whose classes they are, the file does not say


def _renamed(name: str, chosen: Chosen, names: Mapping[str, torch.Tensor], options: Mapping[str, str]) -> Chosen:
    """Weights of the original authors under timm's names, where timm's own filter knows them."""
    from visus.models import from_timm
    from visus.models.sizes import converted, settings

    def covered(tensors: Mapping[str, torch.Tensor]) -> int:
        return sum(k in tensors for k in names)

    if covered(chosen.tensors) == len(names):
        return chosen
    for sized in (False, True):
        try:
            model = from_timm.create(name, **(settings(name, chosen.tensors, options) if sized else {}))
        except (SpecError, DataError):
            continue
        found = converted(model, chosen.tensors)
        if found is None or covered(found) <= covered(chosen.tensors):
            continue
        known = {k: v.shape for k, v in chosen.tensors.items() if k != "pos_embed"}
        if not any(k in known and v.shape != known[k] for k, v in found.items()) and _as_long(found, chosen.tensors):
            return replace(chosen, tensors=found)
    return chosen


def _as_long(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    """Whether the positional embeddings are of as many patches (the class token's place may have gone): renamed, not resampled."""
    if "pos_embed" not in a or "pos_embed" not in b:
        return True
    return abs(int(a["pos_embed"].shape[1]) - int(b["pos_embed"].shape[1])) <= 1


def _torchvision(spec: Spec, arch: Spec, contents: Contents) -> Backbone:
    from torchvision import models

    from visus.models import from_torchvision

    name = arch.name.lower()
    if name not in models.list_models(module=models):
        raise unknown("torchvision model", arch.name, models.list_models(module=models))
    what = f"{contents.file} into torchvision:{name}"
    renamed = {place: from_torchvision.renamed(name, dict(t)) for place, t in contents.states.items()}
    contents = replace(contents, states=renamed)
    usual = from_torchvision.create(name)
    chosen = choose(contents, usual.state_dict(), key=spec.options.get("key"), what=what)
    model, classes = from_torchvision.sized(usual, name, chosen.tensors, what=str(contents.file))
    tensors = dict(chosen.tensors)
    if not classes:  # features alone: the classifier that the architecture ends with is left at zero and never asked
        tensors |= {
            k: torch.zeros_like(v)
            for k, v in model.state_dict().items()
            if k not in tensors and from_torchvision.in_head(model, k)
        }
    aside = None if classes else last_linear(model)
    take_chosen(model, replace(chosen, tensors=tensors), contents, what=what, aside=aside)
    weights: Any = models.get_model_weights(name).DEFAULT
    if arch.revision and arch.revision != "DEFAULT":
        choices = {w.name: w for w in models.get_model_weights(name)}
        if arch.revision not in choices:
            raise unknown(f"weights of {name}:", arch.revision, choices)
        weights = choices[arch.revision]
    names = names_of(classes, None, spec=spec.text) if classes else None
    backbone = from_torchvision.wrap(model, spec.text, weights, random=False, labels=names or ())
    if classes == 1:
        said("classes", 1, spec=spec.text, declared=False)
        trunk: Any = backbone.module
        trunk.binary = True
    return replace(backbone, labels=names)
