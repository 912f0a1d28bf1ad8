"""Torch files read without executing anything: plain values beside the tensors are allowed by name, TorchScript archives give their tensors."""

from __future__ import annotations

import argparse
import builtins
import collections
import datetime
import pathlib
import pickle
import types
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from visus.errors import DataError
from visus.models.hub import first_line


class Inert:
    """Stands for an object of a settings library: it keeps what the file says of it and does nothing."""

    def __new__(cls, *args: object, **kwargs: object) -> Inert:
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.args = args

    def __setstate__(self, state: object) -> None:
        self.state = state


# Settings of training scripts: dictionaries of these libraries are read as dictionaries. Other objects of theirs, and what Lightning's
# hyper-parameters hold of torch itself (losses, layers, optimisers), are inert: no tensor in them counts as a weight.
DICTIONARIES = ("AttributeDict", "EasyDict", "ConfigDict", "CfgNode", "AttrDict", "Munch", "Box", "dotdict", "edict")
SETTINGS = ("omegaconf.", "hydra.", "pytorch_lightning.", "lightning.", "lightning_fabric.", "lightning_utilities.", "mmengine.config.",
            "mmcv.utils.config.", "mmengine.logging.", "easydict.", "yacs.config.", "ml_collections.", "addict.", "munch.", "typing.Any")  # fmt: skip
OBJECTS = ("torch.nn.", "torch.optim.", "torchmetrics.", "torchvision.", "timm.", "transformers.", "functools.partial")


def plain() -> list[Any]:
    """What may stand in a checkpoint beside tensors: types that hold values and run no code when they are read."""
    found: list[Any] = [argparse.Namespace, types.SimpleNamespace, np.dtype, np.ndarray, datetime.datetime, datetime.date,
                        datetime.timedelta, datetime.timezone, builtins.set, builtins.frozenset, builtins.slice,
                        builtins.complex, builtins.bytearray, builtins.range, collections.defaultdict, collections.deque,
                        builtins.list, builtins.dict, builtins.tuple, builtins.int, builtins.float, builtins.str, builtins.bool,
                        builtins.bytes, pathlib.PurePosixPath, pathlib.PureWindowsPath, torch.torch_version.TorchVersion]  # fmt: skip
    found += [getattr(np.dtypes, name) for name in np.dtypes.__all__]
    found += [kind for kind in set(np.sctypeDict.values()) if kind is not np.object_]
    multiarray: Any = np._core.multiarray  # type: ignore[attr-defined]
    for home in ("numpy._core.multiarray", "numpy.core.multiarray"):  # numpy 2's and 1's names
        found += [(multiarray.scalar, f"{home}.scalar"), (multiarray._reconstruct, f"{home}._reconstruct")]
    for home in ("pathlib", "pathlib._local"):  # a path of another system is read as well
        found += [(pathlib.PurePosixPath, f"{home}.PosixPath"), (pathlib.PureWindowsPath, f"{home}.WindowsPath")]
    return found


def content(file: Path) -> Any:
    """What torch.save wrote to `file`: tensors on the CPU, and plain values.

    Raises DataError, naming what was found, for a file that holds code (a whole pickled model, any other class) or is damaged.
    """
    try:
        if _is_script(file):
            return script_tensors(file)
        with safe_globals([*plain(), *_inert(file)]):
            return torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, AttributeError, TypeError) as error:
        raise DataError(f"{file} is not loaded: {_reason(file, error)}") from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, IndexError, zipfile.BadZipFile) as error:
        raise DataError(f"{file} cannot be read as a checkpoint: {first_line(error)}") from error


def _foreign(file: Path) -> list[str]:
    """Names of classes and functions in a checkpoint that are not allowed in it; [] for a format that does not tell."""
    try:
        with safe_globals(plain()):
            return sorted(get_unsafe_globals_in_checkpoint(str(file)))
    except (
        ValueError,
        RuntimeError,
        OSError,
        pickle.UnpicklingError,
        IndexError,
        KeyError,
        EOFError,
        zipfile.BadZipFile,
    ):
        return []


def _inert(file: Path) -> list[tuple[type, str]]:
    return [
        (collections.OrderedDict if name.rpartition(".")[2] in DICTIONARIES else Inert, name)
        for name in _foreign(file)
        if name.startswith((*SETTINGS, *OBJECTS))
    ]


