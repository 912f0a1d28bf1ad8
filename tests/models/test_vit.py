"""Inside vision transformers of every library: attention against the library's own, tokens that leave, what gradients say, planted truth."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.small import batch, reader_of_one_patch, torchvision
from torch.nn import functional

from visus.errors import DataError, SpecError
from visus.measures import attention as defined
from visus.models import Backbone, load_backbone
from visus.models import attention as module
from visus.models.attention import attention, rollout, statistics
from visus.models.relevance import grad_cam, relevance
from visus.models.tokens import forward_kept, outlier_tokens
from visus.models.vit import vit_layout

TIMM = ("vit", "vit_gap", "deit", "registers", "siglip", "tall", "rope", "rope_mixed", "dynamic", "qk_norm")
SHIPPED = ("visus:emoji-vit", "visus:emoji-clip")
HF = ("vit", "vit_plain", "deit", "dinov2", "dinov2_head", "registers", "clip", "siglip")
ALL = [*(f"timm:{f}" for f in TIMM), *(f"hf:{f}" for f in HF), "torchvision:vit", "openclip", *SHIPPED]
ATTENDING = [*ALL, "timm:beit"]  # its bias for every pair of patches keeps tokens from leaving


@pytest.fixture
def make(timm_folder, hf_folder, openclip_folder) -> Callable[[str], Backbone]:
    """'timm:vit' -> a small random model, written to disk and loaded by the public route."""

    def one(name: str) -> Backbone:
        library, _, family = name.partition(":")
        if library == "visus":
            return load_backbone(name)
        return sharpened(load(library, family))

    def load(library: str, family: str) -> Backbone:
        if library == "torchvision":
            made = torchvision(family)
            torch.nn.init.normal_(
                made.module.model.heads.head.weight, generator=torch.Generator().manual_seed(0)
            )  # torchvision's starts at zero
            return made
        if library == "openclip":
            return load_backbone(str(openclip_folder[0]))
        return load_backbone(str((timm_folder if library == "timm" else hf_folder)(family)[0]))

    return one


def sharpened(backbone: Backbone) -> Backbone:
    """Weights large enough for attention to choose: as libraries start them it is all but uniform, and any matrix would pass."""
    with torch.no_grad():
        for name, p in backbone.module.named_parameters():
            if p.ndim == 2 and p.std() < 0.05:
                p.mul_(4)
            if name.endswith(
                (".gamma", ".gamma_1", ".gamma_2", ".lambda1")
            ):  # LayerScale starts so small that no block says anything
                p.fill_(0.5)
    return backbone


def state(backbone: Backbone) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in backbone.module.state_dict().items()}


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


@pytest.mark.parametrize("name", ["timm:vit", "timm:vit_gap", "hf:registers"])
def test_rollout_and_statistics_are_their_definitions(make, name: str) -> None:
    backbone = make(name)
    x, inside = batch(backbone), vit_layout(backbone)
    maps = attention(backbone, x, layers=range(len(inside.blocks)), rows="all").maps
    layers = [maps[k].numpy() for k in sorted(maps)]
    whole = defined.rollout(layers)
    row = whole[:, inside.prefix :].mean(1) if inside.cls is None else whole[:, inside.cls]
    assert np.allclose(rollout(backbone, x).numpy(), row[:, inside.prefix :], atol=1e-6)
    entropy, distance = statistics(backbone, x)
    for k, layer in enumerate(layers):
        looks = layer[:, :, inside.prefix :].mean(2) if inside.cls is None else layer[:, :, inside.cls]
        assert np.allclose(entropy[:, k].numpy(), defined.entropy(looks[..., inside.prefix :]), atol=1e-5)
        among = layer[:, :, inside.prefix :, inside.prefix :]
        assert np.allclose(distance[:, k].numpy(), defined.mean_distance(among, inside.grid, inside.patch), atol=1e-4)


@pytest.mark.parametrize("name", ALL)
def test_all_patches_kept_is_the_plain_forward_and_fewer_are_another(make, name: str) -> None:
    backbone = make(name)
    x, inside = batch(backbone), vit_layout(backbone)
    with torch.inference_mode():
        plain = backbone.output(x)
    every = torch.arange(inside.patches).expand(3, -1)
    assert torch.allclose(forward_kept(backbone, x, every), plain, atol=1e-6)
    some = torch.stack(
        [torch.randperm(inside.patches, generator=torch.Generator().manual_seed(i))[:5] for i in range(3)]
    )
    fewer = forward_kept(backbone, x, some.sort(dim=1).values)
    assert fewer.shape == plain.shape
    assert (fewer - plain).norm() > 1e-3 * plain.norm()
    # Each picture has its own choice: one by one they are the same.
    alone = torch.cat([forward_kept(backbone, x[i : i + 1], some[i : i + 1].sort().values) for i in range(3)])
    assert torch.allclose(fewer, alone, atol=1e-5)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in backbone.module.modules())


def test_dropped_tokens_are_those_taken_out_by_hand(make) -> None:
    backbone = make("timm:vit")
    vit: Any = backbone.module.model
    x, kept = batch(backbone), torch.tensor([[0, 3, 9], [1, 2, 15], [4, 5, 6]])
    with torch.inference_mode():
        tokens = vit._pos_embed(vit.patch_embed(x))
        by_hand = torch.stack([tokens[i, [0, *(kept[i] + 1)]] for i in range(3)])
        expected = vit.forward_head(vit.norm(vit.blocks(by_hand)))
    assert torch.allclose(forward_kept(backbone, x, kept), expected, atol=1e-6)


@pytest.mark.parametrize("family", ["rope", "rope_mixed"])
def test_rope_turns_every_kept_patch_as_in_the_whole(make, family: str) -> None:
    backbone = make(f"timm:{family}")
    model: Any = backbone.module.model
    x, kept = batch(backbone, 1), torch.tensor([[2, 7, 11]])
    with torch.inference_mode():
        tokens, rope = model._pos_embed(model.patch_embed(x))
        y = tokens[:, [0, 3, 8, 12]]
        for layer, block in enumerate(model.blocks):
            y = block(y, rope=rope[kept[0]] if family == "rope" else rope[layer][:, kept[0]])
        expected = model.forward_head(model.norm(y))
    assert torch.allclose(forward_kept(backbone, x, kept), expected, atol=1e-5)


def test_relevance_is_a_slow_run_of_its_definition(make) -> None:
    backbone = make("timm:vit")
    vit: Any = backbone.module.model
    x = batch(backbone, 2)
    for i in range(2):
        y, matrices = vit._pos_embed(vit.patch_embed(x[i : i + 1])), []
        for block in vit.blocks:
            a = block.attn
            q, k, v = a.qkv(block.norm1(y)).reshape(1, 17, 3, 2, 16).permute(2, 0, 3, 1, 4)
            weights = (
                (q @ k.transpose(-2, -1) * a.scale).softmax(-1).detach()
                if not matrices
                else (q @ k.transpose(-2, -1) * a.scale).softmax(-1)
            )
            if not matrices:
                weights.requires_grad_()
            matrices.append(weights)
            y = y + block.ls1(a.proj((weights @ v).transpose(1, 2).reshape(1, 17, 32)))
            y = y + block.ls2(block.mlp(block.norm2(y)))
        logit = vit.forward_head(vit.norm(y))[0].max()
        total = torch.eye(17)
        for weights, gradient in zip(matrices, torch.autograd.grad(logit, matrices), strict=True):
            weighted = torch.stack([functional.relu(g * w) for g, w in zip(gradient[0], weights[0], strict=True)]).mean(
                0
            )
            total = total + weighted @ total
        assert torch.allclose(relevance(backbone, x)[i], total[0, 1:].detach(), atol=1e-6)


def test_a_transformer_that_reads_one_patch_is_seen_to_read_it(make) -> None:
    backbone = make("timm:vit")
    patch = 6
    reader_of_one_patch(backbone, patch)
    x = batch(backbone, 4) * 0.1
    x[:, :, 8:16, 16:24] += 3.0
    for found in (
        attention(backbone, x).maps[2].mean(1),
        rollout(backbone, x),
        relevance(backbone, x, torch.zeros(4, dtype=torch.long)),
    ):
        assert found.argmax(1).tolist() == [patch] * 4
    with torch.inference_mode():
        plain = backbone.output(x)[:, 0]
    alone = forward_kept(backbone, x, torch.full((4, 1), patch))[:, 0]
    without = forward_kept(backbone, x, torch.tensor([[i for i in range(16) if i != patch]] * 4))[:, 0]
    assert torch.allclose(alone, plain, atol=0.05 * float(plain.abs().mean()))
    assert ((without - plain).abs() > plain.abs()).all()


def test_tokens_with_names_and_grids_that_are_not_square(make) -> None:
    assert vit_layout(make("timm:deit")).extra == ("cls", "distillation")
    assert vit_layout(make("timm:registers")).extra == ("cls", *(f"register {k}" for k in range(1, 5)))
    assert vit_layout(make("hf:registers")).extra == ("cls", "register 1", "register 2", "register 3")
    assert vit_layout(make("timm:siglip")).cls is None
    tall = vit_layout(make("timm:tall"))
    assert (tall.grid, tall.patch, tall.patches) == ((6, 4), (8, 8), 24)


def test_a_token_with_a_huge_norm_is_an_outlier(make) -> None:
    backbone = make("timm:vit")
    vit: Any = backbone.module.model
    x = batch(backbone, 2)
    assert not outlier_tokens(backbone, x).any()
    with torch.no_grad():
        vit.pos_embed[0, 1 + 5] *= 1e4
    assert outlier_tokens(backbone, x).nonzero().tolist() == [[0, 5], [1, 5]]


def test_patches_cannot_leave_a_transformer_with_a_bias_for_every_pair(make) -> None:
    backbone = make("timm:beit")
    x = batch(backbone)
    with torch.inference_mode():
        plain = backbone.output(x)
    assert torch.allclose(forward_kept(backbone, x, torch.arange(16).expand(3, -1)), plain, atol=1e-6)
    with pytest.raises(SpecError, match="use blanked pixels"):
        forward_kept(backbone, x, torch.arange(9).expand(3, -1))


@pytest.mark.parametrize("name", ["resnet", "convnext", "swin", "mixer", "cait", "parallel"])
def test_other_networks_are_refused_with_the_study_that_fits(make, name: str) -> None:
    with pytest.raises(SpecError, match="visus transfer"):
        vit_layout(make(f"timm:{name}"))


def test_bad_requests_are_told(make) -> None:
    backbone = make("timm:vit")
    x = batch(backbone)
    with pytest.raises(DataError, match="layer 9"):
        attention(backbone, x, layers=[9])
    with pytest.raises(DataError, match="at least 1"):
        forward_kept(backbone, x, torch.zeros(3, 0, dtype=torch.long))
    with pytest.raises(DataError, match=r"0\.\.15"):
        forward_kept(backbone, x, torch.full((3, 1), 16))

    tiny = replace(backbone, preprocess=replace(backbone.preprocess, size=(4, 4)))
    with pytest.raises(DataError, match="smaller than a patch"):
        vit_layout(tiny)


@pytest.mark.parametrize("family", ["resnet", "convnext", "swin"])
def test_grad_cam_is_the_weighted_sum_of_the_last_maps(make, family: str) -> None:
    backbone = make(f"timm:{family}")
    backbone.preprocess = type(backbone.preprocess)(
        **{**backbone.preprocess.__dict__, "size": (32, 32) if family == "swin" else (64, 64)}
    )
    x, model = batch(backbone, 2), backbone.module.model
    found = grad_cam(backbone, x, torch.tensor([1, 2]))
    features = model.forward_features(x)
    if family == "swin":
        features = model.layers(model.patch_embed(x))
    features = features.detach().requires_grad_()
    logits = model.forward_head(model.norm(features) if family == "swin" else features)
    gradient = torch.autograd.grad(logits[0, 1] + logits[1, 2], features)[0]
    axes = (1, 2) if family == "swin" else (2, 3)
    weights = gradient.mean(dim=axes, keepdim=True)
    expected = functional.relu((weights * features.detach()).sum(dim=3 if family == "swin" else 1))
    assert torch.allclose(found, expected, atol=1e-5)
    assert not any(p.requires_grad for p in backbone.module.parameters())
