"""Sums of powers in the memory of their logits: torch.logsumexp and its gradient."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from coldray.training.negatives import summed_powers


@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(0, 4),
    columns=st.integers(1, 6),
    scale=st.sampled_from([0.1, 3.0, 300.0]),
    masked=st.booleans(),
)
def test_value_and_gradients_are_those_of_logsumexp(seed, rows, columns, scale, masked):
    """With the other logit of each row among the terms; a row may be masked throughout."""
    generator = torch.Generator().manual_seed(seed)
    left = scale * torch.randn(rows, 3, generator=generator)
    right, other = torch.randn(columns, 3, generator=generator), scale * torch.randn(rows, generator=generator)
    hidden = torch.rand(rows, columns, generator=generator) < (0.4 if masked else 0.0)
    results = []
    for in_place in (False, True):
        parts = [part.clone().requires_grad_() for part in (left, right, other)]
        logits, own = parts[0] @ parts[1].T, parts[2]
        if in_place:
            with torch.no_grad():
                logits[hidden] = -torch.inf
            total, highest = summed_powers(logits, own)
            found = (total + (own - highest).exp()).log() + highest
        else:
            logits = logits.masked_fill(hidden, -torch.inf)
            found = torch.cat([logits, own[:, None]], dim=1).logsumexp(dim=1)
        (found * torch.arange(1, rows + 1)).sum().backward()
        results.append([found.detach(), *(part.grad for part in parts)])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * scale)


def test_what_is_least_changes_no_sum():
    logits = torch.tensor([[1.0, 2.0, -torch.inf], [-3.0, 0.0, 5.0]])
    expected = logits.logsumexp(dim=1)
    for least in (-50.0, 0.0, 40.0):
        total, highest = summed_powers(logits.clone(), torch.full((2,), least))
        assert torch.equal(highest, logits.amax(dim=1).clamp(min=least))
        torch.testing.assert_close(total.log() + highest, expected, rtol=1e-5, atol=1e-5)
