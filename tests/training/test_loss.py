import pytest
import torch
import torch.nn.functional as F

from byollm.training import loss
from byollm.training.loss import cross_entropy_sum


@pytest.mark.parametrize("tokens", [1, 7, 64, 100])
def test_loss_and_gradients_are_those_of_torch(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "CHUNK_ELEMENTS", 50 * 16)  # several chunks, the last one shorter
    torch.manual_seed(0)
    hidden, head = torch.randn(tokens, 8, requires_grad=True), torch.randn(50, 8, requires_grad=True)
    targets = torch.randint(0, 50, (tokens,))
    targets[::3] = -100
    expected = F.cross_entropy(hidden @ head.mT, targets, reduction="sum")
    found = cross_entropy_sum(hidden, head, targets, torch.float32)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found / 3, (hidden, head)), torch.autograd.grad(expected / 3, (hidden, head))
    )


def test_tokens_that_do_not_count_leave_no_trace() -> None:
    hidden, head = torch.randn(5, 8, requires_grad=True), torch.randn(20, 8, requires_grad=True)
    found = cross_entropy_sum(hidden, head, torch.full((5,), -100), torch.float32)
    assert found == 0
    assert all(not gradient.any() for gradient in torch.autograd.grad(found, (hidden, head)))


def test_narrow_products_keep_float32_gradients_of_the_head() -> None:
    torch.manual_seed(0)
    hidden, head = torch.randn(40, 8, requires_grad=True), torch.randn(20, 8, requires_grad=True)
    targets = torch.randint(0, 20, (40,))
    narrow, wide = (cross_entropy_sum(hidden, head, targets, t) for t in (torch.bfloat16, torch.float32))
    torch.testing.assert_close(narrow, wide, rtol=0.02, atol=0)
    (gradient,) = torch.autograd.grad(narrow, head)
    assert gradient.dtype == torch.float32
    torch.testing.assert_close(gradient, *torch.autograd.grad(wide, head), rtol=0.05, atol=0.1)


def test_a_probability_that_vanishes_has_a_finite_loss() -> None:
    head = torch.eye(3)
    hidden = torch.tensor([[500.0, 0.0, 0.0]], requires_grad=True)
    found = cross_entropy_sum(hidden, head, torch.tensor([1]), torch.float32)
    assert found.item() == pytest.approx(85.2, abs=0.1)
    (gradient,) = torch.autograd.grad(found, hidden)
    assert gradient.tolist() == [[1.0, -1.0, 0.0]]
