"""What makes attention weights of scores, held against each formula written out in float64."""

from types import SimpleNamespace

import pytest
import torch

from madyn.remedies.attending import attend
from madyn.remedies.weights import STRETCH, WEIGHTS, softmax1
from madyn.wirings import LEVELS

B, H, S, D, LONGEST = 2, 3, 7, 4, 9
HIDDEN = torch.ones(S, S, dtype=torch.bool).triu(1)


def module(kind, **parameters):
    remedies = {"attention": kind, "value_norm": "none"}
    config = SimpleNamespace(max_position_embeddings=LONGEST)
    return SimpleNamespace(remedies=remedies, config=config, training=False, **parameters)


def drawn(seed=0, spread=2.0):
    generator = torch.Generator().manual_seed(seed)
    return [
        (spread * torch.randn(B, H, S, D, generator=generator, dtype=torch.float64)).requires_grad_() for _ in range(3)
    ]


SINKS = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
KEYS = torch.randn(H, D, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def by_formula(kind, q, k, v):
    """The sum over the keys that may be seen, one query after the other, as each paper writes it."""
    out = torch.zeros(B, S, H, D, dtype=torch.float64)
    for b in range(B):
        for h in range(H):
            for i in range(S):
                s = torch.stack([q[b, h, i] @ k[b, h, j] / D**0.5 for j in range(i + 1)])
                e = s.exp()
                if kind == "softmax":
                    w = e / e.sum()
                elif kind == "softmax1":
                    w = e / (1 + e.sum())
                elif kind == "sink":
                    w = e / (SINKS[h].exp() + e.sum())
                elif kind == "key_bias":
                    w = e / ((q[b, h, i] @ KEYS[h] / D**0.5).exp() + e.sum())
                elif kind == "clipped_softmax":
                    low = -STRETCH / LONGEST
                    w = ((1 - low) * e / e.sum() + low).clamp(0, 1)
                elif kind == "softpick":
                    w = (e - 1).clamp(min=0) / ((e - 1).abs().sum() + 1e-8)
                else:
                    w = 1 / (1 + (-s).exp())
                out[b, i, h] = w @ v[b, h, : i + 1]
    return out


@pytest.mark.parametrize("kind", LEVELS["attention"])
def test_each_attention_is_its_formula_and_gradients_flow(kind):
    q, k, v = drawn()
    found, weights = attend(module(kind, sinks=SINKS, key_bias=KEYS), q, k, v, None, scaling=D**-0.5)
    expected = by_formula(kind, q, k, v)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    assert weights is not None
    assert (weights[..., HIDDEN] == 0).all()
    ours = torch.autograd.grad((found * torch.arange(D)).sum(), (q, k, v))
    theirs = torch.autograd.grad((expected * torch.arange(D)).sum(), (q, k, v))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-9)
        assert one.abs().sum() > 0


@pytest.mark.parametrize("kind", LEVELS["attention"])
def test_a_query_that_may_see_no_key_gives_nothing_and_stays_finite(kind):
    q, k, v = drawn(1)
    seen = torch.ones(B, 1, S, S, dtype=torch.bool).tril()
    seen[0, :, 2] = False
    found, weights = attend(module(kind, sinks=SINKS, key_bias=KEYS), q, k, v, seen, scaling=D**-0.5)
    assert weights is not None
    assert (found[0, 2] == 0).all()
    assert (weights[0, :, 2] == 0).all()
    for gradient in torch.autograd.grad(found.square().sum(), (q, k, v)):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("kind", LEVELS["attention"])
@pytest.mark.parametrize("size", [300.0, -300.0])
def test_large_scores_overflow_nowhere(kind, size):
    scores = torch.full((1, H, 2, 3), size, dtype=torch.float32, requires_grad=True)
    weights = WEIGHTS[kind](scores, None, module(kind, sinks=SINKS.float()))
    assert weights.isfinite().all()
    assert (weights >= 0).all()
    (gradient,) = torch.autograd.grad(weights.square().sum(), scores)
    assert gradient.isfinite().all()


def test_softmax1_is_softmax_with_a_logit_of_zero_that_is_dropped():
    scores = torch.randn(1, H, S, S, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    beside = torch.cat([scores, torch.zeros(1, H, S, 1, dtype=torch.float64)], -1).softmax(-1)[..., :-1]
    assert torch.equal(softmax1(scores, None), beside)


def test_a_sink_and_a_key_bias_of_zero_are_softmax1():
    q, k, v = drawn(3)
    one, sink, key = (
        attend(module(kind, sinks=torch.zeros(H), key_bias=torch.zeros(H, D)), q, k, v, None, scaling=D**-0.5)[0]
        for kind in ("softmax1", "sink", "key_bias")
    )
    assert torch.equal(one, sink)
    torch.testing.assert_close(one, key, rtol=1e-12, atol=0)


def test_a_clipped_softmax_gives_zero_exactly_to_a_weight_below_its_threshold():
    low = STRETCH / (LONGEST + STRETCH)
    for share, is_there in ((0.9 * low, False), (1.1 * low, True)):
        scores = torch.tensor([share, 1 - share], dtype=torch.float64).log().view(1, 1, 1, 2)
        assert bool(WEIGHTS["clipped_softmax"](scores, None, module("clipped_softmax"))[..., 0] > 0) == is_there


def test_fewer_heads_of_keys_and_more_positions_of_them():
    """Grouped heads, and a cache: the last query is at the last key."""
    q, k, v = drawn(4)
    whole, _ = attend(module("softpick"), q, k[:, :1], v[:, :1], None, scaling=0.5)
    many, _ = attend(module("softpick"), q, k[:, :1].expand_as(k), v[:, :1].expand_as(v), None, scaling=0.5)
    assert torch.equal(whole, many)
    last, _ = attend(module("softpick"), q[:, :, -1:], k, v, None, scaling=0.5)
    torch.testing.assert_close(last[:, 0], attend(module("softpick"), q, k, v, None, scaling=0.5)[0][:, -1])
