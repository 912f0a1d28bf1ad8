"""A ConvVae's written-out passes against autograd's: the same terms, the same gradients, in every shape that the lab trains."""

from __future__ import annotations

import pytest
import torch

from visus.models.vae import ConvVae, Decoder, DecoderKind, VaeSizes, kl_terms, new_vae
from visus.training.devices import Devices, auto_precision, computed_in
from visus.training.vae import Network
from visus.training.vae_passes import CpuPasses

SHAPES = [
    VaeSizes(28, 28),
    VaeSizes(8, 8, latent=4, hidden=32, first=8),
    VaeSizes(13, 30, 3, latent=5, hidden=16, first=6),  # padded on one side, cropped again
    VaeSizes(40, 36, 2, latent=3, hidden=16, first=4),  # three levels
]


def network_of(sizes: VaeSizes, kind: DecoderKind = "gaussian") -> ConvVae:
    network = new_vae(sizes, Decoder(kind), seed=0).train().requires_grad_(requires_grad=True)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def terms_and_gradients(
    network: ConvVae, call: Network, x: torch.Tensor, noise: torch.Tensor
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    network.zero_grad(set_to_none=True)
    terms = call(x, noise)
    (2 * terms[0].mean() + 0.7 * kl_terms(*terms[1:]).mean(dim=0).sum()).backward()
    return [t.detach() for t in terms], [p.grad for p in network.parameters() if p.grad is not None]


def case(sizes: VaeSizes, n: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    x = torch.rand(n, sizes.height, sizes.width, sizes.channels, generator=draw).permute(0, 3, 1, 2)
    return x, torch.randn(n, sizes.latent, generator=draw)


@pytest.mark.parametrize("kind", ["gaussian", "learned-gaussian", "bernoulli"])
@pytest.mark.parametrize("sizes", SHAPES, ids=lambda s: f"{s.height}x{s.width}x{s.channels}")
def test_terms_and_gradients_are_those_of_autograd(sizes: VaeSizes, kind: DecoderKind) -> None:
    network = network_of(sizes, kind)
    expected, slow = terms_and_gradients(network, network, *case(sizes))
    found, fast = terms_and_gradients(network, CpuPasses(network), *case(sizes))
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert len(slow) == len(fast) == len(list(network.parameters()))
    for a, b in zip(slow, fast, strict=True):
        assert float((a - b).norm()) <= 1e-5 * float(a.norm())
        assert a.dtype == b.dtype == torch.float32


def test_in_bfloat16_they_are_near_and_weights_stay_as_they_were() -> None:
    network = network_of(SHAPES[0])
    before = [p.detach().clone() for p in network.parameters()]
    expected, slow = terms_and_gradients(network, network, *case(SHAPES[0], 64))
    found, fast = terms_and_gradients(network, CpuPasses(network, torch.bfloat16), *case(SHAPES[0], 64))
    torch.testing.assert_close(expected[0], found[0], rtol=5e-3, atol=0)
    for a, b in zip(slow, fast, strict=True):
        assert float(torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0)) > 0.99
        assert b.dtype == torch.float32
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_rounded_weights_follow_the_live_ones() -> None:
    network = network_of(SHAPES[1])
    passes, (x, noise) = CpuPasses(network, torch.bfloat16), case(SHAPES[1])
    first = passes(x, noise)[0]
    with torch.no_grad():
        for p in network.parameters():
            p.mul_(0.5)
    torch.testing.assert_close(passes(x, noise)[0], network(x, noise)[0], rtol=5e-3, atol=1e-2)
    assert not torch.allclose(first, passes(x, noise)[0])


def test_drawn_noise_is_that_of_the_network() -> None:
    network, (x, _) = network_of(SHAPES[1]), case(SHAPES[1])
    torch.manual_seed(3)
    expected = network(x)[0]
    torch.manual_seed(3)
    torch.testing.assert_close(CpuPasses(network)(x)[0], expected, rtol=1e-5, atol=1e-6)


def test_they_are_for_images_of_few_channels_on_a_cpu() -> None:
    assert CpuPasses.suits(network_of(SHAPES[1]), torch.device("cpu"))
    assert not CpuPasses.suits(network_of(SHAPES[1]), torch.device("cuda"))
    assert not CpuPasses.suits(new_vae(VaeSizes(8, 8, 5), Decoder(), seed=0), torch.device("cpu"))
    assert not CpuPasses.suits(torch.nn.Linear(2, 2), torch.device("cpu"))


@pytest.mark.parametrize(
    ("able", "kind", "expected"),
    [
        ({"amx_bf16": True}, "cpu", "bf16"),
        ({"avx512_bf16": True, "amx_bf16": False}, "cpu", "bf16"),
        ({"avx2": True}, "cpu", "fp32"),
        ({"amx_bf16": True}, "cuda:0", "fp32"),
    ],
)
def test_auto_takes_bfloat16_where_the_processor_has_it(
    able: dict[str, bool], kind: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    assert auto_precision(kind) == expected


def test_auto_takes_float32_where_nothing_is_known_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert auto_precision("cpu") == "fp32"


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_a_fabric_says_what_it_multiplies_in(precision: str, dtype: torch.dtype) -> None:
    assert computed_in(Devices("cpu", 1, precision).fabric()) == dtype