def no_weights(file: Path) -> DataError:
    """The error for a file that was read and holds no tensors by name: perhaps a whole pickled model, whose objects are inert."""
    if any(name.startswith(OBJECTS) for name in _foreign(file)):
        return DataError(f"{file} is not loaded: {_reason(file, TypeError())}")
    return DataError(f"{file} holds no tensors by name; save a model's state_dict")


def _reason(file: Path, error: BaseException) -> str:
    foreign = [name for name in _foreign(file) if not name.startswith(SETTINGS)]
    strange = [name for name in foreign if not name.startswith(OBJECTS)]
    foreign = strange or foreign
    said = str(error)
    if not foreign and "Unsupported operand" in said:
        return "it was written with a pickle protocol that torch's safe reader does not know; save the state_dict as .safetensors"
    if not foreign and not any(
        word in said for word in ("Unsupported", "GLOBAL", "Weights only", "unrecognized function")
    ):
        return f"it is damaged: {first_line(error)}"
    named = f" ({', '.join(foreign[:3])}{', ...' if len(foreign) > 3 else ''})" if foreign else ""
    if any(name.startswith("ultralytics") for name in foreign):
        return (
            f"it holds Ultralytics' pickled classes{named}, which is refused; export the model with Ultralytics' own tools, "
            "or save model.model.state_dict() as .safetensors"
        )
    if foreign and not strange:
        return (
            f"it holds a whole pickled model{named}, and so code, which is refused; in a process that trusts it, "
            "save model.state_dict() instead, best as .safetensors"
        )
    return f"it holds more than tensors{named}, that is code, which is refused; save the state_dict alone, best as .safetensors"


def _is_script(file: Path) -> bool:
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


class _Scripted:
    """A module of a TorchScript archive: its attributes."""

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


class _Reader(pickle.Unpickler):
    """Reads the values of a TorchScript archive: tensors, containers, and its modules as bags of attributes. Nothing else, and no code."""

    def __init__(self, data: bytes, storage: Callable[[Any], Any]) -> None:
        super().__init__(BytesIO(data))
        self.storage = storage

    def persistent_load(self, pid: Any) -> Any:
        return self.storage(pid)

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return _Scripted
        allowed: dict[tuple[str, str], Any] = {
            ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
            ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch", "device"): torch.device,
            ("torch.jit._pickle", "build_intlist"): list,
            ("torch.jit._pickle", "build_doublelist"): list,
            ("torch.jit._pickle", "build_boollist"): list,
            ("torch.jit._pickle", "build_tensorlist"): list,
            ("torch.jit._pickle", "restore_type_tag"): lambda value, kind: value,
        }
        if (module, name) in allowed:
            return allowed[module, name]
        if module == "torch" and name.endswith("Storage"):
            return name
        raise pickle.UnpicklingError(f"GLOBAL {module}.{name} is not allowed in a TorchScript archive")


def script_tensors(file: Path) -> dict[str, torch.Tensor]:
    """Parameters and buffers of a TorchScript archive by name; its code is not run."""
    dtypes = {
        "FloatStorage": torch.float32, "HalfStorage": torch.float16, "BFloat16Storage": torch.bfloat16, "DoubleStorage": torch.float64,
        "LongStorage": torch.int64, "IntStorage": torch.int32, "ShortStorage": torch.int16, "CharStorage": torch.int8,
        "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
    }  # fmt: skip
    typed: Any = torch.storage.TypedStorage
    reader = torch._C.PyTorchFileReader(str(file))
    kept: dict[str, Any] = {}

    def storage(key: Any) -> Any:
        _, kind, name, _, size = key
        if name not in kept:
            dtype = dtypes[kind]
            raw: Any = reader.get_storage_from_record(f"data/{name}", size, dtype)
            kept[name] = typed(wrap_storage=raw._typed_storage()._untyped_storage, dtype=dtype, _internal=True)
        return kept[name]

    root = _Reader(reader.get_record("data.pkl"), storage).load()
    found: dict[str, torch.Tensor] = {}

    def walk(module: Any, prefix: str) -> None:
        for name, value in vars(module).items():
            if isinstance(value, torch.Tensor):
                found[f"{prefix}{name}"] = value.detach()
            elif isinstance(value, _Scripted):
                walk(value, f"{prefix}{name}.")

    walk(root, "")
    return found
