"""Where kernels run: compiled on a GPU where there is one, else in Triton's interpreter."""

import pytest
import torch
from torch import Tensor

from tests.kernels.gpu.support import Close, Draw

GPU = torch.cuda.is_available()
BOUNDS = {torch.float32: (1e-5, 1e-5), torch.float16: (2e-3, 2e-3), torch.bfloat16: (1.6e-2, 1.6e-2)}


@pytest.fixture(scope="session")
def device() -> torch.device:
    return torch.device("cuda" if GPU else "cpu")


# Products in bfloat16 are wrong in the interpreter.
@pytest.fixture(
    scope="session", params=[torch.float32, torch.float16] + [torch.bfloat16] * GPU, ids=lambda t: str(t)[6:]
)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    kind: torch.dtype = request.param
    return kind


@pytest.fixture(scope="session")
def draw(device: torch.device, dtype: torch.dtype) -> Draw:
    def numbers(*shape: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(1000 * seed + sum(shape))
        return torch.randn(shape, generator=generator).to(device, dtype)

    return numbers


@pytest.fixture(scope="session")
def close() -> Close:
    def check(actual: Tensor, expected: Tensor) -> None:
        rtol, atol = BOUNDS[actual.dtype]
        torch.testing.assert_close(actual.float(), expected.float(), rtol=rtol, atol=atol)

    return check
