"""One file of weights with `?arch=`: what is in it, into the architecture that is named, at the sizes that its tensors have."""

from __future__ import annotations

from pathlib import Path

from visus.errors import DataError, SpecError
from visus.models.base import Backbone
from visus.models.checkpoint import Contents, opened
from visus.models.families import FILES, opener
from visus.progress import note
from visus.spec import Spec, check_options, parse_spec

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".tar", ".ckpt")
OPTIONS = ("arch", "key", "img_size", "num_heads")


def load_file(spec: Spec, path: Path) -> Backbone:
    """The backbone whose weights lie in a file. Raises SpecError for a missing ?arch=, DataError for weights that do not fit."""
    check_options(spec, OPTIONS)
    if not (path.suffix in SUFFIXES or path.name.endswith(".index.json") or _is_torchs(path)):
        raise DataError(f"{path} is no checkpoint that visus reads; it reads {', '.join(SUFFIXES)} and folders")
    contents = opened(path)
    arch = architecture_of(spec, path, contents)
    found: Backbone = opener(FILES, arch.scheme)(spec, arch, contents)
    return found


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
        import timm  # a second and more, and files whose architecture is given may be of another library

        if isinstance(said, str) and timm.is_model(said) and "version" in contents.rest:
            note(f"{path.name}: architecture timm:{said}, as the file says")
            return Spec("timm", said, None, {}, f"timm:{said}")
        hint = f"; the file calls it {said!r}" if isinstance(said, str) else ""
        raise SpecError(
            f"{path} holds weights alone; name the architecture: {path}?arch=timm:NAME, ?arch=torchvision:NAME or ?arch=openclip:NAME{hint}"
        )
    found = parse_spec(arch, FILES, revisions=("openclip", "torchvision"))
    return found if found.scheme else Spec("timm", found.name, None, {}, arch)
