"""Names that nothing of ours uses and something else does: read by vulture (tools/house.py), never run."""

from typing import Any

_: Any = ...

# Python, inspect and the command line read them.
_.__signature__, _.__annotations__, _.__getattr__, _.__dir__, _.__class__
# numpy, scipy and PyTorch.
_.writeable, _.random_state, _.mask_ratio
# Rich, Pillow, pickle, tokenizers, transformers' image processors.
_.on_broken_pipe, _._mode, _.persistent_load, _.find_class, _.pre_tokenizer, _.post_processor, _.do_convert_rgb
# Lightning Fabric asks its strategy and its environment.
(
    _.setup_module,
    _.creates_processes_externally,
    _.main_address,
    _.main_port,
    _.detect,
    _.set_world_size,
    _.set_global_rank,
)
_.local_rank, _.node_rank
