"""Inside vision transformers of every library: attention against the library's own, tokens that leave, what gradients say, planted truth."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests.models import vit_samples as samples
from tests.models.small import batch
from tests.models.vit_samples import ATTENDING, HF, sharpened, state

from visus.measures.attention import rollout as measured_rollout
from visus.models import attention as module
from visus.models import load_backbone
from visus.models.attention import attention, last_and_rollout, rollout
from visus.models.relevance import relevance
from visus.models.tokens import forward_kept
from visus.models.vit import vit_layout

make = samples.make


@pytest.mark.parametrize("name", ATTENDING)
def test_capturing_changes_nothing_and_rows_add_up_to_one(make, name: str) -> None:
    backbone = make(name)
    x, before = batch(backbone), state(backbone)
    fast = torch.backends.mha.get_fastpath_enabled()
    with torch.inference_mode():
        plain = backbone.output(x)
    inside = vit_layout(backbone)
    found = attention(backbone, x, layers=range(len(inside.blocks)), rows="all")
    assert torch.allclose(found.output, plain, atol=1e-5)
    tokens = inside.prefix + inside.patches
    for matrix in found.maps.values():
        assert matrix.shape == (3, inside.heads, tokens, tokens)
        assert torch.allclose(matrix.sum(-1), torch.ones(3, inside.heads, tokens), atol=1e-5)
    last = attention(backbone, x)
    assert list(last.maps) == [len(inside.blocks) - 1]
    whole = found.maps[len(inside.blocks) - 1]
    row = whole[:, :, inside.prefix :].mean(2) if inside.cls is None else whole[:, :, inside.cls]
    assert torch.allclose(next(iter(last.maps.values())), row[..., inside.prefix :], atol=1e-6)
    relevance(backbone, x)
    after = state(backbone)
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in backbone.module.modules())
    assert not any(p.requires_grad or p.grad is not None for p in backbone.module.parameters())
    assert torch.backends.mha.get_fastpath_enabled() == fast


@pytest.mark.parametrize("family", HF)
def test_it_is_the_attention_that_transformers_gives(make, hf_folder, family: str) -> None:
    backbone = make(f"hf:{family}")
    inner: Any = backbone.module.model
    x = batch(backbone)
    found = attention(backbone, x, layers=range(2), rows="all").maps
    inner.set_attn_implementation("eager")
    with torch.inference_mode():
        own = inner(pixel_values=x, output_attentions=True).attentions
    assert len(own) == 2
    for layer, matrix in enumerate(own):
        assert torch.allclose(found[layer], matrix, atol=1e-5)
    eager = attention(backbone, x, layers=range(2), rows="all").maps
    assert all(torch.allclose(eager[k], found[k], atol=1e-5) for k in found)


@pytest.mark.parametrize("name", ATTENDING)
def test_attention_times_values_in_the_librarys_own_block_gives_its_output(make, name: str) -> None:
    backbone = make(name)
    x, inside = batch(backbone), vit_layout(backbone)
    with torch.inference_mode():
        plain = backbone.output(x)
    tokens = inside.prefix + inside.patches

    def through(change: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """The forward, with `change` of our matrix in every block's attention in place of the library's own."""
        visit = lambda number, met: change(met.rows(slice(None)))  # noqa: E731
        with (
            torch.inference_mode(),
            module.capture_attention(backbone, inside.blocks, visit, range(len(inside.blocks)), tokens),
        ):
            return backbone.output(x)

    assert torch.allclose(through(lambda matrix: matrix), plain, atol=1e-5)
    uniform = through(lambda matrix: torch.full_like(matrix, 1 / tokens))
    assert (uniform - plain).norm() > 1e-2 * plain.norm()  # so the matrix is really what the block goes on with


@pytest.mark.parametrize("name", ATTENDING)
def test_one_pass_gives_the_last_layer_and_the_rollout(make, name: str) -> None:
    backbone = make(name)
    x, depth = batch(backbone), len(vit_layout(backbone).blocks)
    last, rolled = last_and_rollout(backbone, x)
    assert torch.equal(last, attention(backbone, x, layers=[depth - 1]).maps[depth - 1].mean(dim=1))
    matrices = attention(backbone, x, layers=range(depth), rows="all").maps
    whole = measured_rollout([matrices[k].numpy() for k in range(depth)])
    inside = vit_layout(backbone)
    row = whole[:, inside.place].mean(axis=1) if inside.cls is None else whole[:, inside.cls]
    np.testing.assert_allclose(rolled.numpy(), row[:, inside.place], atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(48, 32), (24, 64)])
def test_a_transformer_of_dynamic_size_takes_pictures_of_another_shape(timm_folder, height: int, width: int) -> None:
    folder, _ = timm_folder("dynamic")
    config = json.loads((folder / "config.json").read_text())
    config["pretrained_cfg"]["input_size"] = [3, height, width]
    (folder / "config.json").write_text(json.dumps(config))
    backbone = sharpened(load_backbone(str(folder)))
    inside = vit_layout(backbone)
    assert inside.grid == (height // 8, width // 8)
    x = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        plain = backbone.output(x)
    assert torch.allclose(attention(backbone, x).output, plain, atol=1e-5)
    assert rollout(backbone, x).shape == relevance(backbone, x).shape == (2, inside.patches)
    every = torch.arange(inside.patches).expand(2, -1)
    assert torch.allclose(forward_kept(backbone, x, every), plain, atol=1e-6)


@pytest.mark.parametrize("family", ["vit", "deit", "registers", "tall", "dynamic", "qk_norm"])
def test_it_is_the_attention_that_timm_computes_unfused_and_gives_the_blocks_output(make, family: str) -> None:
    backbone = make(f"timm:{family}")
    x, blocks = batch(backbone), backbone.module.model.blocks
    attention(backbone, x)  # looks at the layout once, with a picture of its own
    given: list[Any] = []
    gave: list[Any] = []

    def note(m: Any, arguments: Any, out: Any) -> None:
        given.append(arguments[0])
        gave.append(out)

    handles = [b.attn.register_forward_hook(note) for b in blocks]
    found = attention(backbone, x, layers=range(len(blocks)), rows="all").maps
    for handle in handles:
        handle.remove()
    for layer, block in enumerate(blocks):
        a, y = block.attn, given[layer]
        b, n, c = y.shape
        q, k, v = a.qkv(y).reshape(b, n, 3, a.num_heads, c // a.num_heads).permute(2, 0, 3, 1, 4)
        by_hand = ((a.q_norm(q) * a.scale) @ a.k_norm(k).transpose(-2, -1)).softmax(-1)
        assert torch.allclose(found[layer], by_hand, atol=1e-5)
        assert torch.allclose(a.proj((found[layer] @ v).transpose(1, 2).reshape(b, n, c)), gave[layer], atol=1e-5)
        block.attn.fused_attn = False
    unfused = attention(backbone, x, layers=range(len(blocks)), rows="all").maps
    assert all(torch.allclose(unfused[k], found[k], atol=1e-5) for k in found)


@pytest.mark.parametrize("name", ["torchvision:vit", "openclip"])
def test_it_is_the_attention_of_torchs_own_module(make, name: str) -> None:
    backbone = make(name)
    x = batch(backbone)
    attention(backbone, x)
    modules = [m for m in backbone.module.modules() if isinstance(m, torch.nn.MultiheadAttention)]
    given: list[Any] = []

    def note(m: Any, arguments: Any, kwargs: Any, out: Any) -> None:
        q, k, v = [*arguments, *(kwargs[n] for n in ("query", "key", "value") if n in kwargs)][:3]
        given.append((q, k, v, out[0]))

    handles = [m.register_forward_hook(note, with_kwargs=True) for m in modules]
    found = attention(backbone, x, layers=range(len(modules)), rows="all").maps
    for handle in handles:
        handle.remove()
    assert len(modules) == 2
    for layer, m in enumerate(modules):
        q, k, v, out = given[layer]
        with torch.inference_mode():
            same, weights = m(q, k, v, need_weights=True, average_attn_weights=False)
        assert torch.allclose(found[layer], weights, atol=1e-5)
        assert torch.allclose(same, out, atol=1e-5)


def test_only_what_is_asked_for_is_computed(make, monkeypatch) -> None:
    backbone = make("timm:vit")
    asked: list[tuple[int, ...]] = []
    rows = module.AttentionCall.rows
    monkeypatch.setattr(
        module.AttentionCall, "rows", lambda self, which: asked.append(tuple((r := rows(self, which)).shape)) or r
    )
    vit_layout(backbone)
    asked.clear()
    attention(backbone, batch(backbone))
    assert asked == [(3, 2, 1, 17)]
